"""Grid one volume file, and record the provenance of every step."""

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import VARIABLES
from polarcast.data.errors import BadInput
from polarcast.data.ingest.formats import read_volume
from polarcast.data.ingest.ranges import DBZ, GAP_MINUTES, STEP_MINUTES, check_range
from polarcast.data.ingest.volumes import phase
from polarcast.data.ingest.volumes.censor import precipitation
from polarcast.data.ingest.volumes.gridding import METHOD, Grid, GriddedVolume, to_grid
from polarcast.data.ingest.volumes.volume import BANDS_GHZ, Mask, Sweep, Volume

RAIN_OF_KDP = {"S": (50.70, 0.85), "C": (29.7, 0.85), "X": (15.81, 0.7992)}
"""Coefficients of R = a KDP^b in mm/h by band, from Py-ART (retrieve/qpe.py, _coeff_rkdp_table). The C-band relation is
by Bringi and Chandrasekar; the others are fits to Beard–Chuang drop shapes."""


_RANGES = (
    ("min_dbz", *DBZ), ("min_rhohv", 0, 1.1), ("max_texture_deg", 0, 360), ("step_minutes", *STEP_MINUTES),
    ("max_gap_minutes", *GAP_MINUTES),
)  # fmt: skip
"""Setting, least and largest value."""


@dataclass(frozen=True)
class VolumeSettings:
    """Settings for gridding of volumes.

    Attributes:
        grid: Pixels and levels.
        variables: Variables of every event, zh first.
        min_dbz: Minimum reflectivity of an echo.
        min_rhohv: Minimum correlation coefficient of precipitation.
        max_texture_deg: Maximum phase texture of precipitation.
        attenuation: Whether to correct zh and zdr for attenuation by rain.
        band: Radar band (S, C or X); overrides the files.
        rain: `kdp` for a rain grid from KDP at the lowest level, as in NJU-CPOL; `none` for no rain grid.
        step_minutes: Time between frames of an event.
        max_gap_minutes: Longest gap within an event; a longer one starts a new event.
    """

    grid: Grid = field(default_factory=Grid)
    variables: tuple[str, ...] = ("zh", "zdr", "kdp")
    min_dbz: float = 5.0
    min_rhohv: float = 0.8
    max_texture_deg: float = 20.0
    attenuation: bool = False
    band: str | None = None
    rain: str = "kdp"
    step_minutes: float = 6.0
    max_gap_minutes: float = 15.0

    def __post_init__(self) -> None:
        if self.band is not None and self.band not in BANDS_GHZ:
            raise BadInput(f"unknown band {self.band!r}", "--band", f"choose from: {', '.join(BANDS_GHZ)}")
        if self.rain not in ("kdp", "none"):
            raise BadInput(f"unknown rain grid {self.rain!r}", "--rain", "choose from: kdp, none")
        if not self.variables or self.variables[0] != "zh":
            raise BadInput("zh is not the first variable", "--variables", "put zh first, for example zh,zdr,kdp")
        if len(set(self.variables)) < len(self.variables) or not set(self.variables) <= set(VARIABLES):
            found = ", ".join(self.variables)
            raise BadInput(
                f"unknown or repeated variables: {found}", "--variables", f"choose from: {', '.join(VARIABLES)}"
            )
        for name, least, most in _RANGES:
            check_range(name, getattr(self, name), least, most)

    @property
    def has_rain(self) -> bool:
        """Whether events have a rain grid."""
        return self.rain == "kdp" and "kdp" in self.variables

    @property
    def measured(self) -> tuple[str, ...]:
        """Variables that the files must contain; KDP can be retrieved."""
        return tuple(v for v in self.variables if v != "kdp")


def grid_volume(path: Path, settings: VolumeSettings) -> GriddedVolume:
    """Read, censor, complete and grid one volume.

    Raises:
        BadInput: See `formats.read_volume`. Also if KDP is requested and there is no phase to retrieve it from, or if
            the band is required and unknown.
    """
    volume = read_volume(path, settings.measured)
    band = settings.band or volume.band
    _check_requirements(volume, band, settings, path)
    echoes, removed = _echoes(volume, settings)
    pairs = zip(volume.sweeps, echoes, strict=True)
    completed = replace(volume, sweeps=tuple(_complete(sweep, echo, band, settings) for sweep, echo in pairs))
    radar, covered = to_grid(completed, echoes, settings.variables, settings.grid)
    return GriddedVolume(volume.time, radar, covered, settings.variables, _note(volume, band, settings, removed))


