"""Physical parameters of the synthetic storms, and the presets."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from polarcast.data.synth.drops import DropPrior

GENERATOR = "polarcast synthetic storms"
GENERATOR_VERSION = "2"


@dataclass(frozen=True)
class StormWorld:
    """Climate, storm dynamics and radar parameters of one synthetic archive."""

    # Latent chain vigour v -> growth g -> rain X
    lifetime_32km_min: float = 17.0
    """Decorrelation time tau of the rain latent at 32 km wavelength, min."""
    lifetime_exponent: float = 1.0
    """Exponent of the growth of tau with wavelength."""
    lifetime_range_min: tuple[float, float] = (4.0, 400.0)
    """Bounds of tau, min."""
    growth_from_vigour: float = 0.9
    """Share of the variance of g driven by v."""
    rain_from_growth: float = 0.95
    """Share of the variance of X driven by g."""
    outer_scale_km: float = 110.0
    """Wavelength above which the latents' spectrum is flat, km."""
    spectrum_exponent: float = 1.45
    """Exponent of the latents' spectral density (k^2 + outer^-2)^-exponent."""
    organisation: float = 0.12
    """Share of the latents' variance at wavelengths above 150 km; larger values give one large rain area."""
    cutoff_km: float = 3.0
    """Shortest wavelength of the latents, km."""
    texture_scale_km: float = 20.0
    """Outer scale of the independent texture h, km."""
    texture_lifetime: float = 2.0
    """Lifetime of the texture's modes in units of tau."""

    band_stretch: tuple[float, float] = (1.0, 1.6)
    """Range over events of the elongation of rain areas; the aspect ratio is its square."""

    # Motion
    speed_range_ms: tuple[float, float] = (5.0, 15.0)
    """Range over events of the storm speed over the ground, m/s."""
    direction_deg: tuple[float, float] = (70.0, 35.0)
    """Mean and standard deviation over events of the storm heading, degrees clockwise from north."""

    # Stratiform background at 3 km
    log_rain_mean: tuple[float, float] = (-3.8, 0.3)
    """Mean and standard deviation over events of the mean of ln R (mm/h)."""
    log_rain_sd: tuple[float, float] = (1.7, 2.0)
    """Range over events of the standard deviation of ln R."""
    rain_cap_mmh: float = 180.0
    """Soft upper bound of the rain rate, mm/h."""
    evaporation_mmh: float = 0.15
    """Rate below which rain and ice mostly evaporate, R / (1 + (this / R)^3), mm/h; it gives sharp edges."""
    fall_memory: float = 0.65
    """Share of the rain at 1 km that was at 3 km one frame earlier."""

    # Convective cells
    cell_threshold: float = 1.4
    """Birth threshold of the maxima of low-passed (g + 0.4 v), in units of its standard deviation."""
    cell_spacing_km: float = 11.0
    """Minimum distance of a birth from a cell younger than 24 min, km."""
    cell_radius_km: float = 2.5
    """Mean e-folding radius of a sub-cell, km."""
    cell_peak_mmh: float = 7.0
    """Peak rain rate of a cell born where v = 1, mm/h."""
    cell_vigour_gain: float = 0.45
    """Increase of ln of the peak rain rate per unit of v at birth."""
    cell_peak_time_min: float = 13.0
    """Age of a sub-cell at its peak, min."""
    stratiform_share: float = 0.4
    """Share of a cell's rain added to the decaying stratiform reservoir each frame."""
    stratiform_unit_mmh: float = 0.15
    """Reservoir value that doubles the background rain, mm/h."""
    stratiform_limit: float = 14.0
    """Maximum factor by which the reservoir increases the background rain."""
    stratiform_lifetime_min: float = 45.0
    """Decay time of the stratiform reservoir, min."""

    # Drop sizes
    drops: DropPrior = field(default_factory=DropPrior)
    """Median and width relations of the drop-size distribution."""
    size_from_vigour: float = 0.17
    """Deviation of ln Dm per unit of v not explained by X."""
    size_from_texture: float = 0.05
    """Deviation of ln Dm per unit of the texture h."""
    size_regime: tuple[float, float] = (0.015, 0.06)
    """Mean and standard deviation over events of the deviation of ln Dm; the mean compensates for the vigour lost
    before it rains."""
    size_updraft: float = 0.22
    """Increase of ln Dm in a cell's updraft (its first minutes)."""
    size_leading_edge: float = 0.09
    """Increase of ln Dm per radius towards a cell's leading edge."""

    # Ice at 7 km
    ice_shear_km: float = 6.0
    """Displacement of the ice aloft along the motion, km."""
    ice_deficit_db: tuple[float, float] = (8.0, 13.0)
    """Range over events of the reflectivity deficit of ice relative to 200 A^1.6, dB."""

    ice_contrast: float = 1.0
    """Contrast of the ice between strong and weak areas, relative to that of the rain."""
    ice_zdr_db: float = 0.25
    """Median ZDR of ice at 20 dBZ, dB."""
    ice_kdp_deg_km: float = 0.055
    """KDP of ice at 20 dBZ, deg/km."""

    # Radar
    noise: tuple[float, float, float] = (0.8, 0.2, 0.2)
    """Standard deviations of the correlated noise of zh (dB), zdr (dB), kdp (deg/km), at 38 dBZ and above."""
    noise_growth: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Noise factors of zh, zdr, kdp per 10 dB below 38 dBZ."""
    kdp_scale: float = 1.0
    """Factor on kdp in the archive's processing (1 = physical)."""
    kdp_smoothing_px: int = 1
    """Width of the square over which the archive's processing averages kdp, pixels."""
    zdr_bias_db: float = 0.0
    """Calibration error of zdr, dB."""
    floor_dbz: float = 5.0
    """Reflectivity below which echo is removed, dBZ."""
    residual_attenuation: tuple[float, float] = (0.0, 0.15)
    """Range over events of the share of attenuation left uncorrected."""
    clutter_points: float = 60.0
    """Number of clutter points within a 256 km square at 1 km height."""
    lost_frame_share: float = 0.004
    """Probability that a frame is lost (all fill)."""
    blocked_sectors: int = 2
    """Number of beam-blockage sectors of the site."""
    coverage_share: float = 145.0 / 256.0
    """Radius of the coverage circle as a fraction of the grid width."""
    cone_slope: float = 1.3
    """Radius of the cone of silence per km of height."""

    # Sampling
    default_size: int = 256
    """Default side length in pixels of 1 km."""
    varied: tuple[tuple[str, float, float], ...] = ()
    """Parameters that vary between events: name, minimum and maximum; drawn log-uniformly.

    The name leads to a parameter of the drops, such as `drops.dm_sd`, or to one of a tuple, such as `noise.1`."""
    varied_evenly: tuple[tuple[str, float, float], ...] = ()
    """Parameters that vary between events and may be 0 or negative; drawn uniformly, after the others."""

    @property
    def varies_radar(self) -> bool:
        """Whether drop sizes or errors of the radar differ between events."""
        first = {name.partition(".")[0] for name, *_ in (*self.varied, *self.varied_evenly)}
        return bool(first & {"drops", "noise", "noise_growth", "zdr_bias_db", "kdp_scale"})


