"""Score functions: equal to their formulas, for arrays and tensors of any leading dimensions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scores.categorical import BinaryContingencyManager

from polarcast.hpc.scores import functional
from tests.support.scoring_rules import scoring_rules

Array = np.ndarray
RNG = np.random.default_rng(4)
DETERMINISTIC = ("mse", "rmse", "mae", "rbias", "ne", "nb", "cc", "explained_variance")
CATEGORICAL = ("csi", "pod", "far", "pofd", "hk", "hss", "ets", "bias", "sedi")
FORMULAS: dict[str, Callable[[Array, Array], float]] = {
    "mse": lambda f, o: ((f - o) ** 2).mean(),
    "rmse": lambda f, o: np.sqrt(((f - o) ** 2).mean()),
    "mae": lambda f, o: abs(f - o).mean(),
    "rbias": lambda f, o: abs(f - o).sum() / o.sum(),
    "ne": lambda f, o: 100 * abs(f - o).sum() / o.sum(),
    "nb": lambda f, o: 100 * (f - o).sum() / o.sum(),
    "cc": lambda f, o: np.corrcoef(f.ravel(), o.ravel())[0, 1],
    "explained_variance": lambda f, o: 1 - (f - o).var() / o.var(),
}


def rain(*shape: int) -> Array:
    return RNG.gamma(0.5, 8.0, (*shape, 16, 16))


@pytest.mark.parametrize("name", DETERMINISTIC)
@given(leading=st.lists(st.integers(1, 3), max_size=3))
def test_it_is_its_formula_over_all_pixels(name: str, leading: list[int]) -> None:
    forecast, observed = rain(*leading), rain(*leading)
    expected = FORMULAS[name](forecast, observed)
    assert getattr(functional, name)(forecast, observed) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    as_tensors = getattr(functional, name)(torch.tensor(forecast), torch.tensor(observed))
    assert as_tensors == getattr(functional, name)(forecast, observed)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("csi", "critical_success_index"), ("pod", "probability_of_detection"), ("far", "false_alarm_ratio"),
     ("pofd", "probability_of_false_detection"), ("hk", "hanssen_and_kuipers_discriminant"),
     ("hss", "heidke_skill_score"), ("ets", "equitable_threat_score"), ("bias", "frequency_bias"),
     ("sedi", "symmetric_extremal_dependence_index")],
)  # fmt: skip
def test_it_is_that_of_another_library(name: str, theirs: str) -> None:
    import xarray as xr

    forecast, observed = rain(2, 3), rain(2, 3)
    manager = BinaryContingencyManager(*(xr.DataArray((f >= 10).astype(float)) for f in (forecast, observed)))
    expected = float(getattr(manager.transform(), theirs)())
    assert getattr(functional, name)(forecast, observed, threshold=10) == pytest.approx(expected, abs=1e-9)


def test_crps_is_the_fair_one_of_another_library() -> None:
    ensemble, observed = rain(2, 5, 3), rain(2, 3)
    expected = scoring_rules().crps_ensemble(observed, ensemble, m_axis=1, estimator="fair").mean()
    assert functional.crps(ensemble, observed, member_dim=1) == pytest.approx(expected, rel=1e-9)
    moved = np.moveaxis(ensemble, 1, 0)
    assert functional.crps(moved, observed, member_dim=0) == functional.crps(ensemble, observed, member_dim=1)
    assert functional.crps(ensemble[:, :1], observed, member_dim=1) == pytest.approx(
        functional.mae(ensemble[:, 0], observed), rel=1e-6
    )


def test_brier_is_its_formula() -> None:
    ensemble, observed = rain(2, 5, 3), rain(2, 3)
    expected = (((ensemble >= 5).mean(1) - (observed >= 5)) ** 2).mean()
    assert functional.brier(ensemble, observed, 5, member_dim=1) == pytest.approx(expected, rel=1e-6)


@given(keep=st.permutations([0, 1, 2]).flatmap(lambda p: st.integers(0, 3).map(lambda n: p[:n])))
def test_kept_dimensions_are_scored_apart(keep: list[int]) -> None:
    forecast, observed = rain(2, 3, 2), rain(2, 3, 2)
    found = np.asarray(functional.mae(forecast, observed, keep_dims=keep))
    pooled = tuple(dim for dim in range(5) if dim not in keep)
    expected = abs(forecast - observed).mean(pooled)
    order = [sorted(keep).index(dim) for dim in keep]
    np.testing.assert_allclose(found, np.transpose(expected, order), rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in CATEGORICAL if name != "sedi"])
def test_a_perfect_forecast_is_perfect(name: str) -> None:
    observed = rain(3)
    perfect = {"far": 0, "pofd": 0}.get(name, 1)
    assert getattr(functional, name)(observed, observed, 7.5) == pytest.approx(perfect)
    assert np.isnan(getattr(functional, name)(0 * observed, 0 * observed, 7.5)) or name in ("pofd",)


def test_fss_and_windows_forgive_what_lies_near() -> None:
    observed = np.zeros((1, 32, 32))
    observed[0, 10:14, 10:14] = 20
    forecast = np.roll(observed, 3, axis=-1)
    by_window = [functional.fss(forecast, observed, 10, window) for window in (1, 5, 9, 17)]
    assert by_window == sorted(by_window)
    assert functional.hk(forecast, observed, 10, window=9) > functional.hk(forecast, observed, 10)


def test_sal_of_a_shifted_field_is_its_location_error() -> None:
    observed = np.zeros((1, 32, 32))
    observed[0, 10:14, 10:14] = 20
    parts = functional.sal(np.roll(observed, 5, axis=-1), observed)
    assert (parts["s"], parts["a"]) == pytest.approx((0, 0), abs=1e-6)
    assert parts["l"] > 0


@pytest.mark.parametrize("threshold", [-3.123456789, 0.1, 1e-7])
def test_any_threshold_is_taken_exactly(threshold: float) -> None:
    observed = np.linspace(threshold - 1, threshold + 1, 64).reshape(8, 8)
    observed[0, 0] = threshold
    expected = (observed >= threshold).sum() / observed.size
    assert functional.bias(observed, np.full_like(observed, threshold), threshold) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional.rmse(rain(2), rain(3)), r"same shape, got \(2, 16, 16\) and \(3, 16, 16\)"),
        (lambda: functional.rmse(np.ones(4), np.ones(4)), r"forecast must be \(…, y, x\), got shape \(4,\)"),
        (lambda: functional.rmse(np.ones((0, 4, 4)), np.ones((0, 4, 4))), "no pixels to score"),
        (lambda: functional.fss(rain(1), rain(1), 1, 4), "window must be odd and at most 16 pixels, got 4"),
        (lambda: functional.csi(rain(1), rain(1), 1, window=17), "at most 16 pixels, got 17"),
        (lambda: functional.crps(rain(3), rain(2), member_dim=0), r"without members, \(16, 16\), got \(2, 16, 16\)"),
        (lambda: functional.crps(rain(3), rain(), member_dim=1), "member_dim must be a leading dimension"),
        (lambda: functional.brier(rain(1), rain(), 1, member_dim=0), "needs 2 or more members, got 1"),
        (lambda: functional.mae(rain(2), rain(2), keep_dims=[1]), "1 leading dimensions, got"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_any_layout_of_an_array_is_taken() -> None:
    forecast, observed = rain(2), rain(2)
    expected = functional.csi(forecast, observed, 10)
    for change in (lambda f: f[:, ::-1, :], lambda f: f.astype(">f8"), lambda f: np.asfortranarray(f)):
        assert functional.csi(change(forecast), change(observed), 10) == expected
    frozen = observed.copy()
    frozen.flags.writeable = False
    assert functional.csi(forecast, frozen, 10) == expected
    with pytest.raises(ValueError, match="real numbers"):
        functional.mae(forecast + 1j, observed)


def test_masked_and_missing_pixels_are_left_out() -> None:
    forecast, observed = rain(2), rain(2)
    hidden = RNG.random(observed.shape) < 0.3
    expected = abs(forecast - observed)[~hidden].mean()
    masked = np.ma.array(np.where(hidden, -9999, observed), mask=hidden)
    assert functional.mae(forecast, masked) == pytest.approx(expected, rel=1e-6)
    assert functional.mae(forecast, np.where(hidden, np.nan, observed)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_threshold_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        functional.csi(rain(1), rain(1), value)
    with pytest.raises(ValueError, match="window must be odd"):
        functional.fss(rain(1), rain(1), 1, 4.5)  # type: ignore[arg-type]
