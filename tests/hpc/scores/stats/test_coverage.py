"""Check the coverage of 95% intervals for few events of very unequal size."""

import numpy as np
import pytest

from polarcast.hpc.scores.stats.bootstrap import interval

TRIALS = 1000


def storms(rng: np.random.Generator, events: int) -> np.ndarray:
    """Draw the sums of two arms over events, (events, 8).

    Columns are pixels, squared errors of each arm, observed events, hits of each arm and false alarms of each arm.
    Sizes are log-normal (the largest of 40 has a fifth of all pixels). Errors vary by event and correlate between arms.
    """
    pixels = 1000 * rng.lognormal(0, 1.0, events)
    hard = pixels * rng.lognormal(0, 0.9, events)
    errors = [hard * share * rng.lognormal(0, 0.25, events) for share in (1.0, 0.8)]
    rainy = pixels * rng.beta(1, 6, events)
    easy = rng.beta(4, 4, events)
    found = [np.clip(easy + more + rng.normal(0, 0.05, events), 0, 1) for more in (0.0, 0.04)]
    return np.stack([pixels, *errors, rainy, *(rainy * f for f in found), *(0.7 * rainy * (1 - f) for f in found)], -1)


def rmse_difference(s: np.ndarray) -> np.ndarray:
    return np.sqrt(s[..., 2] / s[..., 0]) - np.sqrt(s[..., 1] / s[..., 0])


def csi_difference(s: np.ndarray) -> np.ndarray:
    return s[..., 5] / (s[..., 3] + s[..., 7]) - s[..., 4] / (s[..., 3] + s[..., 6])


def mean_of_events(s: np.ndarray) -> np.ndarray:
    return s[..., 0] / s[..., 1]


@pytest.mark.acceptance
@pytest.mark.parametrize("events", [40, 120])
@pytest.mark.parametrize("score", ["rmse", "csi", "mean"])
def test_95_percent_intervals_of_a_difference_cover_93_to_97(events: int, score: str) -> None:
    rng = np.random.default_rng(events)
    statistic = {"rmse": rmse_difference, "csi": csi_difference, "mean": mean_of_events}[score]

    def sums(count: int) -> np.ndarray:
        drawn = storms(rng, count)
        return np.stack([rmse_difference(drawn), np.ones(count)], -1) if score == "mean" else drawn

    truth = float(statistic(sums(2_000_000).sum(0)))
    found = [interval(sums(events)[None], statistic, draws=1000, seed=i) for i in range(TRIALS)]
    covered = np.mean([i.low <= truth <= i.high for i in found])
    print(f"{score} of {events} events: covered {covered:.1%}")
    assert 0.93 <= covered <= 0.97


@pytest.mark.acceptance
def test_without_a_difference_5_percent_of_p_values_are_below_5_percent() -> None:
    rng = np.random.default_rng(5)

    def null(events: int) -> np.ndarray:
        drawn = storms(rng, events)
        return np.stack([drawn[:, 0], drawn[:, 1], drawn[:, 1] * rng.permutation(rng.lognormal(0, 0.3, events))], -1)

    truth = float(rmse_difference(null(2_000_000).sum(0)))

    def centered(s: np.ndarray) -> np.ndarray:
        return rmse_difference(s) - truth

    found = [interval(null(40)[None], centered, draws=1000, seed=i) for i in range(TRIALS)]
    rejected = np.mean([i.p_value < 0.05 for i in found])
    assert 0.03 <= rejected <= 0.07
    agree = np.mean([(i.p_value < 0.05) == (i.low > 0 or i.high < 0) for i in found])
    assert agree > 0.99
