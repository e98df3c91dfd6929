"""Unfold the differential phase: what every retrieval of KDP and every correction of attenuation starts from."""

import numpy as np
from scipy.ndimage import median_filter

from polarcast.data.ingest.volumes.censor import window_gates
from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep

_MEDIAN_KM = 1.0
_SYSTEM_PHASE_GATES = 10


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


def smoothing_gates(sweep: Sweep) -> int:
    """Return the length of the phase's median filter in gates; odd."""
    return window_gates(sweep, _MEDIAN_KM) // 2 * 2 + 1
