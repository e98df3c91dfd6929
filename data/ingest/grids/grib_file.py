"""Open gridded sequences in GRIB 1 and 2, such as MRMS, with ecCodes: one message a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, not_installed
from polarcast.data.ingest.claims import MOST_PIXELS
from polarcast.data.ingest.event import Times
from polarcast.data.ingest.grids.axes import AS_GIVEN
from polarcast.data.ingest.grids.frames import Layers
from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.ground import ground_of, on_the_ground
from polarcast.data.ingest.grids.part import Channel, Part
from polarcast.data.ingest.grids.positions import StoredPositions, running_south_and_east
from polarcast.data.ingest.grids.settings import SOUTH_FIRST, GridSettings
from polarcast.data.ingest.grids.times import plausible
from polarcast.data.ingest.grids.values import decoding_of

MAGIC = b"GRIB"
_MISSING = 1e30
"""Value that ecCodes is told to return where a message has none."""
_MRMS, _MRMS_RATE = 209, (6, 1)
_MRMS_MISSING, _MRMS_NO_ECHO = [-1.0, -3.0, -999.0], (-99.0,)
"""MRMS writes -1 for missing data and -3 for no coverage in rain; -99 for no echo and -999 for no coverage in
reflectivity."""
_PLANES = ("polar_stereographic", "lambert", "lambert_azimuthal_equal_area", "mercator", "albers")


@dataclass(frozen=True)
class GribFrames:
    """Messages of a GRIB file.

    Attributes:
        path: File.
        offsets: Place of each message in it.
        shape: (y, x).
        from_east: Whether the first column is the easternmost.
    """

    path: Path
    offsets: tuple[int, ...]
    shape: tuple[int, int]
    from_east: bool = False

    def read(self, numbers: Sequence[int], rows: slice, columns: slice, layers: Sequence[int]) -> Iterator[Layers]:
        """Yield a window (y, x) of each frame in the given order; columns from the west."""
        codes = _library()
        for number in numbers:
            with _message(codes, self.path, self.offsets[number]) as message:
                codes.codes_set(message, "missingValue", _MISSING)
                values = codes.codes_get_values(message).reshape(self.shape)
            yield [(values[:, ::-1] if self.from_east else values)[rows, columns]]


def is_grib(path: Path) -> bool:
    """Whether a file begins as GRIB does; False for a folder, or a file that can't be read."""
    try:
        with path.open("rb") as stream:
            return path.is_file() and stream.read(4) == MAGIC
    except OSError:
        return False


def open_grib(path: Path, settings: GridSettings) -> Part:
    """Open the messages of a GRIB file, which hold one field at several times.

    Raises:
        BadInput: ecCodes is not installed, or the messages hold several fields, forecasts, or an unknown grid.
    """
    codes = _library()
    offsets = _offsets(codes, path)
    if not offsets:
        raise BadInput("no GRIB message", path, "copy it again from its source")
    times, kinds = [], set()
    for offset in offsets:
        with _message(codes, path, offset) as message:
            times.append(_time(codes, message, path))
            kinds.add(tuple(codes.codes_get(message, key) for key in ("paramId", "level", "Ni", "Nj", "gridType")))
    if len(kinds) > 1:
        raise BadInput(f"{len(kinds)} fields or grids", path, "give files of one field on one grid")
    with _message(codes, path, offsets[0]) as message:
        geometry, from_east, note = _geometry(codes, message, settings, path)
        is_told = geometry.corner is not None and not geometry.is_rotated
        places = None if is_told else _places(codes, message, geometry, from_east)
        placed = None if places is None else running_south_and_east(places)
        if not settings.spacing_km and geometry.corner is None:
            ground = None if places is None else ground_of(places, geometry.shape)
            geometry, note = on_the_ground(geometry, note, ground, path)
        units, attributes, name = _field(codes, message)
    no_echo = _MRMS_NO_ECHO if "missing_value" in attributes and units != "mm/h" else ()
    decoding, units = decoding_of("", units, attributes, settings, path, named_rain=True, no_echo=no_echo)
    frames = GribFrames(path, tuple(offsets), geometry.shape, from_east)
    found = {"layout": "GRIB", "variable": name, **note, "units": units}
    return Part(path, _as_times(times), geometry, None, (Channel(decoding.variable, (0,)),), (decoding,), frames, found,
                positions=placed)  # fmt: skip


def _places(codes: Any, message: Any, geometry: Geometry, from_east: bool) -> StoredPositions | None:
    """Return the places of the pixels, from the north and the west; None if ecCodes can't compute them."""
    rows, columns = slice(None, None, -1 if geometry.south_first else 1), slice(None, None, -1 if from_east else 1)
    try:
        found = [codes.codes_get_array(message, key).reshape(geometry.shape) for key in ("latitudes", "longitudes")]
    except (codes.CodesInternalError, ValueError):
        return None
    return StoredPositions(*(values[rows, columns] for values in found))


