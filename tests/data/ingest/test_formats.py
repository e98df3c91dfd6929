"""Tests of reading volumes in every format, and of the errors for unusable files."""

import bz2
import gzip
import lzma
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.formats import format_of, read_raw, read_volume
from polarcast.data.ingest.volumes.pyart_bridge import pyart_library
from polarcast.data.ingest.volumes.readers.raw import RawSweep
from polarcast.data.ingest.volumes.volume import Volume, band_of, find_names
from tests.support.radar_files import SITE, WRITERS, Scan, to_pyart, write_cfradial2, write_sigmet

FIELDS = ("zh", "zdr", "kdp", "phidp", "rhohv")
SMALL = Scan(elevations=(0.5, 3.0, 10.0), rays=120, gates=80, gate_m=1000.0, fields=FIELDS)
NEXRAD, SIGMET = "NEXRAD level II", "SIGMET/IRIS"
FINE = {"zh": 0.006, "zdr": 0.006, "kdp": 0.006, "phidp": 0.006, "rhohv": 2e-5}
RESOLUTION = {NEXRAD: {"zh": 0.251, "zdr": 0.032, "phidp": 0.18, "rhohv": 0.0017}}
CF_NAMES = {"zh": "DBZH", "zdr": "ZDR", "kdp": "KDP", "phidp": "PHIDP", "rhohv": "RHOHV"}
UF_NAMES = {**CF_NAMES, "zh": "DBTH", "phidp": "UPHIDP"}
PYART_NAMES = {
    "zh": "reflectivity", "zdr": "differential_reflectivity", "kdp": "specific_differential_phase",
    "phidp": "differential_phase", "rhohv": "cross_correlation_ratio",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write one small volume in every format."""
    folder = tmp_path_factory.mktemp("volumes")
    return {kind: write(folder / f"{i}.vol", SMALL) for i, (kind, write) in enumerate(WRITERS.items())}


def _assert_as_written(volume: Volume, scan: Scan, resolutions: dict[str, float] = FINE) -> None:
    assert volume.time == np.datetime64(scan.time)
    assert (volume.site.latitude, volume.site.longitude, volume.site.altitude_m) == pytest.approx(
        tuple(SITE.values()), abs=1e-6
    )
    assert len(volume.sweeps) == len(scan.elevations)
    for sweep, elevation in zip(volume.sweeps, scan.elevations, strict=True):
        np.testing.assert_allclose(sweep.elevation_deg, elevation, atol=0.003)
        np.testing.assert_allclose(sweep.azimuth_deg, scan.azimuth, atol=0.003)
        np.testing.assert_allclose(sweep.range_m, scan.range_m, rtol=1e-6)
        truth = scan.truth(elevation)
        for name, resolution in resolutions.items():
            np.testing.assert_array_equal(np.isfinite(sweep.fields[name]), np.isfinite(truth[name]))
            np.testing.assert_allclose(sweep.fields[name], truth[name], atol=resolution)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_volume_is_read_as_written(files: dict[str, Path], kind: str) -> None:
    assert format_of(files[kind]) == kind
    volume = read_volume(files[kind])
    resolutions = RESOLUTION.get(kind, FINE)
    _assert_as_written(volume, SMALL, resolutions)
    names = {"CfRadial 1": PYART_NAMES, "Universal Format": UF_NAMES}.get(kind, CF_NAMES)
    assert volume.names == {name: names[name] for name in resolutions}
    # Our writers put no wavelength into these.
    of_other_bands = {"ODIM HDF5": None, "GAMIC HDF5": None, NEXRAD: "S"}
    assert volume.band == of_other_bands.get(kind, "C")


@pytest.mark.filterwarnings("ignore:No MSG5")
@pytest.mark.parametrize(("kind", "cuts"), [("ODIM HDF5", (0, 1, 2)), (SIGMET, (0, 1, 2)), (NEXRAD, (0, 2, 3))])
def test_py_art_reads_the_same_values(files: dict[str, Path], kind: str, cuts: tuple[int, ...]) -> None:
    """Py-ART has its own readers for these formats, independent of our writers and xradar."""
    pyart = pyart_library()
    other = (pyart.aux_io.read_odim_h5 if kind == "ODIM HDF5" else pyart.io.read)(str(files[kind]))
    volume = read_volume(files[kind])
    zh = "reflectivity_horizontal" if kind == "ODIM HDF5" else "reflectivity"
    for sweep, cut in zip(volume.sweeps, cuts, strict=True):
        rays = other.get_slice(cut)
        np.testing.assert_allclose(sweep.azimuth_deg, other.azimuth["data"][rays], atol=1e-3)
        np.testing.assert_allclose(sweep.elevation_deg, other.elevation["data"][rays], atol=1e-3)
        if kind != SIGMET:  # Py-ART uses the centre of the last gate as its end
            np.testing.assert_allclose(sweep.range_m, other.range["data"], atol=1)
        for ours, theirs in (("zh", zh), ("phidp", "differential_phase")):
            expected = np.ma.filled(other.fields[theirs]["data"][rays].astype(float), np.nan)
            np.testing.assert_allclose(sweep.fields[ours], expected, atol=1e-3)


def test_sigmet_gates_that_were_not_scanned_are_missing(tmp_path: Path) -> None:
    path = write_sigmet(tmp_path / "v", SMALL)
    content = path.read_bytes()
    strongest = round(SMALL.truth(0.5)["zh"][~np.isnan(SMALL.truth(0.5)["zh"])].max() * 100 + 32768)
    path.write_bytes(content.replace(strongest.to_bytes(2, "little"), b"\xff\xff"))
    zh = [sweep.fields["zh"] for sweep in read_volume(path).sweeps]
    assert sum(np.isfinite(z).sum() for z in zh) < sum(
        np.isfinite(SMALL.truth(e)["zh"]).sum() for e in SMALL.elevations
    )
    assert max(np.nanmax(z) for z in zh) < 45


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
    path = _packed(tmp_path / f"volume.{pack}", files[SIGMET].read_bytes(), pack)
    _assert_as_written(read_volume(path), SMALL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"GRIB" + bytes(20)), "packed GRIB that is no radar volume — unpack it, if it is a gridded"),
        (gzip.compress(gzip.compress(b"GRIB")), "compressed content .gzip in gzip. — unpack it"),
        (lzma.compress(b"volume"), "compressed content .xz. — unpack it, and give what it holds"),
        (b"volume".ljust(257, b"\0") + b"ustar\x0000", "an archive of files .tar. — unpack it, and give its files"),
        (gzip.compress(b"BUFR"), "BUFR is not supported — convert it to CfRadial"),
        (gzip.compress(b"plain text"), "not a radar volume in a known format"),
    ],
)
def test_what_must_be_unpacked_first_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "volume.gz").write_bytes(content)
    _assert_rejected(tmp_path / "volume.gz", message)


@pytest.mark.parametrize("pack", ["", "gz"])
def test_a_netcdf_file_without_rays_is_told_from_a_volume(pack: str, tmp_path: Path) -> None:
    import netCDF4

    with netCDF4.Dataset(tmp_path / "grid.nc", "w") as file:
        file.createDimension("x", 3)
        file.createVariable("rain", "f4", ("x",))[:] = 1
    path, content = tmp_path / "grid.dat", (tmp_path / "grid.nc").read_bytes()
    if pack:
        _assert_rejected(_packed(path, content, pack), "packed HDF5 or netCDF that is no radar volume — unpack it")
    else:
        path.write_bytes(content)
        _assert_rejected(path, "HDF5 or netCDF that is not a radar volume in a known format — name a sequence .nc")


def _packed(path: Path, content: bytes, pack: str) -> Path:
    if pack == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner/volume", content)
    else:
        path.write_bytes((gzip if pack == "gz" else bz2).compress(content))
    return path


def _assert_rejected(path: Path, match: str, **settings: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match=match) as caught:
        read_volume(path, **settings)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("plain text")
    _assert_rejected(path, "not a radar volume in a known format")
    path.write_bytes(b"")
    _assert_rejected(path, "the file is empty")
    _assert_rejected(tmp_path / "absent", "no such file")


def test_other_hdf5_files_are_rejected(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file["layer"] = np.zeros(3)
    _assert_rejected(path, "not a radar volume in a known format.*ODIM HDF5")


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.05, 0.6, 0.99])
def test_a_truncated_volume_is_rejected(files: dict[str, Path], kind: str, share: float, tmp_path: Path) -> None:
    content = files[kind].read_bytes()
    path = tmp_path / "cut"
    # Not at the end of a ray: Universal Format does not tell how many rays it has.
    path.write_bytes(content[: int(share * len(content)) + 10])
    _assert_rejected(path, "can't be read as|the file is truncated|middle of a sweep")


def test_a_truncated_netcdf3_volume_is_not_filled_with_zeros(tmp_path: Path) -> None:
    path = tmp_path / "classic.nc"
    pyart_library().io.write_cfradial(str(path), to_pyart(SMALL), format="NETCDF3_CLASSIC")
    _assert_as_written(read_volume(path), SMALL)
    content = path.read_bytes()
    cut = tmp_path / "cut.nc"
    for share in (0.1, 0.7, 0.999):
        cut.write_bytes(content[: int(share * len(content))])
        _assert_rejected(cut, "the file is truncated")


def test_nexrad_truncated_at_the_start_of_a_sweep_is_rejected(files: dict[str, Path], tmp_path: Path) -> None:
    """A sweep of 120 rays is one record, so that all sweeps before the last are complete."""
    content = files[NEXRAD].read_bytes()
    path = tmp_path / "cut"
    for more in (2, 5, 100):
        path.write_bytes(content[: content.rindex(b"BZh") - 4 + more])
        _assert_rejected(path, "the file is truncated")


@pytest.mark.parametrize("pack", ["gz", "bz2", "zip"])
def test_damaged_compression_is_rejected(files: dict[str, Path], pack: str, tmp_path: Path) -> None:
    """Damage at different positions raises different errors in the libraries."""
    path = _packed(tmp_path / f"volume.{pack}", files[SIGMET].read_bytes(), pack)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    _assert_rejected(path, "the compression is damaged")
    for place in np.linspace(60, len(content) - 200, 12).astype(int):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
        _assert_rejected(path, "the compression is damaged")


def test_an_encrypted_zip_is_rejected(tmp_path: Path) -> None:
    path = _packed(tmp_path / "secret.zip", b"volume", "zip")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    _assert_rejected(path, "the zip is encrypted")


def test_a_zip_of_several_files_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("b", b"2")
    _assert_rejected(path, "the zip has 2 files")


def test_a_single_sweep_is_rejected(tmp_path: Path) -> None:
    path = write_sigmet(tmp_path / "ppi", replace(SMALL, elevations=(0.5,)))
    _assert_rejected(path, "1 sweep of one elevation")


def test_a_volume_without_zdr_is_rejected_unless_zdr_is_optional(tmp_path: Path) -> None:
    path = write_sigmet(tmp_path / "single-pol", replace(SMALL, fields=("zh",)))
    _assert_rejected(path, "the volume has no ZDR.*--variables")
    assert set(read_volume(path, ("zh",)).sweeps[0].fields) == {"zh"}


def _changed(path: Path, change: Callable[[str, Any], Any]) -> Path:
    """Write a CfRadial 2 volume with modified sweeps."""
    import xarray as xr

    tree = xr.open_datatree(write_cfradial2(path.with_suffix(".orig"), SMALL)).load()
    for name in [n for n in tree.children if n.startswith("sweep")]:
        tree[name] = change(name, tree[name].to_dataset())
    tree.to_netcdf(path)
    return path


@pytest.mark.parametrize("mode", ["rhi", "RHI", "vertical_pointing"])
def test_a_vertical_section_is_rejected(mode: str, tmp_path: Path) -> None:
    path = _changed(tmp_path / "rhi.nc", lambda _, sweep: sweep.assign(sweep_mode=mode))
    _assert_rejected(path, rf"do not rotate in azimuth \({mode.lower()}\)")


def test_a_sigmet_rhi_is_rejected(tmp_path: Path) -> None:
    _assert_rejected(write_sigmet(tmp_path / "rhi", replace(SMALL, is_rhi=True)), r"do not rotate in azimuth \(rhi\)")


def test_sweep_modes_are_case_insensitive(tmp_path: Path) -> None:
    path = _changed(tmp_path / "ppi.nc", lambda _, sweep: sweep.assign(sweep_mode="PPI "))
    assert len(read_volume(path).sweeps) == len(SMALL.elevations)


def test_fields_that_are_never_in_the_same_sweep_are_rejected(tmp_path: Path) -> None:
    path = _changed(tmp_path / "v.nc", lambda name, s: s.drop_vars("ZDR" if name == "sweep_0" else "DBZH"))
    _assert_rejected(path, "no sweep has ZH and ZDR together.*--variables")


def test_sweeps_without_a_required_field_are_skipped(tmp_path: Path) -> None:
    """The Doppler cuts of NEXRAD are such sweeps."""
    path = _changed(tmp_path / "v.nc", lambda name, sweep: sweep.drop_vars("ZDR") if name == "sweep_1" else sweep)
    elevations = [round(float(s.elevation_deg.mean()), 1) for s in read_volume(path).sweeps]
    assert elevations == [SMALL.elevations[0], SMALL.elevations[2]]


def test_names_are_case_insensitive_and_corrected_fields_are_preferred() -> None:
    assert find_names(["dbzh", "Corrected_Reflectivity", "ZDR", "velocity"]) == {
        "zh": "Corrected_Reflectivity", "zdr": "ZDR",
    }  # fmt: skip


def test_frequencies_map_to_weather_radar_bands() -> None:
    assert [band_of(hz) for hz in (2.8e9, 5.6e9, 9.4e9, 35e9, float("nan"))] == ["S", "C", "X", None, None]


@pytest.mark.real_data
def test_a_real_nexrad_volume_matches_py_art(shared_data: Path) -> None:
    path = shared_data / "dualpol_volume" / "KLBB20160601_150025_V06"
    other = pyart_library().io.read_nexrad_archive(str(path), scans=[4])
    volume = read_volume(path)
    assert (str(volume.time), volume.band) == ("2016-06-01T15:00:25", "S")
    assert len(volume.sweeps) == 9
    sweep = volume.sweeps[2]
    order = np.argsort(other.azimuth["data"])
    near = other.range["data"] <= 200e3
    for ours, theirs in (("zh", "reflectivity"), ("zdr", "differential_reflectivity"), ("phidp", "differential_phase")):
        expected = np.ma.filled(other.fields[theirs]["data"][order][:, near].astype(float), np.nan)
        np.testing.assert_allclose(sweep.fields[ours], expected, atol=1e-3)


def _assert_same_gates(ours: RawSweep, theirs: Any, names: dict[str, str], rays: slice) -> None:
    """Compare every gate with Py-ART's, ray by ray in the order of the azimuths."""
    at, of = np.argsort(ours.azimuth_deg), np.argsort(theirs.azimuth["data"][rays])
    np.testing.assert_allclose(ours.azimuth_deg[at], theirs.azimuth["data"][rays][of], atol=1e-4)
    np.testing.assert_allclose(ours.elevation_deg[at], theirs.elevation["data"][rays][of], atol=1e-4)
    for name, other in names.items():
        expected = np.ma.filled(theirs.fields[other]["data"][rays][of].astype(float), np.nan)
        values = ours.moments[name].values[at]
        np.testing.assert_allclose(values, expected[:, : values.shape[1]], atol=1e-4)
        assert np.isnan(expected[:, values.shape[1] :]).all()
        assert np.isfinite(values).sum() > 1000


@pytest.mark.real_data
def test_every_gate_of_real_files_is_that_of_py_art(shared_data: Path) -> None:
    io, pieces = pyart_library().io, shared_data / "volumes_in_pieces"
    nexrad = shared_data / "dualpol_volume" / "KLBB20160601_150025_V06"
    names = {"DBZH": "reflectivity", "ZDR": "differential_reflectivity", "PHIDP": "differential_phase"}
    other, sweeps = io.read_nexrad_archive(str(nexrad), scans=[0, 10], linear_interp=False), read_raw(nexrad).sweeps
    _assert_same_gates(sweeps[0], other, names, other.get_slice(0))
    _assert_same_gates(sweeps[10], other, names, other.get_slice(1))
    sigmet = pieces / "SUR210819000227.RAWKPJV"
    names["KDP"] = "specific_differential_phase"
    _assert_same_gates(read_raw(sigmet).sweeps[0], io.read_sigmet(str(sigmet)), names, slice(None))
    for path in sorted((pieces / "swiss_sweeps").glob("*.nc")):
        sweep, other = read_raw(path).sweeps[0], io.read_cfradial(str(path))
        _assert_same_gates(sweep, other, {name: name for name in other.fields}, slice(None))
        np.testing.assert_allclose(sweep.range_m, other.range["data"])


@pytest.mark.real_data
def test_a_truncated_real_volume_is_rejected(shared_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut_V06"
    path.write_bytes((shared_data / "dualpol_volume" / "KLBB20160601_150025_V06").read_bytes()[:2_736_281])
    _assert_rejected(path, "the file is truncated")


@pytest.mark.parametrize(("library", "kind"), [("xradar", NEXRAD), ("netCDF4", "CfRadial 2"), ("h5py", "ODIM HDF5")])
def test_a_missing_library_is_not_reported_as_a_damaged_file(
    files: dict[str, Path], library: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BadInput, match=rf"{library} is not installed — .*pip install 'polarcast\[ingest\]'"):
        read_volume(files[kind])


def test_groups_of_sweeps_tell_cfradial_2_without_their_names_at_the_root(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "v.nc"
    path.write_bytes(files["CfRadial 2"].read_bytes())
    import h5py

    with h5py.File(path, "r+") as file:
        for name in ("sweep_group_name", "sweep_fixed_angle"):
            del file[name]
    assert format_of(path) == "CfRadial 2"
    _assert_as_written(read_volume(path), SMALL, RESOLUTION.get("CfRadial 2", FINE))
