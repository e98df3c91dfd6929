"""Tests of ground distances of grids on map projections, against pyproj's geodesics and scale factors."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.ground import ground_of, on_the_ground
from polarcast.data.ingest.grids.positions import ProjectedPositions
from polarcast.data.ingest.grids.source import GriddedSource, open_source
from tests.support.grid_files import SMALL, save, speckle, square

WEB = "+proj=merc +lon_0=0 +lat_ts=0 +ellps=WGS84 +units=m"
PROJECTIONS = {
    "mercator": WEB,
    "polar stereographic": "+proj=stere +lat_0=90 +lat_ts=60 +lon_0=10 +ellps=WGS84",
    "equirectangular": "+proj=eqc +lat_ts=0 +lon_0=0 +ellps=WGS84",
    "equal area": "+proj=laea +lat_0=50 +lon_0=10 +ellps=WGS84",
}
SHAPE, GEOD = (60, 80), pyproj.Geod(ellps="WGS84")
DATA = speckle((2, *SHAPE))


def places(projection: str, longitude: float, latitude: float, step_m: float = 1000.0) -> ProjectedPositions:
    """Return the pixels around a place."""
    x, y = pyproj.Proj(projection)(longitude, latitude)
    return ProjectedPositions(projection, x - SHAPE[1] / 2 * step_m, y + SHAPE[0] / 2 * step_m, (step_m, step_m))


def true_spacing(where: ProjectedPositions) -> list[float]:
    """Return the distances of rows and columns at the centre in km by geodesics."""
    rows, columns = np.array([29.0, 30.0, 29.5, 29.5]), np.array([39.5, 39.5, 39.0, 40.0])
    latitude, longitude = where.at(rows, columns)
    return [GEOD.inv(longitude[i], latitude[i], longitude[i + 1], latitude[i + 1])[2] / 1000 for i in (0, 2)]


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(PROJECTIONS)), st.floats(-10, 30), st.floats(25, 72))
def test_spacing_is_that_of_geodesics(name: str, longitude: float, latitude: float) -> None:
    where = places(PROJECTIONS[name], longitude, latitude)
    found = ground_of(where, SHAPE)
    assert found is not None
    np.testing.assert_allclose(found.spacing_km, true_spacing(where), rtol=1e-3)


def composite(path: Path, projection: str, longitude: float, latitude: float) -> Path:
    """Write an ODIM composite of 60 by 80 pixels of 1 km on the map around a place."""
    project, where = pyproj.Proj(projection), places(projection, longitude, latitude)
    low = project(where.west, where.north - 1000 * SHAPE[0], inverse=True)
    top = project(where.west + 1000 * SHAPE[1], where.north, inverse=True)
    attributes: dict[str, dict[str, Any]] = {
        "what": {"object": "COMP", "date": "20210704", "time": "120000"},
        "where": {"projdef": projection, "xscale": 1000.0, "yscale": 1000.0, "LL_lon": low[0], "LL_lat": low[1],
                  "UR_lon": top[0], "UR_lat": top[1]},
        "dataset1/data1/what": {"quantity": "DBZH", "gain": 0.5, "offset": -32.0},
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        for name, pairs in attributes.items():
            for key, value in pairs.items():
                file.require_group(name).attrs[key] = np.bytes_(value) if isinstance(value, str) else value
        file["dataset1/data1/data"] = np.full(SHAPE, 120, "u1")
    return path


def mapped(path: Path, projection: str, longitude: float, latitude: float, *, has_places: bool) -> Path:
    """Write a NetCDF file with axes in m and latitudes and longitudes, or a grid mapping."""
    where = places(projection, longitude, latitude)
    x, y = where.west + 1000 * (np.arange(80) + 0.5), where.north - 1000 * (np.arange(60) + 0.5)
    content = square(DATA).assign_coords(x=("x", x, {"units": "m"}), y=("y", y, {"units": "m"}))
    if has_places:
        lat, lon = where.at(*np.meshgrid(np.arange(60.0), np.arange(80.0), indexing="ij"))
        units = {"lat": (lat.astype("f4"), "degrees_north"), "lon": (lon.astype("f4"), "degrees_east")}
        content = content.assign_coords({n: (("y", "x"), v, {"units": u}) for n, (v, u) in units.items()})
    else:
        content["crs"] = ((), 0, {k: v for k, v in pyproj.CRS(projection).to_cf().items() if k != "crs_wkt"})
        content["field"].attrs["grid_mapping"] = "crs"
    return save(content, path)


def read(kind: str, folder: Path, projection: str, longitude: float, latitude: float) -> GriddedSource:
    """Write and open a grid in one of three kinds of files."""
    if kind == "ODIM":
        return open_source(composite(folder / "a.h5", projection, longitude, latitude), SMALL)
    path = mapped(folder / "a.nc", projection, longitude, latitude, has_places=kind == "places")
    return open_source(path, SMALL)


@pytest.mark.parametrize("kind", ["ODIM", "places", "mapping"])
@pytest.mark.parametrize(("projection", "latitude"), [("mercator", 50.0), ("mercator", 60.0),
                                                      ("polar stereographic", 30.0)])  # fmt: skip
def test_files_have_ground_distances(kind: str, projection: str, latitude: float, tmp_path: Path) -> None:
    source = read(kind, tmp_path, PROJECTIONS[projection], 10.0, latitude)
    expected = true_spacing(places(PROJECTIONS[projection], 10.0, latitude))
    np.testing.assert_allclose(source.geometry.spacing, expected, rtol=2e-3)
    factor = pyproj.Proj(PROJECTIONS[projection]).get_factors(10.0, latitude).meridional_scale
    assert "ground distance at the centre" in source.note["ground"]
    assert float(source.note["ground"].split()[-1]) == pytest.approx(factor, rel=0.01)


@pytest.mark.parametrize("kind", ["ODIM", "places", "mapping"])
def test_maps_that_are_true_to_scale_stay_as_they_are(kind: str, tmp_path: Path) -> None:
    source = read(kind, tmp_path, PROJECTIONS["equal area"], 12.0, 53.0)
    assert source.geometry.is_archive_grid
    assert "ground" not in source.note


def test_a_tile_has_the_spacing_at_its_centre_where_it_varies() -> None:
    """On Mercator from 45 to 70 degrees, distances are half at the north: tiles there span twice the rows."""
    shape, step = (440, 200), 10_000.0
    project = pyproj.Proj(WEB)
    _, north = project(0.0, 70.0)
    where = ProjectedPositions(WEB, -100 * step, north, (step, step))
    geometry, note = on_the_ground(Geometry.plane(shape, 10.0, 10.0), {}, ground_of(where, shape), Path("a"))
    assert "of each tile" in note["ground"]
    for south, east in geometry.tiles(256):
        rows, columns = geometry.places(south, east, 256, 0)
        latitude, longitude = where.at(rows[[0, -1], 128], columns[[0, -1], 128])
        assert GEOD.inv(longitude[0], latitude[0], longitude[1], latitude[1])[2] / 255e3 == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("degrees", "is_refused"), [(0, False), (15, False), (-15, False), (30, True), (-60, True)])
def test_rows_that_do_not_run_north_are_refused(degrees: float, is_refused: bool, tmp_path: Path) -> None:
    angle = np.deg2rad(degrees)
    e, n = np.meshgrid(np.arange(80) - 39.5, 29.5 - np.arange(60))
    east, north = e * np.cos(angle) - n * np.sin(angle), e * np.sin(angle) + n * np.cos(angle)
    lon, lat = pyproj.Proj("+proj=aeqd +lat_0=50 +lon_0=8 +ellps=WGS84")(1000 * east, 1000 * north, inverse=True)
    content = square(DATA).assign_coords(
        lat=(("y", "x"), lat, {"units": "degrees_north"}), lon=(("y", "x"), lon, {"units": "degrees_east"})
    )
    path = save(content, tmp_path / "a.nc")
    if is_refused:
        with pytest.raises(BadInput, match=f"the rows run {abs(degrees)} degrees off north — regrid"):
            open_source(path, SMALL)
    else:
        assert open_source(path, SMALL).geometry.spacing == (1.0, 1.0)


def test_axes_in_wrong_units_are_refused(tmp_path: Path) -> None:
    path = mapped(tmp_path / "a.nc", WEB, 10.0, 50.0, has_places=True)
    import xarray as xr

    with xr.open_dataset(path) as content:
        wrong = content.load().assign_coords(x=content.x / 1000, y=content.y / 1000)
    for axis in ("x", "y"):
        wrong[axis].attrs["units"] = "m"
    wrong = wrong.assign_coords(x=wrong.x * 50, y=wrong.y * 50)
    for axis in ("x", "y"):
        wrong[axis].attrs["units"] = "m"
    with pytest.raises(BadInput, match=r"pixels of 0.05 km by the axes, 0.64\d km by latitude and longitude"):
        open_source(save(wrong, tmp_path / "b.nc"), SMALL)