def rain_of_kdp(kdp: Any, band: str) -> Any:
    """Return R = a KDP^b (`RAIN_OF_KDP`) in mm/h for KDP of any shape; zero where KDP is not positive or missing."""
    a, b = RAIN_OF_KDP[band]
    return np.asarray(a * np.maximum(np.nan_to_num(kdp), 0) ** b, dtype=np.float32)


def rain_description(band: str) -> str:
    """Describe the rain grid for the event's note."""
    a, b = RAIN_OF_KDP[band]
    return f"R = {a} KDP^{b} of KDP at the lowest level (arm_pyart, {band} band); a product of the radar, not a gauge"


def _check_requirements(volume: Volume, band: str | None, settings: VolumeSettings, path: Path) -> None:
    needs_retrieval = "kdp" in settings.variables and "kdp" not in volume.names
    if needs_retrieval and not any("phidp" in s.fields for s in volume.sweeps):
        raise BadInput("neither KDP nor a phase to retrieve it from", path, "remove KDP: --variables zh,zdr")
    if band is None and (needs_retrieval or settings.has_rain or settings.attenuation):
        raise BadInput("the file does not contain the radar's band", path, "give --band S, C or X")
    if settings.attenuation and "phidp" not in volume.names:
        raise BadInput("attenuation can't be corrected without the differential phase", path, "remove --attenuation")


def _echoes(volume: Volume, settings: VolumeSettings) -> tuple[list[Mask], dict[str, int]]:
    limits = {k: getattr(settings, k) for k in ("min_dbz", "min_rhohv", "max_texture_deg")}
    echoes, removed = [], Counter[str]()
    for sweep in volume.sweeps:
        echo, counts = precipitation(sweep, **limits)
        echoes.append(echo)
        removed.update(counts)
    return echoes, dict(removed)


def _complete(sweep: Sweep, echo: Mask, band: str | None, settings: VolumeSettings) -> Sweep:
    """Return the sweep with retrieved KDP and corrected attenuation, as requested."""
    retrieves = "kdp" in settings.variables and "kdp" not in sweep.fields
    if not (retrieves or settings.attenuation) or "phidp" not in sweep.fields or band is None:
        return _with_missing(sweep, settings.variables)
    unfolded = phase.unfolded_phase(sweep.fields["phidp"], echo, phase.smoothing_gates(sweep), sweep.phase_fold_deg)
    if retrieves:
        sweep = phase.retrieve_kdp(sweep, unfolded, echo, band)
    return phase.correct_attenuation(sweep, unfolded, band) if settings.attenuation else sweep


def _with_missing(sweep: Sweep, variables: tuple[str, ...]) -> Sweep:
    """Add NaN fields for variables that only other sweeps of the volume have."""
    absent = {v: np.full_like(sweep.fields["zh"], np.nan) for v in variables if v not in sweep.fields}
    return replace(sweep, fields={**sweep.fields, **absent}) if absent else sweep


def _note(volume: Volume, band: str | None, settings: VolumeSettings, removed: dict[str, int]) -> dict[str, Any]:
    """Return the provenance of the volume: processing steps with library and settings."""
    measured = sum(int(np.isfinite(s.fields["zh"]).sum()) for s in volume.sweeps)
    steps: dict[str, Any] = {
        "read": {"library": f"xradar {version('xradar')}", "names": volume.names},
        "mask": {**{k: getattr(settings, k) for k in ("min_dbz", "min_rhohv", "max_texture_deg")},
                 "gates": measured, "taken_out": removed},
        "grid": {"library": f"arm_pyart {version('arm_pyart')}", "method": METHOD, **asdict(settings.grid)},
    }  # fmt: skip
    if "kdp" in settings.variables:
        retrieved = {"library": f"arm_pyart {version('arm_pyart')}", **phase.retrieval_note(volume.sweeps[0])}
        steps["kdp"] = {"as": "measured"} if "kdp" in volume.names else {"as": "retrieved", **retrieved}
    if settings.attenuation:
        steps["attenuation"] = {"method": phase.ATTENUATION_METHOD, "band": band}
    site = {k: getattr(volume, k) for k in ("latitude", "longitude", "altitude_m")}
    elevations = [round(float(s.elevation_deg.mean()), 2) for s in volume.sweeps]
    return {"site": site, "band": band, "elevations_deg": elevations, "steps": steps}
