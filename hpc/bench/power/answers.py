"""Events and seeds that gains need, for each score of a comparison. Pure functions of the records."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.coverage import USUAL
from polarcast.hpc.scores.query import ALL, Score, parse_score
from polarcast.hpc.scores.ratios import number_or_none
from polarcast.hpc.scores.records import Records, common_events
from polarcast.hpc.scores.stats.bootstrap import LEVEL
from polarcast.hpc.scores.stats.paired import RATIO, Sums, comparison_of
from polarcast.hpc.scores.stats.power import (
    POWER,
    Needed,
    Spread,
    detectable_effect,
    groups_needed,
    spread_of,
)
from polarcast.hpc.scores.wording import MINUS

EFFECTS = ("2%", "5%", "10%", "0.01", "0.02", "0.05")
"""Gains looked at by default: percent for errors, differences for skill scores."""
SEEDS = (2, 3, 5, 8)


@dataclass(frozen=True)
class Effect:
    """A gain to look for.

    Attributes:
        size: Its size, above 0.
        is_share: Whether it is a share of the reference's value, given in percent.
    """

    size: float
    is_share: bool

    @classmethod
    def parse(cls, text: str) -> "Effect":
        """Parse `5%` or `0.02`. Raises BadInput for other text, for 0, and for 100% or more."""
        number, is_share = text.strip().removesuffix("%"), text.strip().endswith("%")
        try:
            value = float(number)
        except ValueError:
            raise BadInput(f"{text!r} is not an effect", "--effects", "give for example 5% or 0.02") from None
        if not (math.isfinite(value) and value > 0):
            raise BadInput(f"{text} is not a gain above 0", "--effects", "give for example 5% or 0.02")
        if is_share and value >= 100:
            raise BadInput(f"{text} would leave nothing of the reference's value", "--effects", "give less than 100%")
        return cls(value / 100 if is_share else value, is_share)

    def __str__(self) -> str:
        return f"{100 * self.size:g}%" if self.is_share else f"{self.size:g}"


@dataclass(frozen=True)
class PowerSettings:
    """What is asked.

    Attributes:
        effects: Gains.
        seeds: Numbers of seeds of each arm.
        power: Probability with which a gain is to be found.
        level: Level of the interval.
    """

    effects: tuple[Effect, ...] = tuple(map(Effect.parse, EFFECTS))
    seeds: tuple[int, ...] = SEEDS
    power: float = POWER
    level: float = LEVEL


@dataclass(frozen=True)
class Sides:
    """Two sides to compare.

    Attributes:
        label: Name of the comparison.
        model: Name of the second side's model in a suite; empty for score records.
        first: Records of the reference, which differ only in their seed.
        second: Records of what is compared with it.
        trained: Whether the runs of each side depend on their seed.
    """

    label: str
    model: str
    first: tuple[Records, ...]
    second: tuple[Records, ...]
    trained: tuple[bool, bool]


@dataclass(frozen=True)
class GainNeeds:
    """What a gain needs.

    Attributes:
        text: The gain in words, such as `5% lower` or `+0.02`.
        size: Its size: share of an error, or difference of a score.
        effect: The same in the unit of the spread, the logarithm of a ratio.
        groups: Groups of events by number of seeds; the key is 0 where the comparison does not depend on seeds.
    """

    text: str
    size: float
    effect: float
    groups: dict[int, Needed]


@dataclass(frozen=True)
class PowerOfScore:
    """Answer for one score of one comparison.

    Attributes:
        score: The score.
        heading: Its name in tables.
        label: Name of the comparison.
        model: Name of the model in a suite; empty for score records.
        scale: Scale of the comparison.
        reference: The reference's value.
        spread: Variance components; None where there is no interval.
        detectable: Smallest gain that the scored groups and seeds show with the power asked for, on the scale of
            `GainNeeds.size`.
        gains: What each gain needs.
        groups: Number of scored groups.
        seeds: Smallest number of runs of a side that depends on the seed; 0 if neither does.
        events_per_group: Mean number of events of a group.
        lacks_seeds: Whether the spread over seeds is unknown, so that the numbers contain that of events only.
    """

    score: str
    heading: str
    label: str
    model: str
    scale: str
    reference: float
    spread: Spread | None
    detectable: float
    gains: tuple[GainNeeds, ...]
    groups: int
    seeds: int
    events_per_group: float
    lacks_seeds: bool

    def as_row(self) -> dict[str, Any]:
        """Return plain values for JSON; None for a number of groups that does not exist."""
        gains = [
            {
                "gain": gain.text, "size": gain.size,
                "needs": [
                    {"seeds": seeds or None, "groups": number_or_none(need.groups), "low": number_or_none(need.low),
                     "high": number_or_none(need.high), "events": number_or_none(need.groups * self.events_per_group)}
                    for seeds, need in gain.groups.items()
                ],
            }
            for gain in self.gains
        ]  # fmt: skip
        return {
            "compared": self.label, "score": self.score, "scale": self.scale,
            "reference": number_or_none(self.reference),
            "groups": self.groups, "seeds": self.seeds or None, "events_per_group": self.events_per_group,
            "lacks_seeds": self.lacks_seeds, "detectable": number_or_none(self.detectable),
            "share_of_seeds": None if self.spread is None else self.spread.share_of_seeds, "gains": gains,
        }  # fmt: skip


def answers(sides: Sides, wanted: Sequence[str], settings: PowerSettings) -> Iterator[PowerOfScore]:
    """Yield the answer for each score.

    Raises:
        BadInput: a score is unknown, not in the records or has no effect to look for; the runs were scored on
            different events, or on a single group.
    """
    common_events([*sides.first, *sides.second])
    count = len(set(sides.first[0].groups.tolist()))
    if count < 2:
        raise BadInput("a single group of events has no spread", "scores", "score more groups of events")
    for text in wanted:
        score = parse_score(text)
        if ALL in score.at.values():
            raise BadInput(f"{text} is several scores", "--scores", "give one coordinate instead of *")
        pair = [Sums.of(score, runs, t) for runs, t in zip((sides.first, sides.second), sides.trained, strict=True)]
        yield _answer(sides, pair, settings, count)


def check_effects(wanted: Sequence[str], effects: Sequence[Effect]) -> None:
    """Check that each score has an effect to look for. Raises BadInput if one has none, or a score is unknown."""
    for score in map(parse_score, wanted):
        effects_for(score, effects)


def usual_scores(sides: Sides, effects: Sequence[Effect]) -> list[str]:
    """Return the scores looked at by default: those of `USUAL` to which an effect applies."""
    usual = USUAL["nowcast" if sides.first[0].protocol.unit == "dBZ" else "qpe"]
    kinds = {effect.is_share for effect in effects}
    return [text for text in usual if True in kinds or parse_score(text).metric.scale != RATIO]


def effects_for(score: Score, effects: Sequence[Effect]) -> list[Effect]:
    """Return the effects that apply to a score: shares for errors; for others differences, or shares if none is given.

    Raises:
        BadInput: none does, or a difference is larger than the score's range.
    """
    shares, differences = ([e for e in effects if e.is_share == is_share] for is_share in (True, False))
    if score.metric.scale == RATIO:
        if not shares:
            fix = "give percent, such as 5%"
            raise BadInput(f"{score} is an error, which is compared as a ratio", "--effects", fix)
        return shares
    reach = score.metric.limits[1] - score.metric.limits[0]
    if beyond := [e for e in differences if e.size >= reach]:
        raise BadInput(f"{score} can't differ by {beyond[0]}", "--effects", f"give less than {reach:g}")
    return differences or shares


def by_comparison(found: Sequence[PowerOfScore]) -> dict[str, list[PowerOfScore]]:
    """Return the answers by comparison."""
    grouped: dict[str, list[PowerOfScore]] = {}
    for each in found:
        grouped.setdefault(each.label, []).append(each)
    return grouped


def _answer(sides: Sides, pair: Sequence[Sums], settings: PowerSettings, groups: int) -> PowerOfScore:
    first, second = pair
    lacks_seeds = first.lacks_seeds or second.lacks_seeds
    if lacks_seeds:  # the spread over seeds of one arm alone would say too little
        first, second = (replace(of, values=of.values.mean(0, keepdims=True)) for of in pair)
    score, scale = first.score, first.score.metric.scale
    spread = spread_of(*comparison_of(first, second), level=settings.level)
    reference = float(first.score_of(first.values.mean(0).sum(0)))
    counts = [len(of.values) for of in pair if of.trained]
    answer = PowerOfScore(
        str(score), score.heading(first.protocol), sides.label, sides.model, scale, reference, spread, math.nan, (),
        groups, min(counts, default=0), len(sides.first[0].events) / groups, lacks_seeds,
    )  # fmt: skip
    if spread is None:
        return answer
    now = detectable_effect(spread, groups, max(answer.seeds, 1), power=settings.power, level=settings.level)
    gains = tuple(_gain(score, spread, effect, reference, settings) for effect in effects_for(score, settings.effects))
    return replace(answer, detectable=-math.expm1(-now) if scale == RATIO else now, gains=gains)


def _gain(score: Score, spread: Spread, effect: Effect, reference: float, settings: PowerSettings) -> GainNeeds:
    is_ratio = score.metric.scale == RATIO
    change = effect.size * (abs(reference) if effect.is_share and not is_ratio else 1)
    true = -math.log1p(-change) if is_ratio else change
    seeds = settings.seeds if spread.has_seeds else (0,)
    needed = {k: groups_needed(spread, true, max(k, 1), power=settings.power, level=settings.level) for k in seeds}
    return GainNeeds(_gain_text(score, effect, change), change, true, needed)


def _gain_text(score: Score, effect: Effect, change: float) -> str:
    if score.metric.scale == RATIO:
        return f"{effect} lower"
    sign = {"lower": MINUS, "higher": "+", "target": "±"}[score.metric.direction]
    return f"{sign}{effect} ({sign}{change:.2g})" if effect.is_share else f"{sign}{effect}"
