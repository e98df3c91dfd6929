"""Rain rates around gauges in the events of an archive: what the archive and the laws give, at 3 × 3 pixels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput, shown
from polarcast.data.field_file import Field, read_field
from polarcast.data.gauges.gauge import Gauge, Real, Times
from polarcast.data.gauges.places import GridPlace, place_of_event
from polarcast.data.ingest.volumes.rain import RELATIONS, rain_rate
from polarcast.data.observed import ObservedPixels

ARCHIVE = "archive"
"""Name of the archive's own rain among the estimators."""
LAWS = {"Z–R": "zh", "R(ZH, ZDR)": "zh_zdr", "R(KDP)": "kdp"}
"""Names of the laws among the estimators, and of their relations."""
SIDE = 3
_OFFSETS = np.array([(y, x) for y in (0, -1, 1) for x in (0, -1, 1)])
"""Pixels around a gauge; its own comes first."""

Mask = npt.NDArray[np.bool_]
Rates = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
OnDone = Callable[[int], None]


@dataclass(frozen=True)
class Patch:
    """Pixels around the gauges that one grid covers.

    Attributes:
        gauges: Positions of the gauges in their list, (g,).
        rows, columns: Pixels around each gauge, its own first, (g, 9); −1 beyond the grid.
        range_km: Distance of each gauge from the radar, (g,); NaN of a product of several radars.
        centre_km: Distance of each gauge from the centre of the grid, (g,).
    """

    gauges: Numbers
    rows: Numbers
    columns: Numbers
    range_km: Real
    centre_km: Real

    def of(self, values: npt.NDArray[Any], outside: Any) -> npt.NDArray[Any]:
        """Return the pixels of a field (…, y, x), (…, g, 9), with a value for those beyond the grid."""
        inside = self.rows >= 0
        return np.where(inside, values[..., np.where(inside, self.rows, 0), np.where(inside, self.columns, 0)], outside)


@dataclass(frozen=True)
class EventRates:
    """Rain rates around gauges in one event.

    Attributes:
        event: Number of the event.
        patch: Pixels.
        place: Key of the grid's place, equal for events of one grid.
        times: Times of the frames in UTC, datetime64[s], (t,).
        frames: Numbers of the frames, (t,).
        seen: Whether the lowest height was observed, (t, g, 9).
        total_mm: Sum of the archive's rain over the frames, (y, x) in mm; None without rain.
        rates: Rain rate by estimator, (t, g, 9) in mm/h; NaN where not observed.
    """

    event: int
    patch: Patch
    place: str
    times: Times
    frames: Numbers
    seen: Mask
    total_mm: Real | None = field(default=None, repr=False)
    rates: dict[str, Rates] = field(default_factory=dict)


@dataclass(frozen=True)
class Laws:
    """Which estimators an archive allows.

    Attributes:
        archive: Whether the archive has rain.
        relations: Relation by name of the law.
        left_out: Why a law is not among them, one line each.
    """

    archive: bool
    relations: dict[str, str]
    left_out: tuple[str, ...] = ()


def laws_of(archive: Archive, notes: Mapping[int, Mapping[str, Any]]) -> Laws:
    """Return the estimators that an archive allows: its own rain, and laws of what it measures.

    A law of reflectivity that was derived from the rain would be circular. Laws with coefficients by band need the band
    in the notes of all events.
    """
    derived = archive.provenance().get("derived", {}).get("zh") or next(
        (note["derived"]["zh"] for note in notes.values() if note.get("derived", {}).get("zh")), None
    )
    bands = {str(note.get("band") or "") for note in notes.values()}
    relations, left_out = {}, []
    for name, relation in LAWS.items():
        law = RELATIONS[relation]
        missing = [v for v in law.needs if v not in archive.variables]
        if derived:
            left_out.append(f"{name} is left out: zh is derived, not measured ({derived})")
        elif missing:
            left_out.append(f"{name} is left out: the archive has no {missing[0]}")
        elif law.bands and not bands <= set(law.bands):
            found = ", ".join(sorted(filter(None, bands - set(law.bands)))) or "not recorded"
            left_out.append(f"{name} is left out: no coefficients for the band ({found})")
        else:
            relations[name] = relation
    return Laws(archive.has_rain, relations, tuple(left_out))


def patches_of(
    archive: Archive, notes: Mapping[int, Mapping[str, Any]], gauges: Sequence[Gauge]
) -> dict[int, tuple[Patch, GridPlace]]:
    """Find the gauges on the grid of each event; events without a gauge are left out.

    Raises:
        BadInput: An event has no place on the Earth or no times, or no gauge lies on any grid.
    """
    latitude, longitude = (np.array([getattr(g, name) for g in gauges]) for name in ("latitude", "longitude"))
    found: dict[int, tuple[Patch, GridPlace]] = {}
    known: dict[str, tuple[Patch, GridPlace]] = {}
    for event, frames in archive.frames.items():
        if not frames:
            continue
        where = f"event {event:03d} of {archive.root}"
        if not notes[event].get("times"):
            raise BadInput("its frames have no times, so no gauge can be compared", where, "ingest the files again")
        shape = _shape(archive, event, frames[0])
        place = place_of_event(dict(notes[event]), shape, archive.spacing_km, where)
        if place.key not in known:
            known[place.key] = (_patch(place, latitude, longitude), place)
        if len(known[place.key][0].gauges):
            found[event] = known[place.key]
    if not found:
        is_turned = any(len(_patch(place, longitude, latitude).gauges) for _, place in known.values())
        fix = "latitudes and longitudes are exchanged: correct the names" if is_turned else "give gauges in its area"
        raise BadInput(f"no gauge of {len(gauges)} lies on the grid of an event", archive.root, fix)
    return found


