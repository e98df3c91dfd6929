"""True weather over the radar, frame by frame: rain and drop sizes at 1 and 3 km, ice at 7 km."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import fft

from polarcast.data.synth import cells as convection
from polarcast.data.synth.storm import (
    FRAME_MIN,
    ISOTROPIC,
    Bands,
    CoarseModes,
    Complex,
    Dynamics,
    G,
    H,
    Modes,
    Real,
    V,
    X,
    coarsen,
    draw_state,
    make_dynamics,
    make_modes,
    step_state,
)
from polarcast.data.synth.world import StormWorld

MARGIN = 10
"""Pixels simulated around the grid, because falling rain and drifting ice enter from there."""

_SPIN_UP = 10
_PADDING_KM = 128
_BIRTH_SMOOTHING_KM = 5.0
_RESERVOIR_SMOOTHING_KM = 15.0
# Rain-weighted mean updraft strength. Drop sizes depend on the deviation from it, so that Z-R stays unbiased.
_MEAN_UPDRAFT = 0.6


@dataclass(frozen=True)
class Regime:
    """Parameters of one event, drawn from the ranges in `StormWorld`."""

    log_rain_mean: float
    log_rain_sd: float
    speed_km_min: float
    angle: float
    """Direction of motion, radians from +x (east) towards +y (south)."""
    size_offset: float
    ice_deficit_db: float
    residual_attenuation: float
    bands: Bands = ISOTROPIC
    """Elongation of the rain areas."""

    def drift(self, minutes: float) -> tuple[float, float]:
        """Displacement (y, x) in km within `minutes`."""
        distance = self.speed_km_min * minutes
        return distance * float(np.sin(self.angle)), distance * float(np.cos(self.angle))


@dataclass(frozen=True)
class Weather:
    """True state of one frame; each field (y, x)."""

    rain_3km: Real
    """Rain rate at 3 km, mm/h."""
    rain_1km: Real
    """Rain rate at 1 km, mm/h."""
    delta_3km: Real
    """Deviation of ln Dm at 3 km from its median at the rain rate."""
    delta_1km: Real
    """Deviation of ln Dm at 1 km from its median at the rain rate."""
    width: Real
    """Standard normal deviate of the DSD width."""
    ice_content: Real
    """Rain-equivalent ice content, mm/h."""
    ice_updraft: Real
    """Updraft strength in the ice, 0 to about 1."""
    latents: Real
    """v, g, X, h, (4, y, x), for tests of predictability."""


@dataclass(frozen=True)
class _Grid:
    """Periodic domain and dynamics of one event."""

    dynamics: Dynamics
    births: CoarseModes
    birth_filter: Real
    birth_sd: float
    sources: CoarseModes
    source_filter: Real
    size: int

    @property
    def domain(self) -> int:
        return self.dynamics.modes.size


@lru_cache(maxsize=4)
def _make_modes(size: int, cutoff_km: float) -> tuple[Modes, CoarseModes, CoarseModes]:
    """Modes of the padded domain, of every 2nd pixel (births) and of every 4th pixel (reservoir)."""
    modes = make_modes(8 * fft.next_fast_len(-(-(size + _PADDING_KM) // 8)), cutoff_km)
    return modes, coarsen(modes, 2), coarsen(modes, 4)


def _make_grid(world: StormWorld, regime: Regime, size: int) -> _Grid:
    modes, births, sources = _make_modes(size, world.cutoff_km)
    dynamics = make_dynamics(world, modes, regime.bands)
    birth_filter = _gaussian(births, _BIRTH_SMOOTHING_KM)
    amplitude = dynamics.amplitude[births.pick] * birth_filter / births.modes.weight**2
    chain = dynamics.stationary @ dynamics.stationary.T
    variance = chain[G, G] + 0.8 * chain[G, V] + 0.16 * chain[V, V]
    birth_sd = float(np.sqrt(2 * (amplitude.astype(np.float64) ** 2).sum() * variance))
    source_filter = _gaussian(sources, _RESERVOIR_SMOOTHING_KM)
    return _Grid(dynamics, births, birth_filter, birth_sd, sources, source_filter, size)


def _gaussian(coarse: CoarseModes, sigma_km: float) -> Real:
    """Transfer function of Gaussian smoothing."""
    k2 = coarse.modes.ky**2 + coarse.modes.kx**2
    return np.exp(-2 * np.pi**2 * sigma_km**2 * k2).astype(np.float32)


def draw_regime(world: StormWorld, rng: np.random.Generator) -> Regime:
    """Draw the parameters of one event."""
    toward = np.radians(rng.normal(*world.direction_deg))
    return Regime(
        log_rain_mean=world.log_rain_mean[0] + world.log_rain_mean[1] * float(np.clip(rng.normal(), -2, 2)),
        log_rain_sd=float(rng.uniform(*world.log_rain_sd)),
        speed_km_min=float(rng.uniform(*world.speed_range_ms)) * 0.06,
        angle=float(toward - np.pi / 2),
        size_offset=float(rng.normal(*world.size_regime)),
        ice_deficit_db=float(rng.uniform(*world.ice_deficit_db)),
        residual_attenuation=float(rng.uniform(*world.residual_attenuation)),
        bands=Bands(float(rng.uniform(*world.band_stretch)), float(rng.uniform(0, np.pi))),
    )


@dataclass(frozen=True)
class _State:
    """Storm state in its own frame of reference."""

    latents: Complex
    cells: convection.Cells
    reservoir: Complex
    minutes: float


@dataclass(frozen=True)
class _Region:
    """Fields on the grid and its margin at one time."""

    rain: Real
    delta: Real
    ice_content: Real
    ice_updraft: Real
    latents: Real


def simulate(world: StormWorld, regime: Regime, size: int, rng: np.random.Generator) -> Iterator[Weather]:
    """Simulate true weather: an infinite iterator of frames, 6 min apart, on `size` × `size` pixels of 1 km.

    Equal `rng` states give equal frames; a longer run starts with the frames of a shorter one.
    """
    grid = _make_grid(world, regime, size)
    latents = draw_state(grid.dynamics, rng)
    state = _State(latents, convection.no_cells(), np.zeros(latents.shape[1], np.complex64), 0.0)
    for _ in range(_SPIN_UP):
        state = _advance(world, regime, grid, state, rng)
    before = _over_grid(world, regime, grid, state)
    while True:
        state = _advance(world, regime, grid, state, rng)
        now = _over_grid(world, regime, grid, state)
        yield _fall(world, regime, before, now, size)
        before = now


def _advance(world: StormWorld, regime: Regime, grid: _Grid, state: _State, rng: np.random.Generator) -> _State:
    """Advance the latents, the cells and the stratiform reservoir by one frame."""
    latents = step_state(grid.dynamics, state.latents, rng)
    cells = convection.age_cells(state.cells, FRAME_MIN)
    v, g = (latents[i][grid.births.pick] * grid.birth_filter for i in (V, G))
    potential = grid.births.modes.to_field((g + np.float32(0.4) * v) / np.float32(grid.birth_sd))
    births = convection.find_births(world, potential, grid.births.modes.to_field(v), grid.births.factor, cells)
    cells = convection.join(cells, convection.bear(world, births, regime.angle, rng))
    reservoir = state.reservoir * np.float32(np.exp(-FRAME_MIN / world.stratiform_lifetime_min))
    reservoir[grid.sources.pick] += _sources(world, grid, cells)
    return _State(latents, cells, reservoir, state.minutes + FRAME_MIN)


def _sources(world: StormWorld, grid: _Grid, cells: convection.Cells) -> Complex:
    """Modes of the rain that cells add to the stratiform reservoir in one frame."""
    factor, n = grid.sources.factor, grid.sources.modes.size
    mass = cells.peak * convection.intensity(world, cells.age) * np.float32(np.pi) * cells.major * cells.minor
    density = np.zeros((n, n), np.float32)
    rows, columns = (np.rint(a / factor).astype(int) % n for a in (cells.y, cells.x))
    np.add.at(density, (rows, columns), mass * np.float32(world.stratiform_share / factor**2))
    spectrum = fft.rfft2(density, norm="forward").ravel()[grid.sources.modes.index]
    return np.asarray(spectrum * grid.source_filter)


def _over_grid(world: StormWorld, regime: Regime, grid: _Grid, state: _State) -> _Region:
    """Compute the fields over the ground: grid and margin."""
    shift = regime.drift(state.minutes)
    border = MARGIN + convection.PATCH
    start = (grid.domain - grid.size) // 2 - border
    window = (slice(start, start + grid.size + 2 * border),) * 2
    modes = grid.dynamics.modes
    phase = modes.phase(shift)
    bordered = np.stack([modes.to_field(z * phase)[window] for z in state.latents])
    cells = _over_ground(state.cells, shift, start, grid.domain, bordered.shape[1])
    warp = (1.8 * bordered[H], 1.8 * np.roll(bordered[H], 7, axis=1).T)
    rain = convection.draw_rain(world, cells, warp, regime.angle)
    inner = (slice(convection.PATCH, -convection.PATCH),) * 2
    reservoir = np.maximum(modes.to_field(state.reservoir * phase)[window][inner], 0)
    return _combine(world, regime, grid, bordered[(slice(None), *inner)], rain, reservoir)


def _over_ground(
    cells: convection.Cells, shift: tuple[float, float], start: int, domain: int, size: int
) -> convection.Cells:
    """Raining cells at their pixel positions within the bordered window; others are dropped."""
    y = (cells.y + np.float32(shift[0])) % np.float32(domain) - np.float32(start)
    x = (cells.x + np.float32(shift[1])) % np.float32(domain) - np.float32(start)
    low, high = convection.PATCH + 1, size - convection.PATCH - 2
    inside = (y > low) & (y < high) & (x > low) & (x < high) & (cells.age > 0)
    return replace(cells, y=y, x=x).take(inside)


def _combine(
    world: StormWorld, regime: Regime, grid: _Grid, z: Real, cell: convection.CellRain, reservoir: Real
) -> _Region:
    """Compute rain, drop sizes and ice from the latents, the cells and the reservoir."""
    f = np.float32
    mean, sd = f(regime.log_rain_mean), f(regime.log_rain_sd)
    grain = np.exp(f(0.45) * z[H] + f(0.7) * (z[X] - f(1.2)))
    # Past convection moistens the air, so it multiplies the background instead of adding smooth blobs to it.
    boost = reservoir / f(world.stratiform_unit_mmh)
    moist = 1 + boost / (1 + boost / f(world.stratiform_limit))
    background = np.exp(mean + sd * z[X]) * moist
    rain = background + cell.rain * grain
    rain = rain / np.sqrt(1 + (rain / f(world.rain_cap_mmh)) ** 2)
    rho = f(grid.dynamics.vigour_on_rain)
    fresh = (z[V] - rho * z[X]) / f(np.sqrt(1 - rho**2))
    share = grain / np.maximum(rain, f(1e-3))
    delta = f(world.size_from_vigour) * fresh + f(world.size_from_texture) * z[H] + f(regime.size_offset)
    excess = cell.updraft - f(_MEAN_UPDRAFT) * cell.rain
    delta += (f(world.size_updraft) * excess + f(world.size_leading_edge) * cell.leading) * share
    lifted = np.exp(mean + f(world.ice_contrast) * sd * (f(0.5) * z[X] + f(0.55) * z[G])) * moist
    ice = lifted + (f(0.5) * cell.rain + cell.updraft) * grain
    if world.evaporation_mmh:
        rain, ice = (_evaporate(a, f(world.evaporation_mmh)) for a in (rain, ice))
    return _Region(rain, delta, ice, np.clip(cell.updraft * share, 0, 1), z)


def _evaporate(rain: Real, weak: np.float32) -> Real:
    """Rain (or ice) left after evaporation; almost none below a rate of `weak` (mm/h)."""
    return np.asarray(rain / (1 + (weak / np.maximum(rain, np.float32(1e-3))) ** 3))


def _fall(world: StormWorld, regime: Regime, before: _Region, now: _Region, size: int) -> Weather:
    """Make the frame: rain at 3 km one frame ago reaches 1 km now, and ice drifts ahead of its rain.

    Shifts are whole pixels, because the drift of falling rain differs from the storm's motion by more than half a
    pixel.
    """
    memory = np.float32(world.fall_memory)
    fallen = _crop(before, size, regime.drift(FRAME_MIN))
    here = _crop(now, size)
    rain = (1 - memory) * here.rain + memory * fallen.rain
    carried = (1 - memory) * here.rain * here.delta + memory * fallen.rain * fallen.delta
    aloft = _crop(now, size, regime.drift(world.ice_shear_km / regime.speed_km_min))
    return Weather(
        rain_3km=here.rain,
        rain_1km=rain,
        delta_3km=here.delta,
        delta_1km=np.asarray(carried / np.maximum(rain, np.float32(1e-6)), dtype=np.float32),
        width=np.roll(here.latents[H], size // 2, axis=0),
        ice_content=aloft.ice_content,
        ice_updraft=aloft.ice_updraft,
        latents=here.latents,
    )


def _crop(region: _Region, size: int, drift: tuple[float, float] = (0.0, 0.0)) -> _Region:
    """Crop the part of the region that `drift` (y, x; km, rounded, within the margin) moves onto the grid."""
    rows, columns = (slice(MARGIN - round(d), MARGIN - round(d) + size) for d in drift)
    fields = (region.rain, region.delta, region.ice_content, region.ice_updraft, region.latents)
    return _Region(*(a[..., rows, columns] for a in fields))
