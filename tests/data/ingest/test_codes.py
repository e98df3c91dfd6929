"""Codes for missing data that a file does not declare are found among measured values, and measured values are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.ingest.codes import undeclared_code, without_codes

MEASURED = {"zh": (12, 15), "zdr": (1, 2), "kdp": (0.3, 1.0), "phidp": (60, 25), "rhohv": (0.9, 0.08), "rain": (3, 5)}
"""Mean and spread of each field."""
CODES = {
    "zh": [-99.0, -99.9, -64.0, -999.0], "zdr": [-99.0, -99.9, -13.0, 99.0], "kdp": [-99.0, -99.9, -999.0, -9999.0],
    "phidp": [-99.0, -99.9, -999.0, -9999.0, 0.0], "rhohv": [-99.0, -999.0, 2.0], "rain": [-99.0, -999.0, 999.0],
}  # fmt: skip
CASES = [(name, code) for name, codes in CODES.items() for code in codes]


def measured(name: str, seed: int, count: int = 4000) -> np.ndarray:
    """Return a field as radars measure it, quantized as by eight or sixteen bits."""
    mean, spread = MEASURED[name]
    values = np.random.default_rng(seed).normal(mean, spread, count)
    least = {"rain": 0.0, "rhohv": 0.1, "phidp": 20.0}.get(name, -40.0)
    return np.clip(np.round(values * 64) / 64, least, mean + 6 * spread).astype(np.float32)


@pytest.mark.parametrize(("name", "code"), CASES)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_code_apart_from_all_values_is_found(name: str, code: float, share: float) -> None:
    values = measured(name, 0)
    is_code = np.random.default_rng(1).random(values.shape) < share
    values[is_code] = code
    assert undeclared_code(values, name) == np.float32(code)
    cleaned, counts = without_codes(values, name)
    np.testing.assert_array_equal(np.isnan(cleaned), is_code)
    assert counts == {float(np.float32(code)): int(is_code.sum())}


@given(st.sampled_from(sorted(MEASURED)), st.integers(0, 1000), st.integers(12, 3000))
@settings(max_examples=50, deadline=None)
def test_measured_values_are_no_codes(name: str, seed: int, count: int) -> None:
    assert undeclared_code(measured(name, seed, count), name) is None


@given(st.integers(0, 1000), st.integers(6, 16))
@settings(max_examples=25, deadline=None)
def test_the_phase_of_noise_has_no_code(seed: int, bits: int) -> None:
    """Noise fills the whole circle: −99° is one of its values."""
    step = 360 / 2**bits
    phase = np.random.default_rng(seed).integers(0, 2**bits, 20_000) * step - 180
    assert undeclared_code(np.round(phase / step).astype(np.float32) * np.float32(step), "phidp") is None


def test_a_code_within_the_phase_of_noise_is_found() -> None:
    phase = np.random.default_rng(0).uniform(-180, 180, 20_000).astype(np.float32)
    phase[:1000] = -99.0
    cleaned, counts = without_codes(phase, "phidp")
    assert counts == {-99.0: 1000}
    assert np.isnan(cleaned[:1000]).all()
    np.testing.assert_array_equal(cleaned[1000:], phase[1000:])


def test_values_at_the_end_of_a_scale_are_no_codes() -> None:
    """NEXRAD writes all larger ZDR as 7.9 dB, and all smaller as −7.9 dB."""
    zdr = np.clip(np.random.default_rng(0).normal(0, 6, 5000), -7.9, 7.9).astype(np.float32)
    assert undeclared_code(zdr, "zdr") is None


def test_a_field_of_a_code_alone_has_one() -> None:
    assert undeclared_code(np.full(100, -99.0, np.float32), "kdp") == -99.0
    assert undeclared_code(np.full(100, 60.0, np.float32), "phidp") is None
    assert undeclared_code(np.zeros(0, np.float32), "zh") is None
    assert undeclared_code(np.full(50, np.nan, np.float32), "zh") is None


def test_two_codes_are_found() -> None:
    values = measured("kdp", 0)
    values[:100], values[100:300] = -99.0, 999.0
    assert without_codes(values, "kdp")[1] == {-99.0: 100, 999.0: 200}
