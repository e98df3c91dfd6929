"""Volumes of every format come back as they were written; what can't be used is told in one line."""

import bz2
import gzip
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.ingest.radar_files import SITE, WRITERS, Scan, write_cfradial2, write_sigmet

from polarcast.data.errors import BadInput
from polarcast.data.ingest.formats import format_of, read_volume
from polarcast.data.ingest.pyart_bridge import pyart_library
from polarcast.data.ingest.volume import Volume, find_names

SMALL = Scan(elevations=(0.5, 3.0, 10.0), rays=90, gates=80, gate_m=1000.0)
RESOLUTION = {"zh": 0.006, "zdr": 0.006, "phidp": 0.006, "rhohv": 2e-5}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small volume in every format."""
    folder = tmp_path_factory.mktemp("volumes")
    return {kind: write(folder / f"{i}.vol", SMALL) for i, (kind, write) in enumerate(WRITERS.items())}


def _assert_as_written(volume: Volume, scan: Scan) -> None:
    assert str(volume.time) == scan.time
    assert (volume.latitude, volume.longitude, volume.altitude_m) == pytest.approx(tuple(SITE.values()), abs=1e-6)
    assert len(volume.sweeps) == len(scan.elevations)
    for sweep, elevation in zip(volume.sweeps, scan.elevations, strict=True):
        np.testing.assert_allclose(sweep.elevation_deg, elevation, atol=0.003)
        np.testing.assert_allclose(sweep.azimuth_deg, scan.azimuth, atol=0.003)
        np.testing.assert_allclose(sweep.range_m, scan.range_m, rtol=1e-6)
        truth = scan.truth(elevation)
        for name, resolution in RESOLUTION.items():
            np.testing.assert_array_equal(np.isfinite(sweep.fields[name]), np.isfinite(truth[name]))
            np.testing.assert_allclose(sweep.fields[name], truth[name], atol=resolution)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_volume_comes_back_as_it_was_written(files: dict[str, Path], kind: str) -> None:
    assert format_of(files[kind]) == kind
    volume = read_volume(files[kind])
    _assert_as_written(volume, SMALL)
    # xradar writes no wavelength into ODIM.
    assert volume.band == (None if kind == "ODIM HDF5" else "C")


def test_sigmet_rays_lie_where_another_reader_has_them(files: dict[str, Path]) -> None:
    """Py-ART reads the format by code of its own."""
    other = pyart_library().io.read_sigmet(str(files["SIGMET/IRIS"]))
    volume = read_volume(files["SIGMET/IRIS"])
    for number, sweep in enumerate(volume.sweeps):
        rays = other.get_slice(number)
        np.testing.assert_allclose(sweep.azimuth_deg, other.azimuth["data"][rays], atol=1e-3)
        for ours, theirs in (("zh", "reflectivity"), ("phidp", "differential_phase")):
            expected = np.ma.filled(other.fields[theirs]["data"][rays].astype(float), np.nan)
            np.testing.assert_allclose(sweep.fields[ours], expected, atol=1e-3)


def test_odim_in_eight_bits_with_codes_for_no_echo_and_no_data(files: dict[str, Path], tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "packed.h5"
    path.write_bytes(files["ODIM HDF5"].read_bytes())
    truth = SMALL.truth(SMALL.elevations[0])["zh"]
    with h5py.File(path, "r+") as file:
        file.require_group("how").attrs["wavelength"] = 10.6
        groups = [g for g in file["dataset1"].values() if "what" in g and g["what"].attrs.get("quantity") is not None]
        data = next(g for g in groups if np.bytes_(g["what"].attrs["quantity"]) == b"DBZH")
        codes = np.where(np.isfinite(truth), np.round((np.nan_to_num(truth) + 32) / 0.5), 0).astype(np.uint8)
        codes[:, -5:] = 255
        del data["data"]
        data["data"] = codes
        data["what"].attrs.update({"gain": 0.5, "offset": -32.0, "undetect": 0.0, "nodata": 255.0})
    volume = read_volume(path)
    zh = volume.sweeps[0].fields["zh"]
    assert volume.band == "S"
    np.testing.assert_array_equal(np.isfinite(zh), np.isfinite(truth))
    np.testing.assert_allclose(zh, truth, atol=0.25)


@pytest.mark.parametrize("pack", ["gz", "bz2", "zip"])
def test_compressed_volumes_are_read(files: dict[str, Path], pack: str, tmp_path: Path) -> None:
    content = files["SIGMET/IRIS"].read_bytes()
    path = tmp_path / f"volume.{pack}"
    if pack == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner/volume", content)
    else:
        path.write_bytes((gzip if pack == "gz" else bz2).compress(content))
    _assert_as_written(read_volume(path), SMALL)


def _refused(path: Path, match: str, **settings: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match=match) as caught:
        read_volume(path, **settings)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_no_radar_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("a letter to the editor")
    _refused(path, "not a radar volume in a known format")
    _refused(tmp_path / "absent", "no such file")


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.05, 0.6])
def test_a_truncated_volume_is_refused(files: dict[str, Path], kind: str, share: float, tmp_path: Path) -> None:
    content = files[kind].read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(content[: int(share * len(content))])
    _refused(path, "can't be read|not a radar volume|middle of a sweep")


def test_damaged_compression_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "volume.gz"
    path.write_bytes(gzip.compress(files["CfRadial 1"].read_bytes())[:-2000])
    _refused(path, "its compression is damaged")


def test_a_zip_of_several_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("b", b"2")
    _refused(path, "a zip of 2 files")


def test_a_single_sweep_is_refused(tmp_path: Path) -> None:
    path = write_sigmet(tmp_path / "ppi", replace(SMALL, elevations=(0.5,)))
    _refused(path, "1 sweep of one elevation")


def test_without_zdr_a_volume_is_refused_unless_it_is_not_wanted(tmp_path: Path) -> None:
    path = write_sigmet(tmp_path / "single-pol", replace(SMALL, fields=("zh",)))
    _refused(path, "a volume without ZDR.*--variables")
    assert set(read_volume(path, ("zh",)).sweeps[0].fields) == {"zh"}


def _changed(path: Path, change: Callable[[str, Any], Any]) -> Path:
    """A CfRadial 2 volume whose sweeps were changed."""
    import xarray as xr

    tree = xr.open_datatree(write_cfradial2(path.with_suffix(".orig"), SMALL)).load()
    for name in [n for n in tree.children if n.startswith("sweep")]:
        tree[name] = change(name, tree[name].to_dataset())
    tree.to_netcdf(path)
    return path


def test_a_vertical_section_is_refused(tmp_path: Path) -> None:
    _refused(
        _changed(tmp_path / "rhi.nc", lambda _, sweep: sweep.assign(sweep_mode="rhi")), "0 sweeps of one elevation"
    )


def test_sweeps_that_lack_a_field_do_not_count(tmp_path: Path) -> None:
    """As the Doppler cuts of NEXRAD do."""
    path = _changed(tmp_path / "v.nc", lambda name, sweep: sweep.drop_vars("ZDR") if name == "sweep_1" else sweep)
    elevations = [round(float(s.elevation_deg.mean()), 1) for s in read_volume(path).sweeps]
    assert elevations == [SMALL.elevations[0], SMALL.elevations[2]]


def test_names_are_found_whatever_their_case_and_corrected_ones_first() -> None:
    assert find_names(["dbzh", "Corrected_Reflectivity", "ZDR", "velocity"]) == {
        "zh": "Corrected_Reflectivity", "zdr": "ZDR",
    }  # fmt: skip


@pytest.mark.real_data
def test_the_real_nexrad_volume_is_read_as_py_art_reads_it(shared_data: Path) -> None:
    path = shared_data / "dualpol_volume" / "KLBB20160601_150025_V06"
    other = pyart_library().io.read(str(path))
    volume = read_volume(path)
    assert (str(volume.time), volume.band) == ("2016-06-01T15:00:25", "S")
    assert len(volume.sweeps) == 9
    sweep, rays = volume.sweeps[2], other.get_slice(4)
    order = np.argsort(other.azimuth["data"][rays])
    near = other.range["data"] <= 200e3
    for ours, theirs in (("zh", "reflectivity"), ("zdr", "differential_reflectivity"), ("phidp", "differential_phase")):
        expected = np.ma.filled(other.fields[theirs]["data"][rays][order][:, near].astype(float), np.nan)
        np.testing.assert_allclose(sweep.fields[ours], expected, atol=1e-3)


@pytest.mark.real_data
def test_a_truncated_real_volume_is_refused(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut_V06"
    path.write_bytes((shared_data / "dualpol_volume" / "KLBB20160601_150025_V06").read_bytes()[:2_000_000])
    _refused(path, "middle of a sweep")
