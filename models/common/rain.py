"""Rain transform, output and loss shared by the QPE networks."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.data.scaling import RAIN_TRANSFORMS, scale_rain, unscale_rain
from polarcast.models.common.settings import ALWAYS, setting

MOST_MMH = 300.0
"""Upper limit of rain rate in mm/h; no 1 km, 1 min mean in any archive exceeds it."""


@dataclass
class RainConfig:
    """Rain transform and loss weights; base class of the QPE network configurations."""

    rain_transform: str = setting("log1p", ALWAYS, choices=RAIN_TRANSFORMS)
    """Transform of the network's rain output: log1p, sqrt or identity."""
    rate_weight: float = setting(0.5, ALWAYS, least=0, most=10**6)
    """Weight of the squared error in mm/h relative to the squared error in the transformed space."""
    rate_scale: float = setting(10.0, ALWAYS, least=1e-3, most=10**6)
    """Rain rate in mm/h by which errors in mm/h are divided."""
    heavy_power: float = setting(0.0, least=0, most=10)
    """Exponent p of the pixel weight (1 + R)^p in the transformed space, R observed; 0 is uniform, 0.5 suits log1p."""
    heavy_cap: float = setting(100.0, least=0, most=10**4)
    """Rain rate in mm/h above which the pixel weight is constant."""


def last_rain(batch: Batch) -> Tensor:
    """Return the observed rain rate of the last frame, the QPE target, (b, t = 1, y, x) in mm/h.

    Raises:
        ValueError: the batch has no rain.
    """
    return batch.rain_rate[:, -1:]


def as_forecast(scaled: Tensor, config: RainConfig) -> Tensor:
    """Convert network output (b, t = 1, y, x) to a forecast (b, m = 1, t = 1, y, x) in mm/h."""
    return unscale_rain(scaled, config.rain_transform)[:, None]


def rain_loss(scaled: Tensor, rain_rate: Tensor, config: RainConfig) -> Tensor:
    """Return the weighted squared error of transformed rain plus a share of the squared error in mm/h.

    The first term alone ignores heavy rain, where dual polarization matters most. The second alone is dominated by a
    few pixels and trains poorly. It has no observation-dependent weight, which would bias its minimum, the conditional
    mean, upward.

    Args:
        scaled: Network output in the transformed space, any shape.
        rain_rate: Observed rain rate in mm/h, same shape.
        config: Transform and weights.

    Returns:
        Mean over all pixels: the losses of equal micro-batches average to that of the whole batch.
    """
    in_transform = _weighted_square(scaled, scale_rain(rain_rate, config.rain_transform), rain_rate, config)
    if not config.rate_weight:
        return in_transform
    # Limit the output: the exponential of an outlier would destabilize training.
    limit = float(scale_rain(torch.tensor(MOST_MMH), config.rain_transform))
    error = (unscale_rain(scaled.clamp(max=limit), config.rain_transform) - rain_rate) / config.rate_scale
    return in_transform + config.rate_weight * error.square().mean()


def heavy_rain_weight(rain_rate: Tensor, config: RainConfig) -> Tensor:
    """Return each pixel's weight in the transformed space, (1 + min(R, cap))^p with R observed in mm/h.

    The unweighted squared error of ln(1 + R) is minimal near the median, below the mean that scores in mm/h require.
    If 1 + R given the radar is log-normal, the weight shifts the minimum from μ to μ + p σ². Then p = 1/2 gives the
    conditional mean, ln E[1 + R] = μ + σ²/2, for any σ. p = 2 turns relative errors into absolute ones (to first
    order) and overshoots. The cap limits the influence of a single pixel on a step.
    """
    return (1 + rain_rate.clamp(max=config.heavy_cap)) ** config.heavy_power


def _weighted_square(scaled: Tensor, target: Tensor, rain_rate: Tensor, config: RainConfig) -> Tensor:
    if not config.heavy_power:
        return F.mse_loss(scaled, target)
    return torch.mean(heavy_rain_weight(rain_rate, config) * (scaled - target).square())
