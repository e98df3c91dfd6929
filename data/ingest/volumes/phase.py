"""Unfold the differential phase: what every retrieval of KDP and every correction of attenuation starts from."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import median_filter

from polarcast.data.ingest.volumes.censor import window_gates
from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep

_MEDIAN_KM = 1.0
_SYSTEM_PHASE_GATES = 10
HALF_TURN_DEG = 180.0
"""Folding interval of phases of eight bits, as SIGMET writes them; converters do not tell it."""
_ROUNDING_DEG = 0.5
_FOLD_DEG, _GRADUAL_DEG = 150.0, 45.0
"""Least step of a fold of 180°, and least step that is none of rain, between neighbouring gates."""
_FEWEST_FOLDS, _OVER_GRADUAL = 3, 5
_LEAST_OFF_DEG, _TIMES_USUAL = 5.0, 5.0
"""Without its 180°, a fold is a usual step: at most so many degrees, or so many times the usual one."""


def unfolded_phase(phidp: Real, echo: Mask, gates: int, fold_deg: float = 360.0) -> Real:
    """Return the phase without folds, gaps and outliers, (a, r) in degrees above the ray's system phase.

    Gaps between echoes are interpolated linearly. A ray without echo is zero.
    """
    steps = np.arange(phidp.shape[1])
    out = np.zeros(phidp.shape, np.float32)
    for ray, (values, valid) in enumerate(zip(phidp, echo & np.isfinite(phidp), strict=True)):
        if valid.sum() < _SYSTEM_PHASE_GATES:
            continue
        unwrapped = median_filter(np.unwrap(values[valid], period=fold_deg), gates, mode="nearest")
        out[ray] = np.interp(steps, steps[valid], unwrapped - np.median(unwrapped[:_SYSTEM_PHASE_GATES]))
    return out


def folds_at_half_turn(phases: Sequence[Real], reliable: Sequence[Mask]) -> bool:
    """Whether the phase of a volume is folded at 180° and not at 360°, as its values and jumps tell.

    All values lie within 180°, and steps of 150° or more between neighbouring gates of precipitation are far more
    frequent than those of 45° to 150°: a phase that is noise has more of these, and one that rises gradually neither.
    Without its 180°, a fold is a usual step. A code in place of a phase jumps too, from any phase to one value.

    Args:
        phases: (a, r) of each sweep in degrees, NaN where missing.
        reliable: (a, r) of each sweep, gates of precipitation.
    """
    good = [np.where(gates, phase, np.nan) for phase, gates in zip(phases, reliable, strict=True)]
    values = np.concatenate([np.zeros(0), *(one[np.isfinite(one)] for one in phases)])
    if not len(values) or np.ptp(values) > HALF_TURN_DEG + _ROUNDING_DEG:
        return False
    steps = [np.abs(np.diff(one, axis=1)) for one in good]
    folds = sum(int((one >= _FOLD_DEG).sum()) for one in steps)
    others = sum(int(((one >= _GRADUAL_DEG) & (one < _FOLD_DEG)).sum()) for one in steps)
    if folds < _FEWEST_FOLDS or folds < _OVER_GRADUAL * others:
        return False
    usual = np.concatenate([one[one < _GRADUAL_DEG] for one in steps])
    jumps = np.concatenate([one[one >= _FOLD_DEG] for one in steps])
    beside = float(np.median(np.abs(HALF_TURN_DEG - jumps)))
    if beside > max(_LEAST_OFF_DEG, _TIMES_USUAL * float(np.median(usual)) if len(usual) else 0.0):
        return False
    pairs = [np.stack([one[:, :-1], one[:, 1:]])[:, step >= _FOLD_DEG] for one, step in zip(good, steps, strict=True)]
    ends = np.concatenate(pairs, axis=1)
    return all(len(np.unique(end)) > 1 for end in (ends.max(0), ends.min(0)))


def smoothing_gates(sweep: Sweep) -> int:
    """Return the length of the phase's median filter in gates; odd."""
    return window_gates(sweep, _MEDIAN_KM) // 2 * 2 + 1
