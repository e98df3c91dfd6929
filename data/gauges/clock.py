"""Convert times of tables to UTC; local times that a clock shows twice, or never, are unknown."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from polarcast.data.errors import BadInput, shown

_ISO = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?)?(.*)")
_DOTS = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2}))?)?(.*)")
_DIGITS = re.compile(r"(\d{4})(\d{2})(\d{2})(?:T?(\d{2})(\d{2})(\d{2})?)?(Z?)")
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})?")
_UTC = ("z", "utc", "gmt", "+00", "+00:00")
ZONE_OPTION = "--gauge-time-zone"
_EARLIEST, _LATEST = 1900, 2100
_MOST_OFFSET = timedelta(hours=15)
_FORM = "write it as 2020-06-01T12:00:00+02:00, or 2020-06-01 12:00 with " + ZONE_OPTION
UNKNOWN = None


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name, such as Europe/Stockholm. Raises BadInput if there is none of this name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        fix = "give a name of the IANA time zone database, such as UTC or Europe/Stockholm"
        raise BadInput(f"unknown time zone {shown(name)}", ZONE_OPTION, fix) from None


class Clock:
    """Converts times of one table; equal texts are converted once.

    Attributes:
        has_bare_dates: Whether a date had no time of day, and was taken as 00:00.
    """

    def __init__(self, zone: str | None) -> None:
        self._zone = None if zone is None else zone_of(zone)
        self._known: dict[str, int | None] = {}
        self.has_bare_dates = False

    def seconds(self, text: str) -> int | None:
        """Return seconds since 1970 UTC; `UNKNOWN` for a local time that the clock shows twice or never.

        Raises:
            ValueError: The text is no time, or has no offset and there is no time zone; the message says which.
        """
        if text not in self._known:
            self._known[text] = self._convert(text.strip())
        return self._known[text]

    def _convert(self, text: str) -> int | None:
        local, rest, is_bare = _parsed(text)
        rest = rest.strip()
        self.has_bare_dates |= is_bare
        if rest.lower() in _UTC:
            return _since_1970(local)
        if found := _OFFSET.fullmatch(rest):
            offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
            if offset > _MOST_OFFSET or int(found[3] or 0) > 59:
                raise ValueError(f"the time {shown(text)} has an offset that is none — {_FORM}")
            return _since_1970(local - offset if found[1] == "+" else local + offset)
        if rest:
            raise ValueError(f"the time {shown(text)} can't be read — {_FORM}")
        if self._zone is None:
            zones = f"give the time zone, such as {ZONE_OPTION} UTC or Europe/Stockholm"
            raise ValueError(f"the time {shown(text)} has no offset from UTC — {zones}")
        offsets = {local.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1)}
        if len(offsets) > 1:
            return UNKNOWN
        return _since_1970(local - (offsets.pop() or timedelta()))


def _parsed(text: str) -> tuple[datetime, str, bool]:
    """Return a date and time without zone, the rest of the text, and whether it has no time of day.

    24:00 is the end of its day.
    """
    try:
        if found := _ISO.fullmatch(text):
            year, month, day, *clock, rest = found.groups()
        elif found := _DOTS.fullmatch(text):
            day, month, year, *clock, rest = found.groups()
        elif found := _DIGITS.fullmatch(text):
            year, month, day, *clock, rest = found.groups()
        else:
            raise ValueError
        hour, minute, second = (int(part or 0) for part in clock)
        is_next_day = (hour, minute, second) == (24, 0, 0)
        moment = datetime(int(year), int(month), int(day), 0 if is_next_day else hour, minute, second)
        moment += timedelta(days=is_next_day)
    except (ValueError, OverflowError):
        raise ValueError(f"the time {shown(text)} can't be read — {_FORM}") from None
    if not _EARLIEST <= moment.year < _LATEST:
        raise ValueError(f"the time {shown(text)} is before {_EARLIEST} or after {_LATEST} — correct the year")
    return moment, rest, clock[0] is None


def _since_1970(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp())
