"""Judge forecasts of anybody: recompute scores beside baselines, and name the errors that show in them."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import Reader
from polarcast.data.loading.windows import windows_of
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.leaderboard.claims.geometry import find_heights, find_orientation
from polarcast.hpc.leaderboard.claims.read import read_claim
from polarcast.hpc.leaderboard.claims.sample import Numbers, WindowSums, sample_of, sums_of
from polarcast.hpc.leaderboard.claims.says import (
    Checked,
    ClaimedScore,
    Recomputed,
    check_claimed,
    check_says,
    parse_says,
    thresholds_of,
)
from polarcast.hpc.leaderboard.claims.signs import Change, ClaimSample, Sign, unchanged
from polarcast.hpc.leaderboard.claims.timing import find_persistence, find_shift, find_truth
from polarcast.hpc.leaderboard.claims.values import find_missing, find_scale
from polarcast.hpc.leaderboard.external import ExternalModel, config_of
from polarcast.hpc.leaderboard.forecasts import ForecastSet, check_shape, windows_in
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.runs.intact import require_intact
from polarcast.hpc.scores.protocol import Protocol, nowcast_protocol
from polarcast.hpc.scores.query import Score, parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.bootstrap import Interval
from polarcast.hpc.scores.stats.paired import Sums, compared, of_one
from polarcast.models.forecaster import Forecaster

_SHOWN = {
    "nowcast": ("csi@threshold=20", "csi@threshold=35", "csi@threshold=40", "pod@threshold=35", "far@threshold=35",
                "bias@threshold=35", "rmse", "mae"),
    "qpe": ("rmse", "mae", "nb", "cc", "csi@threshold=1", "csi@threshold=10", "pod@threshold=10", "far@threshold=10"),
}  # fmt: skip
"""Scores of the table by task, beside the claimed ones."""
_ALWAYS = frozenset({"observed", "continuous", "contingency"})
_FITTED_WINDOWS = 128
"""Training windows that a law is fitted to."""
CLAIMED, RIGHT = "the forecasts", "put right"

Model = Callable[[Batch], torch.Tensor]


@dataclass(frozen=True)
class BesideBaseline:
    """A score of a baseline, and the comparison of the forecasts with it.

    Attributes:
        interval: Score of the baseline with its interval.
        scale: ratio or difference; see `Pair`.
        difference: The forecasts compared with the baseline, with its interval.
    """

    interval: Interval
    scale: str
    difference: Interval


@dataclass(frozen=True)
class JudgedScore:
    """A score of the forecasts beside those of the baselines, by name."""

    score: Score
    interval: Interval
    beside: dict[str, BesideBaseline]


@dataclass(frozen=True)
class ClaimJudgement:
    """What was found about forecasts.

    Attributes:
        forecasts: Where they are from.
        task: nowcast or qpe.
        split: Scored split.
        windows: Scored windows, and all of the split.
        events: Number of scored events.
        protocol: Coordinates of the scores.
        scores: Table of scores.
        signs: Signs of errors.
        says: Claimed scores beside recomputed ones.
        notes: What else to know, one line each.
    """

    forecasts: str
    task: str
    split: str
    windows: tuple[int, int]
    events: int
    protocol: Protocol
    scores: list[JudgedScore]
    signs: list[Sign]
    says: list[Checked]
    notes: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether there is no sign of an error, and all claimed scores agree."""
        return not self.signs and all(one.agrees for one in self.says)


def judge(
    source: Path,
    shards: str,
    split: str = "test",
    says: Sequence[str] = (),
    heights_km: tuple[float, ...] | None = None,
    seen_frames: int | None = None,
) -> ClaimJudgement:
    """Recompute the scores of forecasts, and look for signs of errors in them and in claimed scores.

    Args:
        source: File of forecasts, npz or NetCDF.
        shards: Shards to score on.
        split: Split whose windows are forecast.
        says: Claimed scores, such as `csi@threshold=35=0.42`.
        heights_km: Heights of nowcasts in km; those of the shards by default.
        seen_frames: Input frames of nowcasts.

    Raises:
        BadInput: the forecasts can't be read or do not fit the shards; a claimed score is not available.
    """
    claims = parse_says(says)
    manifest, forecasts = read_manifest(shards), read_claim(source)
    model = ExternalModel(heights_km=heights_km, seen_frames=seen_frames)
    config = config_of(forecasts, manifest, shards, model, all_windows=False)
    check_fields(forecasts, config, manifest)
    check_claimed(claims, _protocol_of(forecasts, config, manifest))
    reader = build_reader(_baseline(config, manifest, {"name": "persistence"}), manifest, split, observed=True)
    chosen, notes = windows_to_score(forecasts, reader, split)
    require_intact(reader, config.data, World())
    sample = sample_of(forecasts, reader, chosen)
    signs, change, said = find_signs(sample)
    notes += [said] if said else []
    sums = _recomputed(forecasts, reader, chosen, claims, change)
    tables, more = _baselines(config, manifest, split, chosen, claims)
    records = sums.windows.records()
    wanted = dict.fromkeys([*map(parse_score, _SHOWN[config.task]), *(claim.score for claim in claims)])
    if sums.right:
        tables = {RIGHT: sums.right.records(), **tables}
    return ClaimJudgement(
        forecasts.where, config.task, split, (len(chosen), len(reader)), len(records.events), records.protocol,
        [_judged(score, records, tables) for score in wanted], signs, check_says(claims, sums), notes + more,
    )  # fmt: skip


