"""Grid one volume file, and record the provenance of every step."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from polarcast.data.archive import VARIABLES
from polarcast.data.errors import BadInput
from polarcast.data.ingest.formats import LIBRARIES, read_volume
from polarcast.data.ingest.missing import check_values
from polarcast.data.ingest.ranges import DBZ, GAP_MINUTES, STEP_MINUTES, check_range
from polarcast.data.ingest.volumes import attenuation, kdp, rain
from polarcast.data.ingest.volumes.attenuation import NO_CORRECTION, RAIN_BELOW_M, SPECIFIC_ATTENUATION
from polarcast.data.ingest.volumes.censor import precipitation, window_gates
from polarcast.data.ingest.volumes.gridding import METHOD, Grid, GriddedVolume, to_grid
from polarcast.data.ingest.volumes.phase import smoothing_gates, unfolded_phase
from polarcast.data.ingest.volumes.rain import NO_RAIN, RELATIONS
from polarcast.data.ingest.volumes.volume import BANDS_GHZ, FIELDS, Mask, RadarSite, Sweep, Volume

_HEAVY_DBZ, _FEWEST_HEAVY, _REVERSED_DEG_PER_KM = 40.0, 200, -0.3
"""Echo in which the sign of KDP is checked, its fewest gates, and the median below which it is reversed. Hail has none,
and noise averages to none."""
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
        kdp: How to retrieve KDP that a file lacks, see `kdp.METHODS`; `file` for never.
        attenuation: How to correct zh and zdr for attenuation by rain, see `attenuation.METHODS`; `none` for not.
        band: Radar band (S, C or X); overrides the files.
        rain: Relation of the rain grid to the lowest level, see `rain.RELATIONS`; `kdp` as in NJU-CPOL; `none` for no
            rain grid.
        zr: a and b of Z = a R^b, for the rain grid of zh.
        step_minutes: Time between frames of an event.
        max_gap_minutes: Longest gap within an event; a longer one starts a new event.
        site: Where the radar stands, for files that do not tell it; overrides the files.
        names: Field and its name in the files, where their names are not known, or others are wanted.
    """

    grid: Grid = field(default_factory=Grid)
    variables: tuple[str, ...] = ("zh", "zdr", "kdp")
    min_dbz: float = 5.0
    min_rhohv: float = 0.8
    max_texture_deg: float = 20.0
    kdp: str = "vulpiani"
    attenuation: str = NO_CORRECTION
    band: str | None = None
    rain: str = "kdp"
    zr: tuple[float, float] = (200.0, 1.6)
    step_minutes: float = 6.0
    max_gap_minutes: float = 15.0
    site: RadarSite | None = None
    names: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.band is not None and self.band not in BANDS_GHZ:
            raise BadInput(f"unknown band {self.band!r}", "--band", f"choose from: {', '.join(BANDS_GHZ)}")
        kdp.check_method(self.kdp)
        attenuation.check_method(self.attenuation)
        rain.check_relation(self.rain)
        rain.check_zr(self.zr)
        if not self.variables or self.variables[0] != "zh":
            raise BadInput("zh is not the first variable", "--variables", "put zh first, for example zh,zdr,kdp")
        if len(set(self.variables)) < len(self.variables) or not set(self.variables) <= set(VARIABLES):
            found = ", ".join(self.variables)
            raise BadInput(
                f"unknown or repeated variables: {found}", "--variables", f"choose from: {', '.join(VARIABLES)}"
            )
        if self.rain == "zh_zdr" and "zdr" not in self.variables:
            raise BadInput("rain of zh and zdr needs zdr", "--rain", "add it: --variables zh,zdr, or give --rain zh")
        if unknown := [name for name, _ in self.names if name not in FIELDS]:
            raise BadInput(f"no variable {unknown[0]!r}", "--variable", f"choose from: {', '.join(FIELDS)}")
        for name, least, most in _RANGES:
            check_range(name, getattr(self, name), least, most)

    @property
    def has_rain(self) -> bool:
        """Whether events have a rain grid; that of KDP, the default, only if KDP is one of the variables."""
        return self.rain != NO_RAIN and (self.rain != "kdp" or "kdp" in self.variables)

    @property
    def measured(self) -> tuple[str, ...]:
        """Variables that the files must contain; KDP can be retrieved."""
        return tuple(v for v in self.variables if v != "kdp")

    @property
    def retrieves_kdp(self) -> bool:
        """Whether KDP that a file lacks is retrieved from the phase."""
        return "kdp" in self.variables and self.kdp != kdp.FROM_FILE

    @property
    def gridded(self) -> tuple[str, ...]:
        """Fields to grid: the variables, and what the rain grid needs besides."""
        return (*self.variables, SPECIFIC_ATTENUATION) if self.rain == "a" else self.variables

    @property
    def rain_note(self) -> str:
        """What the rain grid of an archive is a product of; `none` without one."""
        return rain.archive_description(self.rain, self.zr) if self.has_rain else NO_RAIN

    @property
    def needs_band(self) -> bool:
        """Whether coefficients of a band are needed, whatever the files contain."""
        return self.attenuation != NO_CORRECTION or (self.has_rain and bool(RELATIONS[self.rain].bands))


