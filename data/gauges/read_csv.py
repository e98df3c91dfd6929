"""Read gauges from tables: one row per station and interval."""

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np

from polarcast.data.errors import BadInput, shown
from polarcast.data.files import read_limited
from polarcast.data.gauges.clock import UNKNOWN, Clock
from polarcast.data.gauges.gauge import SAME_PLACE_DEGREES, Gauge
from polarcast.data.gauges.options import INCH_MM, MOST_MINUTES, START, GaugeData, GaugeOptions

MOST_BYTES = 2**30
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_NAME = 100
_LEAST_MINUTES = 1 / 60
_COLUMNS = {
    "station": ("station", "station_id", "stationid", "station_name", "stid", "gauge", "gauge_id", "site", "site_id",
                "name", "id"),
    "lat": ("lat", "latitude", "lat_deg", "y_lat"),
    "lon": ("lon", "long", "lng", "longitude", "lon_deg", "x_lon"),
    "date": ("date", "day"),
    "time": ("time", "datetime", "date_time", "timestamp", "valid_time", "time_utc", "utc"),
    "start": ("start", "start_time", "begin", "from"),
    "end": ("end", "end_time", "stop", "to"),
    "mm": ("mm", "rain_mm", "precip_mm", "precipitation_mm", "rainfall_mm", "amount_mm", "rain", "rainfall",
           "precipitation", "precip", "prcp", "rr", "amount", "rainfall_amount"),
    "inches": ("in", "inch", "inches", "precip_in", "rain_in", "precipitation_in"),
    "counter": ("cumulative", "cumulative_mm", "counter", "counter_mm", "total_mm", "accumulated_mm"),
    "minutes": ("minutes", "interval", "interval_minutes", "interval_min", "duration_min", "duration_minutes", "min"),
}  # fmt: skip
"""Names of columns, in lower case and with underscores."""
_AMOUNTS = ("mm", "inches", "counter")
_BY_ORDER = ("station", "date")
"""Columns of which the first name above is taken if there are several: a number beside a name, a day beside a date."""
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "--", "m", "missing", "nd", "x", "///"})
_TRACE = re.compile(r"t|tr|trace|<\s*0?[.,]\d+", re.IGNORECASE)
_CODES = re.compile(r"-9+(\.9+|\.0+)?")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_HEADER = "name the columns: station,lat,lon,time,mm,minutes"


@dataclass
class _StationRows:
    """Rows of one station."""

    latitude: float
    longitude: float
    ends: list[int] = field(default_factory=list)
    minutes: list[float] = field(default_factory=list)
    mm: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _GaugeColumns:
    """Columns of a table: place by name; whether commas are decimal; and what is to tell."""

    path: Path
    columns: dict[str, int]
    decimal_comma: bool
    options: GaugeOptions
    notes: tuple[str, ...] = ()

    @property
    def amount(self) -> str:
        return next(name for name in _AMOUNTS if name in self.columns)

    @property
    def is_counter(self) -> bool:
        return self.options.cumulative or self.amount == "counter"


def read_csv(path: Path, options: GaugeOptions) -> GaugeData:
    """Read the gauges of a table, in order of station.

    The separator is a comma, a semicolon or a tab. With the latter two, numbers may have decimal commas. Traces such as
    `T` and `<0.1` are 0 mm. Codes such as -999 are missing.

    Args:
        path: Text file with a header line. Lines that start with # are comments.
        options: What the table does not say.

    Returns:
        Gauges as recorded: readings of a counter are not differenced yet, and overlaps remain.

    Raises:
        BadInput: The table lacks a column, or a row has no valid number, time or place; names the line.
    """
    text = _text(path)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines:
        raise BadInput("the table is empty", path, _HEADER)
    separator = max((";", "\t", ","), key=lambda mark: (lines[0][1].count(mark), mark != ","))
    header = _cells(lines[0][1], separator, f"{path} line {lines[0][0]}")
    layout = _layout(path, header, separator != ",", options)
    clock = Clock(options.time_zone)
    table = _GaugeTable(layout, clock)
    for number, row in _rows(lines[1:], separator, path if '"' in text else None):
        try:
            _check_cells(row, header)
            table.add(row)
        except ValueError as error:
            what, _, fix = str(error).partition(" — ")
            raise BadInput(what, f"{path} line {number}", fix) from None
    gauges = [_gauge(name, rows) for name, rows in sorted(table.stations.items())]
    if not gauges:
        raise BadInput("the table has no rows", path, "add a row for each station and interval")
    bare = ["dates without a time of day: taken as 00:00"] if clock.has_bare_dates else []
    told = [*layout.notes, *bare, *(f"{number} {what}" for what, number in table.counted.items())]
    return GaugeData(tuple(gauges), tuple(f"{path.name}: {line}" for line in told), (path,), layout.is_counter)


