"""Values and times by the CF conventions, against netCDF4's own decoding and a direct computation."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.cf_values import decoded, decoded_times, is_undetected


def test_the_last_code_of_a_signed_type_is_missing_where_the_file_says_unsigned() -> None:
    stored = np.array([-1, 0, 1, 254 - 256], np.int8)
    attributes = {"_Unsigned": "true", "missing_value": np.int8(-1), "scale_factor": 0.5, "add_offset": -32.0}
    np.testing.assert_array_equal(decoded(stored, attributes), [np.nan, -32.0, -31.5, 95.0])


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4"])
@pytest.mark.parametrize(
    "attributes",
    [{"valid_max": 200}, {"valid_min": 3}, {"valid_range": (3, 200)}, {"missing_value": 7}, {"_FillValue": 9}],
)
def test_stored_limits_are_those_of_netcdf4(dtype: str, attributes: dict[str, Any], tmp_path: Path) -> None:
    import netCDF4

    typed = {name: np.array(value, dtype) for name, value in attributes.items()}
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 210)
        variable = file.createVariable("v", dtype, ("x",), fill_value=typed.pop("_FillValue", False))
        variable.setncatts({**typed, "scale_factor": 2.0, "add_offset": 1.0})
        variable.set_auto_maskandscale(False)
        variable[:] = np.arange(210)
        stored, found = variable[:], {name: variable.getncattr(name) for name in variable.ncattrs()}
        variable.set_auto_maskandscale(True)
        expected = np.ma.filled(variable[:].astype(float), np.nan)
    np.testing.assert_allclose(decoded(stored, found), expected)
    assert np.isnan(expected).any()


def test_a_limit_of_values_is_compared_with_values() -> None:
    attributes = {"scale_factor": 0.5, "add_offset": -32.0, "valid_range": np.array([-32.0, 90.0])}
    np.testing.assert_array_equal(decoded(np.array([0, 244, 255], np.uint8), attributes), [-32.0, 90.0, np.nan])


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2090, 1, 1)),
    st.integers(-720, 720),
    st.sampled_from(["seconds", "minutes", "hours", "days"]),
    st.floats(0, 1000),
)
def test_times_are_those_of_python(start: datetime, offset: int, unit: str, number: float) -> None:
    start = start.replace(microsecond=0)
    zone = timezone(timedelta(minutes=offset))
    text = (
        start.strftime("%Y-%m-%d %H:%M:%S")
        + f" {'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    )
    expected = start.replace(tzinfo=zone).astimezone(UTC) + timedelta(**{unit: number})
    [found] = decoded_times(np.array([number]), f"{unit} since {text}")
    assert abs((found - np.datetime64(expected.replace(tzinfo=None), "ms")) / np.timedelta64(1, "ms")) <= 1


@pytest.mark.parametrize("zone", ["", "Z", " UTC", " GMT", "+00:00", " +0000", " UTC+0"])
def test_names_of_utc(zone: str) -> None:
    [found] = decoded_times(np.array([90]), f"seconds since 2020-06-01T12:00:00{zone}")
    assert found == np.datetime64("2020-06-01T12:01:30")


@pytest.mark.parametrize(
    ("units", "calendar", "message"),
    [
        ("seconds since 2020-06-01 21:00:00 JST", "", "the time zone 'JST' is ambiguous"),
        ("minutes since 2020-06-01", "noleap", "times in the calendar 'noleap'"),
        ("1", "", "time in units '1'"),
        ("fortnights since 2020-06-01", "", "time in units 'fortnights"),
    ],
)
def test_what_is_not_known_is_refused(units: str, calendar: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        decoded_times(np.array([0]), units, calendar)


def test_references_before_the_gregorian_calendar_are_julian() -> None:
    """The value of netCDF4's cftime, for a reference that old programs write."""
    import cftime

    number = 17_700_000.0
    for calendar in ("standard", "proleptic_gregorian"):
        expected = cftime.num2date(number, "hours since 1-1-1 00:00:00", calendar).isoformat()
        [found] = decoded_times(np.array([number]), "hours since 1-1-1 00:00:0.0", calendar)
        assert str(found)[:19] == expected[:19]


def test_times_that_no_radar_has_are_missing() -> None:
    found = decoded_times(np.array([0.0, np.nan, 1e12, -1e12]), "seconds since 2020-06-01")
    np.testing.assert_array_equal(np.isnat(found), [False, True, True, True])


@given(
    st.sampled_from(["u1", "i1", "u2", "i2", "f4"]), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100),
    st.sampled_from([0.5, 0.01, 2.0]), st.sampled_from([0.0, -32.0, 7.5]), st.booleans(),
)  # fmt: skip
def test_values_are_those_of_a_direct_computation(
    dtype: str, fill: int, missing: int, undetect: int, scale: float, offset: float, as_text: bool
) -> None:
    typed: dict[str, Any] = {"_FillValue": fill, "missing_value": missing, "_Undetect": undetect}
    attributes = {name: str(code) if as_text else np.array(code, dtype)[()] for name, code in typed.items()}
    packing = {"scale_factor": str(scale) if as_text else scale, "add_offset": str(offset) if as_text else offset}
    stored = np.arange(101).astype(dtype)
    expected = np.where(np.isin(stored, [fill, missing, undetect]), np.nan, stored.astype(float) * scale + offset)
    np.testing.assert_allclose(decoded(stored, {**attributes, **packing}), expected)
    np.testing.assert_array_equal(is_undetected(stored, attributes), stored == undetect)


