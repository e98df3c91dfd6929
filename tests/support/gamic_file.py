"""Write GAMIC HDF5 files in 16 bits with h5py."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

MOMENTS = {"zh": ("Zh", -32, 95.5), "zdr": ("ZDR", -8, 12), "phidp": ("PHIDP", 0, 360), "rhohv": ("RHOHV", 0, 1),
           "kdp": ("KDP", -18, 18)}  # fmt: skip
_RAY = [(f"{angle}_{end}", "f8") for angle in ("azimuth", "elevation") for end in ("start", "stop")]


def write_gamic(path: Path, scan: Any) -> Path:
    """Write a `radar_files.Scan`."""
    with h5py.File(path, "w") as file:
        file.create_group("what").attrs.update({"object": "PVOL", "sets": len(scan.elevations)})
        site = {"lat": scan.site["latitude"], "lon": scan.site["longitude"], "height": scan.site["altitude"]}
        file.create_group("where").attrs.update(site)
        file.create_group("how")
        for number, elevation in enumerate(scan.elevations):
            _write_sweep(file.create_group(f"scan{number}"), scan, elevation)
    return path


def _write_sweep(group: Any, scan: Any, elevation: float) -> None:
    rays, half = np.zeros(scan.rays, [*_RAY, ("timestamp", "i8")]), 180 / scan.rays
    rays["azimuth_start"], rays["azimuth_stop"] = scan.azimuth - half, scan.azimuth + half
    rays["elevation_start"] = rays["elevation_stop"] = elevation
    rays["timestamp"] = np.datetime64(scan.time, "us").astype(int) + 1000 * np.arange(scan.rays)
    group.create_dataset("ray_header", data=rays)
    group.create_group("what").attrs["scan_type"] = "PPI"
    how = {"elevation": elevation, "bin_count": scan.gates, "range_step": scan.gate_m, "range_samples": 1}
    group.create_group("how").attrs.update({**how, "ray_count": scan.rays, "timestamp": f"{scan.time}Z"})
    for order, name in enumerate(scan.fields):
        label, low, high = MOMENTS[name]
        share = (scan.truth(elevation)[name] - low) / (high - low)
        codes = np.where(np.isfinite(share), np.round(1 + 65534 * share), 0).astype(np.uint16)
        limits = {"dyn_range_min": np.float32(low), "dyn_range_max": np.float32(high)}
        group.create_dataset(f"moment_{order}", data=codes).attrs.update({"moment": label, "format": "UV16", **limits})
