"""KDP from the phase against a field of known KDP; attenuation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.ingest.volumes.phase import correct_attenuation, retrieve_kdp, smoothing_gates, unfolded_phase
from polarcast.data.ingest.volumes.volume import Real, Sweep
from tests.support.radar_files import Blob, Scan

STORMS = (Blob(60, 40, 12, kdp=2.0), Blob(150, 60, 20, kdp=1.0), Blob(200, 25, 12, kdp=3.0), Blob(280, 60, 25, kdp=0.4))


def _sweep(
    noise_deg: float, gate_m: float = 250.0, rays: int = 180, blobs: tuple[Blob, ...] = STORMS
) -> tuple[Sweep, Real]:
    """A sweep without its KDP, and the KDP."""
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
    """Coarser gates are fewer to average over: the noise that is left grows with them."""
    sweep, truth = _sweep(3.0, gate_m)
    error = _retrieved(sweep, band) - truth
    moderate = (truth >= 0.3) & (truth < 1) & np.isfinite(error)
    assert moderate.sum() > 500
    assert np.sqrt((error[moderate] ** 2).mean()) < largest
    assert abs(error[moderate].mean()) < bias


@pytest.mark.parametrize(("radius_km", "least"), [(12.0, 0.9), (6.0, 0.75), (4.0, 0.6)])
def test_strong_kdp_is_flattened_the_more_the_smaller_the_storm(radius_km: float, least: float) -> None:
    """What the window takes from 2 deg/km: a sixth in storms of 12 km across, a third in those of 8 km."""
    sweep, truth = _sweep(3.0, rays=360, blobs=(Blob(60, 40, radius_km, kdp=2.0), Blob(240, 60, radius_km, kdp=2.0)))
    strong = truth >= 1.8
    assert least < np.nanmean(_retrieved(sweep)[strong]) / truth[strong].mean() < 1.1


def test_a_phase_without_noise_gives_its_kdp_back() -> None:
    sweep, truth = _sweep(0.0)
    error = (_retrieved(sweep) - truth)[np.isfinite(truth)]
    assert np.sqrt((error**2).mean()) < 0.1


@pytest.mark.parametrize(("noise_deg", "of_ray", "of_all"), [(0.0, 0.1, 0.05), (3.0, 0.3, 0.05)])
def test_kdp_adds_up_to_the_phase(noise_deg: float, of_ray: float, of_all: float) -> None:
    """Of a ray only as well as the noise at the two ends of its storm lets it."""
    sweep, truth = _sweep(noise_deg)
    total, expected = (2 * 0.25 * np.nansum(kdp, axis=1) for kdp in (_retrieved(sweep), truth))
    long = expected > 15
    assert long.sum() > 20
    np.testing.assert_allclose(total[long], expected[long], rtol=of_ray)
    assert total[long].sum() == pytest.approx(expected[long].sum(), rel=of_all)


def test_kdp_is_only_where_there_is_echo() -> None:
    sweep, truth = _sweep(2.0)
    np.testing.assert_array_equal(np.isfinite(_retrieved(sweep)), np.isfinite(truth))


@given(offset=st.floats(0, 360), slope=st.floats(0, 4), fold=st.sampled_from([(0, 360), (-180, 180)]))
def test_folds_and_the_system_phase_are_undone(offset: float, slope: float, fold: tuple[int, int]) -> None:
    steps = np.arange(200)
    grown = slope * steps
    folded = np.mod(offset + grown - fold[0], 360) + fold[0]
    phase = unfolded_phase(folded[None].astype(np.float32), np.ones((1, 200), bool), 1)
    # Zero is the median of the first ten gates.
    np.testing.assert_allclose(phase[0], grown - np.median(grown[:10]), atol=1e-3)


def test_a_phase_that_folds_at_half_a_turn_is_unfolded() -> None:
    grown = 1.7 * np.arange(200)
    phase = unfolded_phase(np.mod(150 + grown, 180)[None].astype(np.float32), np.ones((1, 200), bool), 1, 180.0)
    np.testing.assert_allclose(phase[0], grown - np.median(grown[:10]), atol=1e-3)


def test_gaps_are_bridged_by_what_lies_beyond() -> None:
    grown = np.where(np.arange(100) < 50, 0.0, 30.0)
    echo = np.ones((1, 100), bool)
    echo[0, 40:60] = False
    phase = unfolded_phase(grown[None].astype(np.float32), echo, 1)
    assert np.all(np.diff(phase[0]) >= 0)
    assert phase[0, [39, 60]].tolist() == [0, 30]


def test_attenuation_only_raises_and_never_falls_along_the_ray() -> None:
    sweep, _ = _sweep(3.0)
    echo = np.isfinite(sweep.fields["zh"])
    phase = unfolded_phase(sweep.fields["phidp"], echo, smoothing_gates(sweep))
    raised = correct_attenuation(sweep, phase, "C")
    for name, per_degree in (("zh", 0.08), ("zdr", 0.03)):
        correction = raised.fields[name] - sweep.fields[name]
        assert np.nanmin(correction) >= 0
        for ray in correction:
            assert np.all(np.diff(ray[np.isfinite(ray)]) >= -1e-4)
        assert np.nanmax(correction) == pytest.approx(per_degree * phase.max(), rel=1e-3)
