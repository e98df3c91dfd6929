"""Scattering of rain at C band against two independent T-matrix codes, and its scaling properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.synth import make_drop_table
from polarcast.data.synth.scattering import DROP_TABLE, integrate_dsd, log10_nw, observe_rain

# mu = 3, R = 10 mm/h: Dm, zh, zdr, kdp, ah/kdp, adp/kdp, log10 Nw, from a T-matrix code with independent integration.
REFERENCE = np.array(
    [
        [1.0, 33.0, 0.33, 0.123, 0.131, 0.004, 4.77],
        [1.5, 36.9, 0.79, 0.249, 0.068, 0.006, 3.93],
        [2.0, 39.8, 1.36, 0.396, 0.060, 0.011, 3.35],
        [2.5, 42.6, 2.38, 0.545, 0.075, 0.022, 2.92],
        [3.0, 45.8, 3.56, 0.674, 0.105, 0.036, 2.56],
    ]
)


@pytest.mark.parametrize("row", REFERENCE)
def test_table_matches_reference_integration(row):
    dm, zh, zdr, kdp, ah_ratio, adp_ratio, nw = row
    result = observe_rain(dm, 3.0, 10.0)
    assert result.zh == pytest.approx(zh, abs=0.1)
    assert result.zdr == pytest.approx(zdr, abs=0.02)
    assert result.kdp == pytest.approx(kdp, rel=0.025)
    assert result.ah / result.kdp == pytest.approx(ah_ratio, rel=0.03)
    assert result.adp / result.kdp == pytest.approx(adp_ratio, abs=0.0006)
    assert log10_nw(np.array([dm]), np.array([3.0]), np.array([10.0]))[0] == pytest.approx(nw, abs=0.01)


def test_gamma_dsd_with_median_diameter_1_5_mm():
    """Values of both pytmatrix and rustmatrix for Nw = 8000 in the D0 normalization, D0 = 1.5 mm, mu = 3, 20 C."""
    d0, mu, nw_d0 = 1.5, 3.0, 8000.0
    dm = d0 * (4 + mu) / (3.67 + mu)
    per_nw = integrate_dsd(np.array([dm]), np.array([mu]))
    nw = nw_d0 * (4 / 3.67) ** 4 * ((3.67 + mu) / (4 + mu)) ** 4
    assert 10 * np.log10(nw * per_nw["zh"][0]) == pytest.approx(38.725, abs=0.05)
    assert 10 * np.log10(per_nw["zh"][0] / per_nw["zv"][0]) == pytest.approx(0.873, abs=0.02)
    assert nw * per_nw["kdp"][0] == pytest.approx(0.3668, rel=0.01)
    assert nw * per_nw["ah"][0] == pytest.approx(0.0240, rel=0.02)


def test_single_drops_resonate_near_six_millimeters():
    with np.load(DROP_TABLE) as drops:
        d, zdr, kdp = drops["diameter_mm"], 10 * np.log10(drops["zh"] / drops["zv"]), drops["kdp"]
    assert zdr.max() == pytest.approx(7.4, abs=0.1)
    assert d[zdr.argmax()] == pytest.approx(5.75, abs=0.1)
    negative = d[(kdp < 0) & (d > 1)]
    assert 5.8 <= negative.min() <= 6.0
    assert 6.4 <= negative.max() <= 6.6


def test_look_up_agrees_with_integration_over_the_whole_range():
    rng = np.random.default_rng(1)
    dm = np.exp(rng.uniform(np.log(0.45), np.log(3.6), 3000))
    mu = np.exp(rng.uniform(np.log(3), np.log(22), 3000)) - 4
    exact = integrate_dsd(dm, mu)
    result = observe_rain(dm, mu, np.ones(3000))
    rate = exact["rain_rate"]
    assert np.abs(result.zh - 10 * np.log10(exact["zh"] / rate)).max() < 0.05
    assert np.abs(result.zdr - 10 * np.log10(exact["zh"] / exact["zv"])).max() < 0.05
    for name, value in (("kdp", exact["kdp"]), ("ah", exact["ah"]), ("adp", exact["ah"] - exact["av"])):
        assert np.abs(getattr(result, name) * rate / value - 1).max() < 0.012


@given(dm=st.floats(0.5, 3.5), mu=st.floats(-0.9, 17.9), rain=st.floats(0.1, 150), factor=st.floats(1.1, 10))
def test_linear_quantities_scale_with_the_number_of_drops(dm, mu, rain, factor):
    one, more = observe_rain(dm, mu, rain), observe_rain(dm, mu, rain * factor)
    assert more.zh - one.zh == pytest.approx(10 * np.log10(factor), abs=1e-3)
    assert more.zdr == pytest.approx(one.zdr, abs=1e-6)
    assert more.kdp == pytest.approx(one.kdp * factor, rel=1e-4)


@given(dm=st.floats(0.5, 3.3), mu=st.floats(0.0, 15.0), step=st.floats(0.05, 0.2))
def test_larger_drops_increase_zh_and_zdr_at_equal_rain(dm, mu, step):
    small, large = observe_rain(dm, mu, 10.0), observe_rain(dm + step, mu, 10.0)
    assert large.zh > small.zh
    assert large.zdr > small.zdr


def test_shipped_table_equals_the_output_of_its_script():
    pytest.importorskip("rustmatrix", reason="regenerating the drop table needs rustmatrix")
    with np.load(DROP_TABLE) as drops:
        for i in (10, 60, 120):
            d = drops["diameter_mm"][i]
            ratio = make_drop_table.axis_ratio(np.array([d]))[0]
            made = make_drop_table.scatter_one(float(d), float(ratio))
            shipped = [drops[k][i] for k in ("zh", "zv", "covariance", "kdp", "ah", "av")]
            # The smallest drop is a sphere: its kdp is zero except for rounding errors, which depend on the CPU.
            np.testing.assert_allclose(made, shipped, rtol=1e-6, atol=1e-15)
