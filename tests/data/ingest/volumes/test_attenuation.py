"""Attenuation corrections against known attenuation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.volumes.attenuation import (
    _LAST_GATES,
    METHODS,
    RAIN_BELOW_M,
    PhasedSweep,
    attenuation_note,
    correct_attenuation,
    heights_m,
    with_specific_attenuation,
    zphi,
)
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.ingest.volumes.pyart_bridge import pyart_library, to_pyart
from polarcast.data.ingest.volumes.volume import RadarSite, Sweep

GATES, GATE_KM = 240, 0.25
COEFFICIENTS = {
    "S": (0.02, 0.64884, 0.15917, 1.0804),
    "C": (0.08, 0.64884, 0.3, 1.0804),
    "X": (0.31916, 0.64884, 0.15917, 1.0804),
}
CELLS = [(15.0, 5.0, 45.0), (38.0, 6.0, 50.0)]


def _along(values: np.ndarray) -> np.ndarray:
    """Return twice the integral from the radar to each gate (trapezoids)."""
    return np.concatenate([[0], np.cumsum(values[1:] + values[:-1]) * GATE_KM])


def _storm(
    band: str, cells: list[tuple[float, float, float]] = CELLS, total_db: float = 6.0, elevation_deg: float = 0.5
) -> tuple[PhasedSweep, dict[str, np.ndarray]]:
    """Return a ray through cells (km, km, dBZ) with a given two-way attenuation, and what is true along it.

    Specific attenuation is proportional to Z^b, as ZPHI assumes. What is measured is attenuated.
    """
    a, b, c, d = COEFFICIENTS[band]
    distance = (np.arange(GATES) + 0.5) * GATE_KM
    zh = 20 + sum((peak - 20) * np.exp(-(((distance - km) / width) ** 2)) for km, width, peak in cells)
    echo = (distance > 5) & (distance < 52)
    specific = np.where(echo, 10 ** (b * zh / 10), 0)
    specific *= total_db / _along(specific)[-1]
    truth = {"zh": zh, "zdr": np.full(GATES, 1.5), "specific": specific}
    truth |= {"path": _along(specific), "zdr_path": _along(c * specific**d)}
    fields = {"zh": zh - truth["path"], "zdr": truth["zdr"] - truth["zdr_path"]}
    measured = {name: np.where(echo, values, np.nan)[None].astype(np.float32) for name, values in fields.items()}
    one = np.array([elevation_deg], np.float32)
    sweep = Sweep(one, np.zeros(1, np.float32), (1000 * distance).astype(np.float32), measured)
    return PhasedSweep(sweep, (truth["path"] / a)[None].astype(np.float32), echo[None], 0.0), truth


@settings(max_examples=40, deadline=None)
@given(
    band=st.sampled_from("SCX"),
    cells=st.lists(st.tuples(st.floats(8, 48), st.floats(2, 8), st.floats(30, 55)), min_size=1, max_size=3),
    total_db=st.floats(0.1, 15),
)
def test_zphi_recovers_a_known_attenuation(band: str, cells: list[tuple[float, float, float]], total_db: float) -> None:
    rays, truth = _storm(band, cells, total_db)
    echo = rays.echo[0]
    specific, path = zphi(rays, band)
    np.testing.assert_allclose(
        specific[0][echo], truth["specific"][echo], rtol=0.06, atol=0.01 * truth["specific"].max()
    )
    # The total is the median of the last gates: where it rains hard up to the end of the echo, this much is lost.
    lost = truth["path"][echo][-1] - np.median(truth["path"][echo][-_LAST_GATES:])
    np.testing.assert_allclose(path[0][echo], truth["path"][echo], atol=0.015 * total_db + lost)


@pytest.mark.parametrize("band", "SCX")
def test_zphi_restores_zh_and_zdr(band: str) -> None:
    rays, truth = _storm(band)
    corrected, echo = correct_attenuation(rays, band, "zphi"), rays.echo[0]
    for name, atol in (("zh", 0.1), ("zdr", 0.05)):
        np.testing.assert_allclose(corrected.fields[name][0][echo], truth[name][echo], atol=atol)


def test_zphi_has_the_total_of_pyart_and_is_closer_to_the_truth_in_between() -> None:
    rays, truth = _storm("C")
    radar = to_pyart(
        rays.sweep, {"z": rays.sweep.fields["zh"].astype(float), "phase": rays.phase.astype(float)}, RadarSite(0, 0, 0)
    )
    _, theirs, *_ = pyart_library().correct.calculate_attenuation_zphi(
        radar, a_coef=0.08, beta=0.64884, c=0.3, d=1.0804, refl_field="z", phidp_field="phase", zdr_field="none",
        temp_ref="fixed_fzl", fzl=1e5, doc=0, smooth_window_len=0,
    )  # fmt: skip
    echo = rays.echo[0]
    theirs, ours = np.ma.filled(theirs["data"], np.nan)[0][echo], zphi(rays, "C")[1][0][echo]
    assert ours[-1] == pytest.approx(theirs[-1], rel=0.02)
    assert np.abs(ours - truth["path"][echo]).max() < np.abs(theirs - truth["path"][echo]).max()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), noise_deg=st.floats(0, 20), slope=st.floats(-1, 3),
    method=st.sampled_from(sorted(METHODS)), band=st.sampled_from("SCX"), elevation_deg=st.floats(0, 40),
)  # fmt: skip
def test_no_correction_lowers_values_or_shrinks_along_the_ray(
    seed: int, noise_deg: float, slope: float, method: str, band: str, elevation_deg: float
) -> None:
    rng = np.random.default_rng(seed)
    phase = (slope * np.arange(80) + rng.normal(0, noise_deg, (3, 80))).astype(np.float32)
    echo = rng.random((3, 80)) < rng.random()
    fields = {name: np.where(echo, rng.uniform(0, 60, (3, 80)), np.nan).astype(np.float32) for name in ("zh", "zdr")}
    ranges = ((np.arange(80) + 0.5) * 500).astype(np.float32)
    sweep = Sweep(np.full(3, elevation_deg, np.float32), np.arange(3, dtype=np.float32), ranges, fields)
    corrected = correct_attenuation(PhasedSweep(sweep, phase, echo, 100.0), band, method)
    for name, before in fields.items():
        added = (corrected.fields[name] - before)[:, :]
        assert np.array_equal(np.isfinite(added), np.isfinite(before))
        for ray in added:
            along = ray[np.isfinite(ray)]
            assert (along >= 0).all()
            assert (np.diff(along) >= -1e-4).all()


@pytest.mark.parametrize("band", "SCX")
@pytest.mark.parametrize("method", sorted(METHODS))
def test_without_a_phase_or_echo_nothing_is_corrected(method: str, band: str) -> None:
    rays, _ = _storm(band)
    level = PhasedSweep(rays.sweep, np.zeros_like(rays.phase), rays.echo, 0.0)
    for name, before in rays.sweep.fields.items():
        np.testing.assert_array_equal(correct_attenuation(level, band, method).fields[name], before)
    assert zphi(PhasedSweep(rays.sweep, rays.phase, np.zeros_like(rays.echo), 0.0), band)[1].max() == 0


def test_the_linear_correction_is_the_phase_times_the_coefficient() -> None:
    rays, _ = _storm("C")
    corrected = correct_attenuation(rays, "C")
    for name, per_degree in (("zh", 0.08), ("zdr", 0.03)):
        added = (corrected.fields[name] - rays.sweep.fields[name])[rays.echo]
        np.testing.assert_allclose(added, per_degree * rays.phase[rays.echo], rtol=1e-4, atol=1e-5)


def test_echo_above_the_freezing_level_does_not_attenuate() -> None:
    rays, _ = _storm("C", elevation_deg=10.0)
    above = heights_m(rays)[0] >= RAIN_BELOW_M
    specific, path = zphi(rays, "C")
    assert above.any()
    assert not specific[0][above].any()
    assert specific[0][~above & rays.echo[0]].min() > 0
    assert len(np.unique(path[0][above])) == 1


def test_specific_attenuation_is_unknown_above_the_freezing_level() -> None:
    rays, _ = _storm("C", elevation_deg=10.0)
    found = with_specific_attenuation(rays, "C", rays.sweep).fields["ah"]
    np.testing.assert_array_equal(np.isfinite(found), rays.echo & (heights_m(rays) < RAIN_BELOW_M))


def test_heights_are_those_of_pyart() -> None:
    rays, _ = _storm("C", elevation_deg=3.0)
    raised = PhasedSweep(rays.sweep, rays.phase, rays.echo, 250.0)
    _, _, expected = pyart_library().core.antenna_to_cartesian(rays.sweep.range_m / 1000.0, np.zeros(GATES), 3.0)
    np.testing.assert_allclose(heights_m(raised)[0], expected + 250, atol=1)


def test_specific_attenuation_is_only_where_there_is_echo() -> None:
    rays, truth = _storm("X")
    found = with_specific_attenuation(rays, "X", rays.sweep).fields["ah"]
    np.testing.assert_array_equal(np.isfinite(found), rays.echo)
    assert np.nanmax(found) == pytest.approx(truth["specific"].max(), rel=0.03)


def test_the_note_has_the_coefficients() -> None:
    assert attenuation_note("C", "linear") == {
        "method": "linear in the differential phase (Bringi et al. 1990)", "band": "C"
    }  # fmt: skip
    note = attenuation_note("X", "zphi")
    assert [note[name] for name in "abcd"] == list(COEFFICIENTS["X"])
    assert "Testud et al. 2000" in note["method"]


def test_the_coefficients_are_those_of_pyart() -> None:
    table = pyart_library().correct.attenuation._param_attzphi_table()
    for band, expected in table.items():
        note = attenuation_note(band, "zphi")
        assert tuple(note[name] for name in "abcd") == expected


def test_unknown_methods_are_told() -> None:
    with pytest.raises(BadInput, match=r"unknown attenuation correction 'yes'.*none, linear, zphi"):
        VolumeSettings(attenuation="yes")
