"""Tests of the axes of gridded sequences: which way is north, rounded coordinates, units of length."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.geometry import KM_PER_DEGREE
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from tests.support.grid_files import SMALL, save, sequence, speckle, square, whole

DATA = speckle((2, 36, 40))
"""First row north, first column west."""
NORTH, EAST = np.arange(36)[::-1] / KM_PER_DEGREE + 50, 8 + np.arange(40) / (KM_PER_DEGREE * 0.64)
LATITUDE, LONGITUDE = np.meshgrid(NORTH, EAST, indexing="ij")
CURVED = LATITUDE + 0.001 * (np.arange(40) - 20) ** 2 / 400
SPACED = GridSettings(spacing_km=1.0)


def _bare() -> Any:
    return square(DATA).drop_vars(["x", "y"])


def _with(name: str, dims: tuple[str, ...], values: np.ndarray, **attributes: str) -> Callable[[Any], Any]:
    return lambda content: content.assign({name: (dims, values, attributes)})


EVIDENCE: dict[str, Callable[[Any], Any]] = {
    "latitude over y": _with("lat", ("y",), NORTH, units="degrees_north"),
    "latitude by its units alone": _with("gitter_breite", ("y",), NORTH, units="degree_N"),
    "latitude of the pixels": _with("latitude", ("y", "x"), CURVED),
    "WRF's XLAT": _with("XLAT", ("y", "x"), CURVED, units="degree_north"),
    "WRF's XLAT at each time": _with("XLAT", ("time", "y", "x"), np.stack([CURVED] * 2), units="degree_north"),
    "a standard name with wrong units": _with("a", ("y", "x"), CURVED, standard_name="latitude", units="degrees_east"),
    "a projection coordinate without units": lambda content: content.assign_coords(
        y=("y", np.arange(36)[::-1] * 1e3, {"standard_name": "projection_y_coordinate"})
    ),
}


@pytest.mark.parametrize("way", EVIDENCE)
@pytest.mark.parametrize("south_first", [False, True])
def test_north_is_found_by_every_axis_and_latitude(way: str, south_first: bool, tmp_path: Path) -> None:
    content = EVIDENCE[way](_bare())
    content = content.isel(y=slice(None, None, -1)) if south_first else content
    path = save(content, tmp_path / "a.nc")
    np.testing.assert_array_equal(whole(path, SPACED), DATA)
    assert open_source(path, SPACED).geometry.south_first == south_first


@pytest.mark.parametrize("way", ["x axis", "longitude over x", "longitude of the pixels"])
def test_east_is_found_by_every_axis_and_longitude(way: str, tmp_path: Path) -> None:
    content = EVIDENCE["latitude over y"](_bare())
    content = {
        "x axis": lambda c: c.assign_coords(x=("x", np.arange(40) * 1.0, {"units": "km"})),
        "longitude over x": _with("lon", ("x",), (EAST - 8 + 359.8) % 360, units="degrees_east"),
        "longitude of the pixels": _with("XLONG", ("y", "x"), LONGITUDE - 0.001 * LATITUDE, units="degree_east"),
    }[way](content)
    for name, turned in (("west", content), ("east", content.isel(x=slice(None, None, -1)))):
        np.testing.assert_array_equal(whole(save(turned, tmp_path / f"{name}.nc"), SPACED), DATA, err_msg=name)


@pytest.mark.parametrize(
    "axis", [None, np.arange(36), np.arange(36)[::-1] * 1000.0], ids=["absent", "index", "no units"]
)
def test_north_is_asked_for_where_nothing_tells_it(axis: np.ndarray | None, tmp_path: Path) -> None:
    content = _bare() if axis is None else _bare().assign_coords(y=("y", axis))
    path = save(content, tmp_path / "a.nc")
    with pytest.raises(BadInput, match="whether its first row is north — say it: --rows north-first or --rows south-"):
        open_source(path, SPACED)
    with pytest.raises(BadInput, match="--spacing-km KM and --rows north-first or --rows south-first"):
        open_source(path, SMALL)
    np.testing.assert_array_equal(whole(path, GridSettings(spacing_km=1.0, rows="north-first")), DATA)
    np.testing.assert_array_equal(whole(path, GridSettings(spacing_km=1.0, rows="south-first")), DATA[:, ::-1])


def test_an_axis_and_latitudes_that_disagree_are_refused(tmp_path: Path) -> None:
    content = _with("lat", ("y", "x"), CURVED[::-1], units="degrees_north")(square(DATA))
    path = save(content, tmp_path / "a.nc")
    with pytest.raises(BadInput, match=r"the y axis and the latitude of the pixels disagree about north.*--rows"):
        open_source(path, SMALL)
    np.testing.assert_array_equal(whole(path, GridSettings(rows="north-first")), DATA)


def test_the_spacing_option_does_not_change_the_direction(tmp_path: Path) -> None:
    for name, content in (("north", square(DATA)), ("south", square(DATA).isel(y=slice(None, None, -1)))):
        path = save(content, tmp_path / f"{name}.nc")
        np.testing.assert_array_equal(whole(path, GridSettings(spacing_km=2.0)), DATA)
        assert open_source(path, GridSettings(spacing_km=2.0)).geometry.spacing == (2.0, 2.0)


def test_latitudes_and_longitudes_beside_the_axes_give_the_grid(tmp_path: Path) -> None:
    line = _with("lat", ("y",), NORTH, units="degrees_north")(_bare())
    line = _with("lon", ("x",), EAST, units="degrees_east")(line)
    plane = _with("lat", ("y", "x"), LATITUDE, units="degrees_north")(_bare())
    plane = _with("lon", ("y", "x"), LONGITUDE, units="degrees_east")(plane)
    for name, content in (("line", line), ("plane", plane)):
        geometry = open_source(save(content, tmp_path / f"{name}.nc"), SMALL).geometry
        assert geometry.corner == pytest.approx((NORTH[0], EAST[0]))
        assert geometry.spacing == pytest.approx((1 / KM_PER_DEGREE, EAST[1] - EAST[0]))


@pytest.mark.parametrize(
    ("unit", "step", "expected"),
    [("1000 m", 1.0, 1.0), ("1e3 m", 2.0, 2.0), ("m", 500.0, 0.5), ("Kilometers", 1.0, 1.0)],
)
def test_units_of_length_are_converted(unit: str, step: float, expected: float, tmp_path: Path) -> None:
    path = save(square(DATA, step, unit), tmp_path / "a.nc")
    assert open_source(path, SMALL).geometry.spacing == (expected, expected)


def test_other_units_are_named(tmp_path: Path) -> None:
    path = save(square(DATA, 1.0, "rad"), tmp_path / "a.nc")
    with pytest.raises(BadInput, match=r"m, km or degrees: they have 'rad'.*--spacing-km"):
        open_source(path, SMALL)


@given(
    step=st.floats(0.004, 0.05),
    start=st.floats(-60, 60),
    count=st.integers(20, 300),
    decimals=st.sampled_from([2, 3, 4]),
)
def test_rounded_coordinates_are_even(
    step: float, start: float, count: int, decimals: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Pixels are within a pixel's rounding of where they are: one unit in the last decimal."""
    unit = 10.0**-decimals
    assume(unit <= 1.2 * step)
    # One step that differs by a pixel is an absent row, as far as anyone can tell.
    assume(unit <= step / 2 or abs(step / unit - round(step / unit)) * count > 3)
    true = start + step * np.arange(count)
    data = np.full((2, count, count), 20.0, np.float32)
    content = sequence(data, np.round(true, decimals)[::-1], np.round(true, decimals), "degrees")
    path = save(content, tmp_path_factory.mktemp("rounded") / "a.nc")
    geometry = open_source(path, SMALL).geometry
    assert geometry.corner is not None
    rows = geometry.corner[0] - geometry.spacing[0] * np.arange(count)
    columns = geometry.corner[1] + geometry.spacing[1] * np.arange(count)
    np.testing.assert_allclose(rows, true[::-1], atol=1.1 * unit)
    np.testing.assert_allclose(columns, true, atol=1.1 * unit)