def _shape(archive: Archive, event: int, frame: int) -> tuple[int, int]:
    y, x = read_field(archive.first_file(event, frame)).shape
    return y, x


def _patch(place: GridPlace, latitude: Real, longitude: Real) -> Patch:
    row, column = place.pixels_of(latitude, longitude)
    height, width = place.shape
    with np.errstate(invalid="ignore"):
        on_grid = (row >= -0.5) & (row < height - 0.5) & (column >= -0.5) & (column < width - 0.5)
    chosen = np.flatnonzero(on_grid)
    # Of a place exactly between two pixels, either is as near.
    centre = np.stack([np.floor(row[chosen] + 0.5), np.floor(column[chosen] + 0.5)], -1).astype(np.int64)
    pixels = centre[:, None] + _OFFSETS
    inside = ((pixels >= 0) & (pixels < (height, width))).all(-1)
    rows, columns = (np.where(inside, pixels[..., axis], -1) for axis in (0, 1))
    apart = np.hypot(row[chosen] - (height - 1) / 2, column[chosen] - (width - 1) / 2)
    range_km = place.range_km(latitude[chosen], longitude[chosen])
    return Patch(chosen, rows, columns, range_km, place.spacing_km * apart)


def event_rates(
    archive: Archive,
    event: int,
    found: tuple[Patch, GridPlace],
    note: Mapping[str, Any],
    laws: Laws,
    zr: tuple[float, float],
) -> EventRates:
    """Read the rain rates of the archive and of the laws around the gauges of one event.

    Fill value 0 of zh is no echo, thus no rain; ZDR of 0 in echo is missing. Where a pixel was not observed, rates are
    NaN.

    Raises:
        BadInput: A field is missing or damaged, or there are fewer times than frames.
    """
    patch, place = found
    frames = np.array(archive.frames[event], np.int64)
    times = _times(note, frames, f"event {event:03d} of {archive.root}")
    observed = archive.read_observed(event, place.shape)
    height = archive.heights_km[0]
    needed = dict.fromkeys(v for r in laws.relations.values() for v in ("zh", *RELATIONS[r].needs))
    rates = {name: np.empty((len(frames), *patch.rows.shape), np.float32) for name in _names(laws)}
    seen = np.empty((len(frames), *patch.rows.shape), np.bool_)
    masks = _Masks(observed, patch)
    total, archive_step = np.zeros(place.shape), archive.time_step_minutes
    for number, frame in enumerate(frames.tolist()):
        at_height, on_ground = masks.of(frame)
        seen[number] = at_height
        if laws.archive:
            rain = archive.read_rain(event, frame)
            total += rain * (archive_step / 60)
            rates[ARCHIVE][number] = np.where(on_ground, patch.of(rain, np.nan), np.nan)
        fields = {v: patch.of(read_field(archive.radar_file(v, height, event, frame)), np.nan) for v in needed}
        for name, relation in laws.relations.items():
            rate = rain_rate(relation, _with_missing(fields), str(note.get("band") or ""), zr)
            rates[name][number] = np.where(at_height & np.isfinite(fields["zh"]), rate, np.nan)
    return EventRates(event, patch, place.key, times, frames, seen, total if laws.archive else None, rates)


def _names(laws: Laws) -> list[str]:
    return [*([ARCHIVE] if laws.archive else []), *laws.relations]


def _with_missing(fields: Mapping[str, Field]) -> dict[str, Field]:
    """Return fields with NaN for what the archive's fill value stands for."""
    return {name: values if name == "kdp" else np.where(values == 0, np.nan, values) for name, values in fields.items()}


def _times(note: Mapping[str, Any], frames: Numbers, where: str) -> Times:
    times = note.get("times", ())
    if len(times) <= int(frames.max()):
        raise BadInput(f"{len(times)} times of {int(frames.max()) + 1} frames", where, "ingest it again")
    try:
        return np.array([times[frame] for frame in frames.tolist()], "datetime64[s]")
    except (ValueError, TypeError):
        raise BadInput(f"a time that is none: {shown(times[0])}", where, "ingest it again") from None


class _Masks:
    """Observed pixels around the gauges, at the lowest height and on the ground; unpacked once for equal frames."""

    def __init__(self, observed: ObservedPixels | None, patch: Patch) -> None:
        self._observed, self._patch = observed, patch
        self._known: dict[int, tuple[Mask, Mask]] = {}
        everywhere = patch.rows >= 0
        self._everywhere = (everywhere, everywhere)

    def of(self, frame: int) -> tuple[Mask, Mask]:
        if self._observed is None:
            return self._everywhere
        numbers = self._observed.frames
        which = int(numbers[frame if len(numbers) > 1 else 0])
        if which not in self._known:
            masks = self._patch.of(self._observed.masks(frame), False)
            self._known[which] = (masks[0], masks[-1])
        return self._known[which]


def read_notes(archive: Archive) -> dict[int, dict[str, Any]]:
    """Read the notes of all events."""
    return {event: archive.event_note(event) for event in archive.frames}
