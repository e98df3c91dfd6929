"""Open composites and images in ODIM HDF5 (OPERA Data Information Model 2.0 to 2.4): one time a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, shown
from polarcast.data.ingest.claims import HDF5
from polarcast.data.ingest.event import Times
from polarcast.data.ingest.grids.axes import AS_GIVEN
from polarcast.data.ingest.grids.frames import Layers
from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.ground import ground_of, on_the_ground
from polarcast.data.ingest.grids.part import Channel, Part
from polarcast.data.ingest.grids.positions import places_by_projection, projected_positions
from polarcast.data.ingest.grids.settings import SOUTH_FIRST, GridSettings
from polarcast.data.ingest.grids.times import plausible
from polarcast.data.ingest.grids.units import minutes_of_sum
from polarcast.data.ingest.grids.values import decoding_of
from polarcast.data.ingest.odim import attributes_of, clock, coding_of, merged, number_of, numbered_groups, text_of

OBJECTS = ("COMP", "IMAGE")
"""Objects that are read as gridded sequences."""
_REFLECTIVITY = ("DBZH", "DBZ", "TH", "DBZHC")
_RATE, _ACCUMULATION = "RATE", "ACRR"
_KNOWN = (*_REFLECTIVITY, _RATE, _ACCUMULATION)
_AT_HEIGHT, _SAME_KM = ("CAPPI", "PCAPPI"), 0.001
"""Products whose parameter is a height in m, and the difference of heights that are the same."""
_PLACE = ("projdef", "LL_lat", "LL_lon", "UR_lat", "UR_lon")


@dataclass(frozen=True)
class OdimFrames:
    """The image of an ODIM file, as stored; the first row is north.

    Attributes:
        path: File.
        dataset: Place of the image in it.
    """

    path: Path
    dataset: str

    def read(self, numbers: Sequence[int], rows: slice, columns: slice, layers: Sequence[int]) -> Iterator[Layers]:
        """Yield a window (y, x) of the only frame."""
        import h5py

        with h5py.File(self.path) as file:
            for _ in numbers:
                yield [np.asarray(file[self.dataset][rows, columns])]


def is_composite(path: Path) -> bool:
    """Whether a file is an ODIM composite or image; False for a damaged one."""
    try:
        with path.open("rb") as stream:
            if stream.read(8) != HDF5:
                return False
        import h5py

        with h5py.File(path) as file:
            return text_of(attributes_of(file, "what").get("object")).upper() in OBJECTS
    except (ImportError, OSError, ValueError, KeyError, RuntimeError):
        return False


def open_odim(path: Path, settings: GridSettings) -> Part:
    """Open the image of reflectivity or rain of an ODIM composite.

    `nodata` is no data, and `undetect` no echo; both are compared as stored.

    Raises:
        BadInput: There is no such image, or several, or its place or time is not known.
    """
    import h5py

    with h5py.File(path) as file:
        chosen = _image(file, settings, path)
        name, quantity, levels = f"{chosen.group}/data", chosen.quantity, chosen.levels
        image = file[name]
        if image.ndim != 2:
            raise BadInput(f"{quantity} has the shape {image.shape}", path, "give images of rows and columns")
        geometry, note = _geometry(levels["where"], image.shape, settings, path)
        what = levels["what"]
        attributes, no_echo = _coding(what, image.dtype, settings, path)
        decoding, units = decoding_of(
            "", _units(quantity, what, path), attributes, settings, path, named_rain=True, no_echo=no_echo
        )
        found = {"layout": "ODIM HDF5", "variable": quantity, **note, "units": units}
        if chosen.product:
            found["product"] = chosen.product
        times = _time(attributes_of(file, "what"), what, path)
        origin = " ".join(f"{key} {levels['where'][key]}" for key in _PLACE if key in levels["where"])
        projection = text_of(levels["where"].get("projdef"))
        placed = projected_positions(levels["where"], projection, geometry)
        if not settings.spacing_km:
            places = places_by_projection(levels["where"], projection, geometry, placed)
            ground = None if places is None else ground_of(places, geometry.shape)
            geometry, found = on_the_ground(geometry, found, ground, path)
    return Part(
        path, times, geometry, None, (Channel(decoding.variable, (0,)),), (decoding,), OdimFrames(path, name), found,
        origin, placed, minutes_of_sum(units) if quantity == _ACCUMULATION else None,
    )  # fmt: skip


def _coding(
    what: Mapping[str, Any], dtype: np.dtype[Any], settings: GridSettings, path: Path
) -> tuple[dict[str, Any], tuple[float, ...]]:
    """Return CF attributes of an image, and its code for no echo; one code for both is no data."""
    given = {"gain": settings.scale, "offset": settings.offset}
    try:
        coding = coding_of({**what, **{name: value for name, value in given.items() if value is not None}}, dtype)
    except BadInput as error:
        raise BadInput(error.what, path, "give them: --scale 0.5 --offset -32") from None
    attributes = {"scale_factor": coding.gain, "add_offset": coding.offset}
    if coding.nodata is not None:
        attributes["_FillValue"] = coding.nodata
    return attributes, () if coding.undetect is None or coding.has_one_code else (coding.undetect,)


@dataclass(frozen=True)
class _Image:
    """An image of a file: its group, quantity, and attributes with those of the levels above."""

    group: str
    quantity: str
    levels: dict[str, dict[str, Any]]

    @property
    def height_km(self) -> float:
        """Height of a CAPPI or pseudo-CAPPI; NaN of other products."""
        value = np.ravel(self.levels["what"].get("prodpar", np.nan))[0] if self._product in _AT_HEIGHT else np.nan
        try:
            return float(value) / 1000
        except ValueError:
            return float("nan")

    @property
    def product(self) -> str:
        """Product, with its height; empty if the file does not tell it."""
        at = f" at {self.height_km:g} km" if np.isfinite(self.height_km) else ""
        return f"{self._product}{at}" if self._product else ""

    @property
    def dataset(self) -> str:
        """Name of the group of the dataset."""
        return self.group.split("/")[0]

    @property
    def _product(self) -> str:
        return text_of(self.levels["what"].get("product")).upper()


def _images(file: Any) -> list[_Image]:
    found = []
    for group in numbered_groups(file, "dataset"):
        for part in numbered_groups(file[group], "data"):
            if "data" in file[group][part]:
                places = [file, file[group], file[group][part]]
                levels = {kind: merged(places, kind) for kind in ("what", "where")}
                found.append(_Image(f"{group}/{part}", text_of(levels["what"].get("quantity")).upper(), levels))
    return found


def _image(file: Any, settings: GridSettings, path: Path) -> _Image:
    """Return the image of reflectivity or rain, or the given one: a quantity, or a dataset such as `dataset2`."""
    images, given = _images(file), settings.variable
    found = [i for i in images if given in (i.dataset, i.group)] if given else []
    found = found or [i for i in images if i.quantity == given or (not given and i.quantity in _KNOWN)]
    chosen = list(dict.fromkeys(i.quantity for i in found))
    if not chosen:
        raise BadInput(f"no image of {given or 'reflectivity or rain'}", path,
                       f"choose from: {', '.join(dict.fromkeys(i.quantity for i in images)) or 'none'}")  # fmt: skip
    if len(chosen) > 1:
        raise BadInput(f"several candidate variables: {', '.join(chosen)}", path, "choose one with --variable")
    if len(found) > 1:
        found = [i for i in found if abs(i.height_km - settings.height_km) <= _SAME_KM] or found
    if len(found) > 1:
        kinds = ", ".join(f"{i.dataset}{f' ({i.product})' if i.product else ''}" for i in found)
        heights = [i.height_km for i in found if np.isfinite(i.height_km)]
        by_height = f" or --height-km {heights[0]:g}" if heights else ""
        what = f"{len(found)} images of {chosen[0]}: {kinds}"
        raise BadInput(what, path, f"choose one: --variable {found[0].dataset}{by_height}")
    return found[0]


def _geometry(
    where: Mapping[str, Any], shape: tuple[int, int], settings: GridSettings, path: Path
) -> tuple[Geometry, dict[str, Any]]:
    """Return the geometry; corners are those of the outermost pixels' outer edges (ODIM 2.4, section 4.2)."""
    south_first = settings.rows == SOUTH_FIRST
    north = AS_GIVEN if settings.rows else "first row, as ODIM has it"
    if settings.spacing_km:
        plane = Geometry.plane(shape, settings.spacing_km, settings.spacing_km, south_first)
        return plane, {"north": north, "spacing": settings.spacing_km}
    projection = text_of(where.get("projdef"))
    if "longlat" in projection or "latlong" in projection or "latlon" in projection:
        south, west, top, east = (_corner(where, key, path) for key in ("LL_lat", "LL_lon", "UR_lat", "UR_lon"))
        dlat, dlon = (top - south) / shape[0], (east - west) / shape[1]
        first, step = (south + dlat / 2, dlat) if south_first else (top - dlat / 2, -dlat)
        return Geometry.lat_lon(shape, first, west + dlon / 2, step, dlon), {"north": north, "spacing": [dlat, dlon]}
    spacing = [_corner(where, key, path) / 1000 for key in ("yscale", "xscale")]
    found = {"north": north, "spacing": spacing, "projection": projection}
    return Geometry.plane(shape, spacing[0], spacing[1], south_first), found


