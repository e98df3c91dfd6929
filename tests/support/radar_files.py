"""Write small radar volumes with known content in every supported format."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.ingest.volumes.pyart_bridge import pyart_library
from tests.support.gamic_file import write_gamic
from tests.support.nexrad_file import write_nexrad
from tests.support.sigmet_file import write_sigmet

TIME = "2021-07-04T12:34:56"
SITE = {"latitude": 32.0, "longitude": 118.5, "altitude": 40.0}
FREQUENCY_HZ = 5.6e9
SYSTEM_PHASE_DEG = 30.0
_PYART_NAMES = {
    "zh": "reflectivity", "zdr": "differential_reflectivity", "phidp": "differential_phase",
    "rhohv": "cross_correlation_ratio", "kdp": "specific_differential_phase",
}  # fmt: skip
_CF_NAMES = {"zh": "DBZH", "zdr": "ZDR", "phidp": "PHIDP", "rhohv": "RHOHV", "kdp": "KDP"}


@dataclass(frozen=True)
class Blob:
    """A round storm."""

    azimuth_deg: float
    range_km: float
    radius_km: float
    zh: float = 40.0
    kdp: float = 1.0


@dataclass(frozen=True)
class Scan:
    """A volume of round storms that extend through all heights."""

    elevations: tuple[float, ...] = (0.5, 1.5, 3.0, 6.0, 10.0, 16.0)
    rays: int = 180
    gates: int = 150
    gate_m: float = 500.0
    blobs: tuple[Blob, ...] = (Blob(45, 45, 8), Blob(180, 30, 6))
    noise_deg: float = 1.0
    fields: tuple[str, ...] = ("zh", "zdr", "phidp", "rhohv")
    is_rhi: bool = False
    time: str = TIME
    site: dict[str, float] = field(default_factory=lambda: dict(SITE))

    @property
    def range_m(self) -> np.ndarray:
        return (np.arange(self.gates) + 0.5) * self.gate_m

    @property
    def azimuth(self) -> np.ndarray:
        return (np.arange(self.rays) + 0.5) * 360 / self.rays

    def truth(self, elevation: float) -> dict[str, np.ndarray]:
        """Return fields (rays, gates) of one sweep by name; NaN where there is no echo. `kdp` determines the phase."""
        ground_km = self.range_m[None] / 1000 * np.cos(np.deg2rad(elevation))
        angle = np.deg2rad(self.azimuth)[:, None]
        x, y = ground_km * np.sin(angle), ground_km * np.cos(angle)
        zh, kdp = np.full(x.shape, np.nan), np.zeros(x.shape)
        for blob in self.blobs:
            centre = np.deg2rad(blob.azimuth_deg)
            off = np.hypot(x - blob.range_km * np.sin(centre), y - blob.range_km * np.cos(centre)) / blob.radius_km
            kdp += blob.kdp * np.exp(-2 * off**2) * (off < 1)
            zh = np.where(off < 1, blob.zh - 10 * off**2, zh)
        valid = np.isfinite(zh)
        noise = np.random.default_rng(int(elevation * 10)).normal(0, self.noise_deg, x.shape)
        phase = SYSTEM_PHASE_DEG + 2 * np.cumsum(kdp, axis=1) * self.gate_m / 1000 + noise
        made = {"zh": zh, "zdr": 1.0 + 0 * zh, "phidp": np.mod(phase, 360), "rhohv": 0.99 + 0 * zh, "kdp": kdp}
        return {name: np.where(valid, values, np.nan) for name, values in made.items()}


def to_pyart(scan: Scan, names: dict[str, str] = _PYART_NAMES) -> Any:
    """Convert the scan to a Py-ART radar."""
    pyart = pyart_library()
    radar = pyart.testing.make_empty_ppi_radar(scan.gates, scan.rays, len(scan.elevations))
    radar.range["data"] = scan.range_m.astype("float32")
    radar.range["meters_to_center_of_first_gate"] = float(scan.range_m[0])
    radar.range["meters_between_gates"] = scan.gate_m
    radar.azimuth["data"] = np.tile(scan.azimuth, len(scan.elevations)).astype("float32")
    radar.elevation["data"] = np.repeat(scan.elevations, scan.rays).astype("float32")
    radar.fixed_angle["data"] = np.array(scan.elevations, "float32")
    radar.time["data"] = np.arange(len(radar.azimuth["data"])) / scan.rays * 10
    radar.time["units"] = f"seconds since {scan.time}Z"
    for name, value in scan.site.items():
        getattr(radar, name)["data"] = np.array([value])
    frequency = {"data": np.array([FREQUENCY_HZ]), "units": "s-1", "meta_group": "instrument_parameters"}
    radar.instrument_parameters = {"frequency": frequency}
    sweeps = [scan.truth(elevation) for elevation in scan.elevations]
    for name in scan.fields:
        values = np.concatenate([sweep[name] for sweep in sweeps]).astype("float32")
        radar.fields[names[name]] = {"data": np.ma.masked_invalid(values), "_FillValue": -9999.0, "units": ""}
    return radar


def write_cfradial1(path: Path, scan: Scan) -> Path:
    """Write CfRadial 1 with Py-ART."""
    pyart_library().io.write_cfradial(str(path), to_pyart(scan))
    return path


def _tree(path: Path, scan: Scan) -> Any:
    """Convert the scan to an xradar tree with the field names of ODIM and CfRadial 2."""
    import xradar

    plain = path.with_suffix(".cfradial1.nc")
    pyart_library().io.write_cfradial(str(plain), to_pyart(scan, _CF_NAMES))
    tree = xradar.io.open_cfradial1_datatree(str(plain)).load()
    plain.unlink()
    return tree


def write_cfradial2(path: Path, scan: Scan) -> Path:
    """Write CfRadial 2 with xradar."""
    import xradar

    xradar.io.to_cfradial2(_tree(path, scan), str(path))
    return path


def write_odim(path: Path, scan: Scan) -> Path:
    """Write ODIM HDF5 with xradar; correct the date and time, which xradar writes as the text of an array."""
    import h5py
    import xradar

    xradar.io.to_odim(_tree(path, scan), str(path), source="NOD:test")
    date, time = scan.time.replace("-", "").replace(":", "").split("T")
    with h5py.File(path, "r+") as file:
        file["what"].attrs.update({"date": np.bytes_(date), "time": np.bytes_(time)})
    return path


def write_uf(path: Path, scan: Scan) -> Path:
    """Write Universal Format with Py-ART."""
    pyart_library().io.write_uf(str(path), to_pyart(scan))
    return path


WRITERS: dict[str, Callable[[Path, Scan], Path]] = {
    "CfRadial 1": write_cfradial1,
    "CfRadial 2": write_cfradial2,
    "ODIM HDF5": write_odim,
    "GAMIC HDF5": write_gamic,
    "Universal Format": write_uf,
    "SIGMET/IRIS": write_sigmet,
    "NEXRAD level II": write_nexrad,
}
