"""Values of players with their intervals, from the sums of all coalitions."""

import math
from collections.abc import Sequence

import numpy as np

from polarcast.hpc.evaluation.shapley.players import Players
from polarcast.hpc.evaluation.shapley.result import ExplainedScore, PlayerValue
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.ratios import Array, number_or_none, quotient
from polarcast.hpc.scores.stats.bootstrap import DRAWS, Interval, interval
from polarcast.hpc.scores.stats.shapley import shapley_statistics

_MOST_SUMS, _FEWEST_DRAWS = 2**24, 1000
"""Most resampled sums of one score, which limit memory: many players get fewer draws, but not below a least number."""


def explained_score(score: Score, sums: Array, players: Players, protocol: Protocol) -> ExplainedScore:
    """Compute the Shapley values of a score from its sums by seed and group, (k, g, 2^n · s).

    Intervals end at the largest gain that the limits of the score allow.
    """
    sign = -1.0 if score.metric.direction == "lower" else 1.0

    def value_of(one: Array) -> Array:
        return sign * score.of(one, protocol)

    statistics = shapley_statistics(value_of, len(players))
    draws = int(np.clip(_MOST_SUMS // sums.shape[-1], _FEWEST_DRAWS, DRAWS))
    reach = score.metric.limits[1] - score.metric.limits[0]
    found = [interval([sums], statistic, draws=draws).within(-reach, reach) for statistic in statistics]
    coalitions = value_of(sums.mean(0).sum(0).reshape(players.coalitions, -1))
    return ExplainedScore(
        score=str(score),
        heading=heading_of(score, protocol),
        unit=score.unit(protocol),
        empty=number_or_none(float(coalitions[0])),
        full=number_or_none(float(coalitions[-1])),
        values=_player_values(players, found),
    )


def heading_of(score: Score, protocol: Protocol) -> str:
    """Return the heading of a score's values: errors with a minus sign, so that higher is better."""
    metric = score.metric
    mark = f" → {metric.perfect:g}" if metric.direction == "target" else " ↑" if metric.direction != "none" else ""
    return ("−" if metric.direction == "lower" else "") + score.heading(protocol) + mark


def absolute_values(sums: Array, players: Players) -> tuple[PlayerValue, ...]:
    """Return the mean |attribution| of each player, from sums by seed and group (k, g, n + 1), pixels last."""

    def mean(one: Array) -> Array:
        return quotient(one[..., 0], one[..., 1])

    found = [interval([sums[..., [number, -1]]], mean).within(0, math.inf) for number in range(len(players))]
    return _player_values(players, found)


def _player_values(players: Players, found: Sequence[Interval]) -> tuple[PlayerValue, ...]:
    return tuple(
        PlayerValue(name, *map(number_or_none, (of.value, of.low, of.high)))
        for name, of in zip(players.names, found, strict=True)
    )
