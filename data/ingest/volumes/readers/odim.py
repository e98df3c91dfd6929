"""Read polar volumes and scans in ODIM HDF5 (OPERA Data Information Model 2.0 to 2.4).

The file is read with h5py: codes are compared as stored, and the azimuths follow all the ways in which the model gives
them. xradar 0.12 turns sweeps that rotate counter-clockwise, ignores `how/astart`, and decodes before it compares.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.cf_values import equals_code
from polarcast.data.ingest.odim import attributes_of, numbered_groups, text_of
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.volume import RadarSite, band_of

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
_EARLIEST_S = 3.2e8
"""1980: earlier times of rays are counted from the start of the scan, or not set."""
_PLACE_CODES = ("NOD", "WMO", "WIGOS", "RAD", "PLC", "STN", "CMT")
"""Identifiers in `what/source`, the most reliable first."""


def object_of(path: Path) -> str | None:
    """Return `/what/object` of an HDF5 file; None if it has none, and is no ODIM file."""
    import h5py

    with h5py.File(path) as file:
        return text_of(attributes_of(file, "what").get("object")).upper() or None


def read_odim(path: Path) -> RawVolume:
    """Read the sweeps of an ODIM file.

    Raises:
        BadInput: The file contains another object than a polar volume or scan, such as a composite.
    """
    import h5py

    with h5py.File(path) as file:
        what = attributes_of(file, "what")
        name = text_of(what.get("object")).upper()
        if name not in VOLUMES:
            called = OBJECTS.get(name, "unknown object")
            raise BadInput(f"an ODIM {called} ({name}) is not supported", path, "give polar volumes (PVOL) or scans")
        sweeps = tuple(_sweep(file, group) for group in numbered_groups(file, "dataset"))
        return RawVolume(KIND, _site(file), sweeps, _band(file))


def _sweep(file: Any, name: str) -> RawSweep:
    group = file[name]
    levels = [{**attributes_of(file, kind), **attributes_of(group, kind)} for kind in ("what", "where", "how")]
    what, where, how = levels
    parts = [group[part] for part in numbered_groups(group, "data") if "data" in group[part]]
    if not parts:
        raise BadInput(f"{name} has no data", fix="copy it again from its source")
    rays, gates = parts[0]["data"].shape
    intact = [part for part in parts if not _is_true(attributes_of(part, "how").get("malfunc"))]
    moments = {_quantity(part): _moment(part) for part in intact}
    elevation = _elevations(where, how, rays)
    flaw = "malfunction of the radar (how/malfunc)" if _is_true(how.get("malfunc")) or not intact else ""
    return RawSweep(
        elevation, _azimuths(where, how, rays), _ranges(file, where, gates), _times(file, what, how, rays), moments,
        mode=_mode(where, elevation), flaw=flaw,
    )  # fmt: skip


def _moment(part: Any) -> Moment:
    """Decode one `dataN` group; `nodata` is unseen, `undetect` is no echo."""
    what, raw = attributes_of(part, "what"), np.asarray(part["data"][()])
    gain, offset = float(what.get("gain", 1.0)), float(what.get("offset", 0.0))
    unseen, undetected = (equals_code(raw, what.get(name)) for name in ("nodata", "undetect"))
    values = (raw.astype(np.float64) * gain + offset).astype(np.float32)
    values[unseen | undetected | ~np.isfinite(values)] = np.nan
    one_code = bool((unseen & undetected).any())
    return Moment(values, unseen=None if one_code else unseen, has_no_echo=not one_code and bool(undetected.any()))


def _azimuths(where: Mapping[str, Any], how: Mapping[str, Any], rays: int) -> npt.NDArray[np.float32]:
    """Return the azimuth of the centre of each ray, by the most exact of the ways in which the file gives them.

    Start and stop angles give the middle of the arc between them, whichever way the antenna turns. Otherwise rays are
    even, from `how/astart` (ODIM 2.2, table 8), from `where/startaz` to `stopaz`, or from north.
    """
    starts, stops = (_per_ray(how.get(name), rays) for name in ("startazA", "stopazA"))
    if starts is None and "azangles" in how:
        starts, stops = _pairs(text_of(how["azangles"]), rays)
    if starts is not None:
        following = np.roll(starts, -1) if stops is None else stops
        return np.mod(starts + _arc(starts, following) / 2, 360).astype(np.float32)
    if unread := next((name for name in ("startazA", "stopazA", "azangles") if name in how), None):
        raise BadInput(f"angles of the rays in a form that is not known (how/{unread})", fix="write one for each ray")
    first, last = 0.0, 360.0
    if "astart" in how:
        first = float(np.ravel(how["astart"])[0])
        last = first + 360
    elif "startaz" in where and "stopaz" in where:
        first = float(where["startaz"])
        last = first + ((float(where["stopaz"]) - first) % 360 or 360)
    return np.mod(first + (np.arange(rays) + 0.5) * (last - first) / rays, 360).astype(np.float32)


def _pairs(text: str, rays: int) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64] | None]:
    """Return start and stop angles of `0:1,1:2,…` (ODIM 2.0), (a,) each; None if there is not one pair for each ray."""
    pairs = [pair.partition(":")[::2] for pair in text.split(",") if pair.strip()]
    try:
        starts, stops = (np.array([float(pair[side]) for pair in pairs]) for side in (0, 1))
    except ValueError:
        return None, None
    return (starts, stops) if len(starts) == rays else (None, None)


def _arc(starts: npt.NDArray[np.float64], stops: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the shortest arc from starts to stops in degrees, −180 to 180."""
    return (stops - starts + 180) % 360 - 180


