"""A radar volume, whatever file it came from: sweeps of rays, with the fields under the names of this suite."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FIELDS = ("zh", "zdr", "kdp", "phidp", "rhohv")
NAMES: dict[str, tuple[str, ...]] = {
    "zh": (
        "corrected_reflectivity", "DBZHC", "DBZHCC", "attenuation_corrected_reflectivity_h",
        "DBZH", "reflectivity", "DBZ", "DBZ_F", "ZH", "CZ", "DZ", "HCLASS_DBZH", "corrected_reflectivity_horizontal",
        "equivalent_reflectivity_factor", "reflectivity_horizontal", "DBTH", "TH", "total_power",
    ),
    "zdr": (
        "corrected_differential_reflectivity", "ZDRC", "ZDR", "ZDR_F", "differential_reflectivity", "ZDRU",
        "log_differential_reflectivity_hv", "diff_reflectivity",
    ),
    "kdp": ("KDP", "KDP_F", "specific_differential_phase", "specific_differential_phase_hv", "corrected_KDP"),
    "phidp": (
        "UPHIDP", "PHIDP", "PHIDP_F", "differential_phase", "uncorrected_differential_phase", "differential_phase_hv",
    ),
    "rhohv": (
        "RHOHV", "RHOHV_F", "URHOHV", "cross_correlation_ratio", "uncorrected_cross_correlation_ratio", "RHO",
        "copolar_correlation_coefficient", "cross_correlation_ratio_hv",
    ),
}  # fmt: skip
"""Names a field goes by in files, the preferred first: corrected before raw, except for the phase, whose own filters
would otherwise smooth it twice."""

BANDS_GHZ = {"S": (2.0, 4.0), "C": (4.0, 8.0), "X": (8.0, 12.0)}


@dataclass(frozen=True)
class Sweep:
    """One turn of the antenna.

    Attributes:
        elevation_deg: (a,) of each ray.
        azimuth_deg: (a,) of each ray, clockwise from north.
        range_m: (r,) centres of the gates, ascending.
        fields: Name → (a, r): zh in dBZ, zdr in dB, kdp in deg/km, phidp in degrees, rhohv; NaN where there is none.
        phase_fold_deg: Where phidp folds: 360, or 180 where a format's eight bits hold no more.
    """

    elevation_deg: Real
    azimuth_deg: Real
    range_m: Real
    fields: dict[str, Real] = field(repr=False)
    phase_fold_deg: float = 360.0


@dataclass(frozen=True)
class Volume:
    """Sweeps of one scan of the sky.

    Attributes:
        time: Of its first ray, UTC.
        latitude, longitude: Of the radar, degrees.
        altitude_m: Of the radar above the sea.
        band: S, C or X, or None where the file does not tell.
        sweeps: As scanned; those without the wanted fields are gone.
        names: Field → the name it has in the file.
    """

    time: np.datetime64
    latitude: float
    longitude: float
    altitude_m: float
    band: str | None
    sweeps: tuple[Sweep, ...] = field(repr=False)
    names: dict[str, str]


def find_names(there: list[str]) -> dict[str, str]:
    """Our field names → those of a file, by `NAMES`, whatever their case; fields it lacks are not in the result."""
    lower = {name.lower(): name for name in there}
    found = {f: next((lower[n.lower()] for n in names if n.lower() in lower), None) for f, names in NAMES.items()}
    return {f: name for f, name in found.items() if name is not None}


def band_of(frequency_hz: float) -> str | None:
    """The weather-radar band of a frequency; None outside S, C and X."""
    ghz = frequency_hz / 1e9
    return next((band for band, (low, high) in BANDS_GHZ.items() if low <= ghz < high), None)
