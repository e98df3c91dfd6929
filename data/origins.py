"""Where and when an event was observed: read from the notes of an archive, kept in the manifest of its shards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import cos, isfinite, radians
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.geometry import KM_PER_DEGREE
from polarcast.data.notes import Note, event_notes

NEAR_HOURS = 6.0
"""Events less than this apart may show one storm: rain systems live for a few hours, their predictability likewise."""
_LONGEST_NAME = 80

Extent = tuple[float, float, float, float]
"""South, west, north and east edge in degrees; east may exceed 180."""


class Area(NamedTuple):
    """Source of events and, where its position is known, what it covers."""

    source: str
    extent: Extent | None = None


@dataclass(frozen=True)
class Origin:
    """Time and place of one event.

    Attributes:
        place: Radar or gridded product, with its area. All tiles of a product have the product's area.
        start, stop: Times of the first and the last frame in seconds since 1970 UTC.
    """

    place: Area
    start: int
    stop: int

    @property
    def source(self) -> str:
        """Name of the radar or gridded product."""
        return self.place.source

    @property
    def day(self) -> str:
        """UTC day of the first frame, such as 2021-07-04."""
        return datetime.fromtimestamp(self.start, UTC).date().isoformat()

    @property
    def period(self) -> str:
        """First and last time, such as `2021-07-04 23:30–01:24 UTC`."""
        first, last = (datetime.fromtimestamp(time, UTC) for time in (self.start, self.stop))
        return f"{first:%Y-%m-%d %H:%M}–{last:%H:%M} UTC"


def same_place(a: Area, b: Area) -> bool:
    """Whether two places overlap; where one has no known position, whether they have the same source."""
    if a.extent is None or b.extent is None:
        return a.source == b.source
    (south_a, west_a, north_a, east_a), (south_b, west_b, north_b, east_b) = a.extent, b.extent
    # By the distance of the centres, because longitudes wrap around.
    apart = ((west_a + east_a - west_b - east_b) / 2 + 180) % 360 - 180
    return south_a < north_b and south_b < north_a and abs(apart) < (east_a - west_a + east_b - west_b) / 2


def gap_hours(a: Origin, b: Origin) -> float:
    """Return the hours between two events; 0 or less if they overlap in time."""
    return (max(a.start, b.start) - min(a.stop, b.stop)) / 3600


def are_near(a: Origin, b: Origin) -> bool:
    """Whether two events overlap in time or are less than `NEAR_HOURS` apart."""
    return gap_hours(a, b) < NEAR_HOURS


def archive_origins(root: Path, events: Iterable[int]) -> dict[int, Origin]:
    """Return the origin of each event whose note has times; none for synthetic archives and the published one.

    Raises:
        BadInput: The times of a note are not times.
    """
    notes, wanted = event_notes(root), set(events)
    found = {event: origin_of(note, f"event {event:03d} of {root}") for event, note in notes.items() if event in wanted}
    return {event: origin for event, origin in sorted(found.items()) if origin is not None}


def origin_of(note: Note, where: str) -> Origin | None:
    """Return the origin in an event's note; None without times. Raises BadInput if they are not times."""
    times = note.get("times")
    if not times:
        return None
    try:
        first, *_, last = np.array([times[0], times[-1]], "datetime64[s]").astype(np.int64).tolist()
        origin = Origin(Area(source_of(note), _extent_of(note)), first, last)
        if origin.start > origin.stop or not origin.period:  # the period fails for times that no calendar has
            raise ValueError("the last is before the first")
    except (ValueError, TypeError, LookupError, OverflowError, OSError) as error:
        raise BadInput(f"no valid times ({error})", where, "ingest it again") from None
    return origin


def source_of(note: Note) -> str:
    """Return the name of the source of an event: `source` of its note, otherwise from what older notes have.

    A radar is named by its position, a gridded product by its variable and the spacing of its rows. So files of one
    product have one name, wherever they are, and so have parts that were cut out of it.
    """
    given = note.get("source")
    if isinstance(given, str) and given.strip():
        return _printable(given)
    site = note.get("site")
    if isinstance(site, Mapping) and _are_numbers(site.get("latitude"), site.get("longitude")):
        return f"radar at {site['latitude']:.2f} {site['longitude']:.2f}"
    read, pixels = (_mapping(note.get(key)) for key in ("read", "pixels"))
    variable, spacing = read.get("variable"), pixels.get("source_spacing_km")
    name = f"grid of {_printable(variable)}" if isinstance(variable, str) and variable.strip() else "grid"
    rows = spacing[0] if isinstance(spacing, list) and spacing else None
    return f"{name} at {rows:g} km" if _are_numbers(rows) else name


def _extent_of(note: Note) -> Extent | None:
    """Return the area of the product, or of the square around the radar; None on a plane of unknown position."""
    extent = note.get("extent")
    if isinstance(extent, list) and is_extent(extent):
        return (extent[0], extent[1], extent[2], extent[3])
    site = _mapping(note.get("site"))
    grid = _mapping(_mapping(note.get("steps")).get("grid"))
    known: list[Any] = [site.get("latitude"), site.get("longitude"), grid.get("size"), grid.get("spacing_km")]
    if not _are_numbers(*known):
        return None
    latitude, longitude, half = known[0], known[1], known[2] * known[3] / 2 / KM_PER_DEGREE
    wide = min(180.0, half / max(1e-6, cos(radians(latitude))))
    found = [round(v, 4) for v in (latitude - half, longitude - wide, latitude + half, longitude + wide)]
    return (found[0], found[1], found[2], found[3]) if is_extent(found) else None


def is_extent(value: Any) -> bool:
    """Whether a value is a list of south, west, north and east in degrees, in this order."""
    if not isinstance(value, list) or len(value) != 4 or not _are_numbers(*value):
        return False
    south, west, north, east = value
    return bool(-180 <= south < north <= 180 and -720 <= west < east <= 720)


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v) for v in values)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _printable(text: str) -> str:
    short = text.strip()[:_LONGEST_NAME].strip()
    return short if short.isprintable() else ascii(short)[1:-1]
