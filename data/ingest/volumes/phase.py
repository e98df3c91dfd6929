"""Retrieve KDP from the differential phase, and correct attenuation with it."""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.ndimage import median_filter

from polarcast.data.ingest.volumes.censor import window_gates
from polarcast.data.ingest.volumes.pyart_bridge import pyart_library, to_pyart
from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep

KDP_METHOD = "kdp_vulpiani (Vulpiani et al. 2012, doi:10.1175/JAMC-D-10-05024.1) on the unfolded, median-filtered phase"
ATTENUATION_METHOD = "linear in the differential phase (Bringi et al. 1990)"
KDP_WINDOW_KM = 4.0
KDP_ITERATIONS = 2
"""Chosen from windows of 3 to 7 km and 2 or 10 iterations, on phases of known KDP with 3° of noise and 250 m gates.

The RMSE is 0.17 deg/km where KDP is 0.3–1 deg/km, without bias. Cores of 2 deg/km keep four fifths of their value in
storms of 6 km radius or more, and two thirds in those of 4 km.
"""
_MEDIAN_KM = 1.0
_SYSTEM_PHASE_GATES = 10
# Two-way attenuation of ZH and ZDR in dB per degree of differential phase, by band: the coefficients of Py-ART
# (correct/attenuation.py, _param_attphilinear_table).
_DB_PER_DEG = {"S": (0.04, 0.004), "C": (0.08, 0.03), "X": (0.28, 0.04)}


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


def retrieve_kdp(sweep: Sweep, phase: Real, echo: Mask, band: str) -> Sweep:
    """Add kdp in deg/km, retrieved from the unfolded phase (a, r), to the sweep."""
    pyart = pyart_library()
    window = 2 * max(1, round(window_gates(sweep, KDP_WINDOW_KM) / 2))
    radar = to_pyart(sweep, {"differential_phase": phase})
    kdp, _ = pyart.retrieve.kdp_vulpiani(
        radar, psidp_field="differential_phase", band=band, windsize=window, n_iter=KDP_ITERATIONS
    )
    values = np.where(echo, np.ma.filled(kdp["data"], np.nan), np.nan).astype(np.float32)
    return replace(sweep, fields={**sweep.fields, "kdp": values})


def correct_attenuation(sweep: Sweep, phase: Real, band: str) -> Sweep:
    """Correct zh and zdr of the sweep for attenuation by rain, with the unfolded phase (a, r); never lowers them."""
    per_degree = dict(zip(("zh", "zdr"), _DB_PER_DEG[band], strict=True))
    accumulated = np.maximum.accumulate(np.maximum(phase, 0), axis=1)
    coefficients = {name: a for name, a in per_degree.items() if name in sweep.fields}
    corrected = {name: (sweep.fields[name] + a * accumulated).astype(np.float32) for name, a in coefficients.items()}
    return replace(sweep, fields={**sweep.fields, **corrected})


def smoothing_gates(sweep: Sweep) -> int:
    """Return the length of the phase's median filter in gates; odd."""
    return window_gates(sweep, _MEDIAN_KM) // 2 * 2 + 1


def retrieval_note(sweep: Sweep) -> dict[str, Any]:
    """Return the method and settings of the KDP retrieval for the event's note."""
    return {
        "kdp": KDP_METHOD,
        "window_km": KDP_WINDOW_KM,
        "iterations": KDP_ITERATIONS,
        "median_gates": smoothing_gates(sweep),
    }
