"""Radar observations of the true weather: scattering, noise, attenuation, clutter and coverage."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from polarcast.data.synth.ice import observe_ice
from polarcast.data.synth.scattering import Observables, observe_rain
from polarcast.data.synth.weather import Regime, Weather
from polarcast.data.synth.world import StormWorld

Real = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

HEIGHTS_KM = (1.0, 3.0, 7.0)
DRY_MMH = 0.05
"""Rain rate below which rain is set to 0, mm/h; about the rate at the reflectivity floor."""

_RAYS = 720


@dataclass(frozen=True)
class Site:
    """Fixed properties of one radar, shared by all events."""

    visible: Mask
    """Pixels observed at each height, (z, y, x): within range, outside blocked sectors and the cone of silence."""
    clutter: npt.NDArray[np.int64]
    """Flat indices of clutter points at 1 km height."""
    to_polar: npt.NDArray[np.int64]
    """Flat pixel index of each polar gate, (rays, ranges); gates are 1 km long."""
    to_pixel: npt.NDArray[np.int64]
    """Flat gate index of each pixel, (y, x)."""


def make_site(world: StormWorld, size: int, rng: np.random.Generator) -> Site:
    """Make a radar in the center of a grid of `size` × `size` pixels."""
    y, x = np.mgrid[:size, :size] - size // 2
    distance, azimuth = np.hypot(y, x), np.arctan2(y, x) % (2 * np.pi)
    radius = world.coverage_share * size
    covered = (distance <= radius) & ~_blocked(world, distance, azimuth, radius, rng)
    visible = np.stack([covered & (distance >= world.cone_slope * z) for z in HEIGHTS_KM])
    points = round(world.clutter_points * (size / 256) ** 2)
    near = np.flatnonzero(visible[0] & (distance < 0.5 * radius))
    clutter = rng.choice(near, size=min(points, len(near)), replace=False)
    ranges = size
    angle = (np.arange(_RAYS) + 0.5) * (2 * np.pi / _RAYS)
    rows, columns = (np.rint(f(angle)[:, None] * np.arange(ranges)).astype(int) for f in (np.sin, np.cos))
    rows, columns = (np.clip(a + size // 2, 0, size - 1) for a in (rows, columns))
    ray = (azimuth / (2 * np.pi) * _RAYS).astype(int) % _RAYS
    gate = np.minimum(np.rint(distance).astype(int), ranges - 1)
    return Site(visible, np.sort(clutter), rows * size + columns, ray * ranges + gate)


def _blocked(world: StormWorld, distance: Real, azimuth: Real, radius: float, rng: np.random.Generator) -> Mask:
    """Mask of the sectors blocked by mountains and towers beyond some range."""
    blocked = np.zeros(distance.shape, bool)
    for _ in range(world.blocked_sectors):
        middle, width, start = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(2, 7)), rng.uniform(0.2, 0.6)
        off = np.abs((azimuth - middle + np.pi) % (2 * np.pi) - np.pi)
        blocked |= (off < width / 2) & (distance > start * radius)
    return blocked


def path_integral(site: Site, per_km: Real) -> Real:
    """Integrate a one-way rate per km (y, x) along the ray to each pixel and back; returns (y, x)."""
    gates = per_km.ravel()[site.to_polar]
    integral = 2 * (np.cumsum(gates, axis=1) - gates)
    return np.asarray(integral.ravel()[site.to_pixel], dtype=np.float32)


def observe(
    world: StormWorld, regime: Regime, site: Site, weather: Weather, rng: np.random.Generator
) -> tuple[Real, Real, Mask]:
    """Simulate the radar observation of one frame, and its rain within coverage.

    Returns:
        radar (v=3, z=3, y, x) in dBZ, dB, deg/km with fill 0, rain rate (y, x) in mm/h at 1 km, 0
        outside coverage, and the observed pixels (z=3, y, x). In a lost frame all are 0.
    """
    rain_levels = [_observe_rain(world, regime, site, weather, z) for z in (0, 1)]
    ice = observe_ice(
        weather.ice_content, weather.ice_updraft, regime.ice_deficit_db, world.ice_zdr_db, world.ice_kdp_deg_km
    )
    truth = np.stack([*rain_levels, np.stack([ice.zh, ice.zdr, ice.kdp])], axis=1)
    _process(world, truth)
    radar = truth + _noise(world, truth[0], rng)
    _add_clutter(site, radar, rng)
    kept = site.visible & (radar[0] >= world.floor_dbz)
    lost = rng.random() < world.lost_frame_share
    rain = np.where(site.visible[0] & (weather.rain_1km >= DRY_MMH) & (not lost), weather.rain_1km, 0)
    return np.where(kept & (not lost), radar, 0).astype(np.float32), rain.astype(np.float32), site.visible & (not lost)


def _process(world: StormWorld, radar: Real) -> None:
    """Apply an archive's calibration errors and processing to radar fields (v, z, y, x), in place."""
    radar[1] += np.float32(world.zdr_bias_db)
    radar[2] *= np.float32(world.kdp_scale)
    if world.kdp_smoothing_px > 1:
        radar[2] = uniform_filter(radar[2], (1, world.kdp_smoothing_px, world.kdp_smoothing_px))