def check_fields(forecasts: ForecastSet, config: RunConfig, manifest: Manifest) -> None:
    """Check the shape of the forecasts. Raises BadInput, which names exchanged axes of a grid that is no square."""
    y, x = manifest.shape
    if tuple(forecasts.fields.shape[-2:]) == (x, y) != (y, x):
        what = f"transposed axes: fields of {x} × {y} pixels, the shards {y} × {x}"
        raise BadInput(what, forecasts.where, "exchange the last two axes: rows (y) come first")
    check_shape(forecasts, config, manifest)


def _protocol_of(forecasts: ForecastSet, config: RunConfig, manifest: Manifest) -> Protocol:
    if not forecasts.is_nowcast:
        return Protocol("mm/h", manifest.shape, forecasts.members)
    leads = tuple(manifest.time_step_minutes * (1 + frame) for frame in range(forecasts.lead_frames))
    return nowcast_protocol(manifest.shape, forecasts.members, leads, tuple(config.data.heights_km))


def windows_to_score(forecasts: ForecastSet, reader: Reader, split: str) -> tuple[Numbers, list[str]]:
    """Return the numbers of the windows that have a forecast, and notes.

    Raises:
        BadInput: no window of the split has one; or there are forecasts of its events that begin at no window.
    """
    windows = windows_in(reader)
    chosen = np.flatnonzero([window in forecasts.numbers for window in windows])
    if not len(chosen):
        event, frame = windows[0]
        what = f"no forecast of a window of the {split} split"
        fix = f"its windows begin with event {event}, frame {frame}; see --split and --seen-frames"
        raise BadInput(what, forecasts.where, fix)
    _check_begins(forecasts, reader, split)
    if len(chosen) == len(windows):
        return chosen, []
    return chosen, [
        f"{len(chosen)} of {len(windows)} windows of the {split} split have a forecast: all scores, also of the "
        "baselines, are of these; if none should be missing, check --split and --seen-frames"
    ]


def _check_begins(forecasts: ForecastSet, reader: Reader, split: str) -> None:
    """Raise BadInput if there are forecasts of the split's events at which no window begins.

    With other input frames than the forecasts had, they would be compared with other times.
    """
    manifest, length = reader.manifest, reader.windows.length
    unfiltered = replace(manifest, selection={**manifest.selection, "min_strong_pixels": 0})
    begins = windows_of(unfiltered, split, length, forecasts.lead_frames or None).begins
    there = {tuple(window) for window in begins(np.arange(len(windows_of(unfiltered, split, length)))).tolist()}
    events = set(manifest.splits.get(split, ()))
    odd = sorted(window for window in forecasts.numbers if window[0] in events and window not in there)
    if odd:
        what = f"no window of {length} frames begins at event {odd[0][0]}, frame {odd[0][1]}"
        raise BadInput(what, forecasts.where, "check --seen-frames, and that frame is the first input frame")


def find_signs(sample: ClaimSample) -> tuple[list[Sign], Change, str]:
    """Look for all errors; each is undone before the next is looked for.

    Returns:
        Signs; the function that puts forecasts right as far as that is possible; and a note, or nothing.
    """
    signs: list[Sign] = []
    changes: list[Change] = []

    def noted(sign: Sign | None) -> Change:
        if sign is None:
            return unchanged
        signs.append(sign)
        changes.extend([sign.undo] if sign.undo else [])
        return sign.undo or unchanged

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means without a pixel, which are NaN
        filled = noted(find_missing(sample))
        now = replace(sample, forecast=filled(sample.forecast).astype(np.float32))
        oriented = noted(find_orientation(now))
        scaled = noted(find_scale(now, oriented))
        now = replace(now, forecast=scaled(oriented(now.forecast)).astype(np.float32))
        now = replace(now, forecast=noted(find_heights(now))(now.forecast))
        said = find_persistence(now, now.forecast)
        shift = None if said else find_shift(now, now.forecast)
        noted(shift)
        # Of forecasts that show another time, single frames may equal the truth of theirs, as persistence does.
        noted(None if shift or said else find_truth(now, now.forecast))

    def right(fields: Any) -> Any:
        for change in changes:
            with np.errstate(all="ignore"):
                fields = change(fields)
        return fields.astype(np.float32)

    return signs, right if changes else unchanged, said


