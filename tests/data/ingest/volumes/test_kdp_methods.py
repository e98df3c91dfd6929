"""Every method of KDP against phases of known KDP."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.volumes import kdp as kdp_module
from polarcast.data.ingest.volumes.frame import VolumeSettings, grid_volume
from polarcast.data.ingest.volumes.gridding import Grid
from polarcast.data.ingest.volumes.kdp import METHODS, retrieval_note, retrieve_kdp
from polarcast.data.ingest.volumes.phase import smoothing_gates, unfolded_phase
from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep
from tests.support.radar_files import Blob, Scan, write_cfradial1

needs_wradlib = pytest.mark.skipif(find_spec("wradlib") is None, reason="wradlib is not installed")
EACH = pytest.mark.parametrize(
    "method", [pytest.param(name, marks=needs_wradlib if name == "wradlib" else ()) for name in METHODS]
)
CLEAR_KM = 3.0
"""Distance from the ends of the rain, within which the smoothing of every method lowers KDP."""


def _retrieved(sweep: Sweep, echo: Mask, method: str, band: str = "C") -> Real:
    phase = unfolded_phase(sweep.fields["phidp"], echo, smoothing_gates(sweep), sweep.phase_fold_deg)
    return retrieve_kdp(sweep, phase, echo, band, method).fields["kdp"]


def _rain(
    kdp: float, gate_m: float, gates: int = 100, system_deg: float = 30.0, fold_deg: float = 360.0
) -> tuple[Sweep, Mask]:
    """Return two rays with rain of constant KDP in their middle."""
    echo = np.zeros((2, gates), bool)
    echo[:, gates // 6 : gates * 5 // 6] = True
    phase = system_deg + 2 * np.cumsum(np.where(echo, kdp, 0), axis=1) * gate_m / 1000
    fields = {"phidp": np.where(echo, np.mod(phase, fold_deg), np.nan).astype(np.float32)}
    ranges = ((np.arange(gates) + 0.5) * gate_m).astype(np.float32)
    return Sweep(np.full(2, 0.5, np.float32), np.arange(2, dtype=np.float32), ranges, fields, fold_deg), echo


def _inner(echo: Mask, gate_m: float) -> Mask:
    """Return the gates away from the ends of the rain."""
    margin = round(CLEAR_KM * 1000 / gate_m)
    inner = np.zeros_like(echo)
    first, last = np.flatnonzero(echo[0])[[0, -1]]
    inner[:, first + margin : last + 1 - margin] = True
    return inner


def _storms(gate_m: float) -> tuple[Sweep, Mask, Real]:
    """Return rays through storms with 3° of noise, their echo and their KDP."""
    blobs = (Blob(60, 40, 12, kdp=2.0), Blob(150, 60, 20, kdp=1.0), Blob(280, 60, 25, kdp=0.4))
    scan = Scan(rays=30, gates=int(100e3 / gate_m), gate_m=gate_m, blobs=blobs, noise_deg=3.0)
    truth = scan.truth(0.5)
    fields = {name: truth[name].astype(np.float32) for name in ("zh", "phidp")}
    angles = np.full(30, 0.5, np.float32), scan.azimuth.astype(np.float32)
    return Sweep(*angles, scan.range_m.astype(np.float32), fields), np.isfinite(truth["zh"]), truth["kdp"]


@EACH
@pytest.mark.parametrize("gate_m", [100.0, 250.0, 1000.0])
@pytest.mark.parametrize("kdp", [0.5, 4.0])
def test_kdp_of_a_linear_phase_is_half_its_slope(method: str, gate_m: float, kdp: float) -> None:
    sweep, echo = _rain(kdp, gate_m, gates=int(25e3 / gate_m) if gate_m < 1000 else 50)
    found = _retrieved(sweep, echo, method)[_inner(echo, gate_m)]
    assert found.size
    assert np.median(found) == pytest.approx(kdp, rel=0.07)
    np.testing.assert_allclose(found, kdp, rtol=0.16)


@settings(max_examples=15, deadline=None)
@given(kdp=st.floats(0.2, 8), system_deg=st.floats(0, 179), fold_deg=st.sampled_from([180.0, 360.0]))
@pytest.mark.parametrize("method", ["vulpiani", "maesaka"])
def test_folds_and_the_system_phase_do_not_matter(method: str, kdp: float, system_deg: float, fold_deg: float) -> None:
    sweep, echo = _rain(kdp, 250.0, system_deg=system_deg, fold_deg=fold_deg)
    reference, _ = _rain(kdp, 250.0, system_deg=0.0)
    np.testing.assert_allclose(
        _retrieved(sweep, echo, method), _retrieved(reference, echo, method), rtol=0.03, atol=0.02
    )


@EACH
@pytest.mark.parametrize("gate_m", [100.0, 250.0, 500.0, 1000.0])
def test_noisy_storms_have_no_bias_whatever_the_gate_spacing(method: str, gate_m: float) -> None:
    """The filters of Schneebeli's method average over less than the windows of the others."""
    sweep, echo, truth = _storms(gate_m)
    if method == "schneebeli":
        keep = np.flatnonzero(np.nansum(truth, 1) * gate_m > 5000)[::3]
        sweep, echo, truth = _subset(sweep, keep), echo[keep], truth[keep]
    error = (_retrieved(sweep, echo, method) - truth)[echo]
    strong = truth[echo] > 1.5
    assert strong.sum() >= 4
    assert np.sqrt((error**2).mean()) < (0.6 if method == "schneebeli" else 0.3)
    assert abs(error.mean()) < 0.1
    assert abs(error[strong].mean()) < 0.3


