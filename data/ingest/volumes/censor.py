"""Identify gates with precipitation by reflectivity, correlation coefficient and phase texture."""

import numpy as np
from scipy.ndimage import label, uniform_filter1d

from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep

TEXTURE_KM = 2.0
"""Window length of the phase texture in km."""


def precipitation(
    sweep: Sweep, *, min_dbz: float, min_rhohv: float, max_texture_deg: float, min_gates: int = 12
) -> tuple[Mask, dict[str, int]]:
    """Identify gates with precipitation, and count the gates that each test removed.

    Clutter, biota, chaff and second-trip echoes decorrelate the two polarizations. Their ρHV is low and their phase is
    noisy (Ryzhkov & Zrnić 2019, ch. 9). Remaining patches of fewer than `min_gates` gates are speckle.

    Args:
        sweep: Sweep with zh, and with rhohv and phidp if measured.
        min_dbz: Minimum reflectivity of an echo.
        min_rhohv: Minimum correlation coefficient of precipitation.
        max_texture_deg: Maximum phase texture of precipitation.
        min_gates: Minimum size of a patch, in gates connected along the ray or to adjacent rays.

    Returns:
        (a, r) mask, and the number of removed gates by test: weak, rhohv, texture, speckle.
    """
    valid = np.isfinite(sweep.fields["zh"])
    keep = valid & (sweep.fields["zh"] >= min_dbz)
    removed = {"weak": int((valid & ~keep).sum())}
    for name, passes in _tests(sweep, min_rhohv, max_texture_deg).items():
        removed[name] = int((keep & ~passes).sum())
        keep = keep & passes
    patches = _without_speckle(keep, min_gates)
    removed["speckle"] = int((keep & ~patches).sum())
    return patches, removed


def phase_texture(phidp: Real, gates: int, fold_deg: float = 360.0) -> Real:
    """Return the circular standard deviation of the phase along the ray in degrees, regardless of folding.

    Args:
        phidp: (a, r) in degrees, NaN where missing.
        gates: Length of the window.
        fold_deg: Folding interval of the phase.

    Returns:
        (a, r), √(−2 ln R) with the mean resultant length R (Mardia & Jupp 2000, eq. 2.3.14); NaN where fewer than half
        of the window's gates have a phase.
    """
    valid = np.isfinite(phidp)
    turn = 2 * np.pi / fold_deg
    unit = np.exp(1j * turn * np.where(valid, phidp, 0)) * valid
    share = uniform_filter1d(valid.astype(np.float64), gates, axis=1, mode="constant")
    real, imaginary = (uniform_filter1d(part, gates, axis=1, mode="constant") for part in (unit.real, unit.imag))
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.hypot(real, imaginary) / share
        texture = np.sqrt(-2 * np.log(np.clip(length, 1e-12, 1))) / turn
    return np.where(share >= 0.5, texture, np.nan).astype(np.float32)


def window_gates(sweep: Sweep, length_km: float) -> int:
    """Convert a length along the ray to a number of gates, at least 3."""
    spacing_km = float(np.diff(sweep.range_m).mean()) / 1000
    return max(3, round(length_km / spacing_km))


def _tests(sweep: Sweep, min_rhohv: float, max_texture_deg: float) -> dict[str, Mask]:
    """Return the gates that pass each test; gates without the required field pass."""
    tests = {}
    if "rhohv" in sweep.fields:
        tests["rhohv"] = ~(sweep.fields["rhohv"] < min_rhohv)
    if "phidp" in sweep.fields:
        gates = window_gates(sweep, TEXTURE_KM)
        tests["texture"] = ~(phase_texture(sweep.fields["phidp"], gates, sweep.phase_fold_deg) > max_texture_deg)
    return tests


def _without_speckle(keep: Mask, min_gates: int) -> Mask:
    patches, count = label(keep)
    sizes = np.bincount(patches.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray(sizes[patches] >= min_gates)
