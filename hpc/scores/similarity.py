"""Structural similarity (SSIM).

References:
    Wang et al. (2004).
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from polarcast.hpc.scores.arrays import as_arrays, on_cpu
from polarcast.hpc.scores.ratios import Array, quotient

PARTS = ("windows", "sum_ssim")
WINDOW = 11
"""Side of the Gaussian window in pixels."""
_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03


def ssim_sums(forecast: Tensor, observed: Tensor, data_range: float) -> Tensor:
    """Accumulate the SSIM of the windows of each field.

    SSIM = (2 μf μo + C₁)(2 σfo + C₂) / ((μf² + μo² + C₁)(σf² + σo² + C₂)), with moments under a Gaussian window of 11
    pixels and σ = 1.5, C₁ = (0.01 R)² and C₂ = (0.03 R)². Windows that reach beyond the edge or hold NaN are left out.

    Args:
        forecast: Forecast fields of at least 11 × 11 pixels, (n, y, x).
        observed: Observed fields in the same units, (n, y, x).
        data_range: Range R of the values in the same units; a convention, not that of the fields.

    Returns:
        (n, PARTS) float64.

    References:
        Wang et al. (2004), section III.B and equation 13.
    """
    stabilizers = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    if on_cpu(forecast, observed):
        from polarcast.hpc.scores.pixel_kernels import ssim_terms

        sums = torch.zeros(len(forecast), len(PARTS), dtype=torch.float64)
        ssim_terms(*as_arrays(forecast, observed), _weights(), *stabilizers, sums.numpy())
        return sums
    values = _similarity(forecast.double(), observed.double(), *stabilizers)
    return torch.stack([(~values.isnan()).sum((1, 2)).double(), values.nansum((1, 2))], -1)


def ssim(sums: Array) -> Array:
    """Compute the mean structural similarity over windows, at most 1, from sums of `ssim_sums` (…, PARTS)."""
    windows, total = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return quotient(total, windows)


@cache
def _weights() -> Array:
    """Return the normalized weights of the window along one axis, (11,)."""
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * _SIGMA**2))
    return np.asarray(weights / weights.sum())


def _similarity(f: Tensor, o: Tensor, c1: float, c2: float) -> Tensor:
    """Return the SSIM of each window, (n, y − 10, x − 10), with torch on the device of the fields."""
    mf, mo, ff, oo, fo = map(_smooth, (f, o, f * f, o * o, f * o))
    luminance = (2 * mf * mo + c1) / (mf * mf + mo * mo + c1)
    return luminance * (2 * (fo - mf * mo) + c2) / (ff - mf * mf + oo - mo * mo + c2)


def _smooth(field: Tensor) -> Tensor:
    """Return the weighted mean of each window of (n, y, x)."""
    for dim in (1, 2):
        length = field.shape[dim] - WINDOW + 1
        # Shifted sums, not a convolution: its algorithm could spread NaN beyond the window.
        parts = [weight * field.narrow(dim, k, length) for k, weight in enumerate(_weights().tolist())]
        field = torch.stack(parts).sum(0)
    return field
