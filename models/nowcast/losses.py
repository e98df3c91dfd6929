"""Training losses of nowcasting networks, on reflectivity scaled from 0–65 dBZ to 0–1."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.scaling import RANGES, constants

_STEPS_DBZ = (20.0, 30.0, 35.0, 40.0)
_WEIGHTS = (1.0, 2.0, 5.0, 10.0, 30.0)
_SHARP_SHARE = 0.5


def mse(forecast: Tensor, observed: Tensor) -> Tensor:
    """Return the mean squared error (source paper §5)."""
    return F.mse_loss(forecast, observed)


def balanced(forecast: Tensor, observed: Tensor) -> Tensor:
    """Return the balanced squared plus absolute error (Shi et al. 2017, §3.3: B-MSE and B-MAE).

    Pixels are weighted by the class of the observed reflectivity, so that rare strong echo counts; the result is
    divided by the largest weight.
    """
    low, high = RANGES["zh"]
    edges = constants([(step - low) / (high - low) for step in _STEPS_DBZ], observed)
    weight = constants(_WEIGHTS, observed)[torch.bucketize(observed.contiguous(), edges, right=True)]
    error = forecast - observed
    return (weight * (error.square() + error.abs())).mean() / _WEIGHTS[-1]


def sharp(forecast: Tensor, observed: Tensor) -> Tensor:
    """Return the mean of the squared error and the squared error of the Fourier amplitudes of each field.

    A blurred forecast lacks amplitude at small scales. The second term penalizes this even where the phase is
    unpredictable (Yan et al. 2024, FACL: Fourier amplitude loss). The transform is orthonormal, so both terms have the
    same number of values and the same scale (Parseval).
    """
    amplitudes = [torch.fft.rfft2(field.float(), norm="ortho").abs() for field in (forecast, observed)]
    amplitude_error = _whole_plane_mse(amplitudes[0], amplitudes[1], forecast.shape[-1])
    return (1 - _SHARP_SHARE) * F.mse_loss(forecast, observed) + _SHARP_SHARE * amplitude_error


def _whole_plane_mse(forecast: Tensor, observed: Tensor, columns: int) -> Tensor:
    """Return the mean squared difference over the full coefficient plane, given the half plane of `rfft2`."""
    # Half of the plane is redundant for real fields: columns without a mirror image count once, all others twice.
    weight = torch.full((forecast.shape[-1],), 2.0, device=forecast.device)
    weight[0] = 1.0
    if columns % 2 == 0:
        weight[-1] = 1.0
    squared = (forecast - observed).square() * weight
    return squared.sum((-2, -1)).mean() / (forecast.shape[-2] * columns)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "balanced": balanced, "sharp": sharp}
"""Losses by name; each maps scaled forecast and observation, both (…, y, x), to a mean over all pixels."""
