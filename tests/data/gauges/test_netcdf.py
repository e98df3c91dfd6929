"""Gauges in CF NetCDF: dimensions, bounds, units, names, and files that can't be used."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.gauges.options import GaugeOptions
from polarcast.data.gauges.read import read_gauges

MM = np.array([[0.0, 0.5, 2.0, 0.25], [1.0, 0.0, np.nan, 0.75]])


def write(path: Path, *, units: str | None = "mm", name: str = "rainfall_amount", turned: bool = False,
          bounds: bool = True, names: str = "strings", step: float = 60, values: Any = MM,
          fill: float = -9.0) -> Path:  # fmt: skip
    with netCDF4.Dataset(path, "w") as content:
        content.Conventions, content.featureType = "CF-1.8", "timeSeries"
        for dim, size in (("station", 2), ("time", 4), ("bnds", 2), ("letters", 4)):
            content.createDimension(dim, size)
        for key, unit, places in (("lat", "degrees_north", (57.7, 57.8)), ("lon", "degrees_east", (12.1, 12.2))):
            content.createVariable(key, "f8", ("station",)).units = unit
            content[key][:] = places
        time = content.createVariable("time", "f8", ("time",))
        time.units, time.standard_name = "minutes since 2020-06-01 12:00:00", "time"
        time[:] = step * np.arange(1, 5)
        if bounds:
            time.bounds = "time_bounds"
            content.createVariable("time_bounds", "f8", ("time", "bnds"))[:] = step * np.stack(
                [np.arange(4), np.arange(1, 5)], -1
            )
        if names == "strings":
            content.createVariable("who", str, ("station",)).cf_role = "timeseries_id"
            content["who"][:] = np.array(["alpha", "beta"], object)
        elif names == "letters":
            content.createVariable("who", "S1", ("station", "letters")).cf_role = "timeseries_id"
            content["who"][:] = np.array([list("one\0"), list("two\0")], "S1")
        dims = ("time", "station") if turned else ("station", "time")
        rain = content.createVariable(name, "f8", dims, fill_value=fill)
        if units is not None:
            rain.units = units
        rain[:] = np.nan_to_num(values.T if turned else values, nan=fill)
    return path


@pytest.mark.parametrize(
    ("units", "factor"),
    [
        ("mm", 1),
        ("kg m-2", 1),
        ("inches", 25.4),
        ("cm", 10),
        ("mm/h", 1),
        ("mm h-1", 1),
        ("kg m-2 s-1", 3600),
        ("m", 1e3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_units_and_orders_of_dimensions(units: str, factor: float, turned: bool, tmp_path: Path) -> None:
    one, two = read_gauges([write(tmp_path / "g.nc", units=units, turned=turned)]).gauges
    np.testing.assert_allclose([one.mm, two.mm], MM * factor)
    assert [one.station, two.station] == ["alpha", "beta"]
    assert (one.latitude, two.longitude) == (57.7, 12.2)
    assert one.ends.astype(str).tolist()[0] == "2020-06-01T13:00:00"
    assert one.minutes.tolist() == [60] * 4


def test_a_rate_counts_for_the_length_of_its_interval(tmp_path: Path) -> None:
    [gauge, _] = read_gauges([write(tmp_path / "g.nc", units="mm/h", name="rainfall_rate", step=10)]).gauges
    np.testing.assert_allclose(gauge.mm, MM[0] / 6)


def test_without_bounds_the_step_is_the_length_and_it_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "g.nc", bounds=False, step=10, names="letters")
    found = read_gauges([path])
    assert [gauge.station for gauge in found.gauges] == ["one", "two"]
    assert found.gauges[0].ends.astype(str).tolist()[0] == "2020-06-01T12:10:00"
    assert found.notes == ("g.nc: no time bounds: intervals of 10 min, the step of its times, that end at its times",)
    starting = read_gauges([path], GaugeOptions(mark="start"))
    assert starting.gauges[0].ends.astype(str).tolist()[0] == "2020-06-01T12:20:00"


def test_a_time_zone_is_for_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "g.nc")
    found, same = read_gauges([path], GaugeOptions(time_zone="Europe/Stockholm")), read_gauges([path])
    assert found.gauges[0].ends.tolist() == same.gauges[0].ends.tolist()
    assert found.notes == ("g.nc: its times are UTC, as CF has it: the time zone is not used",)


def test_units_may_be_absent_where_the_name_has_them(tmp_path: Path) -> None:
    found = read_gauges([write(tmp_path / "g.nc", units=None)])
    assert found.notes == ("g.nc: rainfall_amount has no units: taken as mm, the unit of this CF name",)
    with pytest.raises(BadInput, match="rain has no units"):
        read_gauges([write(tmp_path / "h.nc", units=None, name="rain")])


@pytest.mark.parametrize(("changed", "message"), [({"units": "dBZ"}, "units 'dbz'"), ({"name": "wind"}, "no variable")])
def test_unusable_files(changed: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        read_gauges([write(tmp_path / "g.nc", **changed)])  # type: ignore[arg-type]


def test_places_that_are_none_and_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "g.nc")
    with netCDF4.Dataset(path, "a") as content:
        content["lat"][0] = 95.0
    with pytest.raises(BadInput, match="a latitude that is none"):
        read_gauges([path])
    with netCDF4.Dataset(path, "a") as content:
        content["rainfall_amount"].sample_dimension = "obs"
    with pytest.raises(BadInput, match="rainfall_amount has 2 dimensions, not one"):
        read_gauges([path])
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadInput, match="can't be read as a file of gauges"):
        read_gauges([path])


@pytest.mark.real_data
def test_open_mrg(shared_data: Path) -> None:
    """Totals of the files, by netCDF4; the 15-minute gauge is stored in 5-minute steps."""
    folder = shared_data / "gauges_openmrg_20150725"
    found = read_gauges([folder / "openmrg_municp_gauge.nc", folder / "openmrg_smhi_gauge.nc"])
    assert len(found.gauges) == 11
    with netCDF4.Dataset(folder / "openmrg_municp_gauge.nc") as content:
        totals = np.asarray(content["rainfall_amount"][:]).sum(0)
    np.testing.assert_allclose([gauge.mm.sum() for gauge in found.gauges[:10]], totals)
    assert {tuple(np.unique(gauge.minutes)) for gauge in found.gauges} == {(5.0,), (15.0,)}
    assert found.gauges[-1].station == "SMHI"
    np.testing.assert_allclose(found.gauges[-1].mm, [0, 0.1, 0.6, 1.9, 1.6, 0.3, 0.3, 0.2, 0.2, 0.1], atol=1e-6)
    assert found.gauges[-1].ends[0] == np.datetime64("2015-07-25T12:45:00")