def _subset(sweep: Sweep, keep: np.ndarray) -> Sweep:
    fields = {name: values[keep] for name, values in sweep.fields.items()}
    return Sweep(sweep.elevation_deg[keep], sweep.azimuth_deg[keep], sweep.range_m, fields)


@EACH
def test_a_level_phase_and_a_few_gates_of_echo_have_no_kdp(method: str) -> None:
    sweep, echo = _rain(0.0, 250.0)
    echo[1] = False
    echo[1, 40:45] = True
    found = _retrieved(sweep, echo, method)
    np.testing.assert_allclose(found[echo], 0, atol=1e-3)
    assert np.isnan(found[~echo]).all()


@EACH
@pytest.mark.parametrize("gates", [2, 8, 17, 18, 19, 25])
def test_rays_of_any_length_are_retrieved_or_missing(method: str, gates: int) -> None:
    """The window is 16 gates."""
    sweep, _ = _rain(1.0, 250.0, gates=gates)
    echo = np.ones((2, gates), bool)
    phase = np.tile(0.5 * np.arange(gates, dtype=np.float32), (2, 1))
    found = retrieve_kdp(sweep, phase, echo, "C", method).fields["kdp"]
    assert found.shape == (2, gates)
    assert np.isfinite(found).all() if gates > 16 else np.isnan(found).all()


@pytest.mark.parametrize("gate_m", [100.0, 250.0, 1000.0])
@pytest.mark.parametrize("kdp", [0.5, 4.0])
def test_rain_at_both_ends_of_the_rays_has_its_kdp(gate_m: float, kdp: float) -> None:
    """Rays begin and end in uniform rain; Py-ART alone gives 0 there."""
    gates = round(30e3 / gate_m)
    sweep, _ = _rain(kdp, gate_m, gates=gates)
    phase = np.tile((2 * kdp * gate_m / 1000 * np.arange(gates)).astype(np.float32), (2, 1))
    found = retrieve_kdp(sweep, phase, np.ones((2, gates), bool), "C", "vulpiani").fields["kdp"]
    np.testing.assert_allclose(found, kdp, rtol=0.05)


def test_maesaka_is_never_negative() -> None:
    sweep, echo = _rain(1.0, 250.0)
    falling = np.tile(np.linspace(0, -30, 100, dtype=np.float32), (2, 1))
    noisy = falling + np.random.default_rng(0).normal(0, 3, falling.shape).astype(np.float32)
    assert np.nanmin(retrieve_kdp(sweep, noisy, echo, "C", "maesaka").fields["kdp"]) >= 0
    assert np.nanmin(retrieve_kdp(sweep, noisy, echo, "C", "vulpiani").fields["kdp"]) < 0


