"""Read Universal Format (Barnes 1980) with the headers that xradar decodes.

xradar 0.12 ignores the kilometres of the start of the gates, and counts the times of a sweep from its first ray with a
rounded rate of the antenna. The header of every ray has its own time and its own gates.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.ingest.volumes.alignment import on_one_table
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.readers.ray_geometry import on_common_range
from polarcast.data.ingest.volumes.volume import RadarSite, band_of

UF = "Universal Format"
_LIGHT_CM_PER_S = 29.979e9
_MODES = {
    0: "calibration", 1: "azimuth_surveillance", 2: "coplane", 3: "rhi", 4: "vertical_pointing", 5: "target",
    6: "manual_ppi", 7: "idle", 8: "azimuth_surveillance",
}  # fmt: skip
_CENTURY, _SPLIT_YEAR = 1900, 70
"""Years may have two digits; those before 70 are of this century."""


def read_uf(path: Path) -> RawVolume:
    """Read the sweeps of a Universal Format file, with the range and the time of every ray as stored."""
    from xradar.io.backends.uf import UFFile, uf_mapping

    with UFFile(str(path)) as file:
        sweeps = [_sweep(file, headers, uf_mapping) for headers in file.ray_headers.values()]
        first = next(iter(file.ray_headers.values()))[0]
        name = str(first["mhead"]["RadarName"]).strip("\0 ")
        site = _site(first["mhead"], "" if name == "None" else name)
        waves = [float(field["WaveLength"]) for field in first["dhead"]["fields"].values() if field["WaveLength"] > 0]
        return RawVolume(UF, site, tuple(sweeps), band_of(_LIGHT_CM_PER_S / waves[0]) if waves else None)


def _sweep(file: Any, headers: Sequence[Mapping[str, Any]], known: Mapping[str, str]) -> RawSweep:
    """Return a sweep; its fields are put onto one table if their gates differ."""
    rays = [header["mhead"] for header in headers]
    empty = RawSweep(
        np.array([ray["Elevation"] for ray in rays], np.float32),
        np.array([ray["Azimuth"] for ray in rays], np.float32),
        np.zeros(0, np.float32),
        np.array([_time(ray) for ray in rays], "datetime64[ms]"),
        {},
        mode=_MODES.get(rays[0]["SweepMode"], str(rays[0]["SweepMode"])),
    )
    theirs = list(dict.fromkeys(name for header in headers for name in header["dhead"]["fields"]))
    names = {name: known.get(name, name) for name in theirs}
    if len(set(names.values())) < len(names):
        names = {name: name for name in theirs}
    return on_one_table([_with_field(empty, file, headers, name, ours) for name, ours in names.items()] or [empty])


def _with_field(empty: RawSweep, file: Any, headers: Sequence[Mapping[str, Any]], name: str, ours: str) -> RawSweep:
    """Return the sweep with one field, on the gates that most of its rays have."""
    fields = [header["dhead"]["fields"].get(name) for header in headers]
    gates = max(field["BinCount"] for field in fields if field)
    values, ranges = (np.full((len(headers), gates), np.nan) for _ in range(2))
    for ray, (header, field) in enumerate(zip(headers, fields, strict=True)):
        if field:
            count = field["BinCount"]
            values[ray, :count] = _numbers(file.get_ray_field_data(header, name), header["mhead"], field)
            ranges[ray, :count] = _start_m(field) + (np.arange(count) + 0.5) * field["BinSpacing"]
    common = on_common_range(ranges[:1] if _are_same(fields) else ranges)
    if common.gates is not None:
        there = np.take_along_axis(values, np.maximum(common.gates, 0), 1)
        values = np.where(common.gates < 0, np.nan, there)
    return RawSweep(
        empty.elevation_deg, empty.azimuth_deg, common.metres, empty.time,
        {ours: Moment(values.astype(np.float32))}, mode=empty.mode,
    )  # fmt: skip


def _are_same(fields: Sequence[Mapping[str, Any] | None]) -> bool:
    """Whether all rays have a field, with the same gates."""
    return None not in fields and len({(_start_m(f), f["BinSpacing"], f["BinCount"]) for f in fields if f}) == 1


def _start_m(field: Mapping[str, Any]) -> float:
    """Return the near edge of the first gate in metres: it is stored as kilometres and metres."""
    return 1000.0 * float(field["StartRangeKm"]) + float(field["StartRangeMeters"])


def _numbers(stored: npt.NDArray[Any], ray: Mapping[str, Any], field: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Return the values of the gates of a ray, NaN where there is no data."""
    scale = float(field["ScaleFactor"]) or np.nan
    return np.where(stored == ray["NoDataValue"], np.nan, stored / scale)


def _time(ray: Mapping[str, Any]) -> np.datetime64:
    """Return the time of a ray; NaT if its header has no date."""
    year = int(ray["Year"])
    if year < _CENTURY:
        year += _CENTURY + 100 * (year < _SPLIT_YEAR)
    clock = f"{ray['Hour']:02d}:{ray['Minute']:02d}:{ray['Second']:02d}"
    try:
        return np.datetime64(f"{year:04d}-{ray['Month']:02d}-{ray['Day']:02d}T{clock}", "ms")
    except ValueError:
        return np.datetime64("NaT", "ms")


def _site(ray: Mapping[str, Any], code: str) -> RadarSite:
    latitude, longitude = (
        ray[f"{side}Degrees"] + (ray[f"{side}Minutes"] + ray[f"{side}Seconds"] / 60) / 60 for side in ("Lat", "Lon")
    )
    return RadarSite(float(latitude), float(longitude), float(ray["Altitude"]), code)
