"""Compare continuous scores with pysteps and numpy, and check their properties."""

import numpy as np
import pytest
import torch

from polarcast.hpc.scores.continuous import CONTINUOUS, continuous, moments
from tests.support.fields import PAIRS, rain

PYSTEPS = {"mse": "MSE", "rmse": "RMSE", "mae": "MAE", "cc": "corr_p"}


@pytest.mark.parametrize("pair", PAIRS)
def test_scores_equal_those_of_pysteps(pair: str) -> None:
    from pysteps.verification.detcontscores import det_cont_fct

    forecast, observed = (f.double() for f in PAIRS[pair])
    sums = moments(forecast, observed).sum((0, 1)).numpy()
    with np.errstate(all="ignore"):
        # pysteps correlates with forecast pixels whose observation is NaN, so they are removed.
        valid = ~observed.isnan()
        theirs = det_cont_fct(forecast[valid].numpy(), observed[valid].numpy(), scores=list(PYSTEPS.values()))
    for name, their in PYSTEPS.items():
        ours, expected = float(continuous(name, sums)), float(theirs[their])
        if name == "cc" and pair in ("all dry", "false alarm", "missed"):
            assert np.isnan(ours)
        else:
            assert ours == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("pair", ["rain", "a little off", "missing values"])
def test_explained_variance_is_one_minus_the_variance_ratio_of_the_error(pair: str) -> None:
    forecast, observed = (f.double().numpy() for f in PAIRS[pair])
    valid = ~np.isnan(observed)
    expected = 1 - np.var(observed[valid] - forecast[valid]) / np.var(observed[valid])
    sums = moments(*(torch.from_numpy(f) for f in (forecast, observed))).sum((0, 1)).numpy()
    assert float(continuous("explained_variance", sums)) == pytest.approx(expected, rel=1e-9)


def test_constant_offset_of_the_forecast_changes_only_the_bias() -> None:
    observed = rain(2) + 1
    plain, shifted = (moments(f, observed).sum((0, 1)).numpy() for f in (rain(1), rain(1) + 3))
    for name in ("cc", "explained_variance"):
        assert float(continuous(name, shifted)) == pytest.approx(float(continuous(name, plain)), rel=1e-5)
    assert float(continuous("nb", shifted)) == pytest.approx(
        float(continuous("nb", plain)) + 3 / float(observed.double().mean()), rel=1e-5
    )


def test_perfect_forecast_gets_the_best_scores_and_dry_fields_nan() -> None:
    sums = moments(rain(1), rain(1)).sum((0, 1)).numpy()
    best = {"mse": 0, "rmse": 0, "mae": 0, "ne": 0, "nb": 0, "cc": 1, "explained_variance": 1, "msess": 1, "kge": 1}
    assert set(best) == set(CONTINUOUS)
    assert {name: pytest.approx(float(continuous(name, sums)), abs=1e-12) for name in best} == best
    dry = moments(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)).sum((0, 1)).numpy()
    assert {name for name in CONTINUOUS if np.isnan(continuous(name, dry))} == set(best) - {"mse", "rmse", "mae"}
