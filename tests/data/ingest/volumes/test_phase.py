"""Tests of unfolding, and of the default KDP retrieval against known KDP."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.ingest.volumes.kdp import retrieve_kdp
from polarcast.data.ingest.volumes.phase import smoothing_gates, unfolded_phase
from polarcast.data.ingest.volumes.volume import Real, Sweep
from tests.support.radar_files import Blob, Scan

STORMS = (Blob(60, 40, 12, kdp=2.0), Blob(150, 60, 20, kdp=1.0), Blob(200, 25, 12, kdp=3.0), Blob(280, 60, 25, kdp=0.4))


def _sweep(
    noise_deg: float, gate_m: float = 250.0, rays: int = 180, blobs: tuple[Blob, ...] = STORMS
) -> tuple[Sweep, Real]:
    """Return a sweep without KDP, and the true KDP."""
    scan = Scan(rays=rays, gates=int(100e3 / gate_m), gate_m=gate_m, blobs=blobs, noise_deg=noise_deg)
    truth = scan.truth(0.5)
    fields = {name: truth[name].astype(np.float32) for name in ("zh", "zdr", "phidp", "rhohv")}
    elevation = np.full(rays, 0.5, np.float32)
    sweep = Sweep(elevation, scan.azimuth.astype(np.float32), scan.range_m.astype(np.float32), fields)
    return sweep, truth["kdp"].astype(np.float32)


def _retrieved(sweep: Sweep, band: str = "C") -> Real:
    echo = np.isfinite(sweep.fields["zh"])
    phase = unfolded_phase(sweep.fields["phidp"], echo, smoothing_gates(sweep))
    return retrieve_kdp(sweep, phase, echo, band).fields["kdp"]


@pytest.mark.parametrize("band", ["S", "C"])
@pytest.mark.parametrize(("gate_m", "largest", "bias"), [(250.0, 0.2, 0.03), (500.0, 0.22, 0.03), (1000.0, 0.3, 0.05)])
def test_kdp_is_retrieved_from_a_noisy_phase(band: str, gate_m: float, largest: float, bias: float) -> None:
    """The residual noise grows with gate spacing, because fewer gates are averaged."""
    sweep, truth = _sweep(3.0, gate_m)
    error = _retrieved(sweep, band) - truth
    moderate = (truth >= 0.3) & (truth < 1) & np.isfinite(error)
    assert moderate.sum() > 500
    assert np.sqrt((error[moderate] ** 2).mean()) < largest
    assert abs(error[moderate].mean()) < bias


@pytest.mark.parametrize(("radius_km", "least"), [(12.0, 0.9), (6.0, 0.75), (4.0, 0.6)])
def test_strong_kdp_is_reduced_more_in_smaller_storms(radius_km: float, least: float) -> None:
    """The window reduces 2 deg/km by a sixth in storms of 12 km diameter, and by a third in those of 8 km."""
    sweep, truth = _sweep(3.0, rays=360, blobs=(Blob(60, 40, radius_km, kdp=2.0), Blob(240, 60, radius_km, kdp=2.0)))
    strong = truth >= 1.8
    assert least < np.nanmean(_retrieved(sweep)[strong]) / truth[strong].mean() < 1.1


def test_kdp_is_retrieved_from_a_phase_without_noise() -> None:
    sweep, truth = _sweep(0.0)
    error = (_retrieved(sweep) - truth)[np.isfinite(truth)]
    assert np.sqrt((error**2).mean()) < 0.1


@pytest.mark.parametrize(("noise_deg", "ray_rtol", "total_rtol"), [(0.0, 0.1, 0.05), (3.0, 0.3, 0.05)])
def test_kdp_adds_up_to_the_phase(noise_deg: float, ray_rtol: float, total_rtol: float) -> None:
    """The accuracy for a single ray is limited by the noise at both ends of its storm."""
    sweep, truth = _sweep(noise_deg)
    total, expected = (2 * 0.25 * np.nansum(kdp, axis=1) for kdp in (_retrieved(sweep), truth))
    long = expected > 15
    assert long.sum() > 20
    np.testing.assert_allclose(total[long], expected[long], rtol=ray_rtol)
    assert total[long].sum() == pytest.approx(expected[long].sum(), rel=total_rtol)


def test_kdp_is_only_where_there_is_echo() -> None:
    sweep, truth = _sweep(2.0)
    np.testing.assert_array_equal(np.isfinite(_retrieved(sweep)), np.isfinite(truth))


@given(offset=st.floats(0, 360), slope=st.floats(0, 4), fold=st.sampled_from([(0, 360), (-180, 180)]))
def test_folds_and_the_system_phase_are_removed(offset: float, slope: float, fold: tuple[int, int]) -> None:
    steps = np.arange(200)
    expected = slope * steps
    folded = np.mod(offset + expected - fold[0], 360) + fold[0]
    phase = unfolded_phase(folded[None].astype(np.float32), np.ones((1, 200), bool), 1)
    # Zero is the median of the first ten gates.
    np.testing.assert_allclose(phase[0], expected - np.median(expected[:10]), atol=1e-3)


def test_a_phase_that_folds_at_180_degrees_is_unfolded() -> None:
    expected = 1.7 * np.arange(200)
    phase = unfolded_phase(np.mod(150 + expected, 180)[None].astype(np.float32), np.ones((1, 200), bool), 1, 180.0)
    np.testing.assert_allclose(phase[0], expected - np.median(expected[:10]), atol=1e-3)


def test_gaps_are_interpolated() -> None:
    expected = np.where(np.arange(100) < 50, 0.0, 30.0)
    echo = np.ones((1, 100), bool)
    echo[0, 40:60] = False
    phase = unfolded_phase(expected[None].astype(np.float32), echo, 1)
    assert np.all(np.diff(phase[0]) >= 0)
    assert phase[0, [39, 60]].tolist() == [0, 30]
