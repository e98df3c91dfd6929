"""Check the physical plausibility of one event. Pure functions of the summaries of its frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from polarcast.data.check.facts import (
    CLASSES_DBZ,
    FEWEST_ECHOES,
    LIMITS,
    PLAUSIBLE,
    RAIN_DBZ,
    VALUE_EDGES,
    Field,
    FrameFacts,
    Real,
)
from polarcast.data.check.findings import WARNING, Problem

FEWEST_PIXELS = 200
"""Minimum number of pixels for a mean or ratio; it reduces single-pixel noise (0.7 dB, 0.3 deg/km) to a twentieth."""
FEWEST_IN_CLASS = 30
"""Minimum number of pixels in each class of ZH; the noise of mean ZDR and KDP is then a tenth of their growth."""
IMPLAUSIBLE_SHARE = 0.02
LOOKS_LIKE_DBZ = 12.0
"""Minimum median over echoes of a reflectivity field; no ZDR or KDP field comes close."""
LEAST_CURVATURE_RATIO = 0.8
"""Minimum ratio of KDP's growth with ZH to ZDR's: at least 1.7 in valid data, its inverse if they are swapped."""
RAIN_RATIO = (0.35, 5.0)
"""Accepted ratio of rain to Z–R rain in `RAIN_DBZ`: 0.7 to 3.0 in valid data; a twelfth of it in mm per 5 minutes."""
LEAST_TURN_GAIN = 0.05
"""Minimum gain in correlation with ZH of the same level for a transformed field to be reported. In valid data,
transformed fields lose at least 0.07."""
LEAST_TURN_GAIN_OF_LEVEL = 0.25
"""Likewise for ZH of two levels, which differ by shear and anvils in a small or short event."""
LEAST_ORDER_GAIN = 0.03
ORDER_GAIN_OF_STEP = 0.9
"""Minimum gains in the summed correlation of consecutive frames when one frame is moved.

