"""What a nowcasting network is trained on: losses of scaled reflectivity, 0 to 1 over 0 to 65 dBZ."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.scaling import RANGES

_STEPS_DBZ = (20.0, 30.0, 35.0, 40.0)
_WEIGHTS = (1.0, 2.0, 5.0, 10.0, 30.0)
_SHARP_SHARE = 0.5


def mse(forecast: Tensor, observed: Tensor) -> Tensor:
    """Mean squared error (source paper §5)."""
    return F.mse_loss(forecast, observed)


def balanced(forecast: Tensor, observed: Tensor) -> Tensor:
    """Squared plus absolute error, both weighted by the class of what was observed (Shi et al. 2017, §3.3: B-MSE and
    B-MAE), so that the few pixels of strong echo count; divided by the largest weight."""
    low, high = RANGES["zh"]
    edges = torch.tensor([(step - low) / (high - low) for step in _STEPS_DBZ], device=observed.device)
    weight = torch.tensor(_WEIGHTS, device=observed.device)[torch.bucketize(observed.contiguous(), edges, right=True)]
    error = forecast - observed
    return (weight * (error.square() + error.abs())).mean() / _WEIGHTS[-1]


def sharp(forecast: Tensor, observed: Tensor) -> Tensor:
    """Squared error, and squared error of the amplitudes of each field's Fourier coefficients.

    Of two forecasts equally wrong, the blurred one has lost the amplitude of small scales; the second term asks for it
    wherever the phase can't be known (Yan et al. 2024, FACL: Fourier amplitude loss). The transform is orthonormal, so
    that both terms are means over as many values of the same scale (Parseval).
    """
    said, seen = (torch.fft.rfft2(field.float(), norm="ortho").abs() for field in (forecast, observed))
    in_amplitude = _whole_plane_mse(said, seen, forecast.shape[-1])
    return (1 - _SHARP_SHARE) * F.mse_loss(forecast, observed) + _SHARP_SHARE * in_amplitude


def _whole_plane_mse(forecast: Tensor, observed: Tensor, columns: int) -> Tensor:
    """Mean over the whole plane of coefficients of the squared difference of those that `rfft2` gives."""
    # Of a real field half of the plane is redundant: the other half counts twice.
    weight = torch.full((forecast.shape[-1],), 2.0, device=forecast.device)
    weight[0] = 1.0
    if columns % 2 == 0:
        weight[-1] = 1.0
    squared = (forecast - observed).square() * weight
    return squared.sum((-2, -1)).mean() / (forecast.shape[-2] * columns)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "balanced": balanced, "sharp": sharp}
"""Of scaled forecast and observation of equal shape, (…, y, x): a mean over all pixels."""
