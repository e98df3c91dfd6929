"""Gauges in tables: columns, separators, times, traces, counters, overlaps, and the errors of unusable tables."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.gauges.gauge import MISSING
from polarcast.data.gauges.options import GaugeOptions
from polarcast.data.gauges.read import read_gauges

HEADER = "station,lat,lon,time,mm,minutes"
ROWS = st.tuples(st.integers(0, 5000), st.floats(0, 200))


def table(tmp_path: Path, *lines: str, name: str = "gauges.csv") -> list[Path]:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [path]


def test_a_plain_table(tmp_path: Path) -> None:
    found = read_gauges(
        table(
            tmp_path, "# a comment", HEADER, "B,57.7,12.1,2020-06-01T11:00:00Z,1.5,60",
            "A,57.8,12.2,2020-06-01T12:00:00+02:00,0.2,60", "A,57.8,12.2,2020-06-01T13:00:00+02:00,,60",
        )
    )  # fmt: skip
    one, two = found.gauges
    assert (one.station, one.latitude, one.longitude) == ("A", 57.8, 12.2)
    assert one.ends.tolist() == [datetime(2020, 6, 1, 10), datetime(2020, 6, 1, 11)]
    assert one.starts.tolist() == [datetime(2020, 6, 1, 9), datetime(2020, 6, 1, 10)]
    np.testing.assert_array_equal(one.mm, [0.2, np.nan])
    assert one.flags.tolist() == ["", MISSING]
    assert one.counts.tolist() == [True, False]
    assert two.mm.tolist() == [1.5]


@pytest.mark.parametrize(
    "lines",
    [
        ("Station ID;Latitude;Longitude;Datetime;Rain (mm);Interval", "G;57,7;12,1;2020-06-01 13:00;1,25;60"),
        ("name\tlatitude\tlon\ttimestamp\tprecip\tduration_min", "G\t57,7\t12.1\t01.06.2020 13:00\t1,25\t60"),
        ("gauge,lat,long,date,time,amount,min", "G,57.7,12.1,2020/06/01,13:00,1.25,60"),
        ("id,lat,lng,valid_time,in,minutes", "G,57.7,12.1,20200601T1300,0.0492125984,60"),
        ("station,lat,lon,start,end,mm", "G,57.7,12.1,2020-06-01 12:00,2020-06-01 13:00,1.25"),
        ("station,lat,lon,start,minutes,mm", '"G",57.7,12.1,"2020-06-01 12:00",60,1.25'),
    ],
)
def test_forms_of_the_same_table(lines: tuple[str, ...], tmp_path: Path) -> None:
    [gauge] = read_gauges(table(tmp_path, *lines), GaugeOptions(time_zone="Europe/Stockholm")).gauges
    assert (gauge.station, gauge.latitude, gauge.longitude) == ("G", 57.7, 12.1)
    assert gauge.ends.tolist() == [datetime(2020, 6, 1, 11)]
    assert gauge.minutes.tolist() == [60]
    np.testing.assert_allclose(gauge.mm, [1.25], rtol=1e-6)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5000), st.floats(0, 200)), min_size=1, max_size=20, unique_by=lambda r: r[0]
    ),
    quarters=st.integers(-14 * 4, 14 * 4),
    is_start=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_offset_and_both_marks_give_the_same_gauge(
    rows: list[tuple[int, float]], quarters: int, is_start: bool, tmp_path: Path
) -> None:
    zone, hour = timezone(timedelta(minutes=15 * quarters)), timedelta(hours=1)
    ends = [datetime(2020, 1, 1, tzinfo=UTC) + number * hour for number, _ in rows]
    shown = [(end - hour * is_start).astimezone(zone).isoformat() for end in ends]
    lines = [f"G,57.7,12.1,{time},{mm!r},60" for time, (_, mm) in zip(shown, rows, strict=True)]
    options = GaugeOptions(mark="start" if is_start else "end")
    [gauge] = read_gauges(table(tmp_path, HEADER, *lines), options).gauges
    expected = dict(sorted(zip((end.replace(tzinfo=None) for end in ends), (mm for _, mm in rows), strict=True)))
    assert gauge.ends.tolist() == list(expected)
    assert gauge.mm.tolist() == list(expected.values())


def test_local_times_around_the_changes_of_the_clock(tmp_path: Path) -> None:
    """In Stockholm 02:30 was never on 29 March 2020, and twice on 25 October; neither is a time in UTC."""
    lines = [
        f"G,57.7,12.1,{time},1,30"
        for time in ("2020-03-29 01:30", "2020-03-29 02:30", "2020-03-29 03:30", "2020-10-25 01:30",
                     "2020-10-25 02:30", "2020-10-25 03:30", "2020-10-25 24:00")
    ]  # fmt: skip
    found = read_gauges(table(tmp_path, HEADER, *lines), GaugeOptions(time_zone="Europe/Stockholm"))
    assert found.gauges[0].ends.astype(str).tolist() == [
        "2020-03-29T00:30:00", "2020-03-29T01:30:00", "2020-10-24T23:30:00", "2020-10-25T02:30:00",
        "2020-10-25T23:00:00",
    ]  # fmt: skip
    assert found.notes == ("gauges.csv: 2 local times that the clock shows twice or never: missing",)


def test_traces_are_dry_and_codes_are_missing(tmp_path: Path) -> None:
    words = ["T", "tr", "Trace", "<0.1", "-999", "-9999.0", "NA", "", "0.0"]
    lines = [f"G,57.7,12.1,2020-06-01T{hour:02d}:00Z,{word},60" for hour, word in enumerate(words, start=1)]
    found = read_gauges(table(tmp_path, HEADER, *lines))
    np.testing.assert_array_equal(found.gauges[0].mm, [0, 0, 0, 0, np.nan, np.nan, np.nan, np.nan, 0])
    assert found.notes == ("gauges.csv: 4 traces: 0 mm", "gauges.csv: 2 codes such as -999: missing")


def test_a_counter_is_differenced_and_its_resets_are_missing(tmp_path: Path) -> None:
    readings = [(0, 10.0), (10, 10.4), (20, 10.4), (30, 0.2), (40, 0.6), (80, 3.0), (90, 3.1)]
    lines = [f"G,57.7,12.1,2020-06-01T{12 + m // 60}:{m % 60:02d}Z,{mm}" for m, mm in readings]
    paths = table(tmp_path, "station,lat,lon,time,counter_mm", *lines)
    found = read_gauges(paths)
    [gauge] = found.gauges
    np.testing.assert_allclose(gauge.mm, [0.4, 0.0, np.nan, 0.4, np.nan, 0.1], atol=1e-9)
    assert gauge.minutes.tolist() == [10, 10, 10, 10, 40, 10]
    assert found.notes == ("gauges.csv: G: 1 resets of the counter: missing",)
    same = read_gauges(table(tmp_path, "station,lat,lon,time,mm", *lines, name="mm.csv"), GaugeOptions(cumulative=True))
    np.testing.assert_array_equal(same.gauges[0].mm, gauge.mm)


def test_of_amounts_in_several_units_one_is_taken_and_told(tmp_path: Path) -> None:
    row = "G,57.7,12.1,2020-06-01T12:00Z,1.5,0.1,60"
    found = read_gauges(table(tmp_path, "station,lat,lon,time,inches,mm,minutes", row))
    assert found.gauges[0].mm.tolist() == [0.1]
    assert found.notes == ("gauges.csv: of the columns mm and inches, mm is taken",)


def test_numbers_beside_names_and_days_beside_dates(tmp_path: Path) -> None:
    lines = [f"{i},S{i},{57 + i},12,2020-06-0{i},{i},12:00Z,{i},60" for i in (1, 2)]
    found = read_gauges(table(tmp_path, "id,station,lat,lon,date,day,time,mm,minutes", *lines))
    assert [gauge.station for gauge in found.gauges] == ["S1", "S2"]
    assert [str(gauge.ends[0]) for gauge in found.gauges] == ["2020-06-01T12:00:00", "2020-06-02T12:00:00"]


def test_dates_without_a_time_of_day_are_told(tmp_path: Path) -> None:
    """Rain of a day may be dated by its start or its end; both can be said, and what was taken is told."""
    paths = table(tmp_path, "station,lat,lon,date,mm,minutes", "G,57.7,12.1,2020-06-02,9,1440")
    for mark, end in (("end", "2020-06-02T00:00:00"), ("start", "2020-06-03T00:00:00")):
        found = read_gauges(paths, GaugeOptions(time_zone="UTC", mark=mark))
        assert str(found.gauges[0].ends[0]) == end
        assert found.notes == ("gauges.csv: dates without a time of day: taken as 00:00",)


TEXT = f"{HEADER}\nGöteborg,57.7,12.1,2020-06-01T12:00Z,1.5,60\nGöteborg,57.7,12.1,2020-06-01T15:00+02:00,2,60\n"


@pytest.mark.parametrize(
    "content",
    [TEXT.encode("utf-8-sig"), TEXT.replace(",", "\t").encode("utf-16"), TEXT.replace("\n", "\r\n").encode(),
     TEXT.replace("\n", "\r").encode(), TEXT.replace(HEADER, f"{HEADER},").replace("60\n", "60,\n").encode(),
     TEXT.replace("1.5", " +1.5\xa0").encode(), TEXT.replace(HEADER, ' Station , "LAT",lon, Time,MM,Minutes').encode()],
)  # fmt: skip
def test_marks_line_ends_and_encodings_of_spreadsheets(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "gauges.csv").write_bytes(content)
    [gauge] = read_gauges([tmp_path / "gauges.csv"]).gauges
    assert gauge.station == "Göteborg"
    assert gauge.ends.astype(str).tolist() == ["2020-06-01T12:00:00", "2020-06-01T13:00:00"]
    assert gauge.mm.tolist() == [1.5, 2.0]


@pytest.mark.parametrize("content", [TEXT.encode("latin-1"), TEXT.encode("utf-16")[:-1], b"\x1f\x8b\x08\x00" * 9])
def test_other_encodings_are_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "gauges.csv").write_bytes(content)
    with pytest.raises(BadInput, match=r"can't be read as a table .*in UTF-8"):
        read_gauges([tmp_path / "gauges.csv"])


HOURLY_EVERY_20 = [f"G,57.7,12.1,2020-06-01T{12 + m // 60}:{m % 60:02d}Z,{m},60" for m in range(0, 200, 20)]


def test_overlapping_intervals_are_refused_or_thinned(tmp_path: Path) -> None:
    paths = table(tmp_path, HEADER, *HOURLY_EVERY_20)
    with pytest.raises(BadInput, match=r"9 intervals of station 'G' overlap, the first 2020-06-01T11:20:00 .*thin"):
        read_gauges(paths)
    found = read_gauges(paths, GaugeOptions(overlaps="thin"))
    assert found.gauges[0].mm.tolist() == [0, 60, 120, 180]
    assert found.notes == ("G: 6 of 10 intervals overlap an earlier one: left out",)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("lat,lon,time,mm,minutes",), "no column station"),
        (("station,lat,time,mm,minutes",), "no column lon"),
        (("station,lat,lon,mm,minutes",), "no column time"),
        (("station,lat,lon,time,minutes",), "no column mm"),
        (("station,lat,lon,time,mm",), r"no column minutes .*--gauge-minutes 60"),
        ((HEADER,), "the table has no rows"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00,1,60"), r"line 2: .*no offset from UTC — .*--gauge-time-zone"),
        ((HEADER, "G,57.7,12.1,06/01/2020 12:00,1,60"), r"line 2: the time '06/01/2020 12:00' can't be read"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00 CEST,1,60"), r"line 2: the time .* can't be read"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,1,2,60"), r"line 2: 7 cells, the header has 6 .*commas are decimal"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,1"), r"line 2: 5 cells"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,wet,60"), r"line 2: the amount is 'wet'"),
        ((HEADER, "G,91,12.1,2020-06-01T12:00Z,1,60"), r"line 2: 91, 12.1 is no place"),
        ((HEADER, "G,0,0,2020-06-01T12:00Z,1,60"), r"line 2: 0, 0 is no place"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,1,0"), r"line 2: an interval of 0 minutes"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,1,0.01"), r"line 2: an interval of 0.01 minutes .*at least a second"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,1e400,60"), r"line 2: the amount is '1e400'"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,inf,60"), r"line 2: the amount is 'inf'"),
        ((HEADER, "G,57.7,12.1,0001-01-01T12:00Z,1,60"), r"line 2: the time .* is before 1900 or after 2100"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00+99:99,1,60"), r"line 2: the time .* has an offset that is none"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00+02:75,1,60"), r"line 2: the time .* has an offset that is none"),
        ((HEADER, "G,57.7,12.1,2020-02-30T12:00Z,1,60"), r"line 2: the time .* can't be read"),
        ((HEADER, f"{'G' * 101},57.7,12.1,2020-06-01T12:00Z,1,60"), r"line 2: the station is 'GGG"),
        ((HEADER, "G,6400000,320000,2020-06-01T12:00Z,1,60"), r"line 2: 6.4e\+06, 320000 is no place"),
        ((HEADER.replace(",", ";"), "G;57,7;12,1;2020-06-01T12:00Z;1.234,5;60"), r"'1.234,5' — write a number"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,1,60", "Total: 1 row"), r"line 3: 1 cells"),
        (("G,57.7,12.1,2020-06-01T12:00Z,1,60",), r"no column station in the header 'G 57.7 12.1"),
        ((HEADER.replace(",", "|"),), r"no column station in the header 'station\|lat"),
        (("<!DOCTYPE html><html>",), r"no column station in the header '<!DOCTYPE"),
        (("station,lat,lon,time,rain,precip,minutes",), r"several columns of mm: 'rain' and 'precip' — leave one"),
        (("station,lat,lon,time,mm,MM,minutes",), r"several columns of mm: 'mm' and 'MM'"),
        (("station,lat,lon,datetime,time_utc,mm,minutes",), r"several columns of time: 'datetime' and 'time_utc'"),
        (("station,lat,Latitude,lon,time,mm,minutes",), r"several columns of lat: 'lat' and 'Latitude'"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,1,60", "G,57.9,12.1,2020-06-01T13:00Z,1,60"),
         r"line 3: station 'G' is at another place"),
        ((HEADER, "G,57.7,12.1,2020-06-01T12:00Z,1,60", "G,57.7,12.1,2020-06-01T12:00Z,2,60"),
         "station .G.: two amounts for the interval"),
    ],
)  # fmt: skip
def test_unusable_tables_are_named_in_one_line(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        read_gauges(table(tmp_path, *lines))
    assert re.search(message, str(error.value)), error.value
    assert "\n" not in str(error.value)


GOOD = f"{HEADER}\nG,57.7,12.1,2020-06-01T12:00Z,1.5,60\nG,57.7,12.1,2020-06-01T13:00Z,T,60\n".encode()


@given(at=st.integers(0, len(GOOD)), cut=st.integers(0, 12), new=st.binary(max_size=8) | st.sampled_from(
    [b'"', b"\n", b"\0", b";", b",", b"-", b"e9", b"99999999999", "\u2028".encode(), b"nan", b"inf"]
))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_damaged_table_is_read_or_refused(at: int, cut: int, new: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.csv"
    path.write_bytes(GOOD[:at] + new + GOOD[at + cut :])
    refused, gauges = "", ()
    try:
        gauges = read_gauges([path]).gauges
    except BadInput as error:
        refused = str(error)
    assert bool(refused) != bool(gauges)
    assert "\n" not in refused
    for gauge in gauges:
        assert not np.isinf(gauge.mm).any()
        assert (gauge.minutes > 0).all()
        assert (np.diff(gauge.ends) >= np.timedelta64(0, "s")).all()


def test_several_files_of_a_station_are_joined(tmp_path: Path) -> None:
    row = "G,57.7,12.1,2020-06-01T{}:00Z,{},60"
    table(tmp_path, HEADER, row.format(12, 1), row.format(13, 2), name="a.csv")
    table(tmp_path, HEADER, row.format(13, 2), row.format(14, 3), name="b.csv")
    assert read_gauges([tmp_path]).gauges[0].mm.tolist() == [1, 2, 3]
    table(tmp_path, HEADER, row.format(13, 2.5), name="c.csv")
    with pytest.raises(BadInput, match=r"two amounts for the interval that ends 2020-06-01T13:00:00: 2 and 2.5 mm"):
        read_gauges([tmp_path])


@pytest.mark.parametrize(
    "options", [{"time_zone": "Europe/Atlantis"}, {"minutes": 0.0}, {"mark": "middle"}, {"overlaps": "both"}]
)
def test_unknown_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        GaugeOptions(**options)  # type: ignore[arg-type]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_gauges([tmp_path / "none.csv"])
    with pytest.raises(BadInput, match="no tables"):
        read_gauges([tmp_path])
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(BadInput, match="empty"):
        read_gauges([tmp_path / "empty.csv"])
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(BadInput, match="can't be read as a table"):
        read_gauges([tmp_path / "image.csv"])
