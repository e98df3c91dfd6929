"""Places of tiles on the Earth, from latitudes and longitudes of pixels or a projection, against pyproj."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyproj
import pytest

from polarcast.data.gauges.places import place_of_event
from polarcast.data.ingest.grids.geometry import KM_PER_DEGREE
from polarcast.data.ingest.grids.settings import NORTH_FIRST, SOUTH_FIRST
from polarcast.data.ingest.grids.source import open_source
from tests.support.grid_files import SMALL, events_of, save, sequence, speckle

STERE = "+proj=stere +lat_0=90 +lat_ts=60 +lon_0=14 +ellps=bessel"
WEST, NORTH = -150_000.0, -3_400_000.0
SHAPE = (70, 101)
SCALE = float(
    pyproj.Proj(STERE).get_factors(*pyproj.Proj(STERE)(WEST + 50_500, NORTH - 35_000, inverse=True)).meridional_scale
)


def centers() -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the rows, from the north, and columns, from the west, in m."""
    return WEST + 1000 * (np.arange(SHAPE[1]) + 0.5), NORTH - 1000 * (np.arange(SHAPE[0]) + 0.5)


def gridded(path: Path, *, south_first: bool, axis_units: str | None) -> Path:
    """Write a file with latitudes and longitudes of its pixels."""
    x, y = centers()
    longitude, latitude = pyproj.Proj(STERE)(*np.meshgrid(x, y), inverse=True)
    rows = slice(None, None, -1 if south_first else 1)
    content = sequence(speckle((3, *SHAPE))[:, rows], y[rows] / 1000, x / 1000, axis_units or "km")
    places = {"lat": (latitude, "degrees_north"), "lon": (longitude, "degrees_east")}
    content = content.assign_coords({n: (("y", "x"), v[rows], {"units": u}) for n, (v, u) in places.items()})
    return save(content if axis_units else content.drop_vars(["y", "x"]), path)


def composite(path: Path, **changed: Any) -> Path:
    """Write an ODIM composite."""
    project = pyproj.Proj(STERE)
    low = project(WEST, NORTH - 1000 * SHAPE[0], inverse=True)
    top = project(WEST + 1000 * SHAPE[1], NORTH, inverse=True)
    where = {"projdef": np.bytes_(STERE), "xscale": 1000.0, "yscale": 1000.0, "LL_lon": low[0], "LL_lat": low[1],
             "UR_lon": top[0], "UR_lat": top[1], **changed}  # fmt: skip
    with h5py.File(path, "w") as file:
        groups = {
            "what": {"object": "COMP", "date": "20210704", "time": f"12{path.stem[-2:]}00"},
            "where": where,
            "dataset1/data1/what": {"quantity": "DBZH", "gain": 0.5, "offset": -32.0},
        }
        for name, attributes in groups.items():
            for key, value in attributes.items():
                file.require_group(name).attrs[key] = np.bytes_(value) if isinstance(value, str) else value
        file["dataset1/data1/data"] = np.full(SHAPE, 120, "u1")
    return path


def mapped(path: Path, *, south_first: bool, from_east: bool, rounded: bool = False) -> Path:
    """Write a file with axes in m of its grid mapping, and no latitudes and longitudes."""
    x, y = centers()
    rows, columns = (slice(None, None, -1 if back else 1) for back in (south_first, from_east))
    content = sequence(speckle((3, *SHAPE))[:, rows, columns], y[rows], x[columns], "m", grid_mapping="crs")
    if rounded:  # as radar composites in a stereographic projection: 999.67 m count as 1 km
        content = content.assign_coords(y=content.y * 0.99967, x=content.x * 0.99967)
        content.y.attrs["units"] = content.x.attrs["units"] = "m"
    for name in "xy":
        content[name].attrs["standard_name"] = f"projection_{name}_coordinate"
    content["crs"] = ((), 0, pyproj.CRS(STERE).to_cf())
    return save(content, path)


def check_places(note: dict[str, Any]) -> None:
    """Compare the places of a tile's pixels with pyproj, to 20 m; the scale of the map is 1.2% above that on ground."""
    rows, columns = np.array([0.0, 12.6, 31.0, 5.5]), np.array([3.0, 30.2, -0.4, 15.5])
    south, east = note["tile"]["south_km"], note["tile"]["east_km"]
    scale = SCALE if note["pixels"]["source_spacing_km"] != [1.0, 1.0] else 1.0
    x, y = WEST + 1000 * scale * (east + columns + 0.5), NORTH - 1000 * scale * (south + rows + 0.5)
    longitude, latitude = pyproj.Proj(STERE)(x, y, inverse=True)
    found = place_of_event(note, (32, 32), 1.0, "here").pixels_of(latitude, longitude)
    np.testing.assert_allclose(found, [rows, columns], atol=0.02)


@pytest.mark.parametrize("south_first", [False, True])
@pytest.mark.parametrize("axis_units", ["km", None])
def test_latitudes_and_longitudes_of_pixels(south_first: bool, axis_units: str | None, tmp_path: Path) -> None:
    path = gridded(tmp_path / "a.nc", south_first=south_first, axis_units=axis_units)
    settings = SMALL if axis_units else replace(SMALL, spacing_km=1.0)
    events = events_of(path, settings)
    assert len(events) == 6
    for event in events:
        check_places(event.note)