@pytest.mark.parametrize(
    ("dtype", "packing", "code", "stored_code"),
    [
        ("u1", (0.5, -32.0), np.float32(-32.0), 0),  # -32 is no byte
        ("i2", (0.01, 0.0), np.float64(-99.99), -9999),  # no whole number
        ("i2", (0.01, 0.0), np.float32(-99.0), -9900),  # most values are it, and none is -99 stored
        ("i2", (0.01, 0.0), "-327.68", -32768),
        ("i2", (0.01, 0.0), np.float32(-9999.0), -9999),  # packed, as CF demands: -999900 is no word
        ("u1", (0.5, -32.0), np.float64(0.0), 0),
        ("u1", (0.5, -32.0), np.uint8(64), 64),
    ],
)
def test_codes_are_given_packed_or_unpacked(
    dtype: str, packing: tuple[float, float], code: Any, stored_code: int
) -> None:
    stored = np.array([stored_code] * 20 + [1, 2, 60, 70, 100], dtype)
    attributes = {"missing_value": code, "scale_factor": packing[0], "add_offset": packing[1]}
    np.testing.assert_array_equal(np.isnan(decoded(stored, attributes)), stored == stored_code)


def test_of_two_readings_of_a_code_the_packed_one_comes_first() -> None:
    stored = np.array([-99] * 20 + [-9900, 1, 2], np.int16)
    attributes = {"missing_value": np.float32(-99), "scale_factor": 0.01}
    np.testing.assert_array_equal(np.isnan(decoded(stored, attributes)), stored == -99)


@pytest.mark.parametrize("name", ["scale_factor", "add_offset"])
def test_packing_that_is_no_number_is_named(name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} is 'half'"):
        decoded(np.arange(3), {name: "half"})
    np.testing.assert_array_equal(decoded(np.arange(3), {name: ""}), [0, 1, 2])


def test_codes_as_text() -> None:
    stored = np.array([-999, 0, 5, 200], np.int16)
    for text in ("-999", b"-999", "-999.f", "-999.0, 200", "-999 200s"):
        expected = [np.nan, 0, 5, np.nan if "200" in str(text) else 200]
        np.testing.assert_array_equal(decoded(stored, {"missing_value": text}), expected)
    np.testing.assert_array_equal(decoded(stored, {"missing_value": "NA"}), stored)
    np.testing.assert_array_equal(decoded(stored, {"valid_range": "0, 100"}), [np.nan, 0, 5, np.nan])


NINE = "2020-06-01T12:00:00"


@pytest.mark.parametrize(
    "units",
    [
        "seconds since 2020-06-01T210000+0900", "seconds since 20200601T120000Z", "seconds since 20200601 1200",
        "seconds since 2020-06-01T12:00:00.000 Etc/UTC", "seconds since 2020/06/01 12:00", "s since 2020-06-01 12",
        "seconds since 2020-06-01T12:00:00,000Z", "seconds since 2020-06-01 07:00 -5",
    ],
)  # fmt: skip
def test_references_in_other_forms(units: str) -> None:
    assert str(decoded_times(np.array([0]), units)[0])[:19] == NINE


@pytest.mark.parametrize(("unit", "number"), [("microseconds", 9e7), ("us", 9e7), ("nanoseconds", 9e10), ("ms", 9e4)])
def test_small_units_of_time(unit: str, number: float) -> None:
    assert str(decoded_times(np.array([number]), f"{unit} since {NINE}")[0]) == "2020-06-01T12:01:30.000"


@pytest.mark.parametrize("units", ["seconds since 2020-06-31", "seconds since 2020-06-01 12000", "seconds since noon"])
def test_references_that_are_no_time_are_named(units: str) -> None:
    with pytest.raises(BadInput, match="time in units 'seconds since"):
        decoded_times(np.array([0]), units)


@pytest.mark.parametrize(
    ("unit", "number", "coarse"),
    [("seconds", 1591012800.0, 128), ("hours", 1060000.1, 450), ("days", 18414.51, 169), ("minutes", 26516880.0, 120)],
)
def test_times_in_a_type_without_their_precision_are_refused(unit: str, number: float, coarse: int) -> None:
    numbers = np.array([number], np.float32).astype(float)
    with pytest.raises(BadInput, match=f"times in float32 to {coarse} s only — write them in float64"):
        decoded_times(numbers, f"{unit} since 1900-01-01", dtype=np.float32)
    assert not np.isnat(decoded_times(numbers, f"{unit} since 1900-01-01", dtype=np.float64)).any()


def test_times_that_a_type_holds_exactly_are_read() -> None:
    for numbers, units in (([1060000.0, 1060001.0], "hours since 1900-01-01"), ([300.0, 86400.5], f"s since {NINE}")):
        exact = decoded_times(np.array(numbers), units)
        np.testing.assert_array_equal(decoded_times(np.array(numbers), units, dtype=np.float32), exact)


def test_a_fill_value_of_times_that_is_not_declared_is_no_time() -> None:
    found = decoded_times(np.array([0.0, 9.969209968386869e36, 6.0]), "minutes since 2020-06-01T12:00:00Z")
    assert np.isnat(found).tolist() == [False, True, False]
    assert str(found[2]) == "2020-06-01T12:06:00.000"
