"""Gridded sequences of one or several files, opened without reading their fields."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.claims import MOST_PIXELS, check_claims
from polarcast.data.ingest.event import Field, Times
from polarcast.data.ingest.grids.frames import read_errors_as_bad_input
from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.grib_file import is_grib, open_grib
from polarcast.data.ingest.grids.npz_file import open_npz
from polarcast.data.ingest.grids.odim_file import is_composite, open_odim
from polarcast.data.ingest.grids.part import Channel, Part
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.values import undeclared_code
from polarcast.data.ingest.grids.xarray_file import open_xarray
from polarcast.data.ingest.ranges import SPACING_KM

LONGEST_KM = 45_000.0
"""Longest side of a grid, slightly above the circumference of the Earth."""
_OVERLAP = 1.05
"""Time of a sum, as multiple of the time between frames, above which sums overlap."""
WITHOUT_TIME, SAME_TIME = "frames without a time", "frames of the same time as another"


@dataclass(frozen=True)
class GriddedSource:
    """One gridded sequence.

    Attributes:
        parts: Files of the sequence, with one grid and the same variables.
        times: (n,) UTC, ascending, without duplicates.
        index: (n, 2) file, and position in it, of each time.
        note: Properties found in the first file, and assumptions.
        dropped: Number of frames, and of files with variables, that are not used, by reason.
        dropped_from: Files of these, by reason.
        beyond: Number of values read so far that no radar measures, by file.
    """

    parts: tuple[Part, ...]
    times: Times
    index: npt.NDArray[np.int64]
    note: dict[str, Any]
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_from: dict[str, list[Path]] = field(default_factory=dict)
    beyond: Counter[Path] = field(default_factory=Counter, repr=False)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files or Zarr folders."""
        return tuple(part.path for part in self.parts)

    @property
    def path(self) -> Path:
        """First file, for messages."""
        return self.parts[0].path

    @property
    def geometry(self) -> Geometry:
        """Geometry of the pixels."""
        return self.parts[0].geometry

    @property
    def measured(self) -> tuple[str, ...]:
        """Radar variables; none if the source has only rain."""
        return self.parts[0].measured

    @property
    def heights_km(self) -> tuple[float, ...] | None:
        """Heights of the radar variables; None if the source has no levels."""
        return self.parts[0].heights_km

    @property
    def has_rain(self) -> bool:
        """Whether the source has rain."""
        return self.parts[0].has_rain

    def each(self, frames: Sequence[int], rows: slice, columns: slice) -> Iterator[Field]:
        """Yield a window of each frame, given by its position in `times`: (y, x) in dBZ or mm/h, north up.

        This is zh at the lowest height, or rain if the source has only that. Missing data are NaN; so is negative rain,
        which some products use as a missing code. Reflectivity may be −inf.

        Raises:
            BadInput: The file is damaged.
        """
        for (values,) in self._each(frames, rows, columns, first_only=True):
            yield values

    def each_variable(self, frames: Sequence[int], rows: slice, columns: slice) -> Iterator[dict[str, Field]]:
        """Yield a window of all variables of each frame: (z, y, x) by name, see `each`."""
        names = [channel.variable for channel in self.parts[0].channels]
        for fields in self._each(frames, rows, columns, first_only=False):
            yield {
                name: np.stack([f for n, f in zip(names, fields, strict=True) if n == name])
                for name in dict.fromkeys(names)
            }

    def read(self, frames: Sequence[int], rows: slice, columns: slice) -> Field:
        """Return the windows of `each` as one array (t, y, x)."""
        return np.stack(list(self.each(frames, rows, columns)))

    def check_codes(self) -> None:
        """Check that no undeclared code for missing data fills an area of the first or the middle frame.

        Raises:
            BadInput: One does; it would be read as heavy rain.
        """
        for number in dict.fromkeys((0, len(self.times) // 2)):
            part, position = self.parts[self.index[number, 0]], int(self.index[number, 1])
            for layer, decoding in enumerate(part.decodings):
                stored = part.stored(position, layer)
                code = undeclared_code(stored, decoding)
                if code is not None:
                    share = 100 * float((stored == code).mean())
                    what = f"the code {code:g} fills {share:.0f}% of a frame and is not declared as missing"
                    raise BadInput(what, part.path, f"give --nodata {code:g}; if it is a value, another that is none")

    def _each(self, frames: Sequence[int], rows: slice, columns: slice, *, first_only: bool) -> Iterator[list[Field]]:
        places = self.index[np.asarray(frames, dtype=np.int64)].tolist()
        for number, run in groupby(places, key=lambda place: place[0]):
            part = self.parts[number]
            channels: tuple[Channel, ...] = part.channels[:1] if first_only else part.channels
            for fields, beyond in part.each([position for _, position in run], rows, columns, channels):
                self.beyond[part.path] += beyond
                yield fields


def open_source(path: Path | Sequence[Path], settings: GridSettings) -> GriddedSource:
    """Open a gridded sequence of one file, or of several with the same grid and variables.

    Raises:
        BadInput: A file is not a sequence in a known layout, has no time axis or unknown units, has several candidate
            variables, or is unlike the first one.
    """
    parts = tuple(_opened([path] if isinstance(path, Path) else path, settings))
    for part in parts[1:]:
        if part.signature != parts[0].signature:
            raise BadInput("has another grid or other variables", part.path, f"give files like {parts[0].path.name}")
    times, index, files, times_note = _in_order(parts)
    note = {**parts[0].note, **times_note, **({"files": len(parts)} if len(parts) > 1 else {})}
    _check_sums(parts[0], times)
    dropped = Counter({reason: len(of) for reason, of in files.items()})
    dropped_from = {reason: list(dict.fromkeys(parts[number].path for number in of)) for reason, of in files.items()}
    for reason in dict.fromkeys(reason for part in parts for reason in part.not_taken):
        dropped_from[reason] = [part.path for part in parts if reason in part.not_taken]
        dropped[reason] = len(dropped_from[reason])
    return GriddedSource(parts, times, index, note, dropped, dropped_from)


def _opened(paths: Sequence[Path], settings: GridSettings) -> Iterator[Part]:
    """Yield the files; only the first one keeps its places, which may be as large as a field, and are those of all."""
    for number, path in enumerate(paths):
        part = open_part(path, settings)
        yield replace(part, positions=None) if number else part


def open_part(path: Path, settings: GridSettings) -> Part:
    """Open one file of a gridded sequence; see `open_source`."""
    with read_errors_as_bad_input(path):
        check_claims(path)
        part = _opener_of(path)(path, settings)
    _check_geometry(part.geometry, path)
    if np.isnat(part.times).all():
        raise BadInput("frames without a time between 1900 and 2100", path, "give every frame a time")
    return part


def _opener_of(path: Path) -> Callable[[Path, GridSettings], Part]:
    if path.suffix == ".npz":
        return open_npz
    if is_grib(path):
        return open_grib
    return open_odim if is_composite(path) else open_xarray


def _check_sums(part: Part, times: Times) -> None:
    """Check that sums of rain do not overlap. Raises BadInput if they do: they would be read as rates of their step."""
    steps = np.diff(times) / np.timedelta64(60, "s")
    if part.sum_minutes is None or not len(steps) or part.sum_minutes <= _OVERLAP * float(np.median(steps)):
        return
    what = f"overlapping accumulations: sums over {part.sum_minutes:g} min every {float(np.median(steps)):g} min"
    raise BadInput(what, part.path, "give sums over the time between frames, or rates")


def _check_geometry(geometry: Geometry, path: Path) -> None:
    """Check that a grid has pixels that fit on the Earth: others would become millions of tiles."""
    if not 0 < prod(geometry.shape) <= MOST_PIXELS:
        raise BadInput(f"frames of {geometry.shape} pixels", path, f"give at most {MOST_PIXELS} pixels, in parts")
    if not np.isfinite(geometry.corner or 0).all():
        raise BadInput(f"a corner at {geometry.corner}", path, "give its latitude and longitude in degrees")
    least, most = SPACING_KM
    sides = [n * s for n, s in zip(geometry.shape, geometry.spacing_km, strict=True)]
    if not (all(least <= s <= most for s in geometry.spacing_km) and max(sides) <= LONGEST_KM):
        found = " × ".join(f"{s:.3g}" for s in geometry.spacing_km)
        raise BadInput(f"pixels of {found} km", path, f"give {least:g} to {most:g} km, on one Earth: --spacing-km")


def _in_order(parts: Sequence[Part]) -> tuple[Times, npt.NDArray[np.int64], dict[str, list[int]], dict[str, Any]]:
    """Return ascending unique times, the place of each in the files, the files of unused frames, and a note."""
    times = np.concatenate([part.times for part in parts])
    index = np.array([(n, i) for n, part in enumerate(parts) for i in range(len(part.times))], np.int64).reshape(-1, 2)
    has_time = ~np.isnat(times)
    unused = {WITHOUT_TIME: index[~has_time, 0].tolist()}
    times, index = times[has_time], index[has_time]
    order = np.argsort(times, kind="stable")
    is_first = np.concatenate([[True], np.diff(times[order]) > np.timedelta64(0, "s")])
    unused[SAME_TIME] = index[order][~is_first, 0].tolist()
    note = {"duplicate_times": len(unused[SAME_TIME]), "frames_without_time": len(unused[WITHOUT_TIME])}
    found: dict[str, Any] = {key: number for key, number in note.items() if number}
    if (np.diff(order) < 0).any():
        found["sorted_by_time"] = True
    return times[order][is_first], index[order][is_first], {key: of for key, of in unused.items() if of}, found
