"""Compare ensemble scores with scoringrules and pysteps, and check their properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polarcast.hpc.scores.ensemble import (
    brier,
    crps_sums,
    economic_value,
    fair_crps,
    probability_counts,
    rank_counts,
    roc,
    roc_area,
    sort_members,
    spread_skill,
    spread_sums,
)  # fmt: skip
from polarcast.hpc.scores.metrics import METRICS
from tests.support.fields import rain
from tests.support.scoring_rules import scoring_rules

THRESHOLDS = (0.5, 5.0, 20.0)


def ensemble(members: int, seed: int = 5) -> torch.Tensor:
    return torch.stack([rain(seed + k) for k in range(members)], 1)


@pytest.mark.parametrize("members", [2, 5, 16])
@pytest.mark.parametrize("threshold", [-float("inf"), 0.0, 5.0, 100.0])
def test_crps_equals_that_of_scoringrules(members: int, threshold: float) -> None:
    forecast, observed = ensemble(members), rain(1)
    ours = fair_crps(crps_sums(sort_members(forecast), observed, [threshold]).numpy())[:, 0]
    x, y = forecast.double().numpy().clip(min=threshold), observed.double().numpy().clip(min=threshold)
    expected = scoring_rules().crps_ensemble(y, x, m_axis=1, estimator="fair").mean((1, 2))
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)


def test_crps_of_one_member_is_the_mean_absolute_error() -> None:
    forecast, observed = rain(5), rain(1)
    ours = fair_crps(crps_sums(forecast[:, None], observed).numpy())[:, 0]
    np.testing.assert_allclose(ours, (forecast - observed).abs().double().mean((1, 2)).numpy(), rtol=1e-6)


@given(st.integers(2, 8))
def test_fair_crps_does_not_depend_on_ensemble_size(members: int) -> None:
    """If members and observation share a distribution, the expected score is that of an infinite ensemble, σ/√π."""
    generator = torch.Generator().manual_seed(members)
    draws = torch.randn(1, members + 1, 300, 300, generator=generator)
    ours = float(fair_crps(crps_sums(sort_members(draws[:, 1:]), draws[:, 0]).numpy())[0, 0])
    assert ours == pytest.approx(1 / np.sqrt(np.pi), rel=0.02)


@given(st.integers(2, 8))
def test_spread_skill_is_one_for_exchangeable_members(members: int) -> None:
    draws = torch.randn(1, members + 1, 300, 300, generator=torch.Generator().manual_seed(members))
    assert float(spread_skill(spread_sums(draws[:, 1:], draws[:, 0]).numpy(), members)[0]) == pytest.approx(1, rel=0.02)
    half = float(spread_skill(spread_sums(draws[:, 1:] / 2, draws[:, 0]).numpy(), members)[0])
    assert half < 0.75


@pytest.mark.parametrize("members", [3, 7])
def test_ranks_without_ties_equal_those_of_pysteps(members: int) -> None:
    from pysteps.verification.ensscores import rankhist, rankhist_init

    generator = torch.Generator().manual_seed(0)
    forecast, observed = torch.rand(1, members, 40, 40, generator=generator), torch.rand(1, 40, 40, generator=generator)
    histogram = rankhist(forecast[0].double().numpy(), observed[0].double().numpy(), X_min=None, normalize=False)
    assert rankhist_init(members) is not None
    np.testing.assert_allclose(rank_counts(forecast, observed)[0].numpy(), histogram, atol=1e-6)


def test_ties_are_split_evenly_between_ranks() -> None:
    dry = torch.zeros(2, 4, 8, 8)
    found = rank_counts(dry, dry[:, 0]).numpy()
    np.testing.assert_allclose(found, 64 / 5)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_brier_score_is_a_mean_squared_error_and_the_sum_of_its_parts(
    threshold: float,
) -> None:
    forecast, observed = ensemble(6), rain(1)
    counts = probability_counts(forecast, observed, [threshold]).sum((0, 1)).numpy()
    parts = {name: value.item() for name, value in brier(counts).items()}
    p, o = (forecast >= threshold).double().mean(1), (observed >= threshold).double()
    assert parts["brier"] == pytest.approx(float((p - o).square().mean()), rel=1e-9)
    assert parts["brier"] == pytest.approx(parts["reliability"] - parts["resolution"] + parts["uncertainty"], rel=1e-9)


def test_resolution_is_largest_for_a_perfect_forecast_of_an_event_that_occurs_half_of_the_time() -> None:
    observed = (torch.arange(1024).reshape(1, 32, 32) % 2).float()
    for share, forecast in ((0.5, observed), (0.25, observed * (torch.arange(32) % 4 < 2))):
        event = observed if share == 0.5 else forecast
        counts = probability_counts(forecast[:, None].expand(-1, 4, -1, -1), event, [0.5]).sum((0, 1)).numpy()
        assert brier(counts)["resolution"].item() == pytest.approx(share * (1 - share))
    assert METRICS["resolution"].limits == (0, 0.25)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=9))
def test_resolution_stays_within_its_limits(bins: list[tuple[int, int]]) -> None:
    counts = np.array([[events + others, events] for events, others in bins])
    low, high = METRICS["resolution"].limits
    found = brier(counts)["resolution"].item()
    assert math.isnan(found) if counts.sum() == 0 else low <= found <= high + 1e-12


def test_roc_area_equals_the_mann_whitney_statistic() -> None:
    from scipy.stats import mannwhitneyu

    forecast, observed = torch.stack([rain(1).roll(k, -1) for k in range(6)], 1), rain(1)
    counts = probability_counts(forecast, observed, [5.0]).sum((0, 1)).numpy()
    p, o = (forecast >= 5).double().mean(1).flatten().numpy(), (observed >= 5).flatten().numpy()
    expected = mannwhitneyu(p[o], p[~o]).statistic / (o.sum() * (~o).sum())
    assert float(roc_area(counts)) == pytest.approx(expected, rel=1e-9)
    false_alarm, hit = roc(counts)
    assert (hit[0], hit[-1], false_alarm[0], false_alarm[-1]) == (0, 1, 0, 1)


def test_roc_area_of_a_constant_forecast_is_one_half() -> None:
    o = torch.rand(1, 30, 30, generator=torch.Generator().manual_seed(0))
    counts = probability_counts(torch.zeros(1, 4, 30, 30), o, [0.5]).sum((0, 1)).numpy()
    assert float(roc_area(counts)) == pytest.approx(0.5)


def test_economic_value_is_one_for_a_perfect_forecast_and_zero_for_a_constant() -> None:
    ratios, observed = np.array([0.05, 0.2, 0.5, 0.9]), rain(1)
    perfect = probability_counts(observed[:, None].expand(-1, 3, -1, -1), observed, [5.0]).sum((0, 1)).numpy()
    np.testing.assert_allclose(economic_value(perfect, ratios), 1)
    constant = probability_counts(torch.zeros(4, 3, 32, 32), observed, [5.0]).sum((0, 1)).numpy()
    np.testing.assert_allclose(economic_value(constant, ratios), 0, atol=1e-12)
    # The value peaks at the base rate, where it is the largest difference of hit rate and false alarm rate.
    counts = probability_counts(ensemble(6, seed=1), observed, [5.0]).sum((0, 1)).numpy()
    false_alarm, hit = roc(counts)
    climate = counts[:, 1].sum() / counts[:, 0].sum()
    assert economic_value(counts, np.array([climate]))[0] == pytest.approx((hit - false_alarm).max())