def _as_times(times: Sequence[np.datetime64]) -> Times:
    return plausible(np.array(times, "datetime64[s]"))


def _library() -> Any:
    try:
        import eccodes
    except (ImportError, RuntimeError):  # RuntimeError: the package is there, its library is not
        raise not_installed("eccodes", "ingest", "grib") from None
    return eccodes


def _offsets(codes: Any, path: Path) -> list[int]:
    found = []
    with path.open("rb") as stream:
        while (message := codes.codes_grib_new_from_file(stream, headers_only=True)) is not None:
            found.append(int(codes.codes_get(message, "offset")))
            codes.codes_release(message)
    return found


@contextmanager
def _message(codes: Any, path: Path, offset: int) -> Iterator[Any]:
    with path.open("rb") as stream:
        stream.seek(offset)
        message = codes.codes_grib_new_from_file(stream)
    if message is None:
        raise BadInput("a GRIB message is damaged", path, "copy it again from its source")
    try:
        yield message
    finally:
        codes.codes_release(message)


def _time(codes: Any, message: Any, path: Path) -> np.datetime64:
    """Return the reference time to the second; forecasts are refused."""
    step = str(codes.codes_get(message, "stepRange"))
    if any(character in "123456789" for character in step):
        raise BadInput(f"a forecast {step} after its start", path, "give observations: forecasts are none")
    date, hour, minute = (int(codes.codes_get(message, key)) for key in ("dataDate", "hour", "minute"))
    second = int(codes.codes_get(message, "second")) if codes.codes_is_defined(message, "second") else 0
    day = np.datetime64(f"{date // 10000:04d}-{date // 100 % 100:02d}-{date % 100:02d}", "s")
    return day + np.timedelta64(3600 * hour + 60 * minute + second, "s")


def _field(codes: Any, message: Any) -> tuple[str, dict[str, Any], str]:
    """Return units, attributes and name; those of MRMS's own table are not in ecCodes."""
    attributes: dict[str, Any] = {"_FillValue": _MISSING}
    name, units = (str(codes.codes_get(message, key)) for key in ("shortName", "units"))
    if codes.codes_get(message, "edition") == 2 and codes.codes_get(message, "discipline") == _MRMS:
        attributes["missing_value"] = _MRMS_MISSING
        field = (codes.codes_get(message, "parameterCategory"), codes.codes_get(message, "parameterNumber"))
        if field == _MRMS_RATE:
            return "mm/h", attributes, "PrecipRate"
        name = f"MRMS {field[0]}-{field[1]}"
    return "" if units == "unknown" else units, attributes, name


def _geometry(codes: Any, message: Any, settings: GridSettings, path: Path) -> tuple[Geometry, bool, dict[str, Any]]:
    kind = str(codes.codes_get(message, "gridType"))
    keys = ("Nx", "Ny") if kind in _PLANES else ("Ni", "Nj")
    if kind not in (*_PLANES, "regular_ll") or codes.codes_get(message, "jPointsAreConsecutive"):
        raise BadInput(f"a grid of type {kind}", path, "give a regular grid in degrees or on a plane")
    width, height = (int(codes.codes_get(message, key)) for key in keys)
    if not 0 < width * height <= MOST_PIXELS:
        raise BadInput(f"frames of {height} by {width} pixels", path, f"give at most {MOST_PIXELS} pixels, in parts")
    south_first = bool(codes.codes_get(message, "jScansPositively"))
    from_east = bool(codes.codes_get(message, "iScansNegatively"))
    south_first, north = (
        (settings.rows == SOUTH_FIRST, AS_GIVEN) if settings.rows else (south_first, "by the scan mode")
    )
    if kind in _PLANES or settings.spacing_km:
        steps = [settings.spacing_km or codes.codes_get(message, key) / 1000 for key in ("DyInMetres", "DxInMetres")]
        return (
            Geometry.plane((height, width), steps[0], steps[1], south_first),
            from_east,
            {"north": north, "columns": "by the scan mode", "spacing": steps},
        )
    dlat, dlon = (float(codes.codes_get(message, f"{axis}DirectionIncrementInDegrees")) for axis in "ji")
    ends = [float(codes.codes_get(message, f"latitudeOf{end}GridPointInDegrees")) for end in ("First", "Last")]
    sides = [float(codes.codes_get(message, f"longitudeOf{end}GridPointInDegrees")) for end in ("First", "Last")]
    first = min(ends) if south_first else max(ends)
    grid = Geometry.lat_lon((height, width), first, sides[1 if from_east else 0], dlat if south_first else -dlat, dlon)
    return grid, from_east, {"north": north, "columns": "by the scan mode", "spacing": [dlat, dlon]}