def current_terms(recorded: dict[str, Any]) -> dict[str, Any]:
    """Return recorded settings of an archive in today's terms: attenuation was yes (linear) or no."""
    before = {True: "linear", False: NO_CORRECTION}
    given = recorded.get("attenuation")
    return {**recorded, "attenuation": before[given]} if isinstance(given, bool) else recorded


def grid_volume(paths: Sequence[Path], settings: VolumeSettings) -> GriddedVolume:
    """Read, censor, complete and grid one volume, of one file or in pieces.

    Raises:
        BadInput: See `formats.read_volume`. Also if KDP is requested and there is no phase to retrieve it from, if the
            band is required and unknown, or if a variable has no value at the echo of a level.
    """
    path = paths[0]
    volume = read_volume(paths, settings.measured, settings.site, dict(settings.names))
    band = checked_band(volume, settings, path)
    echoes, removed = _echoes(volume, settings)
    pairs = zip(volume.sweeps, echoes, strict=True)
    height = volume.site.altitude_m
    completed = replace(volume, sweeps=tuple(_complete(sweep, echo, height, band, settings) for sweep, echo in pairs))
    _check_sign(completed, echoes, path)
    radar, covered = to_grid(completed, echoes, settings.gridded, settings.grid)
    check_values(radar, settings.variables, settings.grid.heights_km, path)
    return GriddedVolume(volume.time, radar, covered, settings.gridded, _note(volume, band, settings, removed))


def checked_band(volume: Volume, settings: VolumeSettings, path: Path) -> str | None:
    """Return the band of a volume, if it is known; check that the volume has all that gridding needs.

    Raises:
        BadInput: KDP or the phase, or a band that is needed, is missing.
    """
    band = settings.band or volume.band
    _check_requirements(volume, band, settings, path)
    return band


def _check_sign(volume: Volume, echoes: Sequence[Mask], path: Path) -> None:
    """Check that KDP is not negative in heavy rain, as it is in files that count the phase the other way."""
    heavy = [
        sweep.fields["kdp"][echo & (sweep.fields["zh"] >= _HEAVY_DBZ)]
        for sweep, echo in zip(volume.sweeps, echoes, strict=True)
        if "kdp" in sweep.fields
    ]
    values = np.concatenate(heavy) if heavy else np.empty(0)
    values = values[np.isfinite(values)]
    if len(values) >= _FEWEST_HEAVY and np.median(values) < _REVERSED_DEG_PER_KM:
        raise BadInput(
            f"KDP is {np.median(values):.1f} deg/km in echo of {_HEAVY_DBZ:g} dBZ and more: its sign is reversed", path,
            "write phases that rise with range in rain",
        )  # fmt: skip


def _check_requirements(volume: Volume, band: str | None, settings: VolumeSettings, path: Path) -> None:
    if "kdp" in settings.variables and "kdp" not in volume.names and not settings.retrieves_kdp:
        raise BadInput("the volume has no KDP", path, "retrieve it: --kdp vulpiani, or remove it: --variables zh,zdr")
    needs_retrieval = settings.retrieves_kdp and "kdp" not in volume.names
    if needs_retrieval and not any("phidp" in s.fields for s in volume.sweeps):
        raise BadInput("neither KDP nor a phase to retrieve it from", path, "remove KDP: --variables zh,zdr")
    if band is None and (needs_retrieval or settings.needs_band):
        raise BadInput("the file does not contain the radar's band", path, "give --band S, C or X")
    if settings.has_rain:
        rain.check_band(settings.rain, band)
    if settings.attenuation != NO_CORRECTION and "phidp" not in volume.names:
        raise BadInput("attenuation can't be corrected without the differential phase", path, "remove --attenuation")
    if settings.rain == "a" and "phidp" not in volume.names:
        raise BadInput("specific attenuation needs the differential phase", path, "give another --rain")
    lowest_m = volume.site.altitude_m + 1000 * settings.grid.heights_km[0]
    if settings.rain == "a" and lowest_m >= RAIN_BELOW_M:
        raise BadInput(
            f"the lowest level, {lowest_m:.0f} m above sea level, is above the rain that --rain a assumes, "
            f"{RAIN_BELOW_M:g} m", path, "give a lower level, or another --rain",
        )  # fmt: skip