def _observe_rain(world: StormWorld, regime: Regime, site: Site, weather: Weather, height: int) -> Real:
    """Noise-free zh, zdr, kdp in rain, (3, y, x), with residual attenuation after correction."""
    rain, delta = ((weather.rain_1km, weather.delta_1km), (weather.rain_3km, weather.delta_3km))[height]
    wet = rain >= 0.3 * DRY_MMH
    scattered = scatter(world, rain[wet], delta[wet], weather.width[wet])
    fields = np.zeros((5, *rain.shape), np.float32)
    fields[0] = -99.0
    for field, values in zip(fields, vars(scattered).values(), strict=True):
        field[wet] = values
    residual = np.float32(regime.residual_attenuation)
    fields[0] -= residual * path_integral(site, fields[3])
    fields[1] -= residual * path_integral(site, fields[4])
    return fields[:3]


def scatter(world: StormWorld, rain: Real, delta: Real, width: Real) -> Observables:
    """Compute radar quantities of rain (mm/h) with deviations `delta` of ln Dm and `width` of the spectral width."""
    dm = world.drops.dm(rain, delta)
    return observe_rain(dm, world.drops.mu(dm, width), rain)


def _noise(world: StormWorld, zh: Real, rng: np.random.Generator) -> Real:
    """Draw spatially correlated noise, (v, z, y, x); it is stronger in weak echo."""
    white = rng.standard_normal((3, *zh.shape), dtype=np.float32)
    smooth = white[..., 1:-1] * 2 + white[..., :-2] + white[..., 2:]
    white[..., 1:-1] = smooth * np.float32(6**-0.5)
    smooth = white[..., 1:-1, :] * 2 + white[..., :-2, :] + white[..., 2:, :]
    white[..., 1:-1, :] = smooth * np.float32(6**-0.5)
    below = np.clip(3.8 - zh / 10, 0, 4).astype(np.float32)
    for errors, sd, growth in zip(white, world.noise, world.noise_growth, strict=True):
        errors *= np.float32(sd) * (np.float32(growth) ** below if growth != 1 else np.float32(1))
    return white


def _add_clutter(site: Site, radar: Real, rng: np.random.Generator) -> None:
    """Add unfiltered ground clutter: each point appears in half of the frames, at 1 km only."""
    shown = site.clutter[rng.random(len(site.clutter)) < 0.5]
    spurious = (rng.normal(28, 8, len(shown)), rng.normal(0, 2.5, len(shown)), rng.normal(0, 1.0, len(shown)))
    for field, values in zip(radar[:, 0], spurious, strict=True):
        field.reshape(-1)[shown] = values
