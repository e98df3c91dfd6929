"""Read polar volumes and scans in ODIM HDF5 (OPERA Data Information Model 2.0 to 2.4).

The file is read with h5py: codes are compared as stored, and the azimuths follow all the ways in which the model gives
them. xradar 0.12 turns sweeps that rotate counter-clockwise, ignores `how/astart`, and decodes before it compares.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.cf_values import equals_code
from polarcast.data.ingest.odim import attributes_of, coding_of, merged, number_of, numbered_groups, text_of
from polarcast.data.ingest.volumes.alignment import on_one_table, with_joined_moments
from polarcast.data.ingest.volumes.readers.odim_rays import azimuths_of, elevations_of, mode_of, ranges_of, times_of
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.volume import Mask, RadarSite, band_of

KIND = "ODIM HDF5"
VOLUMES = ("PVOL", "SCAN")
"""Objects that are read as volumes."""
OBJECTS = {
    "PVOL": "polar volume", "SCAN": "polar scan", "CVOL": "Cartesian volume", "RAY": "single ray", "AZIM": "azimuthal",
    "ELEV": "RHI", "IMAGE": "2-D Cartesian image", "COMP": "composite", "XSEC": "vertical cross-section",
    "VP": "vertical profile", "PIC": "picture",
}  # fmt: skip
"""Objects of the model (ODIM 2.4, table 2)."""
_LIGHT_CM_PER_S = 29.979e9
_PLACE_CODES = ("NOD", "WMO", "WIGOS", "RAD", "PLC", "STN", "CMT")
"""Identifiers in `what/source`, the most reliable first."""
_COORDINATE = re.compile(r"([+-]?\d+(?:\.\d*)?)\s*(?:[°\ufffd]|deg\w*|m)?\s*([NSEW]?)", re.IGNORECASE)
_GIVE_VOLUMES = "give polar volumes (PVOL) or scans"
_MALFUNCTION = "malfunction of the radar (how/malfunc)"


def object_of(path: Path) -> str | None:
    """Return `/what/object` of an HDF5 file; None if it has none, and is no ODIM file."""
    import h5py

    with h5py.File(path) as file:
        return text_of(attributes_of(file, "what").get("object")).upper() or None


def read_odim(path: Path) -> RawVolume:
    """Read the sweeps of an ODIM file.

    Fields of one sweep may be in several datasets, and may have other gates than the first field. An object with a name
    of its own, as some networks write, is read if its datasets have an elevation.

    Raises:
        BadInput: The file contains another object than a polar volume or scan, such as a composite, or no sweep. Also
            if the angles of the rays or the start of the gates are not clear.
    """
    import h5py

    with h5py.File(path) as file:
        name = text_of(attributes_of(file, "what").get("object")).upper()
        groups = [file[group] for group in numbered_groups(file, "dataset")]
        if name in OBJECTS and name not in VOLUMES:
            raise BadInput(f"an ODIM {OBJECTS[name]} ({name}) is not supported", path, _GIVE_VOLUMES)
        if name not in OBJECTS and not any("elangle" in attributes_of(group, "where") for group in groups):
            raise BadInput(f"an ODIM unknown object ({name}) is not supported", path, _GIVE_VOLUMES)
        if not groups:
            raise BadInput(f"an ODIM {OBJECTS[name]} without sweeps (no dataset1)", path, "leave the file out")
        fields = [_fields_or_error(file, group) for group in groups]
        errors = [one for one in fields if isinstance(one, BadInput)]
        if len(errors) == len(fields):
            raise errors[0]
        read = [field for one in fields if not isinstance(one, BadInput) for field in one]
        telling = {n for field in read for n, m in field.sweep.moments.items() if m.has_no_echo}
        sweeps = [
            replace(on_one_table([]), flaw=one.reason) if isinstance(one, BadInput)
            else _sweep(merged([file, group], "how"), [field.told(telling) for field in one])
            for group, one in zip(groups, fields, strict=True)
        ]  # fmt: skip
        return RawVolume(KIND, _site(file), tuple(with_joined_moments(sweeps)), _band(file))


@dataclass(frozen=True)
class _Field:
    """A sweep with one field, or without it if it can't be used.

    Attributes:
        sweep: The sweep.
        undeclared: (a, r), gates with NaN that the file does not declare.
    """

    sweep: RawSweep
    undeclared: Mask | None = None

    def told(self, telling: Collection[str]) -> RawSweep:
        """Return the sweep; NaN that is not declared is unseen in the fields that tell no echo by a code."""
        if self.undeclared is None:
            return self.sweep
        moments = {
            name: replace(moment, unseen=self.undeclared if moment.unseen is None else moment.unseen | self.undeclared)
            for name, moment in self.sweep.moments.items()
            if name in telling
        }
        return replace(self.sweep, moments={**self.sweep.moments, **moments})


def _sweep(how: Mapping[str, Any], fields: Sequence[RawSweep]) -> RawSweep:
    """Return the sweep of the fields of a dataset."""
    table = on_one_table(fields)
    if not fields:
        return replace(table, flaw="no data in the dataset")
    is_broken = not table.moments and set(table.unusable.values()) == {_MALFUNCTION}
    return replace(table, flaw=_MALFUNCTION if _is_true(how.get("malfunc")) or is_broken else table.flaw)


def _fields_or_error(file: Any, group: Any) -> "list[_Field] | BadInput":
    """Return the fields of a dataset, or why they can't be read."""
    try:
        return _fields(file, group)
    except BadInput as error:
        return error