def _corner(where: Mapping[str, Any], key: str, path: Path) -> float:
    try:
        value = number_of(where, key)
    except BadInput as error:
        raise error.at(path) from None
    if value is None:
        raise BadInput(f"no where/{key}", path, "give the spacing: --spacing-km KM")
    return value


def _units(quantity: str, what: Mapping[str, Any], path: Path) -> str:
    if quantity == _RATE:
        return "mm/h"
    if quantity != _ACCUMULATION:
        return "dBZ" if quantity in _REFLECTIVITY else ""
    start, end = (clock(what.get(f"{side}date"), what.get(f"{side}time")) for side in ("start", "end"))
    minutes = (end - start) / np.timedelta64(60, "s")
    return f"mm per {minutes:g} min" if minutes > 0 else "mm"


def _time(root: Mapping[str, Any], what: Mapping[str, Any], path: Path) -> Times:
    """Return the nominal time of the product; else the start of its data."""
    nominal, start = clock(root.get("date"), root.get("time")), clock(what.get("startdate"), what.get("starttime"))
    time = start if np.isnat(nominal) else nominal
    if np.isnat(time):
        text = text_of(root.get("date")) + text_of(root.get("time"))
        raise BadInput(f"what/date and what/time are {shown(text)}", path, "write YYYYMMDD and HHmmss in UTC")
    return plausible(np.array([time]))