def _echoes(volume: Volume, settings: VolumeSettings) -> tuple[list[Mask], dict[str, int]]:
    limits = {k: getattr(settings, k) for k in ("min_dbz", "min_rhohv", "max_texture_deg")}
    echoes, removed = [], Counter[str]()
    for sweep in volume.sweeps:
        echo, counts = precipitation(sweep, **limits)
        echoes.append(echo)
        removed.update(counts)
    return echoes, dict(removed)


def _complete(sweep: Sweep, echo: Mask, altitude_m: float, band: str | None, settings: VolumeSettings) -> Sweep:
    """Return the sweep with retrieved KDP, specific attenuation and corrected attenuation, as requested."""
    retrieves = settings.retrieves_kdp and "kdp" not in sweep.fields
    corrects, has_specific = settings.attenuation != NO_CORRECTION, settings.rain == "a"
    if not (retrieves or corrects or has_specific) or "phidp" not in sweep.fields or band is None:
        return _with_missing(sweep, settings.gridded)
    unfolded = unfolded_phase(sweep.fields["phidp"], echo, smoothing_gates(sweep), sweep.phase_fold_deg)
    rays = attenuation.PhasedSweep(sweep, unfolded, echo, altitude_m)
    if retrieves:
        sweep = _where_phase_is(kdp.retrieve_kdp(sweep, unfolded, echo, band, settings.kdp), echo)
    if corrects:
        corrected = attenuation.correct_attenuation(rays, band, settings.attenuation)
        sweep = replace(sweep, fields={**sweep.fields, **{v: corrected.fields[v] for v in rays.sweep.fields}})
    if has_specific:
        sweep = attenuation.with_specific_attenuation(rays, band, sweep)
    return _with_missing(sweep, settings.gridded)


def _where_phase_is(sweep: Sweep, echo: Mask) -> Sweep:
    """Remove retrieved KDP where no phase was measured within the window of the retrieval: gaps are interpolated."""
    has_phase = echo & np.isfinite(sweep.fields["phidp"])
    near = maximum_filter1d(has_phase, window_gates(sweep, kdp.KDP_WINDOW_KM), axis=1, mode="constant")
    return replace(sweep, fields={**sweep.fields, "kdp": np.where(near, sweep.fields["kdp"], np.float32(np.nan))})


def _with_missing(sweep: Sweep, variables: tuple[str, ...]) -> Sweep:
    """Add NaN fields for variables that only other sweeps of the volume have."""
    absent = {v: np.full_like(sweep.fields["zh"], np.nan) for v in variables if v not in sweep.fields}
    return replace(sweep, fields={**sweep.fields, **absent}) if absent else sweep


def _note(volume: Volume, band: str | None, settings: VolumeSettings, removed: dict[str, int]) -> dict[str, Any]:
    """Return the provenance of the volume: processing steps with library and settings."""
    measured = sum(int(np.isfinite(s.fields["zh"]).sum()) for s in volume.sweeps)
    steps: dict[str, Any] = {
        "read": {"format": volume.kind, "library": _library_of(volume.kind), "names": volume.names,
                 "left_out": volume.left_out, **({"read_as": volume.read_as} if volume.read_as else {})},
        "mask": {**{k: getattr(settings, k) for k in ("min_dbz", "min_rhohv", "max_texture_deg")},
                 "gates": measured, "taken_out": removed},
        "grid": {"library": f"arm_pyart {version('arm_pyart')}", "method": METHOD, **asdict(settings.grid)},
    }  # fmt: skip
    if "kdp" in settings.variables:
        steps["kdp"] = _kdp_note(volume, band, settings)
    if settings.attenuation != NO_CORRECTION and band is not None:
        steps["attenuation"] = attenuation.attenuation_note(band, settings.attenuation)
    if settings.rain == "a" and band is not None:
        steps["specific_attenuation"] = attenuation.attenuation_note(band, "zphi")
    site = asdict(volume.site)
    elevations = [round(float(s.elevation_deg.mean()), 2) for s in volume.sweeps]
    return {"site": site, "band": band, "elevations_deg": elevations, "steps": steps}


def _library_of(kind: str) -> str:
    """Return the library that decodes a format, and its version."""
    library = LIBRARIES.get(kind, "xradar")
    return f"{library} {version(library)}"


def _kdp_note(volume: Volume, band: str | None, settings: VolumeSettings) -> dict[str, Any]:
    """Return whether KDP was measured or retrieved, and how."""
    lacking = [sweep for sweep in volume.sweeps if "kdp" not in sweep.fields]
    retrieved = sum("phidp" in sweep.fields for sweep in lacking) if settings.retrieves_kdp and band else 0
    if not retrieved:
        return {"as": "measured"}
    is_mixed = len(lacking) < len(volume.sweeps)
    how = f"measured; retrieved for {retrieved} sweeps without it" if is_mixed else "retrieved"
    return {"as": how, **kdp.retrieval_note(volume.sweeps[0], settings.kdp)}
