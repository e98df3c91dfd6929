"""Write small ODIM and CfRadial 1 files ray by ray, with any angles, codes and attributes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

GATES, GATE_M = 24, 1000.0
NO_ECHO, NO_DATA = 0, 255
_GAIN, _OFFSET = 0.5, -32.0
START_S = 1625402096.0
"""2021-07-04T12:34:56."""


@dataclass(frozen=True)
class Rays:
    """Rays of one sweep in the order of the file.

    Attributes:
        elevation: In degrees.
        azimuths: Centre of each ray in degrees.
        codes: (a, r) stored bytes of zh, 0 for no echo and 255 for no data.
        where, how: Attributes of the sweep's groups in ODIM.
    """

    elevation: float
    azimuths: np.ndarray
    codes: np.ndarray
    where: Mapping[str, Any] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)


def code_of(azimuths: np.ndarray, gates: int = GATES) -> np.ndarray:
    """Return codes (a, r) that tell the azimuth of their ray, to two degrees, and nothing of where the file has it."""
    codes = 40 + np.floor(np.mod(azimuths, 360) / 2).astype(np.uint8)
    return np.repeat(codes[:, None], gates, 1)


def azimuth_of(zh: np.ndarray) -> np.ndarray:
    """Return the azimuth that values of `code_of` tell, in degrees."""
    return ((zh - _OFFSET) / _GAIN - 40) * 2 + 1


def write_odim_rays(path: Path, sweeps: Sequence[Rays], **root: Any) -> Path:
    """Write ODIM with zh and the attributes of the sweeps; `root` is added to `what`."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("ODIM_H5/V2_2")
        what = {"object": np.bytes_("PVOL"), "date": np.bytes_("20210704"), "time": np.bytes_("123456")}
        file.create_group("what").attrs.update({**what, "source": np.bytes_("NOD:xxtst"), **root})
        file.create_group("where").attrs.update({"lat": 50.0, "lon": 8.0, "height": 100.0})
        for number, rays in enumerate(sweeps, start=1):
            group = file.create_group(f"dataset{number}")
            where = {
                "elangle": rays.elevation,
                "nrays": len(rays.codes),
                "nbins": GATES,
                "rscale": GATE_M,
                "rstart": 0.0,
            }
            group.create_group("where").attrs.update({**where, "a1gate": 0, **rays.where})
            group.create_group("how").attrs.update(dict(rays.how))
            group.create_group("what").attrs.update({"startdate": what["date"], "starttime": what["time"]})
            data = group.create_group("data1")
            codes = {"nodata": float(NO_DATA), "undetect": float(NO_ECHO), "gain": _GAIN, "offset": _OFFSET}
            data.create_group("what").attrs.update({"quantity": np.bytes_("DBZH"), **codes})
            data["data"] = rays.codes
    return path


def write_cfradial_rays(
    path: Path, sweeps: Sequence[Rays], attributes: Mapping[str, Any] | None = None, **ray_variables: np.ndarray
) -> Path:
    """Write CfRadial 1 with zh as bytes, packed; `ray_variables` are further variables of all rays."""
    import netCDF4

    count = sum(len(rays.azimuths) for rays in sweeps)
    starts = np.cumsum([0, *(len(rays.azimuths) for rays in sweeps)])
    with netCDF4.Dataset(path, "w") as file:
        file.Conventions = "CF/Radial"
        for name, size in (("time", count), ("range", GATES), ("sweep", len(sweeps))):
            file.createDimension(name, size)
        elevation = np.concatenate([np.full(len(rays.azimuths), rays.elevation) for rays in sweeps])
        columns = {
            "time": np.arange(count, dtype=float), "elevation": elevation,
            "azimuth": np.concatenate([rays.azimuths for rays in sweeps]), **ray_variables,
        }  # fmt: skip
        for name, values in columns.items():
            variable = file.createVariable(name, values.dtype, ("time",))
            variable[:] = values
        file["time"].units = "seconds since 2021-07-04T12:34:56Z"
        for name, number in (("latitude", 50.0), ("longitude", 8.0), ("altitude", 100.0)):
            file.createVariable(name, "f8", ())[...] = number
        file.createVariable("range", "f4", ("range",))[:] = (np.arange(GATES) + 0.5) * GATE_M
        for name, numbers in (("sweep_start_ray_index", starts[:-1]), ("sweep_end_ray_index", starts[1:] - 1)):
            file.createVariable(name, "i4", ("sweep",))[:] = numbers
        zh = file.createVariable("DBZ", "u1", ("time", "range"), fill_value=False)
        zh.set_auto_maskandscale(False)
        packing = {"units": "dBZ", "scale_factor": _GAIN, "add_offset": _OFFSET, "_FillValue": np.uint8(NO_DATA)}
        zh.setncatts({name: value for name, value in {**packing, **(attributes or {})}.items() if value is not None})
        zh[:] = np.concatenate([rays.codes for rays in sweeps])
    return path
