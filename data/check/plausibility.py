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
from polarcast.data.check.order import FEWEST_FRAMES, FrameOrder
from polarcast.data.check.swapped import ALIKE, FEWEST_IN_CLASS, swapped

FEWEST_PIXELS = 200
"""Minimum number of pixels for a mean or ratio; it reduces single-pixel noise (0.7 dB, 0.3 deg/km) to a twentieth."""
IMPLAUSIBLE_SHARE = 0.02
LOOKS_LIKE_DBZ = 12.0
"""Minimum median over echoes of a reflectivity field; no ZDR or KDP field comes close."""
RAIN_RATIO = (0.35, 5.0)
"""Accepted ratio of rain to Z–R rain in `RAIN_DBZ`: 0.7 to 3.0 in valid data; a twelfth of it in mm per 5 minutes."""
LEAST_TURN_GAIN = 0.05
"""Minimum gain in correlation with ZH of the same level for a transformed field to be reported. In valid data,
transformed fields lose at least 0.07."""
LEAST_TURN_GAIN_OF_LEVEL = 0.25
"""Likewise for ZH of two levels, which differ by shear and anvils in a small or short event."""

TOO_LITTLE = "too few echoes or frames"
TOO_FEW_IN_ORDER = f"fewer than {FEWEST_FRAMES} frames in a row with enough echo"

Outcome = list[Problem] | str
"""Problems found, or the reason why the event was not judged."""
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


def check_names(event: CheckedEvent, values: Real, classes: Real) -> Outcome:
    """Check for swapped variables at the lowest level.

    Args:
        event: Event to check.
        values: (v, bins) histogram over all frames, see `FrameFacts`.
        classes: (n, v, classes of ZH, 2) sums of each frame or event, see `FrameFacts`.
    """
    if values[0].sum() < FEWEST_PIXELS:
        return TOO_LITTLE
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
    pair = [event.variables.index(name) for name in ("zdr", "kdp")]
    if classes[:, 0, :, 0].sum(0).min() < FEWEST_IN_CLASS:
        return TOO_LITTLE
    verdict = swapped(classes[:, pair])
    if verdict is None:
        return ALIKE
    return [Problem("variables", event.where(None, pair[1]), _swap_message(classes[:, pair].sum(0)))] if verdict else []


def check_rain_units(event: CheckedEvent, sums: Real) -> Outcome:
    """Check that the rain grid is in mm/h, by Z = 200 R^1.6.

    Args:
        event: Event to check.
        sums: Sum of `FrameFacts.rain_sums` over all frames.
    """
    pixels, rain, z_r = sums
    if pixels < FEWEST_PIXELS:
        return TOO_LITTLE
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


def check_order(event: CheckedEvent, facts: Sequence[FrameFacts], order: FrameOrder) -> Outcome:
    """Check that no frame of an event fits better elsewhere in the sequence."""
    move = order.move
    if move is None:
        return TOO_FEW_IN_ORDER
    if not move.is_sure:
        return []
    after = f"after frame {facts[move.place].frame:03d}" if move.place >= 0 else "first"
    found = f"fits better {after}: it is out of order or from another time; sort the event"
    return [Problem("order", event.where(facts[move.frame].frame), found)]


def _median(histogram: npt.NDArray[np.int64] | Real) -> float:
    total = np.cumsum(histogram)
    return float(np.clip(VALUE_EDGES, -21, 81)[int(np.searchsorted(total, total[-1] / 2)) + 1])


def _swap_message(sums: Real) -> str:
    """Return the message on ZDR and KDP that are swapped, from counts and sums (2, classes, 2)."""
    zdr, kdp = sums[..., 1] / sums[..., 0]
    classes = ", ".join(f"{low:g}–{high:g}" for low, high in CLASSES_DBZ)
    means = (", ".join(f"{mean:.2f}" for mean in of) for of in (kdp, zdr))
    return "its mean at {} dBZ is {}, and of zdr {}: KDP grows as ZDR should; the two are swapped".format(
        classes, *means
    )


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
