"""Pixels of gauges against pyproj and the geometry that made the pixels."""

from typing import Any

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.gauges.places import GridPlace, azimuthal_equidistant, distances_km, place_of_event
from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.positions import StoredPositions, control_points

COAST = st.floats(-75, 75)


@given(COAST, st.floats(-180, 180), st.floats(-300, 300), st.floats(-300, 300))
def test_the_projection_is_that_of_proj(latitude: float, longitude: float, east: float, north: float) -> None:
    proj = pyproj.Proj(proj="aeqd", lat_0=latitude, lon_0=longitude, R=6370997.0)
    lon, lat = proj(1000 * east, 1000 * north, inverse=True)
    x, y = azimuthal_equidistant(np.array([lat]), np.array([lon]), (latitude, longitude))
    np.testing.assert_allclose([x[0], y[0]], [east, north], atol=1e-6)


def test_pixels_around_a_radar() -> None:
    """The radar is in pixel (size // 2, size // 2), and row 0 is north."""
    place = place_of_event({"site": {"latitude": 57.7, "longitude": 12.0}}, (65, 64), 2.0, "here")
    proj = pyproj.Proj(proj="aeqd", lat_0=57.7, lon_0=12.0, R=6370997.0)
    rows, columns = np.array([0.0, 10.25, 32, 64]), np.array([63.0, 3.5, 32, 0])
    lon, lat = proj(2000 * (columns - 32), 2000 * (32 - rows), inverse=True)
    found = place.pixels_of(np.array(lat), np.array(lon))
    np.testing.assert_allclose(found, [rows, columns], atol=1e-6)
    np.testing.assert_allclose(place.range_km(np.array(lat), np.array(lon)), 2 * np.hypot(rows - 32, columns - 32),
                               atol=1e-6)  # fmt: skip


def test_pixels_of_the_archive_have_the_places_that_forecasts_are_written_with() -> None:
    from polarcast.hpc.inference.grid import Ground, geographic

    ground = Ground((40, 40), 1.0, (-12.4, 131.0))
    latitude, longitude = (v.astype(np.float64).ravel() for v in geographic(*ground.axes_km(), (-12.4, 131.0)))
    row, column = GridPlace((40, 40), 1.0, site=(-12.4, 131.0)).pixels_of(latitude, longitude)
    y, x = np.mgrid[:40, :40]
    np.testing.assert_allclose([row, column], [y.ravel(), x.ravel()], atol=2e-3)  # places are stored as float32


@pytest.mark.parametrize(("south", "east", "size"), [(0.0, -64.0, 64), (96.0, 10.0, 64), (40.0, -100.0, 32)])
def test_tiles_of_a_grid_in_degrees(south: float, east: float, size: int) -> None:
    geometry = Geometry.lat_lon((300, 400), 60.0, 10.0, -0.01, 0.01)
    rows, columns = geometry.places(south, east, size, 0)
    latitude, longitude = 60.0 - rows * 0.01, 10.0 + columns * 0.01
    tile = {"south_km": south, "east_km": east, "size_km": size}
    place = place_of_event({"extent": list(geometry.extent or ()), "tile": tile}, (size, size), 1.0, "here")
    row, column = place.pixels_of(latitude.ravel(), longitude.ravel())
    y, x = np.mgrid[:size, :size]
    np.testing.assert_allclose([row, column], [y.ravel(), x.ravel()], atol=1e-6)
    assert np.isnan(place.range_km(latitude, longitude)).all()


@pytest.mark.parametrize("longitude_0", [14.0, 178.5])
def test_tiles_of_a_projected_grid(longitude_0: float) -> None:
    """Control points find pixels to 20 m; on the other side of the date line, too."""
    proj = pyproj.Proj(proj="stere", lat_0=90, lat_ts=60, lon_0=longitude_0, ellps="bessel")
    rows, columns = np.mgrid[:120, :150].astype(np.float64)
    lon, lat = proj(30_000 + 2000 * columns, -3_300_000 - 2000 * rows, inverse=True)
    geometry = Geometry.plane((120, 150), 2.0, 2.0)
    lon = lon[0, 0] + np.unwrap(np.unwrap(np.deg2rad(lon - lon[0, 0]), axis=1), axis=0) * 180 / np.pi
    note = control_points(StoredPositions(lat, lon), geometry, 16.0, 20.0, 100)
    place = place_of_event(note, (100, 100), 1.0, "here")
    wanted_row, wanted_column = (v.ravel() for v in np.meshgrid([0.0, 13.3, 50, 99], [-0.4, 7.7, 88, 99.4]))
    east = 30_000 + 2000 * ((20 + wanted_column + 0.5) / 2 - 0.5)
    north = -3_300_000 - 2000 * ((16 + wanted_row + 0.5) / 2 - 0.5)
    lon, lat = proj(east, north, inverse=True)
    found = place.pixels_of(np.array(lat), np.array(lon))
    np.testing.assert_allclose(found, [wanted_row, wanted_column], atol=0.02)


@pytest.mark.parametrize(
    "note",
    [
        {"site": {"latitude": 57.7, "longitude": 179.9}},
        {"extent": [55.0, 10.0, 60.0, 20.0], "tile": {"south_km": 40.0, "east_km": -100.0}},
        {"extent": [-60.0, 170.0, -50.0, 190.0], "tile": {"south_km": 40.0, "east_km": 10.0}},
        {"geolocation": {"pixels": [0, 16, 31], "latitude": [[v, v - 0.01, v - 0.03] for v in (58.0, 57.85, 57.7)],
                         "longitude": [[179.8 + v, 179.95 + v / 9, -179.9 + v] for v in (0.0, 0.01, 0.03)]}},
    ],
)  # fmt: skip
def test_places_of_pixels_are_the_inverse(note: dict[str, Any]) -> None:
    place = place_of_event(note, (32, 32), 1.0, "here")
    rows, columns = np.mgrid[:32:5, :32:3].astype(np.float64)
    latitude, longitude = place.places_of(rows, columns)
    assert latitude.shape == rows.shape
    assert (np.abs(longitude) <= 180).all()
    found = place.pixels_of(latitude.ravel(), longitude.ravel())
    np.testing.assert_allclose(found, [rows.ravel(), columns.ravel()], atol=1e-6)


def test_distances() -> None:
    latitude, longitude = np.array([57.7, 57.9, -30.0]), np.array([12.0, 12.4, 170.0])
    found = distances_km(latitude, longitude)
    geod = pyproj.Geod(a=6370997.0, b=6370997.0)
    for i in range(3):
        for j in range(3):
            expected = geod.inv(longitude[i], latitude[i], longitude[j], latitude[j])[2] / 1000
            assert found[i, j] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "note", [{}, {"site": {"latitude": 0, "longitude": 0}}, {"site": {"latitude": "north"}}, {"extent": [1, 2, 3, 4]},
             {"geolocation": {"pixels": [0, 9], "latitude": [[1, 2]], "longitude": [[1, 2]]}}]
)  # fmt: skip
def test_an_unknown_place_is_refused(note: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="place on the Earth is not known"):
        place_of_event(note, (64, 64), 1.0, "event 000")
