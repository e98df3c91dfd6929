"""Convert sweeps to Py-ART radars."""

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import not_installed
from polarcast.data.ingest.volumes.volume import RadarSite, Sweep


def pyart_library() -> Any:
    """Import Py-ART without its banner.

    Raises:
        BadInput: Py-ART is not installed.
    """
    os.environ.setdefault("PYART_QUIET", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyart
    except ImportError as error:
        raise not_installed(str(error.name), "ingest", "ingest") from None
    return pyart


def to_pyart(sweep: Sweep, fields: Mapping[str, npt.NDArray[Any]], site: RadarSite | None = None) -> Any:
    """Return a Py-ART radar of one sweep with the given fields (a, r); NaN becomes masked.

    Args:
        sweep: Sweep that defines the geometry.
        fields: Fields by name.
        site: Where the radar stands; required for gridding only.
    """
    pyart = pyart_library()
    rays, gates = len(sweep.azimuth_deg), len(sweep.range_m)
    radar = pyart.testing.make_empty_ppi_radar(gates, rays, 1)
    radar.range["data"] = sweep.range_m
    radar.range["meters_to_center_of_first_gate"] = float(sweep.range_m[0])
    radar.range["meters_between_gates"] = float(np.diff(sweep.range_m).mean())
    radar.azimuth["data"], radar.elevation["data"] = sweep.azimuth_deg, sweep.elevation_deg
    radar.fixed_angle["data"] = np.array([sweep.elevation_deg.mean()])
    if site is not None:
        for name in ("latitude", "longitude"):
            getattr(radar, name)["data"] = np.array([getattr(site, name)])
        radar.altitude["data"] = np.array([site.altitude_m])
    radar.fields = {name: {"data": np.ma.masked_invalid(values)} for name, values in fields.items()}
    return radar
