"""What networks that estimate rain share: how they speak of it, and what they are trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import RAIN_TRANSFORMS, scale_rain, unscale_rain
from polarcast.models.common.settings import ALWAYS, setting

MOST_MMH = 300.0
"""More than a mean over a square kilometre and a minute reaches in any archive."""


@dataclass
class RainConfig:
    """How a network speaks of rain and what its errors weigh; configurations of networks inherit it."""

    rain_transform: str = setting("log1p", ALWAYS)
    """Space in which the network speaks of rain: log1p, sqrt or identity."""
    rate_weight: float = setting(0.5, ALWAYS)
    """Weight of the squared error in mm/h beside the squared error in the transformed space."""
    rate_scale: float = setting(10.0, ALWAYS)
    """Rain rate in mm/h that counts as one in the squared error in mm/h."""
    heavy_power: float = 0.0
    """A pixel's error in the transformed space weighs (1 + R)^this, R observed. 0: all alike; 0.5 suits log1p."""
    heavy_cap: float = 100.0
    """Rain rate in mm/h above which that weight no longer grows."""

    def __post_init__(self) -> None:
        """Raises BadInput for a transform there is not, and for weights that are none."""
        if self.rain_transform not in RAIN_TRANSFORMS:
            fix = f"there are: {', '.join(RAIN_TRANSFORMS)}"
            raise BadInput(f"unknown transform {self.rain_transform!r}", "model.rain_transform", fix)
        for name in ("rate_weight", "heavy_power", "heavy_cap"):
            if getattr(self, name) < 0:
                raise BadInput(f"{getattr(self, name)} is negative", f"model.{name}", "use zero or more")
        if self.rate_scale <= 0:
            raise BadInput(f"{self.rate_scale} is not positive", "model.rate_scale", "use a rain rate such as 10")


def last_rain(batch: Batch) -> Tensor:
    """Observed rain rate of a window's last frame, which is the one estimated, (b, t = 1, y, x) in mm/h.

    Raises:
        ValueError: the batch was read without rain.
    """
    return batch.rain_rate[:, -1:]


def as_forecast(scaled: Tensor, config: RainConfig) -> Tensor:
    """What a network says of one time, (b, t = 1, y, x), as a forecast (b, m = 1, t = 1, y, x) in mm/h."""
    return unscale_rain(scaled, config.rain_transform)[:, None]


def rain_loss(scaled: Tensor, rain_rate: Tensor, config: RainConfig) -> Tensor:
    """Weighted squared error of the transformed rain, plus a share of the squared error in mm/h.

    The first alone is blind to heavy rain, where dual polarization matters most; the second alone is ruled by a few
    pixels and trains badly. The second is never weighted by what was observed: its minimum is the conditional mean,
    from which such a weight would pull it up.

    Args:
        scaled: What the network says, in the transformed space, any shape.
        rain_rate: Observed, in mm/h, of the same shape.
        config: Transform and weights.

    Returns:
        A mean over all pixels: those of equal micro-batches average to that of the whole.
    """
    in_transform = _weighted_square(scaled, scale_rain(rain_rate, config.rain_transform), rain_rate, config)
    if not config.rate_weight:
        return in_transform
    # More than can fall costs no more than that: an exponential of a stray output would throw the network away.
    most = float(scale_rain(torch.tensor(MOST_MMH), config.rain_transform))
    error = (unscale_rain(scaled.clamp(max=most), config.rain_transform) - rain_rate) / config.rate_scale
    return in_transform + config.rate_weight * error.square().mean()


def heavy_rain_weight(rain_rate: Tensor, config: RainConfig) -> Tensor:
    """Weight of a pixel's squared error in the transformed space, (1 + min(R, cap))^p with R observed, in mm/h.

    The unweighted squared error of ln(1 + R) is smallest at a median-like value, below the mean that the score in mm/h
    asks for. Where 1 + R given the radar is log-normal, the weight shifts that minimum from μ to μ + p σ²: p = 1/2
    gives the conditional mean, ln E[1 + R] = μ + σ²/2, however wide the distribution. p = 2 turns relative errors into
    absolute ones (to first order) and overshoots. The cap bounds how much a single pixel can rule a step.
    """
    return (1 + rain_rate.clamp(max=config.heavy_cap)) ** config.heavy_power


def _weighted_square(scaled: Tensor, target: Tensor, rain_rate: Tensor, config: RainConfig) -> Tensor:
    if not config.heavy_power:
        return F.mse_loss(scaled, target)
    return torch.mean(heavy_rain_weight(rain_rate, config) * (scaled - target).square())