def _text(path: Path) -> str:
    try:
        content = read_limited(path, MOST_BYTES)
        return content.decode("utf-16" if content[:2] in _UTF16 else "utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadInput(f"can't be read as a table ({error})", path, "write a CSV table in UTF-8") from None


def _rows(lines: Sequence[tuple[int, str]], separator: str, quoted: Path | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line and the cells of each row; `quoted` is the path of a table with quotes."""
    for number, line in lines:
        yield number, line.split(separator) if quoted is None else _cells(line, separator, f"{quoted} line {number}")


def _cells(line: str, separator: str, where: str) -> list[str]:
    try:
        return next(csv.reader(StringIO(line), delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise BadInput(f"can't be divided into cells ({error})", where, "write one row per line") from None


def _found(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Return the place of each column that has a known name. Raises BadInput if several could be meant."""
    names = [re.sub(r"[\s.\-()\[\]]+", "_", cell.strip().lower()).strip("_") for cell in header]
    out = {}
    for key, words in _COLUMNS.items():
        known = [word for word in words for name in names if name == word]
        if len(known) > 1 and key not in _BY_ORDER:
            given = " and ".join(shown(header[i].strip()) for i, name in enumerate(names) if name in words)
            raise BadInput(f"several columns of {key}: {given}", path, "leave one of them in the table")
        if known:
            out[key] = names.index(known[0])
    return out


def _layout(path: Path, header: Sequence[str], decimal_comma: bool, options: GaugeOptions) -> _GaugeColumns:
    found = _found(path, header)
    line = shown(" ".join(cell.strip() for cell in header))
    for name in ("station", "lat", "lon"):
        if name not in found:
            raise BadInput(f"no column {name} in the header {line}", path, _HEADER)
    if not {"time", "end", "start", "date"} & set(found):
        raise BadInput(f"no column time in the header {line}", path, _HEADER)
    amounts = [header[found[name]].strip() for name in _AMOUNTS if name in found]
    if not amounts:
        fix = "name it mm, inches, or counter_mm for the readings of a counter"
        raise BadInput(f"no column mm in the header {line}", path, fix)
    notes = (f"of the columns {' and '.join(amounts)}, {amounts[0]} is taken",) if len(amounts) > 1 else ()
    layout = _GaugeColumns(path, found, decimal_comma, options, notes)
    has_length = "minutes" in found or options.minutes or {"start", "end"} <= set(found)
    if not has_length and not layout.is_counter:
        raise BadInput("no column minutes", path, "add it, or give the length of all intervals: --gauge-minutes 60")
    return layout


class _GaugeTable:
    """Rows of a table; cells with equal text are read once.

    Attributes:
        stations: Rows by station.
        counted: Number of cells that were taken as something else, by what that is.
    """

    def __init__(self, layout: _GaugeColumns, clock: Clock) -> None:
        self.stations: dict[str, _StationRows] = {}
        self.counted: Counter[str] = Counter()
        self._layout, self._clock = layout, clock
        at = layout.columns
        self._place = [at[name] for name in ("station", "lat", "lon")]
        self._when: list[str] = [name for name in ("date", "time", "start", "end", "minutes") if name in at]
        self._when_at, self._amount_at = [at[name] for name in self._when], at[layout.amount]
        self._places: dict[tuple[str, ...], _StationRows] = {}
        self._intervals: dict[tuple[str, ...], tuple[int | None, float]] = {}
        self._amounts: dict[str, tuple[float, str]] = {}

    def add(self, row: Sequence[str]) -> None:
        """Add one row. Raises ValueError, which says what is wrong and how to mend it."""
        place = tuple([row[i] for i in self._place])
        rows = self._places.get(place)
        if rows is None:
            rows = self._places[place] = self._rows_of(*(cell.strip() for cell in place))
        when = tuple([row[i] for i in self._when_at])
        interval = self._intervals.get(when)
        if interval is None:
            cells = dict(zip(self._when, (cell.strip() for cell in when), strict=True))
            interval = self._intervals[when] = _interval(cells, self._layout, self._clock)
        text = row[self._amount_at]
        amount = self._amounts.get(text)
        if amount is None:
            amount = self._amounts[text] = _amount(text.strip(), self._layout)
        end, minutes = interval
        if end is UNKNOWN:
            self.counted["local times that the clock shows twice or never: missing"] += 1
            return
        if amount[1]:
            self.counted[amount[1]] += 1
        rows.ends.append(end)
        rows.minutes.append(minutes)
        rows.mm.append(amount[0])

    def _rows_of(self, station: str, lat: str, lon: str) -> _StationRows:
        if not station or not station.isprintable() or len(station) > _LONGEST_NAME:
            raise ValueError(f"the station is {shown(station)} — give every row the name of its station")
        latitude, longitude = (_number(text, self._layout, name) for text, name in ((lat, "lat"), (lon, "lon")))
        if not (abs(latitude) <= 90 and abs(longitude) <= 360) or (latitude, longitude) == (0, 0):
            raise ValueError(f"{latitude:g}, {longitude:g} is no place — give degrees north and east")
        rows = self.stations.setdefault(station, _StationRows(latitude, longitude))
        if max(abs(rows.latitude - latitude), abs(rows.longitude - longitude)) > SAME_PLACE_DEGREES:
            raise ValueError(f"station {shown(station)} is at another place than above — give it another name")
        return rows


def _interval(cells: dict[str, str], layout: _GaugeColumns, clock: Clock) -> tuple[int | None, float]:
    """Return the end of the interval in seconds since 1970, and its length in minutes."""
    date = cells.get("date", "")
    moments: dict[str, int | None] = {}
    for name in ("time", "start", "end"):
        if name in cells:
            is_whole = not date or re.match(r"\d{4}[-/]|\d{1,2}\.\d{1,2}\.\d{4}|\d{8}", cells[name])
            moments[name] = clock.seconds(cells[name] if is_whole else f"{date} {cells[name]}")
    if not moments:
        moments["time"] = clock.seconds(date)
    if UNKNOWN in moments.values():
        return UNKNOWN, 0.0
    if "start" in moments and "end" in moments:
        minutes = (moments["end"] - moments["start"]) / 60  # type: ignore[operator]
    elif "minutes" in cells:
        minutes = _number(cells["minutes"], layout, "minutes")
    else:
        minutes = layout.options.minutes or 1.0  # of a counter, whose readings have none
    if not _LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise ValueError(f"an interval of {minutes:g} minutes — give more than 0, at least a second, at most a month")
    if "end" in moments:
        return moments["end"], minutes
    is_start = "start" in moments or layout.options.mark == START
    moment = moments["start"] if "start" in moments else moments["time"]
    assert moment is not None
    return moment + round(60 * minutes) * (is_start and not layout.is_counter), minutes


def _amount(text: str, layout: _GaugeColumns) -> tuple[float, str]:
    """Return an amount in mm, NaN if it is missing, and what is counted; empty if nothing is."""
    if text.lower() in _MISSING:
        return math.nan, ""
    if _TRACE.fullmatch(text):
        return 0.0, "traces: 0 mm"
    plain = text.replace(",", ".") if layout.decimal_comma else text
    if _CODES.fullmatch(plain):
        return math.nan, "codes such as -999: missing"
    return _number(text, layout, "amount") * (INCH_MM if layout.amount == "inches" else 1.0), ""


def _number(text: str, layout: _GaugeColumns, name: str) -> float:
    plain = text.replace(",", ".") if layout.decimal_comma else text
    if not _NUMBER.fullmatch(plain) or not math.isfinite(float(plain)):
        is_comma = "," in text and not layout.decimal_comma
        hint = " — separate columns by ; if commas are decimal" if is_comma else " — write a number such as 1.2"
        raise ValueError(f"the {name} is {shown(text)}{hint}")
    return float(plain)


def _check_cells(row: Sequence[str], header: Sequence[str]) -> None:
    """Raise ValueError for a row with other columns than the header; a decimal comma would shift the cells."""
    if len(row) < len(header) or any(cell.strip() for cell in row[len(header) :]):
        fix = "write a cell for each column, and separate columns by ; if commas are decimal"
        raise ValueError(f"{len(row)} cells, the header has {len(header)} — {fix}")


def _gauge(name: str, rows: _StationRows) -> Gauge:
    ends = np.array(rows.ends, np.int64).astype("datetime64[s]")
    return Gauge.of(name, rows.latitude, rows.longitude, ends, np.array(rows.minutes), np.array(rows.mm))
