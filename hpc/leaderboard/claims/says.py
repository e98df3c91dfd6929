"""Compare claimed scores with recomputed ones, and look for the usual error that explains a difference."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, shown
from polarcast.hpc.leaderboard.claims.sample import WindowSums
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import ALL, Score, parse_score
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.paired import Sums, of_events

_SCALED = {
    "on values of 0 to 255 of 80 dBZ": 80 / 255, "on values of 0 to 255 of 70 dBZ": 70 / 255,
    "on values of 0 to 1 of 80 dBZ": 80.0, "in dBZ of pixel values of 0 to 255 of 80 dBZ": 255 / 80,
}  # fmt: skip
"""What a threshold may have been applied to → factor from the claimed threshold to the one in the unit."""
_OTHERS: dict[str, dict[str, str]] = {
    "pod": {"far": "the FAR: POD and FAR exchanged", "1-far": "1 − FAR, the success ratio: POD and precision exchanged",
            "csi": "the CSI"},
    "far": {"pod": "the POD: POD and FAR exchanged", "pofd": "the POFD: false alarm rate in place of false alarm ratio",
            "1-far": "1 − FAR, the success ratio", "1-pod": "1 − POD, the misses"},
    "pofd": {"far": "the FAR: false alarm ratio in place of false alarm rate"},
    "csi": {"f1": "F1 = 2 CSI / (1 + CSI)", "pod": "the POD", "hss": "the HSS", "ets": "the ETS",
            "accuracy": "the share of correct pixels"},
    "hss": {"ets": "the ETS", "csi": "the CSI", "hk": "the HK"}, "ets": {"hss": "the HSS", "csi": "the CSI"},
    "rmse": {"paper_mse": "the MSE", "mae": "the MAE"}, "mae": {"rmse": "the RMSE"},
    "paper_mse": {"rmse": "the RMSE"}, "bias": {"1/bias": "observed over forecast: bias inverted"},
}  # fmt: skip
"""Score → what may have been computed in its place."""
_DERIVED: dict[str, tuple[str, Callable[[float], float]]] = {
    "1-far": ("far", lambda x: 1 - x), "1-pod": ("pod", lambda x: 1 - x),
    "f1": ("csi", lambda x: 2 * x / (1 + x)), "1/bias": ("bias", lambda x: 1 / x if x else math.nan),
}  # fmt: skip
_ERRORS = ("rmse", "mae", "paper_mse")
_FINE_DECIMALS, _COARSEST = 2, 0.1
"""Decimals that always suffice, and the largest unit of the last digit, relative to the value, of fewer."""


@dataclass(frozen=True)
class ClaimedScore:
    """A score that a paper or a table claims.

    Attributes:
        text: As it was given, such as `csi@threshold=35=0.42`.
        score: The score.
        value: Claimed value.
        decimals: Decimals of the claimed value.
    """

    text: str
    score: Score
    value: float
    decimals: int

    def agrees(self, found: float, units: float = 0.5) -> bool:
        """Whether a value is the claimed one, but for rounding by so many units of its last digit."""
        return abs(found - self.value) <= units * 10.0**-self.decimals * (1 + 1e-6) + 1e-12


@dataclass(frozen=True)
class Checked:
    """A claimed score beside the recomputed one.

    Attributes:
        claimed: What is claimed.
        found: Recomputed value; NaN if it is undefined.
        reasons: Value by error that gives the claimed value; empty if it agrees, or no usual error gives it.
    """

    claimed: ClaimedScore
    found: float
    reasons: dict[str, float]

    @property
    def agrees(self) -> bool:
        """Whether the claimed value is the recomputed one, but for one unit of its last digit."""
        return self.claimed.agrees(self.found, 1.0)

    def as_record(self) -> dict[str, Any]:
        """Return a JSON-serializable dict."""
        return {
            "says": self.claimed.text, "score": str(self.claimed.score), "claimed": self.claimed.value,
            "recomputed": self.found if math.isfinite(self.found) else None, "agrees": self.agrees,
            "agrees_with": self.reasons,
        }  # fmt: skip


def parse_says(texts: Sequence[str]) -> list[ClaimedScore]:
    """Parse claimed scores such as `rmse=3.2` or `csi@threshold=35=0.42`.

    Raises:
        BadInput: a score is unknown, stands for several, has no number, or has too few digits: nearly any value would
            agree.
    """
    return [_parsed(text) for text in texts]


def _parsed(text: str) -> ClaimedScore:
    name, equals, number = text.rpartition("=")
    fix = "give score=value, such as csi@threshold=35=0.42"
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not equals or not name or not math.isfinite(value) or name.endswith(("threshold", "window", "lead_time")):
        raise BadInput(f"{shown(text)} has no value of a score", "--says", fix)
    score = parse_score(name)
    if ALL in score.at.values():
        raise BadInput(f"{score} selects many scores", "--says", fix)
    mantissa, _, exponent = number.strip().lower().partition("e")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    if decimals < _FINE_DECIMALS and 10.0**-decimals > _COARSEST * abs(value):
        raise BadInput(f"{shown(text)} has too few digits to be checked", "--says", "give two digits or more")
    return ClaimedScore(text, score, value, decimals)


def thresholds_of(claims: Sequence[ClaimedScore]) -> list[float]:
    """Return the claimed thresholds, and those that they would be on scaled data."""
    given = [_threshold(claim.score) for claim in claims]
    return [value for threshold in given if threshold is not None
            for value in (threshold, *(threshold * factor for factor in _SCALED.values()))]  # fmt: skip


def _threshold(score: Score) -> float | None:
    try:
        return float(score.at["threshold"])
    except (KeyError, ValueError):  # a range selects among the thresholds there are
        return None


@dataclass(frozen=True)
class Recomputed:
    """Sums of the claimed forecasts.

    Attributes:
        windows: As they should be.
        everywhere: With the pixels that were not observed; None without masks.
        right: Of the forecasts put right; None if nothing is wrong with them.
    """

    windows: WindowSums
    everywhere: WindowSums | None
    right: WindowSums | None


def check_says(claims: Sequence[ClaimedScore], sums: Recomputed) -> list[Checked]:
    """Compare claims with the recomputed scores."""
    records = sums.windows.records()
    return [_checked(claim, sums, records) for claim in claims]


def _checked(claim: ClaimedScore, sums: Recomputed, records: Records) -> Checked:
    found = _value(claim.score, records)
    if claim.agrees(found, 1.0):
        return Checked(claim, found, {})
    reasons: dict[str, float] = {}
    for reason, value in _alternatives(claim.score, sums, records):
        if math.isfinite(value) and claim.agrees(value) and not claim.agrees(found):
            reasons.setdefault(reason, value)
    return Checked(claim, found, reasons)


def _alternatives(score: Score, sums: Recomputed, records: Records) -> Iterator[tuple[str, float]]:
    """Yield what the score would be with each of the usual errors."""
    for other, title in _OTHERS.get(score.name, {}).items():
        yield title, _other(score, other, records)
    yield from _on_scaled_data(score, records)
    yield from _averaged(score, sums.windows, records)
    yield from _on_a_part(score, sums.windows, records)
    if sums.everywhere:
        yield "the score with pixels that were not observed", _value(score, sums.everywhere.records())
    if sums.right:
        yield "the score of the forecasts put right", _value(score, sums.right.records())


def _value(score: Score, records: Records) -> float:
    selected = Sums.of(score, [records])
    return float(selected.score_of(selected.values.sum((0, 1))))


def _other(score: Score, other: str, records: Records) -> float:
    if other == "accuracy":
        counts = Score("csi", score.at).sums(records).sum(0)
        return float((counts[0] + counts[3]) / counts.sum()) if counts.shape == (4,) and counts.sum() else math.nan
    base, derive = _DERIVED.get(other, (other, float))
    return derive(_value(Score(base, score.at), records))


def _on_scaled_data(score: Score, records: Records) -> Iterator[tuple[str, float]]:
    """Yield scores as of values that were not put back to dBZ."""
    threshold = _threshold(score)
    if records.protocol.unit != "dBZ":
        return
    if threshold is not None:
        for where, factor in _SCALED.items():
            moved = Score(score.name, {**score.at, "threshold": repr(threshold * factor)})
            yield (
                f"the score at {threshold * factor:.4g}: threshold {threshold:g} applied {where}",
                _value(moved, records),
            )
    elif score.name in _ERRORS:
        power = 2 if score.name == "paper_mse" else 1
        for what, factor in (("0 to 1 of 80", 1 / 80), ("0 to 1 of 70", 1 / 70), ("0 to 255 of 80", 255 / 80),
                             ("0 to 255 of 70", 255 / 70)):  # fmt: skip
            yield f"the score on values of {what} {records.protocol.unit}", _value(score, records) * factor**power


def _averaged(score: Score, windows: WindowSums, records: Records) -> Iterator[tuple[str, float]]:
    """Yield means of the scores of parts, in place of the score of all."""
    frames = windows.by_window()
    for what, parts in (("events", records), ("windows", frames)):
        values = of_events(Sums.of(score, [parts]))
        yield from _means(what, values)
    leads = records.protocol.lead_time
    if len(leads) > 1 and "lead_time" not in score.at:
        each = [Score(score.name, {**score.at, "lead_time": _text(lead)}) for lead in leads]
        yield "the mean of the scores of the lead times", _mean(np.array([_value(one, records) for one in each]))
        by_frame = np.concatenate([of_events(Sums.of(one, [frames])) for one in each])
        yield from _means("frames", by_frame)


def _means(what: str, values: Array) -> Iterator[tuple[str, float]]:
    yield f"the mean of the scores of single {what}", _mean(values)
    if np.isnan(values).any():
        yield f"the mean over {what}, where an undefined score counts 0", float(np.nan_to_num(values, nan=0).mean())


def _on_a_part(score: Score, windows: WindowSums, records: Records) -> Iterator[tuple[str, float]]:
    """Yield scores of a part of the data."""
    for axis, first, last in (("lead_time", "first", "last"), ("height", "lowest", "highest")):
        coordinates = records.protocol.axis(axis)
        if len(coordinates) > 1 and axis not in score.at:
            for which, position in ((first, 0), (last, -1)):
                part = Score(score.name, {**score.at, axis: _text(coordinates[position])})
                yield f"the score of the {which} {axis.replace('_', ' ')} alone", _value(part, records)
    for what, parts in (("event", records), ("window", windows.by_window())):
        values = of_events(Sums.of(score, [parts]))
        known = values[np.isfinite(values)]
        if len(known) > 1:
            metric = score.metric
            aim = metric.perfect if math.isfinite(metric.perfect) else math.inf
            yield f"the score of the best {what} alone", float(known[abs(known - aim).argmin()])


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _text(coordinate: float | str) -> str:
    return repr(float(coordinate))


def check_claimed(claims: Sequence[ClaimedScore], protocol: Protocol) -> None:
    """Raise BadInput if a claimed score is not available for these forecasts."""
    from polarcast.hpc.scores.query import check_available

    for claim in claims:
        try:
            check_available(claim.score, protocol, unknown=("threshold",))
        except BadInput as error:
            raise error.at("--says") from None