def _elevations(where: Mapping[str, Any], how: Mapping[str, Any], rays: int) -> npt.NDArray[np.float32]:
    starts, stops = (_per_ray(how.get(name), rays) for name in ("startelA", "stopelA"))
    each = (starts + stops) / 2 if starts is not None and stops is not None else _per_ray(how.get("elangles"), rays)
    fixed = float(np.ravel(where.get("elangle", np.nan))[0])
    return np.full(rays, fixed, np.float32) if each is None else each.astype(np.float32)


def _per_ray(values: Any, rays: int) -> npt.NDArray[np.float64] | None:
    """Return an attribute with one number a ray; None if it is missing or has another form."""
    array = np.ravel(np.asarray(values))
    return array.astype(np.float64) if array.dtype.kind in "fiu" and len(array) == rays else None


def _ranges(file: Any, where: Mapping[str, Any], gates: int) -> npt.NDArray[np.float32]:
    """Return the centres of the gates; `rstart` is in km, and in m since ODIM 2.4."""
    version = text_of(file.attrs.get("Conventions")) + text_of(attributes_of(file, "what").get("version"))
    in_metres = "2_4" in version or "2.4" in version
    start = float(where.get("rstart", 0.0)) * (1 if in_metres else 1000)
    return (start + (np.arange(gates) + 0.5) * float(where["rscale"])).astype(np.float32)


def _times(file: Any, what: Mapping[str, Any], how: Mapping[str, Any], rays: int) -> npt.NDArray[np.datetime64]:
    """Return the time of each ray: of the rays if the file has it, else of the scan, else of the file."""
    starts, stops = (_per_ray(how.get(name), rays) for name in ("startazT", "stopazT"))
    if starts is not None:
        middle = starts if stops is None else (starts + stops) / 2
        known = np.isfinite(middle) & (middle > _EARLIEST_S) & (middle < 1e11)
        out = np.full(rays, np.datetime64("NaT"), "datetime64[ms]")
        out[known] = np.rint(middle[known] * 1000).astype(np.int64).astype("datetime64[ms]")
        if known.any():
            return out
    root = attributes_of(file, "what")
    at = _clock(what.get("startdate"), what.get("starttime"))
    return np.full(rays, _clock(root.get("date"), root.get("time")) if np.isnat(at) else at)


def _clock(date: Any, time: Any) -> np.datetime64:
    """Return a date YYYYMMDD and time HHmmSS; second 60, a leap second, is the next minute's first."""
    day, clock = text_of(date), text_of(time)
    if len(day) != 8 or len(clock) not in (4, 6) or not (day + clock).isdigit():
        return np.datetime64("NaT", "ms")
    hours, minutes, seconds = (int(clock[i : i + 2] or 0) for i in (0, 2, 4))
    start = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}", "ms")
    return start + np.timedelta64(3600 * hours + 60 * minutes + seconds, "s")


def _mode(where: Mapping[str, Any], elevation: npt.NDArray[np.float32]) -> str:
    """Return the scan mode: RHIs are named by their azimuth, and a birdbath looks up."""
    if "az_angle" in where or "azangle" in where:
        return "rhi"
    return "vertical_pointing" if np.nanmedian(elevation) > 85 else "azimuth_surveillance"


def _site(file: Any) -> RadarSite:
    where, what = attributes_of(file, "where"), attributes_of(file, "what")
    pairs = [part.partition(":")[::2] for part in text_of(what.get("source")).split(",")]
    known = {key.strip().upper(): value.strip() for key, value in pairs if value.strip()}
    code = next((f"{key}:{known[key]}" for key in _PLACE_CODES if key in known), "")
    latitude, longitude, height = (float(np.ravel(where.get(name, np.nan))[0]) for name in ("lat", "lon", "height"))
    return RadarSite(latitude, longitude, height, code)


def _band(file: Any) -> str | None:
    places = [
        attributes_of(file, "how"),
        *(attributes_of(file[name], "how") for name in numbered_groups(file, "dataset")),
    ]
    waves = [float(np.ravel(how["wavelength"])[0]) for how in places if "wavelength" in how]
    return band_of(_LIGHT_CM_PER_S / waves[0]) if waves and waves[0] > 0 else None


def _quantity(part: Any) -> str:
    return text_of(attributes_of(part, "what").get("quantity")) or str(part.name).rsplit("/", 1)[-1]


def _is_true(value: Any) -> bool:
    return text_of(value).lower() in ("true", "1")