def _recomputed(
    forecasts: ForecastSet, reader: Reader, chosen: Numbers, claims: Sequence[ClaimedScore], change: Change
) -> Recomputed:
    """Compute the sums of the forecasts, and those that explain claimed scores."""
    only = _families(claims)
    levels = thresholds_of(claims)

    def put_right(batch: Batch) -> torch.Tensor:
        fields = forecasts.of(batch).numpy()
        by_height = fields if forecasts.is_nowcast else fields[:, :, :, None]
        right = np.ascontiguousarray(change(by_height))
        return torch.from_numpy(right if forecasts.is_nowcast else right[:, :, :, 0])

    windows = sums_of(forecasts.of, reader, chosen, only, levels)
    everywhere: WindowSums | None = None
    if claims and _has_gaps(windows):
        everywhere = sums_of(forecasts.of, reader, chosen, only, levels, everywhere=True)
    right = None if change is unchanged else sums_of(put_right, reader, chosen, only, levels)
    return Recomputed(windows, everywhere, right)


def _has_gaps(windows: WindowSums) -> bool:
    """Whether some pixels were not observed."""
    pixels, observed, _ = windows.sums["observed"].reshape(-1, 3).sum(0)
    return bool(observed < pixels)


def _families(claims: Sequence[ClaimedScore]) -> set[str]:
    return {*_ALWAYS, *(claim.score.family_name for claim in claims)}


def _judged(score: Score, records: Records, tables: dict[str, Records]) -> JudgedScore:
    mine = Sums.of(score, [records])
    beside = {}
    for name, of in tables.items():
        other = Sums.of(score, [of])
        pair = compared(other, mine, POOLED)
        beside[name] = BesideBaseline(of_one(other, POOLED).interval, pair.scale, pair.interval)
    return JudgedScore(score, of_one(mine, POOLED).interval, beside)


def _baseline(config: RunConfig, manifest: Manifest, model: dict[str, Any], arm: str = "radar") -> RunConfig:
    """Return the configuration of a baseline on the windows of the forecasts."""
    data: dict[str, Any] = {"shards": config.data.shards, "heights_km": list(config.data.heights_km)}
    if config.is_nowcast:
        data |= {"seen_frames": config.data.seen_frames, "lead_frames": config.data.lead_frames}
    elif model["name"] == "persistence":
        model = {"name": "power_law"}
    return load_config({"task": config.task, "arm": arm, "data": data, "model": model})


def _candidates(config: RunConfig, manifest: Manifest) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, arm and model of the baselines."""
    if config.is_nowcast:
        yield "persistence", "radar", {"name": "persistence"}
        seen = config.data.seen_frames
        yield "extrapolation", "radar", {"name": "extrapolation", "motion_frames": max(2, min(3, seen))}
        return
    yield "Z–R, published", "radar", {"name": "power_law", "coefficients": "published"}
    yield "Z–R, fitted", "radar", {"name": "power_law", "coefficients": "fitted"}
    if "zdr" in manifest.variables:
        yield "R(ZH, ZDR), fitted", "dualpol", {"name": "power_law", "coefficients": "fitted"}


def _baselines(
    config: RunConfig, manifest: Manifest, split: str, chosen: Numbers, claims: Sequence[ClaimedScore]
) -> tuple[dict[str, Records], list[str]]:
    """Score the baselines on the same windows; return their records by name, and why others are missing."""
    found: dict[str, Records] = {}
    missing: list[str] = []
    for name, arm, model in _candidates(config, manifest):
        try:
            own = _baseline(config, manifest, model, arm)
            reader = build_reader(own, manifest, split, observed=True)
            forecaster = build_model(resolve(own))
            if model.get("coefficients") == "fitted":
                _fit(forecaster, build_reader(own, manifest, "train"))
        except BadInput as error:
            missing.append(f"no {name}: {error.what}")
            continue
        levels = [value for claim in claims if (value := _own_threshold(claim)) is not None]
        with torch.no_grad():
            found[name] = sums_of(forecaster.forecast, reader, chosen, _families(claims), levels).records()
    return found, missing


def _own_threshold(claim: ClaimedScore) -> float | None:
    return next(iter(thresholds_of([claim])), None)


def _fit(model: Forecaster, reader: Reader) -> None:
    """Fit a law to evenly spaced training windows."""
    windows = np.unique(np.linspace(0, len(reader) - 1, _FITTED_WINDOWS).round().astype(int))
    model.fit([reader.read([window]).to("cpu") for window in windows])


def is_undefined(interval: Interval) -> bool:
    """Whether a score has no value on these windows."""
    return not math.isfinite(interval.value)