def draw_world(world: StormWorld, rng: np.random.Generator) -> StormWorld:
    """Draw the varied parameters of one event and keep the others."""
    drawn = [(name, float(np.exp(rng.uniform(*np.log((least, most)))))) for name, least, most in world.varied]
    drawn += [(name, float(rng.uniform(least, most))) for name, least, most in world.varied_evenly]
    world = replace(world, varied=(), varied_evenly=())
    for name, value in drawn:
        world = _with(world, name, value)
    return world


def _with(item: Any, name: str, value: float) -> Any:
    """Return a dataclass or a tuple with one of its parameters replaced; whole numbers stay whole."""
    first, _, rest = name.partition(".")
    if isinstance(item, tuple):
        place = int(first)
        return (*item[:place], value, *item[place + 1 :])
    old = getattr(item, first)
    new = _with(old, rest, value) if rest else round(value) if isinstance(old, int) else value
    return replace(item, **{first: new})


_MEIYU = StormWorld()
# For networks that should generalize to new radars: every event has its own climate, from small showers to widespread
# rain, stationary or fast. Except for drop sizes, the ranges contain the other presets; they are fitted to no radar.
_VARIED = replace(
    _MEIYU,
    varied=(
        ("lifetime_32km_min", 10.0, 40.0),
        ("outer_scale_km", 30.0, 150.0),
        ("spectrum_exponent", 1.3, 1.8),
        ("organisation", 0.03, 0.4),
        ("evaporation_mmh", 0.05, 0.9),
        ("stratiform_limit", 3.0, 14.0),
        ("cell_threshold", 1.0, 2.2),
        ("cell_spacing_km", 7.0, 16.0),
        ("cell_radius_km", 1.2, 4.0),
        ("cell_peak_mmh", 1.5, 12.0),
        ("cell_peak_time_min", 8.0, 20.0),
    ),
    band_stretch=(1.0, 2.0),
    speed_range_ms=(1.0, 20.0),
    direction_deg=(70.0, 180.0),
    log_rain_mean=(-3.0, 0.9),
    log_rain_sd=(1.1, 2.0),
)

