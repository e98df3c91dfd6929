"""U-Net for rain-rate estimation: radar fields of one time in, rain rate out (source paper §7; Ronneberger 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import make_scaling, scale_rain, unscale_rain
from polarcast.models.forecaster import Forecaster, Inputs


@dataclass
class UNetConfig:
    """Configuration of the QPE U-Net."""

    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 384])
    """Channels of each level, from full resolution down; each level halves the grid."""
    scaling: str = "range"
    """Scaling of the radar input: range or frame."""
    rain_transform: str = "log1p"
    """Space in which the network speaks of rain: log1p, sqrt or identity."""
    rate_weight: float = 0.5
    """Weight of the squared error in mm/h beside the squared error in the transformed space."""
    rate_scale: float = 10.0
    """Rain rate in mm/h that counts as one in the squared error in mm/h."""


class UNet(Forecaster):
    """Rain rate from radar fields of one time, at any grid size that the depth divides."""

    def __init__(self, config: UNetConfig, inputs: Inputs) -> None:
        super().__init__()
        self.config = config
        self.blocks = (ResidualBlock,)
        self.net = UNetBody(inputs.channels, 1, config.widths)

    def loss(self, batch: Batch) -> Tensor:
        """Squared error of the transformed rain, plus a share of the squared error in mm/h.

        The first alone is blind to heavy rain, where dual polarization matters most; the second alone is ruled by a few
        pixels and trains badly.
        """
        scaled = self._scaled_rain(batch)
        in_transform = F.mse_loss(scaled, scale_rain(batch.rain_rate, self.config.rain_transform))
        if not self.config.rate_weight:
            return in_transform
        error = (unscale_rain(scaled, self.config.rain_transform) - batch.rain_rate) / self.config.rate_scale
        return in_transform + self.config.rate_weight * error.square().mean()

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Rain rate in mm/h, (b, 1, t = 1, y, x)."""
        return unscale_rain(self._scaled_rain(batch), self.config.rain_transform)[:, None]

    def _scaled_rain(self, batch: Batch) -> Tensor:
        scaling = make_scaling(self.config.scaling, batch.variables, batch.radar)
        return self.net(scaling.apply(batch.radar).flatten(1, 3))


class UNetBody(nn.Module):
    """(b, c, y, x) → (b, out, y, x). No normalisation layers: rain rate is absolute, and a network that divides by a
    frame's statistics answers differently when the same storm stands in a larger frame."""

    def __init__(self, channels: int, out: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.factor = 2 ** (len(widths) - 1)
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise([widths[0], *widths]))
        self.decoders = nn.ModuleList(ResidualBlock(low + skip, skip) for skip, low in pairwise(widths))
        self.head = nn.Conv2d(widths[0], out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Raises BadInput when the grid can't be halved as often as the depth needs."""
        if x.shape[-1] % self.factor or x.shape[-2] % self.factor:
            raise BadInput(
                f"a grid of {tuple(x.shape[-2:])} can't be halved {len(self.decoders)} times",
                "model.widths",
                f"use sides divisible by {self.factor}, or fewer levels",
            )
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        levels: list[Tensor] = []
        for encoder in self.encoders:
            x = encoder(F.avg_pool2d(x, 2) if levels else x)
            levels.append(x)
        for decoder, skip in zip(reversed(self.decoders), reversed(levels[:-1]), strict=True):
            x = decoder(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
        return self.head(x)


class ResidualBlock(nn.Module):
    """x → SiLU(conv(SiLU(conv(x))) + shortcut(x))."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, y, x) → (b, width, y, x)."""
        return F.silu(self.second(F.silu(self.first(x))) + self.shortcut(x))