def _fields(file: Any, group: Any) -> list[_Field]:
    parts = [group[part] for part in numbered_groups(group, "data")]
    return [_field(file, group, part) for part in parts if hasattr(part.get("data"), "ndim")]


def _field(file: Any, group: Any, part: Any) -> _Field:
    """Read one `dataN` group."""
    levels = [file, group, part]
    what, where, how = (merged(levels, kind) for kind in ("what", "where", "how"))
    stored = part["data"]
    name = text_of(what.get("quantity")).upper() or str(part.name).rsplit("/", 1)[-1]
    if stored.ndim != 2 or stored.dtype.kind not in "fiu":
        return _Field(on_one_table([], {name: f"no table of numbers, {stored.dtype} of the shape {stored.shape}"}))
    rays, gates = _shape_of(stored, where)
    elevation, ranges = elevations_of(where, how, rays), ranges_of(file, where, gates)
    sweep = RawSweep(
        elevation, azimuths_of({**where, **how}, rays), ranges, times_of(file, what, how, rays), {},
        mode=mode_of(what, where, how, elevation), flaw=_flaw(elevation, ranges), task=text_of(how.get("task")),
    )  # fmt: skip
    if _is_true(attributes_of(part, "how").get("malfunc")):
        return _Field(replace(sweep, unusable={name: _MALFUNCTION}))
    try:
        moment, undeclared = _moment(np.asarray(stored[()]), what)
    except BadInput as error:
        return _Field(replace(sweep, unusable={name: error.what}))
    return _Field(replace(sweep, moments={name: moment}), undeclared if undeclared.any() else None)


def _shape_of(stored: Any, where: Mapping[str, Any]) -> tuple[int, int]:
    """Return rays and gates. Raises BadInput for a table whose sides are exchanged."""
    rays, gates = stored.shape
    if rays != gates and (number_of(where, "nrays"), number_of(where, "nbins")) == (gates, rays):
        raise BadInput(f"a table of {rays} × {gates} for {gates} rays and {rays} gates", fix="write a row for each ray")
    return rays, gates


def _flaw(elevation: npt.NDArray[np.float32], ranges: npt.NDArray[np.float32]) -> str:
    if not np.isfinite(elevation).any():
        return "no elevation (where/elangle)"
    return "" if np.isfinite(ranges).all() else "no spacing of the gates (where/rscale)"


def _moment(stored: npt.NDArray[Any], what: Mapping[str, Any]) -> tuple[Moment, Mask]:
    """Decode stored values: `nodata` is unseen, `undetect` is no echo.

    Returns:
        The field, and the gates (a, r) with NaN that is neither. If both have one code, NaN beside it is unseen, and
        the code is no echo.

    Raises:
        BadInput: See `coding_of`.
    """
    coding = coding_of(what, stored.dtype)
    unseen, undetected = (equals_code(stored, code) for code in (coding.nodata, coding.undetect))
    values = (stored.astype(np.float64) * coding.gain + coding.offset).astype(np.float32)
    values[unseen | undetected | ~np.isfinite(values)] = np.nan
    undeclared = np.isnan(stored) & ~unseen & ~undetected
    if not (unseen & undetected).any():
        return Moment(values, unseen=unseen, has_no_echo=bool(undetected.any())), undeclared
    return Moment(values, has_no_echo=bool(undeclared.any())), undeclared


def _site(file: Any) -> RadarSite:
    where, what = attributes_of(file, "where"), attributes_of(file, "what")
    pairs = [part.partition(":")[::2] for part in text_of(what.get("source")).split(",")]
    known = {key.strip().upper(): value.strip() for key, value in pairs if value.strip()}
    code = next((f"{key}:{known[key]}" for key in _PLACE_CODES if key in known), "")
    latitude, longitude, height = (_coordinate(where.get(name)) for name in ("lat", "lon", "height"))
    return RadarSite(latitude, longitude, height, code)


def _coordinate(value: Any) -> float:
    """Return a coordinate, which may be text such as `50.0 N`; NaN if it is none."""
    text = text_of(value)
    if found := _COORDINATE.fullmatch(text):
        return float(found[1]) * (-1 if found[2].upper() in ("S", "W") else 1)
    try:
        return float(text)
    except ValueError:
        return np.nan


def _band(file: Any) -> str | None:
    places = [file, *(file[name] for name in numbered_groups(file, "dataset"))]
    waves = [_coordinate(attributes_of(place, "how").get("wavelength")) for place in places]
    known = [wave for wave in waves if wave > 0]
    return band_of(_LIGHT_CM_PER_S / known[0]) if known else None


def _is_true(value: Any) -> bool:
    return text_of(value).lower() in ("true", "1")
