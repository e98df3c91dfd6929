import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.hpc.scores.sal import sal, sal_sums
from tests.support.fields import PAIRS, one_pixel, rain


def by_hand(forecast: np.ndarray, observed: np.ndarray) -> tuple[float, float, float]:
    """Compute S, A and L of one pair of fields object by object, as defined by Wernli et al. (2008)."""
    from scipy.ndimage import center_of_mass, label

    def parts(field: np.ndarray) -> tuple[float, float]:
        wet = field[field >= 0.1]
        if not len(wet):
            return 0.0, np.nan
        labels, count = label(field >= np.quantile(wet, 0.95) / 15, structure=np.ones((3, 3)))
        masses, volumes, distances = [], [], []
        for number in range(1, count + 1):
            one = np.where(labels == number, field, 0)
            masses.append(one.sum())
            volumes.append(one.sum() / one.max())
            distances.append(np.hypot(*np.subtract(center_of_mass(one), center_of_mass(field))))
        weights = np.array(masses) / sum(masses)
        return float(weights @ volumes), float(weights @ distances)

    (vf, rf), (vo, ro) = parts(forecast), parts(observed)
    diagonal = np.hypot(*observed.shape)
    shift = np.hypot(*np.subtract(center_of_mass(forecast), center_of_mass(observed)))
    location = shift / diagonal + 2 * abs(rf - ro) / diagonal
    a = (forecast.mean() - observed.mean()) / (0.5 * (forecast.mean() + observed.mean()))
    return float(np.float64(vf - vo) / (0.5 * (vf + vo))), a, location


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [n for n in PAIRS if n != "missing values"])
def test_sal_equals_its_definition(name: str) -> None:
    forecast, observed = (f.double().numpy() for f in PAIRS[name])
    found = np.array(sal(forecast, observed))
    expected = np.array([by_hand(f, o) for f, o in zip(forecast, observed, strict=True)]).T
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("name", ["rain", "a little off", "one pixel", "all rain"])
def test_amplitude_equals_pysteps_and_location_exceeds_its_first_term(name: str) -> None:
    from pysteps.verification.salscores import _sal_l1_param, sal_amplitude

    forecast, observed = (f.double().numpy() for f in PAIRS[name])
    _, amplitude, location = sal(forecast, observed)
    pairs = list(zip(forecast, observed, strict=True))
    np.testing.assert_allclose(amplitude, [sal_amplitude(f, o) for f, o in pairs], atol=1e-9)
    assert all(location >= np.array([_sal_l1_param(f, o) for f, o in pairs]) - 1e-12)


def test_each_component_responds_to_its_kind_of_error() -> None:
    observed = rain(3).double().numpy()
    s, a, location = sal(3 * observed, observed)
    np.testing.assert_allclose(s, 0, atol=1e-9)
    np.testing.assert_allclose(a, 1)
    np.testing.assert_allclose(location, 0, atol=1e-12)
    alone = one_pixel().double().numpy()
    _, _, moved = sal(np.roll(alone, 8, axis=2), alone)
    np.testing.assert_allclose(moved, 8 / np.hypot(32, 32))
    wide = np.maximum.reduce([np.roll(alone, shift, axis=2) for shift in (-1, 0, 1)])
    assert (sal(wide, alone)[0] > 0.5).all()


@given(st.integers(0, 5_000), st.integers(0, 5_000))
@settings(max_examples=25, deadline=None)
def test_components_are_bounded_and_symmetric(one: int, other: int) -> None:
    forecast, observed = rain(one).double().numpy(), rain(other).double().numpy()
    forward, backward = sal(forecast, observed), sal(observed, forecast)
    for component, limit in zip(forward, (2, 2, 2), strict=True):
        assert (np.abs(component[np.isfinite(component)]) <= limit + 1e-12).all()
    for index, sign in enumerate((-1, -1, 1)):
        np.testing.assert_allclose(forward[index], sign * backward[index], atol=1e-12)


def test_undefined_components_are_not_counted() -> None:
    dry = torch.zeros(4, 32, 32)
    assert (sal_sums(dry, dry) == 0).all()
    missed = sal_sums(dry, rain(2))
    assert missed[:, 0].tolist() == missed[:, 3].tolist() == [1] * 4
    assert missed[:, 1].tolist() == missed[:, 4].tolist() == [-2] * 4
    assert missed[:, 6].tolist() == [0] * 4