`LEAST_ORDER_GAIN` is absolute; `ORDER_GAIN_OF_STEP` is in units of the median decorrelation per step. In valid data the
gain is zero (0.6 steps with hardly any echo); reverting a swap of two neighbours gains about two and a half steps.
"""

Turn = Callable[[Field], Field]
TURNS: dict[str, Turn] = {
    "flipped up–down": lambda f: f[..., ::-1, :],
    "flipped left–right": lambda f: f[..., :, ::-1],
    "rotated by 180°": lambda f: f[..., ::-1, ::-1],
    "transposed": lambda f: np.swapaxes(f, -1, -2),
    "rotated by 90° counterclockwise": lambda f: np.swapaxes(f, -1, -2)[..., ::-1, :],
    "rotated by 90° clockwise": lambda f: np.swapaxes(f, -1, -2)[..., :, ::-1],
    "transposed along the other diagonal": lambda f: np.swapaxes(f, -1, -2)[..., ::-1, ::-1],
}


@dataclass(frozen=True)
class CheckedEvent:
    """Number and fields of an event."""

    number: int
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]

    def where(self, frame: int | None = None, variable: int | None = None, height: int | None = None) -> str:
        """Return a location such as `event 003 frame 012 zdr at 3 km`."""
        text = f"event {self.number:03d}" + ("" if frame is None else f" frame {frame:03d}")
        if variable is None:
            return text
        if variable == len(self.variables):
            return f"{text} rain"
        return f"{text} {self.variables[variable]}" + ("" if height is None else f" at {self.heights_km[height]:g} km")


def check_ranges(event: CheckedEvent, facts: Sequence[FrameFacts]) -> list[Problem]:
    """Find values outside `LIMITS`, and fields with too many values outside `PLAUSIBLE`."""
    names = [*event.variables, "rain_rate"]
    problems = []
    for f in facts:
        for v, name in enumerate(names[: len(f.extremes)]):
            low, high = LIMITS[name]
            z = int(np.argmax(np.maximum(low - f.extremes[v, :, 0], f.extremes[v, :, 1] - high)))
            worst = f.extremes[v, z]
            if worst[0] < low or worst[1] > high:
                value = worst[0] if worst[0] < low else worst[1]
                found = f"a value of {value:.4g}, outside {low:g} … {high:g}: repair or drop the frame"
                problems.append(Problem("ranges", event.where(f.frame, v, z), found))
    share = np.mean([f.implausible for f in facts], axis=0)
    for v, z in zip(*np.nonzero(share > IMPLAUSIBLE_SHARE), strict=True):
        low, high = PLAUSIBLE[event.variables[v]]
        found = f"{100 * share[v, z]:.0f}% of the echoes are outside {low:g} … {high:g}: check its units"
        problems.append(Problem("ranges", event.where(None, v, z), found))
    return problems


def check_constants(event: CheckedEvent, facts: Sequence[FrameFacts]) -> list[Problem]:
    """Find constant fields, and frames equal to the previous one."""
    problems = []
    for f in facts:
        for v, z in zip(*np.nonzero(np.isfinite(f.constant)), strict=True):
            where = event.where(f.frame, v, z)
            if f.constant[v, z] != 0:
                found = f"{f.constant[v, z]:g} everywhere, a constant field: drop the frame"
                problems.append(Problem("constant", where, found))
            elif f.echoes[z] >= FEWEST_ECHOES:
                found = "zero everywhere despite echo: use `data shard --clean` to leave out such frames"
                problems.append(Problem("constant", where, found, WARNING))
    for before, f in pairwise(facts):
        if f.digest and f.digest == before.digest:
            found = f"the same as frame {before.frame:03d}, bit for bit: drop it"
            problems.append(Problem("constant", event.where(f.frame), found))
    return problems


def check_names(event: CheckedEvent, values: Real, classes: Real) -> list[Problem] | None:
    """Check for swapped variables at the lowest level; return None if there is too little echo.

    Args:
        event: Event to check.
        values: (v, bins) histogram over all frames, see `FrameFacts`.
        classes: (v, classes of ZH, 2) sums over all frames, see `FrameFacts`.
    """
    if values[0].sum() < FEWEST_PIXELS:
        return None
    medians = [_median(histogram) for histogram in values]
    like_dbz = int(np.argmax(medians))
    if like_dbz and medians[like_dbz] >= LOOKS_LIKE_DBZ:
        found = (
            f"its median over echoes is {medians[like_dbz]:.0f}, and the median of zh is {medians[0]:.1f}: "
            f"zh and {event.variables[like_dbz]} are swapped"
        )
        return [Problem("variables", event.where(None, like_dbz), found)]
    if not {"zdr", "kdp"} <= set(event.variables):
        return []
    zdr, kdp = (event.variables.index(name) for name in ("zdr", "kdp"))
    if classes[0, :, 0].min() < FEWEST_IN_CLASS:
        return None
    growth = {v: _growth(classes[v]) for v in (zdr, kdp)}
    if growth[kdp] >= LEAST_CURVATURE_RATIO * growth[zdr]:
        return []
    between = " and ".join(f"{a:g}–{b:g}" for a, b in CLASSES_DBZ[1:])
    found = (
        f"between {between} dBZ it grows {growth[kdp]:.1f} times as much as below, zdr {growth[zdr]:.1f} times; "
        "KDP grows faster than ZDR: the two are swapped"
    )
    return [Problem("variables", event.where(None, kdp), found)]


def check_rain_units(event: CheckedEvent, sums: Real) -> list[Problem] | None:
    """Check that the rain grid is in mm/h, by Z = 200 R^1.6; return None if there is too little strong echo.

    Args:
        event: Event to check.
        sums: Sum of `FrameFacts.rain_sums` over all frames.
    """
    pixels, rain, z_r = sums
    if pixels < FEWEST_PIXELS:
        return None
    ratio = rain / z_r
    if RAIN_RATIO[0] <= ratio <= RAIN_RATIO[1]:
        return []
    found = (
        f"{ratio:.2g} times the Z–R rain at {RAIN_DBZ[0]:g}–{RAIN_DBZ[1]:g} dBZ: it is not in mm/h "
        f"(mm per 5 minutes would be a twelfth)"
    )
    return [Problem("rain units", event.where(None, len(event.variables)), found)]


def check_orientation(event: CheckedEvent, facts: Sequence[FrameFacts]) -> list[Problem]:
    """Find fields that correlate better with ZH after a flip, rotation or transposition."""
    reference = np.stack([f.masks[0, 0] for f in facts])
    problems = []
    for v in range(len(event.variables)):
        for z in range(len(event.heights_km)):
            if (v, z) == (0, 0):
                continue
            # Variables are compared with ZH of their level, and levels with the lowest, to report the right field.
            against = np.stack([f.masks[0, z] for f in facts]) if v else reference
            least = LEAST_TURN_GAIN if v else LEAST_TURN_GAIN_OF_LEVEL
            if turn := _better_transform(np.stack([f.masks[v, z] for f in facts]), against, least):
                problems.append(Problem("orientation", event.where(None, v, z), _turn_message(turn, "zh")))
    pairs = [f.rain for f in facts if f.rain is not None]
    if pairs:
        rain, z_r = np.swapaxes(np.log1p(np.maximum(np.stack(pairs), 0)), 0, 1)
        if turn := _better_transform(rain, z_r, LEAST_TURN_GAIN):
            problems.append(Problem("orientation", event.where(None, len(event.variables)), _turn_message(turn, "zh")))
    return problems


def check_order(event: CheckedEvent, facts: Sequence[FrameFacts]) -> list[Problem] | None:
    """Find a frame that fits better elsewhere in the sequence; return None if too few frames have echo."""
    used = [f for f in facts if f.echoes[0] >= FEWEST_ECHOES and np.ptp(f.picture) > 0]  # a constant has no correlation
    if len(used) < 4:
        return None
    pictures = np.stack([f.picture.ravel() for f in used])
    correlation: Real = np.asarray(np.corrcoef(pictures))
    steps = np.diagonal(correlation, 1)
    frame, place, gain = _best_move(correlation)
    if gain <= max(LEAST_ORDER_GAIN, ORDER_GAIN_OF_STEP * (1 - float(np.median(steps)))):
        return []
    after = f"after frame {used[place].frame:03d}" if place >= 0 else "first"
    found = f"fits better {after}: it is out of order or from another time; sort the event"
    return [Problem("order", event.where(used[frame].frame), found)]


def _median(histogram: npt.NDArray[np.int64] | Real) -> float:
    total = np.cumsum(histogram)
    return float(np.clip(VALUE_EDGES, -21, 81)[int(np.searchsorted(total, total[-1] / 2)) + 1])


def _growth(classes: Real) -> float:
    """Return the growth of a mean between the upper classes of ZH, relative to that between the lower classes."""
    low, middle, high = classes[:, 1] / classes[:, 0]
    return float((high - middle) / max(abs(middle - low), 1e-6))


def _turn_message(turn: str, against: str) -> str:
    return f"it is {turn} against {against}: write all fields with the same orientation"


def _better_transform(field: Field, reference: Field, least: float) -> str:
    """Return the transform that makes a field (t, y, x) fit a reference clearly better; empty if there is none."""
    if field.shape[-1] != field.shape[-2] or min(field.std(), reference.std()) < 1e-6:
        return ""
    as_is = _correlation(field, reference)
    fits = {name: _correlation(turn(field), reference) for name, turn in TURNS.items()}
    best = max(fits, key=lambda name: fits[name])
    return best if fits[best] - as_is > least else ""


def _correlation(a: Field, b: Field) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _best_move(correlation: Real) -> tuple[int, int, float]:
    """Return (frame, place, gain): the move that increases the summed correlation of consecutive frames most.

    `frame` is moved behind `place`; −1 means to the front.
    """
    n = len(correlation)
    padded = np.zeros((n + 2, n + 2))  # the ends have no neighbour and contribute nothing
    padded[1:-1, 1:-1] = correlation
    links = np.array([padded[i, i + 1] for i in range(n + 1)])
    best = (0, 0, 0.0)
    for i in range(1, n + 1):
        taken_out = padded[i - 1, i + 1] * (1 < i < n) - links[i - 1] - links[i]
        put_in = padded[:-1, i] + padded[1:, i] - links
        put_in[[i - 1, i]] = -np.inf
        place = int(np.argmax(put_in))
        if (gain := float(taken_out + put_in[place])) > best[2]:
            best = (i - 1, place - 1, gain)
    return best
