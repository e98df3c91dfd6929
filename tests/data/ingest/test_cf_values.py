"""Values and times by the CF conventions, against netCDF4's own decoding and a direct computation."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.cf_values import decoded, decoded_times


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