PRESETS: dict[str, StormWorld] = {
    "meiyu": _MEIYU,
    "continental": replace(_MEIYU, drops=DropPrior(dm_coefficient_mm=1.30, dm_exponent=0.20, dm_sd=0.22)),
    "njucpol": replace(
        _MEIYU,
        lifetime_32km_min=15.0,
        outer_scale_km=50.0,
        spectrum_exponent=1.73,
        log_rain_mean=(-1.3, 0.3),
        log_rain_sd=(1.25, 1.5),
        evaporation_mmh=0.85,
        cell_peak_mmh=2.0,
        stratiform_limit=6.0,
        speed_range_ms=(11.0, 19.0),
        direction_deg=(85.0, 20.0),
        organisation=0.35,
        ice_deficit_db=(3.0, 6.0),
        ice_contrast=0.6,
        ice_zdr_db=0.95,
        ice_kdp_deg_km=0.42,
        noise=(0.8, 0.30, 0.055),
        noise_growth=(1.0, 1.35, 1.4),
        kdp_scale=0.43,
        kdp_smoothing_px=3,
        zdr_bias_db=-0.27,
        floor_dbz=3.0,
    ),
    "varied": _VARIED,
    # For dual-pol networks on radars that they have not seen: every event has its own climate, drop sizes and radar. A
    # network that knows one of each takes another radar's ZDR for growth or decay. The ranges contain those presets.
    "any-radar": replace(
        _VARIED,
        varied=(
            *_VARIED.varied,
            ("drops.dm_coefficient_mm", 0.95, 1.35),
            ("drops.dm_exponent", 0.10, 0.24),
            ("noise.0", 0.5, 1.2),
            ("noise.1", 0.1, 0.6),
            ("noise.2", 0.03, 0.3),
            ("noise_growth.1", 1.0, 1.6),
            ("noise_growth.2", 1.0, 1.6),
            ("kdp_scale", 0.4, 1.1),
            ("ice_zdr_db", 0.1, 1.0),
            ("ice_kdp_deg_km", 0.03, 0.45),
            ("ice_contrast", 0.5, 1.0),
        ),
        varied_evenly=(("zdr_bias_db", -0.5, 0.5), ("kdp_smoothing_px", 0.5, 5.49), ("floor_dbz", 0.0, 8.0)),
        ice_deficit_db=(3.0, 13.0),
    ),
    "tiny": replace(_MEIYU, default_size=64),
}
