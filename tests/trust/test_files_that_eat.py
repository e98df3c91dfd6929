"""Files from strangers that fill a disk or the memory: each is refused in one line, and the others are ingested."""

import bz2
import gzip
import io
import os
import resource
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import zarr
from scipy.io import netcdf_file

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.field_file import read_field
from polarcast.data.ingest import claims, unpack
from polarcast.data.ingest.formats import read_volume
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.jobs import InputFile, VolumeJob, grid_one
from polarcast.data.ingest.run import IngestSettings, ingest
from polarcast.data.ingest.volumes.events import save_gridded
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.ingest.volumes.gridding import GriddedVolume
from tests.support.grid_files import SMALL, speckle, square, times_of, write, write_npz

MB = 2**20
MANY = 10**12
SETTINGS = IngestSettings(sequences=GridSettings(tile=32, min_echo_pixels=1))


def write_zip(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("volume", content)


PACKERS: dict[str, Callable[[Path, bytes], object]] = {
    "gzip": lambda path, content: path.write_bytes(gzip.compress(content)),
    "bzip2": lambda path, content: path.write_bytes(bz2.compress(content)),
    "zip": write_zip,
}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Own folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def refusal(path: Path) -> str:
    """Return the line that refuses a volume."""
    with pytest.raises(BadInput) as refused:
        read_volume(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("packed", PACKERS)
def test_a_bomb_does_not_fill_the_temporary_folder(
    packed: str, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "ANY_RATIO_BYTES", MB)
    written: list[int] = []
    monkeypatch.setattr(unpack, "_write", lambda out, block, *_: written.append(len(block)))
    PACKERS[packed](tmp_path / "volume", bytes(20 * MB))
    assert "implausibly large" in refusal(tmp_path / "volume")
    assert sum(written) < 5 * MB
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("packed", PACKERS)
def test_a_volume_larger_than_the_temporary_folder_is_not_called_damaged(
    packed: str, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int = 100 * MB
        free: int = 6 * MB

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage())
    PACKERS[packed](tmp_path / "volume", os.urandom(MB // 2))
    assert "not a radar volume" in refusal(tmp_path / "volume")  # it fits
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free=2 * MB))
    line = refusal(tmp_path / "volume")
    assert f"no room to unpack it in the temporary folder {temporary} (2 MB are left)" in line
    assert "set TMPDIR" in line
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("packed", PACKERS)
def test_a_full_temporary_folder_is_not_a_damaged_volume(packed: str, tmp_path: Path, temporary: Path) -> None:
    PACKERS[packed](tmp_path / "volume", os.urandom(MB // 2))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MB // 4, hard))
    try:
        line = refusal(tmp_path / "volume")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"no room to unpack it in the temporary folder {temporary}" in line
    assert "damaged" not in line
    assert not list(temporary.iterdir())


def test_no_usable_temporary_folder_is_not_a_damaged_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PACKERS["gzip"](tmp_path / "volume", b"content")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    line = refusal(tmp_path / "volume")
    assert "no temporary folder" in line
    assert str(tmp_path / "missing") in line
    assert "set TMPDIR" in line


def npy(shape: tuple[int, ...], dtype: str, content: bytes = b"") -> bytes:
    """Return an npy whose header claims a shape, whatever its content."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


def claiming_npz(path: Path, **members: bytes) -> None:
    whole = {"data": npy((2, 32, 32), "<f4", bytes(8192)), "time": npy((2,), "<M8[s]", bytes(16)), **members}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in whole.items():
            archive.writestr(f"{name}.npy", content)


def npz_of_zeros(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("data.npy", npy((2, 1024, 1024), "<f4", bytes(8 * MB)))


def claiming_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("time", (MANY,), "f8", chunks=(1000,)).attrs["units"] = "seconds since 2020-01-01"


def hdf5_of_other_files(path: Path) -> None:
    secret = path.with_name("secret")
    secret.write_bytes(bytes(range(64)))
    with h5py.File(path, "w") as file:
        file.create_dataset("field", (16,), "f4", external=[(str(secret), 0, 64)])


def hdf5_with_a_link(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["field"] = h5py.ExternalLink(str(path.with_name("secret.h5")), "/field")


def claiming_netcdf3(path: Path) -> None:
    with netcdf_file(path, "w") as file:
        file.createDimension("time", None)
        file.createVariable("time", "d", ("time",))[:] = np.zeros(2)
    content = bytearray(path.read_bytes())
    content[4:8] = (2**31 - 2).to_bytes(4, "big")
    path.write_bytes(content)


def claiming_zarr(path: Path) -> None:
    zarr.open_group(path, mode="w").create_array("time", shape=(MANY,), chunks=(1000,), dtype="f8")


def zarr_of_one_huge_chunk(path: Path) -> None:
    zarr.open_group(path, mode="w").create_array("time", shape=(2,), chunks=(MANY,), dtype="f8")


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "times.npz": (lambda path: claiming_npz(path, time=npy((MANY,), "<M8[s]")), "claims the shape"),
    "data.npz": (lambda path: claiming_npz(path, data=npy((2, MANY, MANY), "<f4")), "claims the shape"),
    "units.npz": (lambda path: claiming_npz(path, units=npy((), f"<U{2**29 - 1}")), "claims the shape"),
    "zeros.npz": (npz_of_zeros, "claims"),
    "pickle.npz": (lambda path: np.savez(path, data=np.array([{}], object), time=times_of(1)), "pickled objects"),
    "chunks.nc": (claiming_hdf5, "time claims 8e"),
    "external.nc": (hdf5_of_other_files, "other files"),
    "link.nc": (hdf5_with_a_link, "another file"),
    "records.nc": (claiming_netcdf3, "truncated"),
    "claims.zarr": (claiming_zarr, "time claims"),
    "chunk.zarr": (zarr_of_one_huge_chunk, "time claims"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_header_does_not_claim_more_than_the_file_can_hold(name: str, tmp_path: Path) -> None:
    write_hostile, reason = HOSTILE[name]
    write_hostile(tmp_path / name)
    with pytest.raises(BadInput, match=reason) as refused:
        open_source(tmp_path / name, SMALL)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["chunks.nc", "external.nc", "link.nc", "records.nc"])
def test_a_volume_does_not_claim_more_than_the_file_can_hold(name: str, tmp_path: Path) -> None:
    HOSTILE[name][0](tmp_path / name)
    if not name.startswith("records"):
        with h5py.File(tmp_path / name, "a") as file:
            file.attrs["Conventions"] = "ODIM_H5/V2_3"
    assert HOSTILE[name][1] in refusal(tmp_path / name)


NOWHERE = {"lat0": 40.0, "lon0": 100.0, "dlat": -0.01, "dlon": 0.01, "dx_km": None}


@pytest.mark.parametrize(
    "geometry",
    [{"dx_km": 1e9}, {"dx_km": 1e-9}, {"dx_km": np.nan}, {"dx_km": -np.inf}, {**NOWHERE, "dlat": 1e6},
     {**NOWHERE, "lon0": np.nan}, {**NOWHERE, "lat0": np.inf}, {**NOWHERE, "dlon": 5.0, "dlat": 5.0}],
)  # fmt: skip
def test_pixels_larger_than_the_earth_do_not_become_millions_of_tiles(
    geometry: dict[str, float | None], tmp_path: Path
) -> None:
    path = write_npz(tmp_path / "s.npz", speckle((2, 40, 40)), **geometry)
    with pytest.raises(BadInput, match=r"pixels of|a corner at"):
        open_source(path, SMALL)


def test_constant_and_sparse_files_are_not_refused(tmp_path: Path) -> None:
    constant = np.full((3, 200, 200), 30, np.float32)
    np.savez_compressed(tmp_path / "c.npz", data=constant, time=times_of(3), units="dBZ", dx_km=1.0)
    assert len(open_source(tmp_path / "c.npz", SMALL).times) == 3
    path = write(square(constant), tmp_path / "sparse.nc")
    with h5py.File(path, "a") as file:
        file.create_dataset("unwritten", (100, 1000, 1000), "f4", chunks=(1, 100, 100))
    claims.check_claims(path)


def test_one_file_that_claims_much_does_not_end_the_ingest(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    write_npz(given / "good.npz", speckle((3, 40, 40)))
    for name in ("times.npz", "chunks.nc", "claims.zarr"):
        HOSTILE[name][0](given / name)
    report = ingest(tmp_path / "archive", [given], SETTINGS)
    assert {Path(file).name for file in report.failed} == {"times.npz", "chunks.nc", "claims.zarr"}
    assert len(open_archive(tmp_path / "archive").frames) == len(report.events) == 1


def test_a_damaged_file_among_volumes_does_not_end_the_ingest(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "text.vol").write_text("no radar")
    HOSTILE["times.npz"][0](given / "times.npz")
    (given / "text.nc").write_text("no radar either")
    report = ingest(tmp_path / "archive", [given], SETTINGS)
    assert {Path(file).name for file in report.failed} == {"text.vol", "times.npz", "text.nc"}


@pytest.mark.parametrize(("time", "latitude"), [("NaT", 32.0), ("2021-07-04T00:00:00", np.nan)])
def test_a_volume_without_time_or_place_does_not_hide_others(time: str, latitude: float, tmp_path: Path) -> None:
    fields, note = (
        np.zeros((1, 1, 8, 8), np.float32),
        {"site": {"latitude": latitude, "longitude": 118.5, "altitude_m": 0.0}},
    )
    cache = tmp_path / "gridded.npz"
    save_gridded(GriddedVolume(np.datetime64(time, "s"), fields, fields[0] > 0, ("zh",), note), cache)
    with pytest.raises(BadInput, match="no time, or no position"):
        grid_one(VolumeJob((InputFile(str(tmp_path / "volume"), "0"),), cache, VolumeSettings()))


def test_a_field_of_an_archive_does_not_claim_more_than_its_file(tmp_path: Path) -> None:
    for version in (1, 2):
        content = npy((MANY, MANY), "<f4")
        path = tmp_path / f"frame_{version:03d}.npy"
        path.write_bytes(content if version == 1 else b"\x93NUMPY\x02\x00" + content[8:10] + b"\0\0" + content[10:])
        with pytest.raises(BadInput, match="not a readable npy file"):
            read_field(path)
