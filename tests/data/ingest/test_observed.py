"""Masks of ingested events: what has no data is not observed, what has no echo is."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from polarcast.data.archive import Archive, open_archive
from polarcast.data.check.archive import check_archive
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.jobs import (
    EventJob,
    InputFile,
    PieceJob,
    PlanJob,
    VolumeEventJob,
    VolumeJob,
    grid_one,
    plan_one,
    write_one,
)
from polarcast.data.ingest.resample import observed_between
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.ingest.volumes.gridding import Grid
from polarcast.data.loading.reader import open_reader
from polarcast.data.shards.write import write_shards
from tests.support.grid_files import events_of, speckle, times_of, write_npz
from tests.support.radar_files import Blob, Scan, write_cfradial1, write_odim

SIZE = 32
VOLUMES = VolumeSettings(grid=Grid(size=SIZE, spacing_km=4.0, heights_km=(1.0, 3.0)), band="C")
GRIDS = GridSettings(tile=SIZE, min_echo_pixels=1, min_coverage=0.3, min_frames=2)
SECTOR_DEG = (200, 300)


@dataclass(frozen=True)
class BlindScan(Scan):
    """A volume whose antenna left out a sector."""

    @property
    def azimuth(self) -> np.ndarray:
        low, high = SECTOR_DEG
        return (high + np.arange(self.rays) * (360 - high + low) / self.rays) % 360


def sector(margin_deg: float) -> np.ndarray:
    """Return the pixels in the sector, away from its borders and from the radar, (y, x)."""
    north, east = (4.0 * (offset - SIZE // 2) for offset in np.mgrid[:SIZE, :SIZE])
    azimuth = np.rad2deg(np.arctan2(east, -north)) % 360
    low, high = SECTOR_DEG
    is_far = np.hypot(north, east) > 24
    return (azimuth > low + margin_deg) & (azimuth < high - margin_deg) & is_far


def opposite() -> np.ndarray:
    """Return pixels that are well observed, without echo, on the other side of the radar, (y, x)."""
    return sector(20)[::-1, ::-1] & np.pad(np.ones((26, 26), bool), 3)


def event_job(out: Path, path: Path) -> EventJob:
    """Return the job of the only event of a file, as `ingest` makes it."""
    source = InputFile.of(path)
    if path.suffix == ".npz":
        return PieceJob(out, 0, GRIDS, False, (source,), plan_one(PlanJob((source,), GRIDS)).pieces[0])
    scan = grid_one(VolumeJob((source,), path.with_suffix(".cache.npz"), VOLUMES))
    return VolumeEventJob(out, 0, VOLUMES, False, (scan,))


def ingested(tmp_path: Path, path: Path) -> Archive:
    """Write the event of a file in this process."""
    write_one(event_job(tmp_path / "archive", path))
    archive = open_archive(tmp_path / "archive")
    assert all(finding.ok for finding in check_archive(archive) if "data_dir" in finding.where)
    return archive


def write_nodata_odim(path: Path, scan: Scan) -> Path:
    """Write ODIM in which the sector is nodata, and no echo elsewhere is undetect."""
    write_odim(path, scan)
    low, high = SECTOR_DEG
    is_blind = (scan.azimuth > low) & (scan.azimuth < high)
    with h5py.File(path, "r+") as file:
        for name in (name for name in file if name.startswith("dataset")):
            what, data = file[name]["data1/what"].attrs, file[name]["data1/data"]
            what["undetect"] = -32.0
            values = data[:]
            values[(values == what["nodata"]) & ~is_blind[:, None]] = -32
            data[:] = values
    return path


SCAN = {"elevations": (0.5, 2.0, 5.0, 9.0), "rays": 90, "gates": 100, "gate_m": 700.0, "blobs": (Blob(45, 30, 9),)}


@pytest.mark.parametrize("kind", ["rays are missing", "nodata"])
def test_a_sector_without_data_is_not_observed(tmp_path: Path, kind: str) -> None:
    if kind == "nodata":
        path = write_nodata_odim(tmp_path / "a.h5", Scan(**SCAN))
    else:
        path = write_cfradial1(tmp_path / "a.nc", BlindScan(**SCAN))
    archive = ingested(tmp_path, path)
    found = archive.read_observed(0, (SIZE, SIZE))
    assert found is not None
    masks = found.masks(0)
    assert masks.shape == (3, SIZE, SIZE)  # two heights and the ground
    assert not masks[:2, sector(20)].any()
    assert masks[0, opposite()].all()
    np.testing.assert_array_equal(masks[2], masks[0])
    assert archive.read_radar(0, 0)[0, 0].any()
    assert not archive.read_radar(0, 0)[:, ~masks[:2]].any()


def test_without_undetect_a_missing_value_is_no_echo(tmp_path: Path) -> None:
    masks = ingested(tmp_path, write_odim(tmp_path / "a.h5", Scan(**SCAN))).read_observed(0, (SIZE, SIZE))
    assert masks is not None
    assert masks.masks(0)[0, sector(20) & np.pad(np.ones((26, 26), bool), 3)].all()


@pytest.mark.parametrize("units", ["dBZ", "mm/h"])
def test_a_half_empty_composite_is_half_observed_from_archive_to_batch(tmp_path: Path, units: str) -> None:
    data = speckle((6, SIZE, SIZE))
    data[:, :, : SIZE // 2] = np.nan
    data[2, 20:] = np.nan
    data[:, :8, SIZE // 2 :] = -np.inf if units == "dBZ" else 0  # seen, without echo
    archive = ingested(tmp_path, write_npz(tmp_path / "a.npz", data, units=units))
    expected = ~np.isnan(data)
    found = archive.read_observed(0, (SIZE, SIZE))
    assert found is not None
    assert found.has_ground == (units == "mm/h")
    for frame in range(6):
        for level in found.masks(frame):
            np.testing.assert_array_equal(level, expected[frame])
    manifest = write_shards(archive, tmp_path / "shards", split="all-test")
    reader = open_reader(
        manifest, "test", variables=("zh",), heights_km=archive.heights_km, frames=3, targets=2, future=True,
        rain=False, observed=True,
    )  # fmt: skip
    batch = reader.read([1])
    np.testing.assert_array_equal(batch.observed[0, :, 0], expected[2:4])  # type: ignore[index]
    np.testing.assert_array_equal(batch.last_observed[0, 0], expected[1])  # type: ignore[index]


def test_a_composite_with_data_everywhere_needs_no_masks(tmp_path: Path) -> None:
    archive = ingested(tmp_path, write_npz(tmp_path / "a.npz", speckle((3, SIZE, SIZE))))
    assert archive.read_observed(0, (SIZE, SIZE)) is None
    assert not (tmp_path / "archive" / "observed").exists()


def test_an_interpolated_frame_is_observed_where_both_of_its_neighbours_are(tmp_path: Path) -> None:
    data = speckle((4, SIZE, SIZE))
    data[0, :4], data[1, :, :6], data[2, :, -5:] = np.nan, np.nan, np.nan
    event = events_of(write_npz(tmp_path / "a.npz", data, time=times_of(4, 5)))[0]
    has_data = ~np.isnan(data)
    assert event.observed is not None
    assert event.note["time"]["taken"] == 1
    np.testing.assert_array_equal(event.observed[0, 0], has_data[0])
    assert not event.observed[1, 0, ~(has_data[1] & has_data[2])].any()
    assert event.observed[1, 0, 8:-8, 12:-12].all()


def test_a_pixel_is_not_observed_where_its_echo_came_from_the_unknown() -> None:
    first, second = np.ones((1, 10, 20), bool), np.ones((1, 10, 20), bool)
    first[..., :6] = False
    to_the_right = np.stack([np.full((10, 20), 4.0), np.zeros((10, 20))])
    halfway = observed_between(first, second, to_the_right, 0.5)
    assert halfway[0].any(0).tolist() == [False] * 8 + [True] * 12