def test_schneebeli_is_reproducible_and_leaves_the_random_numbers_of_others_alone() -> None:
    sweep, echo = _rain(1.0, 1000.0, gates=30)
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    first = _retrieved(sweep, echo, "schneebeli")
    assert np.random.rand() == expected  # noqa: NPY002
    np.testing.assert_array_equal(first, _retrieved(sweep, echo, "schneebeli"))


@EACH
def test_the_note_names_the_method_its_library_and_settings(method: str) -> None:
    note = retrieval_note(_rain(1.0, 250.0)[0], method)
    assert note["library"].split()[0] == ("wradlib" if method == "wradlib" else "arm_pyart")
    assert note["library"].split()[1][0].isdigit()
    assert {"vulpiani": "Vulpiani", "maesaka": "Maesaka", "schneebeli": "Schneebeli"}.get(method, "phidp") in note[
        "kdp"
    ]
    assert note["median_gates"] == 5


def test_unknown_methods_and_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"unknown KDP method 'bringi'.*vulpiani, maesaka, schneebeli, wradlib, file"):
        VolumeSettings(kdp="bringi")
    monkeypatch.setattr(kdp_module, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"wradlib is not installed.*pip install wradlib"):
        VolumeSettings(kdp="wradlib")


@pytest.mark.parametrize(("fields", "kdp"), [(("kdp",), "vulpiani"), (("kdp",), "file"), ((), "maesaka")])
def test_kdp_of_the_file_is_preferred_and_the_note_tells(tmp_path: Path, fields: tuple[str, ...], kdp: str) -> None:
    scan = Scan(elevations=(0.5, 3.0), rays=60, gates=60, fields=("zh", "zdr", "phidp", "rhohv", *fields))
    made = grid_volume([write_cfradial1(tmp_path / "v.nc", scan)], VolumeSettings(Grid(8, 10.0, (1.0,)), kdp=kdp))
    note = made.note["steps"]["kdp"]
    assert note["as"] == ("measured" if fields else "retrieved")
    assert ("Maesaka" in str(note)) == (not fields)


class _Partly(Scan):
    """KDP is measured at the lowest elevation only."""

    def truth(self, elevation: float) -> dict[str, np.ndarray]:
        fields = super().truth(elevation)
        return fields if elevation < 1 else {**fields, "kdp": np.full_like(fields["kdp"], np.nan)}


@pytest.mark.parametrize("attenuation", ["none", "zphi"])
def test_sweeps_without_kdp_are_retrieved_or_refused(tmp_path: Path, attenuation: str) -> None:
    fields = ("zh", "zdr", "phidp", "rhohv", "kdp")
    scan = _Partly(elevations=(0.5, 20.0), rays=90, gates=100, fields=fields, blobs=(Blob(45, 20, 9),))
    path = write_cfradial1(tmp_path / "v.nc", scan)
    # Only the upper sweep reaches 7 km.
    settings = VolumeSettings(Grid(24, 2.0, (7.0,)), attenuation=attenuation)
    made = grid_volume([path], settings)
    assert made.note["steps"]["kdp"]["as"] == "measured; retrieved for 1 sweeps without it"
    zh, _, found = made.radar[:, 0]
    assert np.isfinite(zh).any()
    assert np.isfinite(found[np.isfinite(zh)]).any()
    with pytest.raises(BadInput, match=r"no KDP at 7 km where zh has echo — leave it out: --variables zh,zdr$"):
        grid_volume([path], replace(settings, kdp="file"))


def test_kdp_of_files_only_is_required_of_them(tmp_path: Path) -> None:
    path = write_cfradial1(tmp_path / "v.nc", Scan(elevations=(0.5, 3.0), rays=60, gates=60))
    with pytest.raises(BadInput, match=r"the volume has no KDP.*--kdp vulpiani"):
        grid_volume([path], VolumeSettings(Grid(8, 10.0, (1.0,)), kdp="file"))
