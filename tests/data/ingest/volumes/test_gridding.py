"""Tests of gridding: position, orientation, intensity and area of storms."""

from dataclasses import replace

import numpy as np
import pytest

from polarcast.data.ingest.volumes.gridding import Grid, to_grid
from polarcast.data.ingest.volumes.volume import Mask, RadarSite, Real, Sweep, Volume
from tests.support.radar_files import Blob, Scan

NORTH_EAST, SOUTH = (slice(0, 128), slice(128, 256)), (slice(129, 256), slice(100, 156))
WEST = (slice(100, 156), slice(0, 100))
ELEVATIONS = (0.5, 1.5, 2.5, 4.0, 6.0, 9.0, 13.0, 19.0)


def _volume(blobs: tuple[Blob, ...], elevations: tuple[float, ...] = ELEVATIONS) -> tuple[Volume, list[Mask]]:
    scan = Scan(elevations=elevations, rays=360, gates=220, gate_m=500.0, blobs=blobs)
    sweeps = []
    for elevation in elevations:
        fields = {k: v.astype(np.float32) for k, v in scan.truth(elevation).items()}
        angles = np.full(scan.rays, elevation, np.float32)
        sweeps.append(Sweep(angles, scan.azimuth.astype(np.float32), scan.range_m.astype(np.float32), fields))
    volume = Volume(np.datetime64(scan.time), RadarSite(32.0, 118.5, 40.0), "C", tuple(sweeps), {"zh": "DBZH"})
    return volume, [np.isfinite(s.fields["zh"]) for s in sweeps]


def _gridded(blobs: tuple[Blob, ...], grid: Grid) -> tuple[Real, Mask]:
    volume, echoes = _volume(blobs)
    return to_grid(volume, echoes, ("zh", "zdr"), grid)


def _centre(field: Real) -> tuple[float, float]:
    row, column = np.nonzero(np.isfinite(field))
    return float(row.mean()), float(column.mean())


@pytest.fixture(scope="module")
def gridded() -> tuple[Real, Mask]:
    """Return storms in the north-east, south and west on the archive's grid."""
    blobs = (Blob(45, 60, 10), Blob(180, 40, 6), Blob(270, 80, 8))
    return _gridded(blobs, Grid())


@pytest.mark.parametrize(
    ("rows", "columns", "centre"),
    [
        (*NORTH_EAST, (128 - 42.4, 128 + 42.4)),
        (*SOUTH, (128 + 40, 128)),
        (*WEST, (128, 128 - 80)),
    ],
)
def test_storms_have_the_right_position(
    gridded: tuple[Real, Mask], rows: slice, columns: slice, centre: tuple[float, float]
) -> None:
    row, column = _centre(gridded[0][0, 0, rows, columns])
    assert (row + rows.start, column + columns.start) == pytest.approx(centre, abs=0.6)


def test_storms_keep_their_area(gridded: tuple[Real, Mask]) -> None:
    for level in (0, 1):
        area_km2 = np.isfinite(gridded[0][0, level, *NORTH_EAST]).sum()
        assert area_km2 == pytest.approx(np.pi * 10**2, rel=0.1)


def test_distances_between_storms_are_right(gridded: tuple[Real, Mask]) -> None:
    south, west = (_centre(gridded[0][0, 0, rows, columns]) for rows, columns in (SOUTH, WEST))
    down, left = south[0] + SOUTH[0].start, west[1] + WEST[1].start
    across = south[1] + SOUTH[1].start - left
    assert (down - west[0] - WEST[0].start, across) == pytest.approx((40, 80), abs=1)


def test_storm_maxima_are_kept(gridded: tuple[Real, Mask]) -> None:
    assert np.nanmax(gridded[0][0, 0]) == pytest.approx(40, abs=1)
    assert np.nanmax(gridded[0][1, 0]) == pytest.approx(1.0, abs=1e-3)


def test_uniform_rain_stays_uniform_and_is_limited_to_the_coverage() -> None:
    volume, _ = _volume(())
    rain = tuple(replace(s, fields={"zh": np.full_like(s.fields["zh"], 30)}) for s in volume.sweeps)
    echoes = [np.ones(s.fields["zh"].shape, bool) for s in rain]
    grid = Grid(size=128, spacing_km=2.0)
    radar, covered = to_grid(replace(volume, sweeps=rain), echoes, ("zh",), grid)
    np.testing.assert_allclose(radar[0][covered], 30, atol=0.01)
    assert np.isnan(radar[0][~covered]).all()
    y, x = np.mgrid[64:-64:-1, -64:64] * 2.0
    beyond, above = np.hypot(y, x) > 120, np.hypot(y, x) < 6
    assert not covered[:, beyond].any()
    assert not covered[2, above].any()
    assert covered[0, (np.hypot(y, x) < 90)].mean() > 0.99


def test_reflectivity_is_averaged_as_power() -> None:
    volume, _ = _volume(())
    halves = []
    for sweep in volume.sweeps:
        zh = np.full_like(sweep.fields["zh"], 20)
        zh[::2] = 40
        halves.append(replace(sweep, fields={"zh": zh}))
    echoes = [np.ones(s.fields["zh"].shape, bool) for s in halves]
    radar, _ = to_grid(replace(volume, sweeps=tuple(halves)), echoes, ("zh",), Grid(size=32, spacing_km=5.0))
    # A pixel near the radar has many rays. The mean power of 20 and 40 dBZ is 37 dBZ; their mean in dBZ is 30.
    assert np.nanmedian(radar[0, 0, 12:20, 12:20]) == pytest.approx(37.0, abs=0.5)


def test_the_radar_is_at_the_centre_pixel_for_any_size_and_spacing() -> None:
    for grid in (Grid(size=256), Grid(size=101, spacing_km=2.0)):
        (south, north), (west, east) = grid.limits_m()
        step, half = 1000 * grid.spacing_km, grid.size // 2
        assert north - half * step == 0
        assert west + half * step == 0
        assert (north - south, east - west) == ((grid.size - 1) * step,) * 2
