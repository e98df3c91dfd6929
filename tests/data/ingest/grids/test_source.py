"""Tests of opening gridded sequences: units, axes, orientation and errors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.events import plan, read_piece
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.grids.units import quantity_of
from tests.support.grid_files import (
    SMALL,
    events_of,
    save,
    sequence,
    speckle,
    square,
    times_of,
    whole,
    write,
    write_npz,
)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ("dBZ", ("zh", 1)), ("mm/h", ("rain_rate", 1)), ("mm h-1", ("rain_rate", 1)), ("mm hr^-1", ("rain_rate", 1)),
        ("mm h**-1", ("rain_rate", 1)), ("mm per hour", ("rain_rate", 1)), ("kg m-2 h-1", ("rain_rate", 1)),
        ("mm per 5 min", ("rain_rate", 12)), ("mm/10min", ("rain_rate", 6)), ("mm per 2 hours", ("rain_rate", 0.5)),
        ("kg m**-2 s**-1", ("rain_rate", 3600)), ("mm s-1", ("rain_rate", 3600)),
    ],
)  # fmt: skip
def test_units_are_recognized(units: str, expected: tuple[str, float]) -> None:
    assert quantity_of(units) == expected


@pytest.mark.parametrize("units", ["", "mm", "K", "dB", "m s-1", "mm per 0 min", "mm h"])
def test_other_units_are_rejected_with_a_hint(units: str) -> None:
    with pytest.raises(BadInput, match=r"units.*--units dBZ, mm/h"):
        quantity_of(units, "file.nc")


def test_metres_per_second_are_rain_if_the_name_is_a_rain_name(tmp_path: Path) -> None:
    rain = np.full((2, 32, 32), 1e-6)
    content = square(rain, standard_name="rainfall_rate", units="m s-1")
    content.to_netcdf(tmp_path / "a.nc")
    np.testing.assert_allclose(whole(tmp_path / "a.nc"), 3.6, rtol=1e-6)
    square(rain, units="m s-1").to_netcdf(tmp_path / "wind.nc")
    with pytest.raises(BadInput, match="units 'm s-1'"):
        open_source(tmp_path / "wind.nc", SMALL)


def test_settings_override_the_file(tmp_path: Path) -> None:
    codes = np.array([[[0, 10], [20, 255]]] * 2, np.uint8)
    path = write_npz(tmp_path / "a.npz", codes, units="mm", scale=3.0, nodata=0, dx_km=1.0)
    settings = GridSettings(units="mm per 5 min", scale=0.1, offset=0.5, nodata=255, spacing_km=2.0)
    np.testing.assert_allclose(whole(path, settings)[0], [[6, 18], [30, np.nan]], rtol=1e-6)
    assert open_source(path, settings).geometry.spacing == (2.0, 2.0)


def test_negative_rain_is_missing(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", np.array([[[-3.0, 0, 2]]] * 2), units="mm/h")
    np.testing.assert_array_equal(whole(path)[0], [[np.nan, 0, 2]])


@pytest.mark.parametrize("name", ["a.nc", "a.zarr", "folder"])
@pytest.mark.parametrize("unit", ["m", "km", "metres"])
def test_netcdf_and_zarr_are_read_north_up(tmp_path: Path, name: str, unit: str) -> None:
    data, step = speckle((2, 40, 40)), 1.0 if unit == "km" else 1000.0
    axis = np.arange(40) * step
    path = write(sequence(data, axis, axis, unit), tmp_path / name)
    event = events_of(path)[0]
    np.testing.assert_allclose(event.radar[:, 0, 0], data[:, ::-1][:, 4:36, 4:36], atol=0.006)
    assert event.note["read"]["north"] == "by the y axis"


def test_a_window_of_selected_frames_is_read_in_order_of_time(tmp_path: Path) -> None:
    data = speckle((5, 20, 30))
    order = [3, 0, 4, 1, 2]
    content = square(data[order]).assign_coords(time=times_of(5)[order].astype("datetime64[ns]"))
    fortran = np.asfortranarray(data[order])
    for path in (
        write(content, tmp_path / "a.nc"),
        write_npz(tmp_path / "c.npz", data[order], time=times_of(5)[order]),
        write_npz(tmp_path / "f.npz", fortran, time=times_of(5)[order]),
    ):
        source = open_source(path, SMALL)
        part = source.read([1, 2, 4], slice(3, 9), slice(5, 25))
        np.testing.assert_allclose(part, data[[1, 2, 4], 3:9, 5:25], atol=0.006)
        assert source.note["sorted_by_time"]


def test_axes_are_recognized_in_any_order_and_direction(tmp_path: Path) -> None:
    data = speckle((2, 36, 40))
    expected = events_of(write(square(data), tmp_path / "plain.nc"))[0].radar
    variants = {
        "turned": square(data).transpose("time", "x", "y"),
        "level": square(data).expand_dims(height=[1500.0], axis=1),
        "east first": square(data).isel(x=slice(None, None, -1)),
        "time named otherwise": square(data).rename_dims(time="frame"),
    }
    for name, content in variants.items():
        event = events_of(write(content, tmp_path / f"{name}.nc"))[0]
        np.testing.assert_array_equal(event.radar, expected, err_msg=name)


def test_north_is_determined_by_the_latitude_of_pixels_without_axes(tmp_path: Path) -> None:
    data = speckle((2, 32, 32))
    latitude = np.broadcast_to(50 + 0.01 * np.arange(32)[:, None], (32, 32))
    content = square(data).drop_vars(["x", "y"])
    settings = GridSettings(tile=32, min_echo_pixels=1, spacing_km=1.0)
    told = GridSettings(tile=32, min_echo_pixels=1, spacing_km=1.0, rows="north-first")
    as_given = events_of(write(content, tmp_path / "stored.nc"), told)[0]
    content = content.assign_coords(latitude=(("y", "x"), latitude))
    turned = events_of(write(content, tmp_path / "turned.nc"), settings)[0]
    np.testing.assert_array_equal(turned.radar, as_given.radar[..., ::-1, :])
    assert (as_given.note["read"]["north"], turned.note["read"]["north"]) == (
        "by --rows",
        "by the latitude of the pixels",
    )


def test_named_axes_in_degrees_need_no_units(tmp_path: Path) -> None:
    content = sequence(speckle((2, 40, 40)), 50 - 0.01 * np.arange(40), 359.9 + 0.01 * np.arange(40), "degrees")
    content["lon"] = content["lon"] % 360  # it crosses the prime meridian
    for axis in ("lat", "lon"):
        content[axis].attrs = {}
    geometry = open_source(write(content, tmp_path / "a.nc"), SMALL).geometry
    assert geometry.corner == pytest.approx((50, 359.9))
    assert geometry.spacing == pytest.approx((0.01, 0.01))


def test_ambiguous_variables_are_rejected(tmp_path: Path) -> None:
    two = square(speckle((2, 40, 40)))
    two["quality"] = two["field"].assign_attrs(units="1")
    assert open_source(write(two, tmp_path / "units.nc"), SMALL).note["variable"] == "field"
    two["other"] = two["field"] - 10
    two["other"].attrs["units"] = "dBZ"
    path = write(two, tmp_path / "a.nc")
    with pytest.raises(BadInput, match=r"candidate variables: field, other.*--variable"):
        open_source(path, SMALL)
    assert open_source(path, GridSettings(variable="other")).note["variable"] == "other"
    with pytest.raises(BadInput, match="no variable 'third'"):
        open_source(path, GridSettings(variable="third"))
    two["other"].attrs["standard_name"] = "equivalent_reflectivity_factor"
    assert open_source(write(two, tmp_path / "named.nc"), SMALL).note["variable"] == "other"


def test_axes_without_units_need_a_spacing(tmp_path: Path) -> None:
    path = write(square(speckle((2, 40, 40)), unit="1"), tmp_path / "a.nc")
    with pytest.raises(BadInput, match="--spacing-km"):
        open_source(path, SMALL)
    with pytest.raises(BadInput, match=r"nothing in it tells whether its first row is north.*--rows north-first"):
        open_source(path, GridSettings(spacing_km=2.0))
    source = open_source(path, GridSettings(spacing_km=2.0, rows="south-first"))
    assert source.geometry.spacing == (2.0, 2.0)
    assert source.geometry.south_first


def _without(key: str) -> dict[str, Any]:
    return {"lat0": 50.0, "lon0": 10.0, "dlat": -0.01, "dlon": 0.01} | {key: None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": None}, "no 'time'"),
        ({"time": times_of(2)}, r"data \(3, 40, 40\) and 2 times"),
        ({"time": np.arange(3)}, "time is int64.*datetime64"),
        ({"time": np.array(["NaT"] * 3, "datetime64[s]")}, "frames without a time"),
        ({"time": np.array(["noon"] * 3)}, "the time 'noon' can't be read.*2020-06-01T12:00:00"),
        ({"data": np.zeros((3, 40, 40), np.complex64)}, "data is complex64.*real numbers"),
        ({"data": np.zeros((3, 40, 40), np.bool_)}, "data is bool.*real numbers"),
        ({"scale": np.ones(2)}, "scale is .*one number"),
        ({"dx_km": np.nan}, r"pixels of nan km \(dx_km\).*--spacing-km"),
        ({"dx_km": 0.0}, "pixels of 0 km"),
        ({"dx_km": -1.0}, "pixels of -1 km"),
        ({"lat0": 50.0, "lon0": 10.0, "dlat": -0.01, "dlon": -0.01}, "columns from west to east"),
        ({"data": np.zeros((40, 40))}, r"data \(40, 40\)"),
        ({"units": None}, "no units.*--units"),
        (_without("dlon"), "no 'dlon'"),
    ],
)
def test_an_incomplete_npz_is_rejected(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write_npz(tmp_path / "a.npz", **{"data": speckle((3, 40, 40)), **change})
    with pytest.raises(BadInput, match=message):
        open_source(path, SMALL)


def test_a_grid_in_degrees_has_an_extent_to_its_outer_edges(tmp_path: Path) -> None:
    corner = {"lat0": 50.0, "lon0": 10.0, "dlat": -0.5, "dlon": 0.25, "dx_km": None}
    for name, south_up in (("north.npz", {}), ("south.npz", {"lat0": 48.5, "dlat": 0.5})):
        source = open_source(write_npz(tmp_path / name, speckle((2, 4, 8)), **{**corner, **south_up}), SMALL)
        assert source.geometry.extent == pytest.approx((48.25, 9.875, 50.25, 11.875))
    assert open_source(write_npz(tmp_path / "plane.npz", speckle((2, 4, 8))), SMALL).geometry.extent is None


def test_other_files_are_rejected(tmp_path: Path) -> None:
    content = square(speckle((2, 40, 40)))
    for name, wrong, message in (
        ("no times", content.drop_vars("time"), "field has the axes time 2, y 40, x 40, and no times"),
        ("levels without units", content.expand_dims(height=[1.0, 2.0]), "height is in units ''.*in m, km or ft"),
        ("members", content.expand_dims(member=[1, 2]), "member is neither time"),
        ("uneven", content.assign_coords(y=content.y**2), "not evenly spaced"),
    ):
        with pytest.raises(BadInput, match=message):
            open_source(write(wrong, tmp_path / f"{name}.nc"), SMALL)
    with pytest.raises(BadInput, match="and no times"):
        open_source(tmp_path / "no times.nc", GridSettings(variable="field"))


def test_a_damaged_file_gives_a_one_line_error(tmp_path: Path) -> None:
    for name, content in (("a.nc", b"\x89HDF\r\n\x1a\ngarbage"), ("a.npz", b"PK\x03\x04garbage")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            BadInput, match=r"can't be read as a gridded sequence|damaged: the npz is cut short"
        ) as caught:
            open_source(tmp_path / name, SMALL)
        assert "\n" not in str(caught.value)


def test_damage_found_while_reading_gives_the_same_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, data=speckle((4, 64, 64)), time=times_of(4), units="dBZ")
    content = path.read_bytes()
    pieces, _ = plan(open_source(path, SMALL), SMALL)
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(b ^ 255 for b in content[middle : middle + 64]) + content[middle + 64 :])
    with pytest.raises(BadInput, match="can't be read"):
        plan(open_source(path, SMALL), SMALL)
    with pytest.raises(BadInput, match="can't be read"):
        read_piece(pieces[-1], SMALL)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("a.nc", b"", "the file is empty"), ("a.nc", b"<!DOCTYPE html><html>404</html>", "a web page and no data"),
     ("a.nc", b"0" * 99, "not a netCDF file"), ("a.npz", b"0" * 99, "not an npz file"), ("a.npz", b"", "is empty")],
)  # fmt: skip
def test_files_of_something_else_are_told_in_plain_words(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        open_source(tmp_path / name, SMALL)
    assert "Error" not in str(caught.value)


def test_a_file_that_was_cut_is_damaged(tmp_path: Path) -> None:
    path = write(square(speckle((2, 40, 40))), tmp_path / "a.nc")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BadInput, match="damaged: the file is cut short — copy it again"):
        open_source(path, SMALL)


@pytest.mark.parametrize(("minutes", "overlap"), [(6, True), (60, False), (90, False)])
@pytest.mark.parametrize("way", ["units", "bounds"])
def test_sums_that_overlap_are_refused(minutes: int, overlap: bool, way: str, tmp_path: Path) -> None:
    times = times_of(3, minutes)
    content = square(speckle((3, 40, 40), 0, 9), units="mm per 60 min" if way == "units" else "mm/h")
    content = content.assign_coords(time=times.astype("datetime64[ns]"))
    content["field"].attrs["cell_methods"] = "time: sum"
    if way == "bounds":
        content["time"].attrs["bounds"] = "time_bnds"
        content["time_bnds"] = (("time", "nv"), np.stack([times - np.timedelta64(60, "m"), times], 1).astype("M8[ns]"))
    path = save(content, tmp_path / "a.nc")
    if overlap:
        with pytest.raises(BadInput, match="overlapping accumulations: sums over 60 min every 6 min"):
            open_source(path, SMALL)
    else:
        assert len(open_source(path, SMALL).times) == 3


def test_given_units_of_an_amount_are_those_of_sums(tmp_path: Path) -> None:
    given = replace(SMALL, units="mm per 60 min")
    path = save(square(speckle((3, 40, 40), 0, 9), units="mm"), tmp_path / "a.nc")
    for wrong in (path, write_npz(tmp_path / "a.npz", speckle((3, 40, 40), 0, 9), units="mm")):
        with pytest.raises(BadInput, match="overlapping accumulations"):
            open_source(wrong, given)


@pytest.mark.parametrize("units", ["mm/h", "mm/15 min"])
def test_rates_are_no_sums(units: str, tmp_path: Path) -> None:
    path = save(square(speckle((3, 40, 40), 0, 9), units=units), tmp_path / "a.nc")
    assert len(open_source(path, SMALL).times) == 3


def test_a_variable_on_another_grid_is_told_or_refused(tmp_path: Path) -> None:
    content = square(speckle((2, 40, 40))).rename(field="DBZH")
    content["ZDR"] = (("time", "y2", "x2"), np.ones((2, 20, 20), "f4"), {"units": "dB"})
    path = save(content, tmp_path / "a.nc")
    source = open_source(path, SMALL)
    reason = "zdr is on another grid than zh: (time 2, y2 20, x2 20), not (time 2, y 40, x 40)"
    assert (source.measured, dict(source.dropped)) == (("zh",), {reason: 1})
    assert source.dropped_from == {reason: [path]}
    with pytest.raises(BadInput, match=r"zdr is on another grid.*leave it out: --variables zh$"):
        open_source(path, replace(SMALL, variables=("zh", "zdr")))


def test_a_variable_without_times_is_told(tmp_path: Path) -> None:
    content = square(speckle((2, 40, 40))).rename(field="DBZH")
    content["KDP"] = (("member", "y", "x"), np.ones((3, 40, 40), "f4"), {"units": "degrees/km"})
    path = save(content, tmp_path / "a.nc")
    source = open_source(path, SMALL)
    (reason,) = source.dropped
    assert reason.startswith("kdp is not taken: KDP has the axes member 3, y 40, x 40, and no times")
