"""Compare contingency counts and categorical scores with pysteps and `scores`, and check their properties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from polarcast.hpc.scores.categorical import (  # fmt: skip
    CATEGORICAL,
    COUNTS,
    categorical,
    contingency,
    multi_event_contingency,
    pooled_contingency,
)
from tests.support.fields import PAIRS, rain

THRESHOLDS = (0.5, 5.0, 20.0, 50.0)
PYSTEPS = {
    "csi": "CSI",
    "pod": "POD",
    "far": "FAR",
    "pofd": "FA",
    "hk": "HK",
    "hss": "HSS",
    "ets": "ETS",
    "bias": "BIAS",
}
SCORES = {
    "csi": "critical_success_index", "pod": "hit_rate", "far": "false_alarm_ratio", "pofd": "false_alarm_rate",
    "hk": "hanssen_and_kuipers_discriminant", "hss": "heidke_skill_score", "ets": "equitable_threat_score",
    "bias": "frequency_bias", "sedi": "symmetric_extremal_dependence_index",
}  # fmt: skip
counts = st.tuples(*[st.integers(0, 10**6)] * 4).map(lambda c: np.array(c, float))


def agree(ours: float, theirs: float) -> bool:
    """Return whether two values agree where both are finite; libraries may return limits where we return NaN."""
    return not np.isfinite(ours) or not np.isfinite(theirs) or abs(ours - theirs) <= 1e-6 * max(1, abs(theirs))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_scores_equal_those_of_pysteps(pair: str, threshold: float) -> None:
    from pysteps.verification.detcatscores import det_cat_fct

    forecast, observed = PAIRS[pair]
    ours = contingency(forecast, observed, [threshold]).sum((0, 1)).numpy()
    # pysteps counts values above the threshold, we count values at or above it; no value here equals a threshold.
    with np.errstate(all="ignore"):
        # pysteps counts NaN pixels as correct negatives, so they are removed.
        valid = ~observed.isnan()
        fields = forecast[valid].numpy(), observed[valid].numpy()
        theirs = det_cat_fct(*fields, threshold, scores=list(PYSTEPS.values()))
    checked = [name for name in PYSTEPS if np.isfinite(categorical(name, ours))]
    assert all(agree(float(categorical(name, ours)), float(theirs[PYSTEPS[name]])) for name in PYSTEPS)
    if pair in ("rain", "a little off") and threshold < 50:
        assert len(checked) == len(PYSTEPS)
        assert all(np.isfinite(theirs[PYSTEPS[name]]) for name in checked)


@given(counts)
def test_scores_equal_those_of_the_scores_library(c: np.ndarray) -> None:
    import xarray as xr
    from scores.categorical import BasicContingencyManager

    keys = ("tp_count", "fn_count", "fp_count", "tn_count")
    named = {key: xr.DataArray(value) for key, value in zip(keys, c, strict=True)}
    manager = BasicContingencyManager({**named, "total_count": xr.DataArray(c.sum())})
    with np.errstate(all="ignore"):
        for name, method in SCORES.items():
            assert agree(float(categorical(name, c)), float(getattr(manager, method)())), name


@given(counts)
def test_scores_stay_within_their_bounds(c: np.ndarray) -> None:
    bounds = {"csi": (0, 1), "pod": (0, 1), "far": (0, 1), "pofd": (0, 1), "hk": (-1, 1), "hss": (-1, 1),
              "ets": (-1 / 3, 1), "sedi": (-1, 1), "bias": (0, np.inf)}  # fmt: skip
    assert set(bounds) == set(CATEGORICAL)
    for name, (low, high) in bounds.items():
        value = float(categorical(name, c))
        assert np.isnan(value) or low - 1e-9 <= value <= high + 1e-9, name


@given(counts)
def test_scores_are_symmetric_under_swaps_of_fields_and_events(c: np.ndarray) -> None:
    h, m, f, n = c
    swapped, negated = np.array([h, f, m, n]), np.array([n, f, m, h])
    for name in ("csi", "hss", "ets"):  # forecast and observation swapped
        np.testing.assert_allclose(categorical(name, swapped), categorical(name, c), rtol=1e-9, atol=1e-12)
    for name in ("hss", "hk"):  # events and non-events swapped
        np.testing.assert_allclose(categorical(name, negated), categorical(name, c), rtol=1e-9, atol=1e-12)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_perfect_forecast_gets_the_best_scores_and_random_forecast_no_skill(hits: int, dry: int) -> None:
    perfect, random = np.array([hits, 0, 0, dry]), np.array([hits, dry, hits, dry])
    best = {"csi": 1, "pod": 1, "far": 0, "pofd": 0, "hk": 1, "hss": 1, "ets": 1, "bias": 1}
    assert {name: float(categorical(name, perfect)) for name in best} == best
    for name in ("hk", "hss", "ets"):
        assert float(categorical(name, random)) == pytest.approx(0, abs=1e-9)


def test_scores_without_events_are_nan_except_pofd() -> None:
    dry = np.array([0, 0, 0, 100])
    assert {name for name in CATEGORICAL if np.isnan(categorical(name, dry))} == set(CATEGORICAL) - {"pofd"}
    nothing = np.zeros(4)
    assert all(np.isnan(categorical(name, nothing)) for name in CATEGORICAL)


@pytest.mark.parametrize("pair", PAIRS)
def test_counts_add_up_to_the_valid_pixels(pair: str) -> None:
    forecast, observed = PAIRS[pair]
    found = contingency(forecast, observed, THRESHOLDS)
    assert found.shape == (4, len(THRESHOLDS), len(COUNTS))
    valid = (~observed.isnan()).flatten(1).sum(1)
    assert torch.equal(found.sum(-1), valid[:, None].expand(4, len(THRESHOLDS)))
    assert (found >= 0).all()


@pytest.mark.parametrize("window", [1, 3, 9, 33])
@pytest.mark.parametrize("pair", ["rain", "one pixel", "missing values", "missed", "all rain"])
def test_multi_event_counts_equal_a_maximum_filter_of_scipy(pair: str, window: int) -> None:
    forecast, observed = PAIRS[pair]
    found = multi_event_contingency(forecast, observed, THRESHOLDS, [window])[:, :, 0]
    widened = maximum_filter(forecast.numpy(), size=(1, window, window), mode="constant", cval=-np.inf)
    assert torch.equal(found, contingency(torch.from_numpy(widened), observed, THRESHOLDS))


def test_wider_windows_increase_hit_rate_and_false_alarm_rate() -> None:
    found = multi_event_contingency(rain(1), rain(2), THRESHOLDS, [1, 3, 7, 15]).sum(0).numpy()
    for name in ("pod", "pofd"):
        assert (np.diff(categorical(name, found), axis=1) >= 0).all()
    with pytest.raises(ValueError, match="odd"):
        multi_event_contingency(rain(1), rain(2), THRESHOLDS, [4])


@pytest.mark.parametrize("pool", [1, 4, 5, 16])
def test_pooled_counts_use_the_maximum_of_each_block(pool: int) -> None:
    forecast, observed = PAIRS["a little off"]
    ours = pooled_contingency(forecast, observed, THRESHOLDS, [pool])[:, :, 0]

    def blocks(field: torch.Tensor) -> torch.Tensor:
        size = field.shape[-1]
        starts = range(0, size, pool)
        rows = [torch.stack([field[:, y : y + pool, x : x + pool].amax((1, 2)) for x in starts], -1) for y in starts]
        return torch.stack(rows, 1)

    assert torch.equal(ours, contingency(blocks(forecast), blocks(observed), THRESHOLDS))


def test_unordered_thresholds_are_counted_as_each_alone() -> None:
    forecast, observed = PAIRS["missing values"]
    thresholds = [float(t) for t in torch.randperm(30, generator=torch.Generator().manual_seed(0))]
    together = contingency(forecast, observed, thresholds)
    assert torch.equal(together, torch.cat([contingency(forecast, observed, [t]) for t in thresholds], 1))
