"""The four forms of CF time series: the same stations read equal, and damaged ragged arrays are named in one line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.gauges.gauge import Gauge
from polarcast.data.gauges.options import GaugeOptions
from polarcast.data.gauges.read import read_gauges
from polarcast.data.gauges.read_netcdf import read_netcdf

ORTHOGONAL, INCOMPLETE, CONTIGUOUS, INDEXED = FORMS = ("orthogonal", "incomplete", "contiguous", "indexed")
STEP = 10
FILL = -9.0


@dataclass(frozen=True)
class Station:
    """Amounts in mm by number of the interval of ten minutes."""

    name: str
    latitude: float
    mm: dict[int, float]


def write(path: Path, stations: list[Station], form: str, *, bounds: bool = True, seed: int = 0,
          methods: str | None = "time: sum", units: str = "mm") -> Path:  # fmt: skip
    """Write stations in a form of CF-1.8, appendix H.2.1, H.2.2, H.2.4 or H.2.5, whose example names are used."""
    samples = [(i, number, mm) for i, one in enumerate(stations) for number, mm in sorted(one.mm.items())]
    longest = max((len(one.mm) for one in stations), default=0)
    every = sorted({number for one in stations for number in one.mm})
    with netCDF4.Dataset(path, "w") as content:
        content.Conventions, content.featureType = "CF-1.8", "timeSeries"
        content.createDimension("station", len(stations))
        content.createDimension("bnds", 2)
        content.createVariable("station_name", str, ("station",)).cf_role = "timeseries_id"
        content["station_name"][:] = np.array([one.name for one in stations], object)
        for key, standard, places in (("lat", "latitude", [s.latitude for s in stations]),
                                      ("lon", "longitude", [12 + 0.1 * i for i in range(len(stations))])):  # fmt: skip
            content.createVariable(key, "f8", ("station",)).setncatts({"standard_name": standard})
            content[key][:] = places
        if form == ORTHOGONAL:
            content.createDimension("time", len(every))
            values = np.array([[one.mm.get(number, FILL) for number in every] for one in stations])
            return fill(content, path, ("station", "time"), values, ("time",), np.array(every), bounds, methods, units)
        if form == INCOMPLETE:
            content.createDimension("obs", longest)
            rows = [sorted(one.mm.items()) + [(-9999, FILL)] * (longest - len(one.mm)) for one in stations]
            table = np.array(rows, np.float64).reshape(len(stations), longest, 2)
            dims = ("station", "obs")
            return fill(content, path, dims, table[..., 1], dims, table[..., 0].astype(int), bounds, methods, units)
        if form == INDEXED:
            order = np.random.default_rng(seed).permutation(len(samples))
            samples = [samples[i] for i in order]
        content.createDimension("obs", len(samples))
        if form == CONTIGUOUS:
            content.createVariable("row_size", "i4", ("station",)).sample_dimension = "obs"
            content["row_size"][:] = [len(one.mm) for one in stations]
        else:
            content.createVariable("stationIndex", "i4", ("obs",)).instance_dimension = "station"
            content["stationIndex"][:] = [i for i, _, _ in samples]
        numbers, values = np.array([n for _, n, _ in samples]), np.array([mm for *_, mm in samples])
        return fill(content, path, ("obs",), values, ("obs",), numbers, bounds, methods, units)


def fill(content: Any, path: Path, dims: tuple[str, ...], values: Any, time_dims: tuple[str, ...], numbers: Any,
         bounds: bool, methods: str | None, units: str) -> Path:  # fmt: skip
    time = content.createVariable("time", "f8", time_dims, fill_value=-9999.0)
    time.standard_name, time.units = "time", "minutes since 2020-06-01 00:00:00"
    known = numbers > -9999
    time[:] = np.where(known, STEP * (numbers + 1), -9999)
    if bounds:
        time.bounds = "time_bnds"
        edges = content.createVariable("time_bnds", "f8", (*time_dims, "bnds"), fill_value=-9999.0)
        edges[:] = np.where(known[..., None], STEP * np.stack([numbers, numbers + 1], -1), -9999)
    rain = content.createVariable("rain", "f8", dims, fill_value=FILL)
    rain.standard_name, rain.units, rain.coordinates = "rainfall_amount", units, "time lat lon station_name"
    if methods is not None:
        rain.cell_methods = methods
    rain[:] = values
    return path


def as_read(gauge: Gauge) -> tuple[Any, ...]:
    """Return what is there of a gauge; in an orthogonal array, times of other stations are missing values."""
    one = gauge.chosen(gauge.counts)
    return one.station, one.latitude, one.longitude, one.ends.tolist(), one.minutes.tolist(), one.mm.tolist()


AMOUNTS = st.dictionaries(st.integers(0, 60), st.floats(0, 50), max_size=12)


@given(amounts=st.lists(AMOUNTS, min_size=1, max_size=5).filter(any), seed=st.integers(0, 99))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_all_forms_of_the_same_stations_read_equal(amounts: list[Any], seed: int, tmp_path: Path) -> None:
    stations = [Station(f"S{i}", 57.0 + i, mm) for i, mm in enumerate(amounts)]
    read = {}
    for form in FORMS:
        path = write(tmp_path / f"{form}.nc", stations, form, seed=seed)
        read[form] = [as_read(gauge) for gauge in read_netcdf(path, GaugeOptions()).gauges]
        path.unlink()
    first = np.datetime64("2020-06-01T00:10:00", "s")
    expected = [
        (one.name, one.latitude, 12 + 0.1 * i,
         [(first + np.timedelta64(STEP * n, "m")).item() for n in sorted(one.mm)], [float(STEP)] * len(one.mm),
         [one.mm[n] for n in sorted(one.mm)])
        for i, one in enumerate(stations)
    ]  # fmt: skip
    assert read == dict.fromkeys(FORMS, expected)


def test_incomplete_arrays_may_be_turned(tmp_path: Path) -> None:
    stations = [Station("A", 57.1, {0: 1.0, 1: 2.0, 2: 0.5}), Station("B", 57.2, {3: 4.0, 9: 0.1})]
    path = write(tmp_path / "a.nc", stations, INCOMPLETE)
    with xr.open_dataset(path, decode_cf=False) as content:
        content.transpose("obs", "bnds", "station").to_netcdf(tmp_path / "b.nc")
    same, turned = ([as_read(gauge) for gauge in read_gauges([tmp_path / f"{name}.nc"]).gauges] for name in "ab")
    assert turned == same
    assert [one[-1] for one in turned] == [[1.0, 2.0, 0.5], [4.0, 0.1]]


TWO = [Station("A", 57.1, {0: 1.0, 1: 2.0, 2: 0.5}), Station("B", 57.2, {3: 4.0, 4: 0.0})]


@pytest.mark.parametrize("form", [INCOMPLETE, CONTIGUOUS, INDEXED])
def test_without_bounds_every_station_has_the_step_of_its_own_times(form: str, tmp_path: Path) -> None:
    hourly = Station("C", 57.3, {5: 3.0, 11: 6.0, 17: 9.0})
    found = read_gauges([write(tmp_path / "g.nc", [*TWO, hourly], form, bounds=False)])
    assert [gauge.minutes.tolist() for gauge in found.gauges] == [[10.0] * 3, [10.0] * 2, [60.0] * 3]
    assert found.gauges[2].ends.astype(str).tolist()[0] == "2020-06-01T01:00:00"
    said = "no time bounds: intervals of 10 and 60 min, the step of its times, that end at its times"
    assert found.notes == (f"g.nc: {said}",)
    gap = write(tmp_path / "gap.nc", [*TWO, Station("C", 57.3, {0: 1.0, 1: 1.0, 7: 1.0})], form, bounds=False)
    with pytest.raises(BadInput, match="without a regular step — give --gauge-minutes"):
        read_gauges([gap])
    assert read_gauges([gap], GaugeOptions(minutes=10)).gauges[2].mm.tolist() == [1.0, 1.0, 1.0]


def damage(path: Path, form: str, kind: str) -> Path:
    write(path, TWO, form)
    with netCDF4.Dataset(path, "a") as content:
        if kind == "too many":
            content["row_size"][1] = 3
        elif kind == "too few":
            content["row_size"][1] = 1
        elif kind == "below 0":
            content["row_size"][:] = [6, -1]
        elif kind == "beyond":
            content["stationIndex"][4] = 2
        elif kind == "before":
            content["stationIndex"][1] = -1
        elif kind == "unset":
            content["stationIndex"][1] = netCDF4.default_fillvals["i4"]
        elif kind == "elsewhere":
            content[{CONTIGUOUS: "row_size", INDEXED: "stationIndex"}[form]].setncattr(
                {CONTIGUOUS: "sample_dimension", INDEXED: "instance_dimension"}[form], "profile")  # fmt: skip
        elif kind == "both":
            content["lat"].instance_dimension = "station"
        elif kind == "not along":
            content["row_size"].sample_dimension = "bnds"
    return path


@pytest.mark.parametrize(
    ("form", "kind", "message"),
    [
        (CONTIGUOUS, "too many", "row_size counts 6 observations of 5"),
        (CONTIGUOUS, "too few", "row_size counts 4 observations of 5"),
        (CONTIGUOUS, "below 0", "row_size has the count -1"),
        (CONTIGUOUS, "elsewhere", "row_size has sample_dimension 'profile', which is no dimension"),
        (CONTIGUOUS, "not along", r"rain has the dimensions obs, not bnds"),
        (CONTIGUOUS, "both", r"ragged arrays of several levels \(lat and row_size\) are not supported"),
        (INDEXED, "beyond", "stationIndex has the index 2 at observation 4, of 2 stations"),
        (INDEXED, "before", "stationIndex has the index -1 at observation 1, of 2 stations"),
        (INDEXED, "unset", "stationIndex has the index -2147483647 at observation 1"),
        (INDEXED, "elsewhere", "stationIndex has instance_dimension 'profile', which is no dimension"),
    ],
)
def test_damaged_ragged_arrays_are_named_in_one_line(form: str, kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message) as error:
        read_gauges([damage(tmp_path / "g.nc", form, kind)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("methods", "units", "factor", "said"),
    [
        ("time: sum", "mm", 1, ""),
        ("area: point time: sum (interval: 1 min)", "kg m-2", 1, ""),
        (None, "mm", 1, ""),
        ("time: mean", "mm/h", 1 / 6, ""),
        ("time: point", "mm/h", 1 / 6, "rain has the cell_methods time: point: taken as the mean of its interval"),
        ("time: mean", "mm", 1, "rain has the cell_methods time: mean: taken as the sum of its interval"),
    ],
)
def test_cell_methods_with_time_bounds(
    form: str, methods: str | None, units: str, factor: float, said: str, tmp_path: Path
) -> None:
    found = read_gauges([write(tmp_path / "g.nc", TWO, form, methods=methods, units=units)])
    read = [gauge.mm[gauge.counts].tolist() for gauge in found.gauges]
    assert read == [pytest.approx([factor * mm for mm in one.mm.values()]) for one in TWO]
    assert found.notes == ((f"g.nc: {said}",) if said else ())


@pytest.mark.parametrize(
    ("methods", "units", "message"),
    [
        ("time: maximum", "mm", "rain is no amount: in mm, time: maximum"),
        ("time: sum", "mm/h", "rain is no amount: a rate in mm/h, time: sum"),
        ("lat: time: standard_deviation", "mm", "time: standard_deviation"),
    ],
)
def test_values_that_are_no_amounts(methods: str, units: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        read_gauges([write(tmp_path / "g.nc", TWO, ORTHOGONAL, methods=methods, units=units)])
