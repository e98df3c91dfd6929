"""Tests of stored values of gridded sequences: codes for missing data, bounds, codes that nobody declared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.events import plan
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.grids.values import Decoding
from tests.support.grid_files import SMALL, dualpol, events_of, save, speckle, square, whole, write_npz

WEST = np.arange(40) < 16
"""Columns that the radar did not see."""


def _packed(codes: np.ndarray, units: str = "dBZ", **attributes: Any) -> Any:
    """Return a dataset of stored codes and their attributes."""
    content = square(codes.astype(codes.dtype))
    content["field"].attrs = {"units": units, "scale_factor": 0.5, "add_offset": -32.0, **attributes}
    return content


def _codes(unseen: int, dtype: str = "u1") -> np.ndarray:
    codes = np.round((speckle((2, 40, 40)) + 32) * 2).astype(dtype)
    return np.where(WEST, np.array(unseen, dtype), codes)


@pytest.mark.parametrize(
    ("codes", "attributes"),
    [
        (_codes(255), {"_FillValue": np.uint8(255)}),
        (_codes(255), {"missing_value": np.uint8(255)}),
        (_codes(255), {"valid_max": np.uint8(254)}),
        (_codes(255), {"valid_range": np.array([0, 254], "u1")}),
        (_codes(-1, "i1"), {"_Unsigned": "true", "missing_value": np.int8(-1)}),
        (_codes(65535, "u2"), {"valid_max": np.uint16(65534)}),
    ],
    ids=["fill", "missing", "valid_max", "valid_range", "unsigned", "words"],
)
def test_declared_codes_are_no_data(codes: np.ndarray, attributes: dict[str, Any], tmp_path: Path) -> None:
    content = _packed(codes, **attributes)
    fill = content["field"].attrs.pop("_FillValue", None)
    content.to_netcdf(tmp_path / "a.nc", encoding={"field": {"_FillValue": fill}})
    values = whole(tmp_path / "a.nc")
    assert np.isnan(values[..., WEST]).all()
    seen = (codes.view(f"u{codes.itemsize}") * 0.5 - 32)[..., ~WEST]
    np.testing.assert_allclose(values[..., ~WEST], seen, rtol=1e-6)


@pytest.mark.parametrize("code", [-99.0, -99.9, -999.0, -9999.0, 95.5, 999.0, 9.96921e36, np.inf, np.nan])
def test_what_no_radar_measures_is_no_data_and_counted(code: float, tmp_path: Path) -> None:
    data = np.where(WEST, np.float32(code), speckle((2, 40, 40)))
    event = events_of(save(square(data), tmp_path / "a.nc"))[0]
    assert event.covered[0, :, :12].max() == 0  # the tile starts at column 4
    assert event.covered[0, :, 12:].min() == 1
    counted = 2 * 40 * 16 if not np.isnan(code) else None
    assert event.note.get("beyond_bounds") == counted


@pytest.mark.parametrize("code", [-1.0, -3.0, 1200.0, 9.96921e36])
def test_rain_that_never_fell_is_no_data(code: float, tmp_path: Path) -> None:
    data = np.broadcast_to(np.where(WEST, np.float32(code), np.float32(5)), (2, 40, 40))
    values = whole(save(square(data, units="mm/h"), tmp_path / "a.nc"))
    assert np.isnan(values[..., WEST]).all()
    assert (values[..., ~WEST] == 5).all()


def test_rounding_errors_below_zero_are_no_rain(tmp_path: Path) -> None:
    values = whole(write_npz(tmp_path / "a.npz", np.array([[[-1e-6, 0, 2, -0.1]]] * 2), units="mm/h"))
    np.testing.assert_array_equal(values[0], [[0, 0, 2, np.nan]])


def _plan(path: Path, **settings: Any) -> int:
    options = GridSettings(tile=32, min_echo_pixels=1, min_coverage=0.3, **settings)
    return len(plan(open_source(path, options), options)[0])


@pytest.mark.parametrize("rain", [False, True])
def test_an_undeclared_code_that_fills_an_area_is_asked_for(rain: bool, tmp_path: Path) -> None:
    packing = {"scale_factor": 0.2, "add_offset": 0.0, "units": "mm/h"} if rain else {"scale_factor": 0.4}
    path = save(_packed(_codes(255), **packing), tmp_path / "a.nc")
    with pytest.raises(BadInput, match=r"the code 255 fills 40% of a frame.*--nodata 255"):
        _plan(path)
    assert _plan(path, nodata=255) == 1
    assert np.isnan(whole(path, GridSettings(nodata=255))[..., WEST]).all()
    assert _plan(path, nodata=-1) == 1


@pytest.mark.parametrize(("units", "code"), [("dBZ", 85.0), ("dBZ", 90.0), ("mm/h", 999.0), ("mm/h", 400.0)])
def test_strong_echo_and_rain_of_one_value_is_asked_for(units: str, code: float, tmp_path: Path) -> None:
    """Fewer pixels than a twentieth of the frame have it, apart from all others."""
    data = np.where(np.arange(40) < 1, np.float32(code), speckle((2, 40, 40)))
    path = save(square(data, units=units), tmp_path / "a.nc")
    with pytest.raises(BadInput, match=rf"the code {code:g} fills 2% of a frame.*--nodata {code:g}"):
        _plan(path)
    assert np.isnan(whole(path, GridSettings(nodata=code))[..., 0]).all()


@pytest.mark.parametrize("floor", [-32.0, -64.0, -80.0])
def test_a_floor_of_reflectivity_is_no_echo(floor: float, tmp_path: Path) -> None:
    data = np.where(WEST, np.float32(floor), speckle((2, 40, 40)))
    event = events_of(save(square(data), tmp_path / "a.nc"))[0]
    assert event.covered.min() == 1
    assert not event.radar[..., :12].any()


@pytest.mark.parametrize(
    ("name", "code"), [("kdp", -99.0), ("kdp", -99.9), ("kdp", 99.0), ("kdp", -40.96), ("zdr", -99.0), ("zdr", -20.0)]
)
def test_codes_of_zdr_and_kdp_are_no_data(name: str, code: float, tmp_path: Path) -> None:
    shape = (2, 1, 32, 32)
    fields = {"zh": speckle(shape), "zdr": speckle(shape, -1, 4), "kdp": speckle(shape, -1, 5)}
    fields[name][..., :8] = code
    settings = replace(SMALL, heights_km=(1.0,))
    event = events_of(save(dualpol(fields, [1.0]), tmp_path / "a.nc"), settings)[0]
    number = 1 + (name == "kdp")
    assert not event.radar[:, number, 0, :, :8].any()
    np.testing.assert_array_equal(event.radar[:, number, 0, :, 8:], fields[name][:, 0, :, 8:])
    assert event.note["missing_of_echo"][name] == {"1": 0.25}
    assert event.note["beyond_bounds"] == 2 * 32 * 8


@pytest.mark.parametrize("units", ["dBZ", "mm/h"])
def test_the_code_of_no_echo_is_observed(units: str, tmp_path: Path) -> None:
    """`_Undetect` of WMO FM 301: the radar saw the pixel, and there was no echo."""
    codes = _codes(0)
    content = _packed(codes, units=units, _Undetect=np.uint8(0), add_offset=0.0 if units == "mm/h" else -32.0)
    values = whole(save(content, tmp_path / "a.nc"))
    assert (values[..., WEST] == (0 if units == "mm/h" else -np.inf)).all()
    assert np.isfinite(values[..., ~WEST]).all()


def test_values_up_to_the_last_code_are_values(tmp_path: Path) -> None:
    """A ramp of all codes, a uniform field, and a few pixels at the last code are no missing data."""
    ramp = np.broadcast_to(np.linspace(60, 255, 40).astype("u1"), (2, 40, 40)).copy()
    few = _codes(150)
    few[:, :2, :8] = 255
    for name, codes in (("ramp", ramp), ("few", few), ("uniform", np.full((2, 40, 40), 150, "u1"))):
        assert _plan(save(_packed(codes, scale_factor=0.4), tmp_path / f"{name}.nc")) == 1, name


def test_scale_offset_and_nodata_override_the_file(tmp_path: Path) -> None:
    path = save(_packed(_codes(255)), tmp_path / "a.nc")
    settings = GridSettings(scale=0.25, offset=0.0, nodata=255)
    np.testing.assert_allclose(whole(path, settings)[..., ~WEST], _codes(255)[..., ~WEST] * 0.25, rtol=1e-6)


def test_linear_reflectivity_is_converted(tmp_path: Path) -> None:
    data = speckle((2, 40, 40))
    linear = np.where(WEST, 0, 10.0 ** (data.astype(np.float64) / 10))
    values = whole(save(square(linear, units="mm6 m-3"), tmp_path / "a.nc"))
    np.testing.assert_allclose(values[..., ~WEST], data[..., ~WEST], rtol=1e-5)
    assert np.isneginf(values[..., WEST]).all()


@pytest.mark.parametrize("units", ["dBZ", "mm/h"])
def test_missing_values_are_no_echo_if_the_user_says_so(units: str, tmp_path: Path) -> None:
    data = np.where(WEST, np.nan, speckle((2, 40, 40)))
    path = write_npz(tmp_path / "a.npz", data, units=units)
    settings = GridSettings(tile=32, min_echo_pixels=1, missing="no-echo")
    event = events_of(path, settings)[0]
    assert event.covered.min() == 1
    assert not event.radar[..., :12].any()
    assert event.note["missing"] == "taken as no echo"
    assert events_of(path)[0].covered[0, :, :12].max() == 0


@given(
    codes=st.lists(st.integers(-128, 127), min_size=1, max_size=30),
    scale=st.sampled_from([0.5, 1.0, 2.0, -0.5]),
    offset=st.integers(-40, 40),
    limits=st.tuples(st.integers(-128, 127), st.integers(-128, 127)).map(sorted),
    fill=st.integers(-128, 127),
)
def test_decoding_equals_a_direct_computation(
    codes: list[int], scale: float, offset: int, limits: list[int], fill: int
) -> None:
    attributes = {"scale_factor": scale, "add_offset": offset, "_FillValue": np.int8(fill),
                  "valid_range": np.array(limits, "i1")}  # fmt: skip
    values, beyond = Decoding("zh", attributes, "dBZ").decode(np.array([codes], "i1"))
    expected, number = [], 0
    for code in codes:
        value = code * scale + offset
        is_missing = code == fill or not limits[0] <= code <= limits[1]
        is_beyond = not -90 <= value <= 95
        number += not is_missing and is_beyond
        expected.append(np.nan if is_missing or is_beyond else value)
    np.testing.assert_array_equal(values[0], np.array(expected, np.float32))
    assert beyond == number


def test_the_settings_of_missing_values_are_checked() -> None:
    with pytest.raises(BadInput, match=r"--missing: no choice 'maybe'.*no-data, no-echo"):
        GridSettings(missing="maybe")
    assert SMALL.missing == "no-data"
