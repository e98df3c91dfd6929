"""Format-independent radar volumes: sweeps of rays with standard field names."""

from collections.abc import Mapping
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
    "kdp": (
        "KDP", "KDP_F", "specific_differential_phase", "specific_differential_phase_hv", "corrected_KDP",
        "corrected_specific_differential_phase", "corrected_specific_diff_phase",
        "filtered_corrected_specific_diff_phase",
    ),
    "phidp": (
        "UPHIDP", "PHIDP", "PHIDP_F", "differential_phase", "uncorrected_differential_phase", "differential_phase_hv",
        "corrected_differential_phase", "unfolded_differential_phase", "filtered_corrected_differential_phase",
    ),
    "rhohv": (
        "RHOHV", "RHOHV_F", "URHOHV", "cross_correlation_ratio", "uncorrected_cross_correlation_ratio", "RHO",
        "copolar_correlation_coefficient", "copol_correlation_coeff", "cross_correlation_ratio_hv",
    ),
}  # fmt: skip
"""Names of each field in files, in order of preference: corrected before raw. For the phase, raw comes first, because
it would otherwise be smoothed twice."""
_SHORT_NAMES = {"zh": ("REF",), "zdr": ("DR",), "kdp": ("KD",), "phidp": ("PHI", "PH"), "rhohv": ("RH",)}
"""Names in volumes that mean other things elsewhere: of RadxConvert for NEXRAD, and of Universal Format."""
_STANDARD_NAMES = {
    "zh": (
        "equivalent_reflectivity_factor", "radar_equivalent_reflectivity_factor_h",
        "corrected_equivalent_reflectivity_factor", "horizontal_reflectivity",
    ),
    "zdr": (
        "log_differential_reflectivity_hv", "radar_differential_reflectivity_hv",
        "corrected_log_differential_reflectivity_hv",
    ),
    "kdp": ("specific_differential_phase_hv", "radar_specific_differential_phase_hv"),
    "phidp": ("differential_phase_hv", "radar_differential_phase_hv"),
    "rhohv": ("cross_correlation_ratio_hv", "radar_correlation_coefficient_hv", "cross_correlation_hv"),
}  # fmt: skip
"""Standard names of each field (CfRadial 1.4, section 7; WMO FM 301)."""

BANDS_GHZ = {"S": (2.0, 4.0), "C": (4.0, 8.0), "X": (8.0, 12.0)}
_TO_HZ = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}


@dataclass(frozen=True)
class Sweep:
    """One sweep of the antenna.

    Attributes:
        elevation_deg: (a,) elevation of each ray.
        azimuth_deg: (a,) azimuth of each ray, clockwise from north.
        range_m: (r,) ranges of the gate centres, ascending.
        fields: Name → (a, r): zh in dBZ, zdr in dB, kdp in deg/km, phidp in degrees, rhohv; NaN where missing.
        phase_fold_deg: Folding interval of phidp: 360, or 180 for formats with eight bits.
        unseen: (a, r), gates that were not observed; None if the file does not tell them from gates without echo.
    """

    elevation_deg: Real
    azimuth_deg: Real
    range_m: Real
    fields: dict[str, Real] = field(repr=False)
    phase_fold_deg: float = 360.0
    unseen: Mask | None = field(default=None, repr=False)


@dataclass(frozen=True)
class RadarSite:
    """Where a radar stands.

    Attributes:
        latitude, longitude: In degrees; NaN where a file does not tell them.
        altitude_m: Above sea level.
        code: Identifier of the station, such as KLBB or NOD:behel; empty if a file does not tell it.
    """

    latitude: float
    longitude: float
    altitude_m: float
    code: str = ""


@dataclass(frozen=True)
class Volume:
    """Sweeps of one volume scan.

    Attributes:
        time: Time of the first ray, UTC.
        site: Where the radar stands.
        band: S, C or X; None if the file does not contain it.
        sweeps: Sweeps in scan order, without those that lack required fields.
        names: Name in the file by field; several, with commas, if sweeps differ.
        left_out: Number of sweeps, rays and gates that were not used, by reason.
        kind: Format of the files.
        read_as: What was read in another way than the file tells, by field.
    """

    time: np.datetime64
    site: RadarSite
    band: str | None
    sweeps: tuple[Sweep, ...] = field(repr=False)
    names: dict[str, str]
    left_out: dict[str, int] = field(default_factory=dict)
    kind: str = ""
    read_as: dict[str, str] = field(default_factory=dict)


def find_names(available: list[str]) -> dict[str, str]:
    """Map standard field names to those in a file by `NAMES`, case-insensitively; missing fields are omitted."""
    return {field: names[0] for field, names in candidates(dict.fromkeys(available, "")).items()}


def candidates(standard_names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the names in a file that each standard field may have, the preferred first; missing fields are omitted.

    A field that has none of the known names is the only one with its standard name. A standard name of something else
    excludes a short name.

    Args:
        standard_names: Standard name, or nothing, by name in the file.
    """
    tells = {name: _field_of(standard) for name, standard in standard_names.items()}
    lower = {name.lower(): name for name in standard_names}
    found = {}
    for ours in FIELDS:
        known = [lower[n.lower()] for n in NAMES[ours] if n.lower() in lower]
        short = [lower[n.lower()] for n in _SHORT_NAMES[ours] if n.lower() in lower]
        known += [n for n in short if standard_names[n].strip().lower() in _NO_NAME or tells[n] == ours]
        fitting = tuple(dict.fromkeys(known))
        described = tuple(n for n, other in tells.items() if other == ours and not n.lower().endswith(_OTHER_CHANNEL))
        if fitting or len(described) == 1:
            found[ours] = fitting or described
    return found


_NO_NAME = ("", "unknown", "none")
_OTHER_CHANNEL = ("v", "vc", "vv", "_v")
"""Ends of names of the vertical channel, which has the same standard name."""


def _field_of(standard_name: str) -> str:
    """Return the field of a standard name; empty if it is none of ours."""
    plain = standard_name.strip().lower()
    return next((ours for ours, names in _STANDARD_NAMES.items() if plain in names), "")


def band_of(frequency: float, units: str = "") -> str | None:
    """Return the weather-radar band of a frequency; None outside S, C and X.

    Args:
        frequency: In `units`.
        units: Hz, kHz, MHz or GHz. Of others, and of those that contradict the number, the number tells the unit.
    """
    given = _TO_HZ.get(units.strip().lower(), 1.0)
    factors = [given, *(factor for factor in _TO_HZ.values() if factor != given)]
    bands = (_band_of_ghz(frequency * factor / 1e9) for factor in factors)
    return next((band for band in bands if band), None)


def _band_of_ghz(ghz: float) -> str | None:
    return next((band for band, (low, high) in BANDS_GHZ.items() if low <= ghz < high), None)