@pytest.mark.parametrize(
    "change",
    [lambda v: v + 0.002 * np.sin(np.arange(36)), lambda v: np.delete(np.append(v, v[-1] + 0.01), 9), np.sin],
    ids=["wavy", "a row is absent", "curved"],
)
def test_uneven_rows_are_refused(change: Callable[[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    content = sequence(DATA, change(50 + 0.01 * np.arange(36)), 8 + 0.01 * np.arange(40), "degrees")
    with pytest.raises(BadInput, match="the rows are not evenly spaced"):
        open_source(save(content, tmp_path / "a.nc"), SMALL)


def test_degrees_of_a_rotated_pole_are_no_place_on_earth(tmp_path: Path) -> None:
    content = sequence(DATA, 0.01 * np.arange(36), 0.01 * np.arange(40), "degrees").rename(lat="rlat", lon="rlon")
    geometry = open_source(save(content, tmp_path / "a.nc"), SMALL).geometry
    assert geometry.extent is None
    assert geometry.south_first


@pytest.mark.parametrize("south_first", [False, True])
@pytest.mark.parametrize("of_pixels", [False, True])
def test_degrees_south_and_west_are_counted_back(south_first: bool, of_pixels: bool, tmp_path: Path) -> None:
    """33° S is given as 33 degrees_south, and 80° W as 80 degrees_west."""
    south, west = 33 + np.arange(36) / KM_PER_DEGREE, 80 - np.arange(40) / (KM_PER_DEGREE * 0.83)
    content = sequence(DATA, south, west, "degrees")
    content.lat.attrs["units"], content.lon.attrs["units"] = "degrees_south", "degrees_west"
    content = content.isel(lat=slice(None, None, -1)) if south_first else content
    path = save(content, tmp_path / "a.nc")
    source = open_source(path, SMALL)
    assert source.geometry.corner == pytest.approx((-33.0, -80.0))
    assert source.geometry.south_first == south_first
    np.testing.assert_array_equal(whole(path), DATA)
    if of_pixels:
        bare = content.drop_vars(["lat", "lon"]).rename_dims(lat="y", lon="x")
        latitude = np.broadcast_to(content.lat.values[:, None], (36, 40))
        bare = bare.assign(a=(("y", "x"), latitude, {"units": "degreesSouth"}))
        np.testing.assert_array_equal(whole(save(bare, tmp_path / "b.nc"), SPACED), DATA)


def test_negative_degrees_south_are_not_clear(tmp_path: Path) -> None:
    content = sequence(DATA, -33 - np.arange(36) / KM_PER_DEGREE, EAST, "degrees")
    content.lat.attrs["units"] = "degrees_south"
    with pytest.raises(BadInput, match=r"coordinates of -33 in 'degrees_south': it is not clear on which side"):
        open_source(save(content, tmp_path / "a.nc"), SMALL)


@pytest.mark.parametrize("has_x", [False, True])
def test_the_note_tells_how_west_was_found(has_x: bool, tmp_path: Path) -> None:
    content = _bare()
    if has_x:
        content = content.assign_coords(x=("x", np.arange(40) * 1.0, {"units": "km"}))
    path = save(content, tmp_path / "a.nc")
    note = open_source(path, GridSettings(spacing_km=1.0, rows="north-first")).note
    assert (note["north"], note["columns"]) == ("by --rows", "by the x axis" if has_x else "west first, assumed")


def test_axes_named_e_and_n_are_columns_and_rows(tmp_path: Path) -> None:
    metres = square(DATA, 1000.0, "m").rename(y="n", x="e")
    np.testing.assert_array_equal(whole(save(metres.transpose("time", "e", "n"), tmp_path / "a.nc")), DATA)
    np.testing.assert_array_equal(whole(save(metres, tmp_path / "b.nc")), DATA)


@pytest.mark.parametrize("way", ["name", "long name", "positive"])
def test_axes_that_grow_to_the_south_are_read_so(way: str, tmp_path: Path) -> None:
    content = square(DATA).assign_coords(y=("y", np.arange(36.0), {"units": "km"}))
    if way == "name":
        content = content.rename(y="southing")
    else:
        content["y"].attrs |= {"long name": {"long_name": "southing of the pixels"}}.get(way, {"positive": "south"})
    np.testing.assert_array_equal(whole(save(content, tmp_path / "a.nc")), DATA)


def test_a_geotransform_tells_the_spacing(tmp_path: Path) -> None:
    content = _bare()
    content["crs"] = ((), 0, {"grid_mapping_name": "polar_stereographic", "GeoTransform": "-1e5 2000 0 -3e6 0 -3000 "})
    found = open_source(save(content, tmp_path / "a.nc"), GridSettings(rows="north-first"))
    assert found.geometry.spacing == (3.0, 2.0)


@pytest.mark.parametrize(("axis", "hint"), [("bottom_top", "select one bottom_top first, or write its heights in m"),
                                            ("member", "select one member first$")])  # fmt: skip
def test_a_further_axis_is_named(axis: str, hint: str, tmp_path: Path) -> None:
    path = save(square(DATA).expand_dims({axis: 3}), tmp_path / "a.nc")
    with pytest.raises(BadInput, match=f"field has the axes {axis} 3, time 2, y 36, x 40, and {axis} is.*{hint}"):
        open_source(path, SMALL)
