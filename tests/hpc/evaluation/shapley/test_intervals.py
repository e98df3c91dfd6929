"""Intervals of Shapley values of scores."""

import numpy as np

from polarcast.hpc.evaluation.shapley.intervals import explained_score
from polarcast.hpc.evaluation.shapley.players import players_of
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import parse_score
from polarcast.models.forecaster import InputSpec


def test_limits_end_at_the_largest_gain_that_a_score_can_have() -> None:
    score, players = parse_score("csi@threshold=10"), players_of("variables", InputSpec(("zh", "zdr"), (1.0,)))
    # Hits, misses, false alarms and correct negatives of a few very different groups.
    counts = np.random.default_rng(0).lognormal(2, 2, (1, 6, 4, 4)).round()
    found = explained_score(score, counts.reshape(1, 6, -1), players, Protocol("mm/h", (64, 64)))
    limits = [limit for value in found.values for limit in (value.low, value.high) if limit is not None]
    assert limits
    assert -1 <= min(limits) <= max(limits) <= 1
    assert {-1.0, 1.0} & set(limits)  # wider without
