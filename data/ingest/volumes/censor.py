"""Which gates of a sweep hold rain, snow or hail: by strength, correlation coefficient and phase texture."""

import numpy as np
from scipy.ndimage import label, uniform_filter1d

from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep

TEXTURE_KM = 2.0
"""Length over which the texture of the phase is taken."""


def precipitation(
    sweep: Sweep, *, min_dbz: float, min_rhohv: float, max_texture_deg: float, min_gates: int = 12
) -> tuple[Mask, dict[str, int]]:
    """Gates that hold precipitation, and how many each test took out.

    Clutter, biota, chaff and second-trip echoes decorrelate the two polarizations: their ρHV is low and their phase is
    noise (Ryzhkov & Zrnić 2019, ch. 9). What is left in patches of fewer than `min_gates` gates is speckle.

    Args:
        sweep: With zh; rhohv and phidp where the radar measures them.
        min_dbz: Weaker gates count as no echo.
        min_rhohv: Less than this is not precipitation.
        max_texture_deg: A phase noisier than this is not precipitation.
        min_gates: Smallest patch, in gates that touch along the ray or from ray to ray.

    Returns:
        (a, r) mask, and gates taken out by test: weak, rhohv, texture, speckle.
    """
    there = np.isfinite(sweep.fields["zh"])
    keep = there & (sweep.fields["zh"] >= min_dbz)
    taken = {"weak": int((there & ~keep).sum())}
    for name, sound in _tests(sweep, min_rhohv, max_texture_deg).items():
        taken[name] = int((keep & ~sound).sum())
        keep = keep & sound
    patches = _without_speckle(keep, min_gates)
    taken["speckle"] = int((keep & ~patches).sum())
    return patches, taken


def phase_texture(phidp: Real, gates: int, fold_deg: float = 360.0) -> Real:
    """Circular standard deviation of the phase along the ray, degrees; folding of the phase does not matter.

    Args:
        phidp: (a, r) in degrees, NaN where there is none.
        gates: Length of the window.
        fold_deg: Where the phase folds.

    Returns:
        (a, r), the deviation from the local mean direction, √(−2 ln R) (Mardia & Jupp 2000, eq. 2.3.14); NaN where
        fewer than half of the window's gates have a phase.
    """
    there = np.isfinite(phidp)
    turn = 2 * np.pi / fold_deg
    unit = np.exp(1j * turn * np.where(there, phidp, 0)) * there
    share = uniform_filter1d(there.astype(np.float64), gates, axis=1, mode="constant")
    real, imaginary = (uniform_filter1d(part, gates, axis=1, mode="constant") for part in (unit.real, unit.imag))
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.hypot(real, imaginary) / share
        texture = np.sqrt(-2 * np.log(np.clip(length, 1e-12, 1))) / turn
    return np.where(share >= 0.5, texture, np.nan).astype(np.float32)


def window_gates(sweep: Sweep, length_km: float) -> int:
    """Gates to a length along the ray, at least 3."""
    spacing_km = float(np.diff(sweep.range_m).mean()) / 1000
    return max(3, round(length_km / spacing_km))


def _tests(sweep: Sweep, min_rhohv: float, max_texture_deg: float) -> dict[str, Mask]:
    """Test → gates that pass it; a gate without the field a test needs passes."""
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