@pytest.mark.parametrize("from_east", [False, True])
@pytest.mark.parametrize("south_first", [False, True])
def test_axes_of_a_grid_mapping(south_first: bool, from_east: bool, tmp_path: Path) -> None:
    path = mapped(tmp_path / "a.nc", south_first=south_first, from_east=from_east)
    events = events_of(path)
    assert len(events) == 6
    for event in events:
        check_places(event.note)
    against = replace(SMALL, rows=NORTH_FIRST if south_first else SOUTH_FIRST)
    assert all("geolocation" not in event.note for event in events_of(path, against))


def test_a_spacing_that_counts_as_one_km_keeps_its_places(tmp_path: Path) -> None:
    """Over 100 pixels, 999.67 m for 1 km would be 33 m; a projection's own spacing is taken."""
    path = mapped(tmp_path / "a.nc", south_first=False, from_east=False, rounded=True)
    places = open_source(path, SMALL).parts[0].positions
    assert places is not None
    x, y = (0.99967 * values for values in centers())
    longitude, latitude = pyproj.Proj(STERE)(x[[0, -1]], y[[0, -1]], inverse=True)
    ends = np.array([0.0, SHAPE[0] - 1]), np.array([0.0, SHAPE[1] - 1])
    np.testing.assert_allclose(places.at(*ends), [latitude, longitude], atol=1e-7)


@pytest.mark.parametrize("south_first", [False, True])
def test_degrees_beside_a_given_spacing_are_places(south_first: bool, tmp_path: Path) -> None:
    latitude, longitude = 58.0 - 0.009 * np.arange(40), 11.0 + 0.017 * np.arange(48)
    rows = slice(None, None, -1 if south_first else 1)
    content = sequence(speckle((3, 40, 48))[:, rows], latitude[rows], longitude, "degrees")
    [event] = events_of(save(content, tmp_path / "a.nc"), replace(SMALL, spacing_km=1.0))
    top, left = (event.note["tile"][key] + np.array([0.0, 20.0]) for key in ("south_km", "east_km"))
    found = place_of_event(event.note, (32, 32), 1.0, "here").pixels_of(58.0 - 0.009 * top, 11.0 + 0.017 * left)
    np.testing.assert_allclose(found, [[0, 20], [0, 20]], atol=1e-3)


def test_latitudes_and_longitudes_beside_a_rotated_pole(tmp_path: Path) -> None:
    """The axes are degrees of the rotated grid, and no places; the file's latitudes and longitudes are."""
    pole = pyproj.Proj("+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18 +R=6371000")
    rlat, rlon = 3.0 - 0.01 * np.arange(40), -2.0 + 0.01 * np.arange(40)
    content = sequence(speckle((3, 40, 40)), rlat, rlon, "degrees").rename(lat="rlat", lon="rlon")
    for name, standard in (("rlat", "grid_latitude"), ("rlon", "grid_longitude")):
        content[name].attrs = {"units": "degrees", "standard_name": standard}
    longitude, latitude = pole(*np.deg2rad(np.meshgrid(rlon, rlat)), inverse=True)  # pyproj takes radians here
    for name, values, units in (("lat", latitude, "degrees_north"), ("lon", longitude, "degrees_east")):
        content[name] = (("rlat", "rlon"), np.asarray(values), {"units": units})
    [event] = events_of(save(content, tmp_path / "a.nc"))
    place = place_of_event(event.note, (32, 32), 1.0, "here")
    south, east = event.note["tile"]["south_km"], event.note["tile"]["east_km"]
    rows, columns = np.array([0.0, 13.3, 31.0]), np.array([5.5, 30.0, 0.0])
    turned_lat = 3.005 - (south + rows + 0.5) / KM_PER_DEGREE
    across = (east + columns + 0.5) / KM_PER_DEGREE / np.cos(np.deg2rad(turned_lat))
    longitude, latitude = pole(np.deg2rad(-1.805 + across), np.deg2rad(turned_lat), inverse=True)
    np.testing.assert_allclose(place.places_of(rows, columns), [latitude, longitude], atol=2e-4)


def test_rows_against_the_latitudes_have_no_place(tmp_path: Path) -> None:
    """If the user says that the latitudes are wrong, they can't say where the pixels are."""
    path = gridded(tmp_path / "a.nc", south_first=True, axis_units="km")
    against, along = (events_of(path, replace(SMALL, rows=rows)) for rows in (NORTH_FIRST, SOUTH_FIRST))
    assert all("geolocation" not in event.note for event in against)
    assert all("geolocation" in event.note for event in along)


def test_composites_by_their_projection(tmp_path: Path) -> None:
    paths = tuple(composite(tmp_path / f"{minute:02d}.h5") for minute in (0, 6, 12))
    events = events_of(paths)
    assert len(events) == 6
    for event in events:
        check_places(event.note)
    # Places are as large as a field: of thousands of files with one grid, one keeps them.
    assert [part.positions is None for part in open_source(paths, SMALL).parts] == [False, True, True]


@pytest.mark.parametrize("changed", [{"UR_lat": 61.0}, {"xscale": 2000.0}, {"projdef": np.bytes_("+proj=nonsense")}])
def test_composites_that_contradict_themselves_have_no_place(changed: dict[str, Any], tmp_path: Path) -> None:
    paths = tuple(composite(tmp_path / f"{minute:02d}.h5", **changed) for minute in (0, 6))
    assert all("geolocation" not in event.note for event in events_of(paths))
