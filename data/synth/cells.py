"""Convective cells: births where the latents exceed a threshold, life cycle, and rain on the grid.

The place and time of a birth and the strength of the cell follow from growth g and vigour v alone. Observing the
latents (drop sizes depend on v) therefore predicts future cells; only the layout of the sub-cells is random.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter

from polarcast.data.synth.world import StormWorld

Real = npt.NDArray[np.float32]

OLDEST_MIN = 72.0
"""Age at which sub-cells are removed, min."""
PATCH = 15
"""Half-width of the square around a sub-cell that receives its rain, pixels."""

_SUB_CELLS = 4
_LATEST_DELAY_MIN = 20.0
_SPACING_AGE_MIN = 24.0


@dataclass(frozen=True)
class Cells:
    """Sub-cells, one array entry each; positions in km in the storm's frame of reference (periodic domain)."""

    y: Real
    x: Real
    age: Real
    """Age in min; negative before the sub-cell starts to rain."""
    peak: Real
    """Peak rain rate in the center, mm/h."""
    major: Real
    """e-folding radius along the long axis, km."""
    minor: Real
    """e-folding radius along the short axis, km."""
    angle: Real
    """Direction of the long axis, radians from the x axis."""
    leader: npt.NDArray[np.bool_]
    """True for the first sub-cell of each cell."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, chosen: npt.NDArray[np.bool_]) -> "Cells":
        """Select the sub-cells where `chosen` is True."""
        return Cells(*(getattr(self, f.name)[chosen] for f in fields(self)))


def no_cells() -> Cells:
    """Return an empty population."""
    empty = np.zeros(0, np.float32)
    return Cells(empty, empty, empty, empty, empty, empty, empty, np.zeros(0, bool))


def age_cells(cells: Cells, minutes: float) -> Cells:
    """Age the population by `minutes`, without births, and remove sub-cells older than `OLDEST_MIN`."""
    older = replace(cells, age=cells.age + np.float32(minutes))
    return older.take(older.age < OLDEST_MIN)


def find_births(
    world: StormWorld, potential: Real, vigour: Real, spacing_km: float, living: Cells
) -> tuple[Real, Real, Real]:
    """Find births: maxima of `potential` above the threshold, at a distance from young cells.

    Args:
        world: Source of threshold and spacing.
        potential: Low-passed g + 0.4 v in units of its standard deviation, (n, n), periodic, pixels of
            `spacing_km`.
        vigour: v on the same grid.
        spacing_km: Pixel spacing in km.
        living: Existing cells.

    Returns:
        y, x in km and v of the new cells, each (births,).
    """
    reach = 2 * int(world.cell_spacing_km / 2 / spacing_km) + 1
    top = (potential >= world.cell_threshold) & (potential == maximum_filter(potential, reach, mode="wrap"))
    rows, columns = np.nonzero(top)
    y, x = (rows * spacing_km).astype(np.float32), (columns * spacing_km).astype(np.float32)
    young = living.take(living.leader & (living.age < _SPACING_AGE_MIN))
    domain = len(potential) * spacing_km
    free = _distance(y, x, young, domain) > world.cell_spacing_km
    return y[free], x[free], vigour[rows[free], columns[free]]


def _distance(y: Real, x: Real, cells: Cells, domain: float) -> Real:
    """Distance in km from each point to the nearest cell on a periodic domain (infinite without cells)."""
    if not len(cells):
        return np.full(len(y), np.inf, np.float32)
    dy, dx = (_wrap(a[:, None] - b, domain) for a, b in ((y, cells.y), (x, cells.x)))
    return np.asarray(np.hypot(dy, dx).min(axis=1))


def _wrap(offset: Real, domain: float) -> Real:
    """Wrap offsets on a periodic domain into [-domain/2, domain/2)."""
    return (offset + np.float32(domain / 2)) % np.float32(domain) - np.float32(domain / 2)


def bear(world: StormWorld, births: tuple[Real, Real, Real], motion_angle: float, rng: np.random.Generator) -> Cells:
    """Create the sub-cells of new cells, staggered in time and spread across the direction of motion.

    Args:
        world: Source of radii, peak rain rates and their dependence on vigour.
        births: y, x (km) and v of the new cells.
        motion_angle: Direction of motion, radians from the x axis towards y.
        rng: Random generator of the sub-cell layout.
    """
    y, x, v = births
    n = (len(y), _SUB_CELLS)
    leader = np.broadcast_to(np.arange(_SUB_CELLS) == 0, n)
    across = np.where(leader, 0.0, rng.normal(0.0, 1.7 * world.cell_radius_km, n))
    along = np.where(leader, 0.0, rng.normal(0.0, 0.9 * world.cell_radius_km, n))
    delay = np.where(leader, 0.0, rng.uniform(0.0, _LATEST_DELAY_MIN, n))
    peak = world.cell_peak_mmh * np.exp(world.cell_vigour_gain * (v[:, None] - 1)) * np.where(leader, 1.0, 0.75)
    minor = world.cell_radius_km * np.exp(rng.normal(-0.1, 0.2, n))
    major = minor * np.exp(np.abs(rng.normal(0.0, 0.35, n)))
    angle = motion_angle + np.pi / 2 + rng.normal(0.0, 0.5, n)
    dy = along * np.sin(motion_angle) + across * np.cos(motion_angle)
    dx = along * np.cos(motion_angle) - across * np.sin(motion_angle)
    columns = (y[:, None] + dy, x[:, None] + dx, -delay, peak, major, minor, angle)
    return Cells(*map(_flat, columns), np.ravel(leader))  # type: ignore[call-arg, arg-type]  # mypy cannot count a map


def _flat(values: npt.NDArray[np.floating]) -> Real:
    return np.ravel(values).astype(np.float32)


def join(one: Cells, other: Cells) -> Cells:
    """Concatenate two populations."""
    pairs = (np.concatenate([getattr(one, f.name), getattr(other, f.name)]) for f in fields(one))
    return Cells(*pairs)


def intensity(world: StormWorld, age: Real) -> Real:
    """Rain of a sub-cell relative to its peak, by age in minutes: fast growth, slower decay."""
    a = np.maximum(age, 0) / np.float32(world.cell_peak_time_min)
    return np.asarray((a * np.exp(1 - a)) ** 1.5, dtype=np.float32)


def updraft(world: StormWorld, age: Real) -> Real:
    """Updraft strength: 1 at birth, decreasing to 0 at 1.6 times the age of peak rain."""
    return np.clip(1 - age / np.float32(1.6 * world.cell_peak_time_min), 0, 1) * (age > 0)


@dataclass(frozen=True)
class CellRain:
    """Rain of all cells on the ground grid (y, x), and the same rain weighted by two properties."""

    rain: Real
    """Rain rate, mm/h."""
    updraft: Real
    """Rain rate times updraft strength, mm/h."""
    leading: Real
    """Rain rate times position towards the leading edge in radii, mm/h."""


def draw_rain(world: StormWorld, cells: Cells, warp: tuple[Real, Real], motion_angle: float) -> CellRain:
    """Draw the rain of `cells` on the grid of the warp fields, minus a border of `PATCH` pixels on each side.

    Args:
        world: Source of the life cycle.
        cells: Sub-cells with positions y, x in pixels of the bordered grid, at least `PATCH` from its edge.
        warp: Displacements (y, x) in km that distort the elliptical cells, (n, n) each.
        motion_angle: Direction of motion, radians.
    """
    size = warp[0].shape[0]
    total = np.zeros((3, size, size), np.float32)
    rows, columns = np.rint(cells.y).astype(int), np.rint(cells.x).astype(int)
    span = np.arange(-PATCH, PATCH + 1)
    box = (rows[:, None, None] + span[:, None], columns[:, None, None] + span)
    fraction = [(a - b).astype(np.float32)[:, None, None] for a, b in ((rows, cells.y), (columns, cells.x))]
    steps = span.astype(np.float32)
    dy = steps[:, None] + fraction[0] + warp[0][box]
    dx = steps + fraction[1] + warp[1][box]
    rain = _shape(cells, dy, dx) * (cells.peak * intensity(world, cells.age))[:, None, None]
    ahead = dx * np.float32(np.cos(motion_angle)) + dy * np.float32(np.sin(motion_angle))
    ahead /= cells.minor[:, None, None]
    marks = (rain, rain * updraft(world, cells.age)[:, None, None], rain * np.clip(ahead, -2, 2))
    stacked = np.stack(marks, axis=1)
    for patch, row, column in zip(stacked, rows, columns, strict=True):
        total[:, row - PATCH : row + PATCH + 1, column - PATCH : column + PATCH + 1] += patch
    inner = total[:, PATCH:-PATCH, PATCH:-PATCH]
    return CellRain(*inner)


def _shape(cells: Cells, dy: Real, dx: Real) -> Real:
    """Horizontal profile: 1 in the center and 0 at the edge of the patch."""
    c, s = (f(cells.angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    along = (dx * c + dy * s) / cells.major[:, None, None]
    across = (dy * c - dx * s) / cells.minor[:, None, None]
    squared = along * along + across * across
    profile = np.exp(-(squared ** np.float32(0.8)))
    return np.asarray(np.maximum(profile - np.float32(1e-3), 0), dtype=np.float32)
