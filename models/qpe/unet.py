"""U-Net for rain estimation: radar fields in, rain rate of the last frame out (source paper §7; Ronneberger 2015)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import make_scaling
from polarcast.models.common.rain import RainConfig, as_forecast, last_rain, rain_loss
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.forecaster import Forecaster, InputSpec


@dataclass
class UNetConfig(RainConfig):
    """Configuration of the QPE U-Net."""

    widths: list[int] = setting([64, 128, 256, 384], ALWAYS)
    """Channels of each level, from full resolution down; each level halves the grid."""
    scaling: str = setting("range", ALWAYS)
    """Scaling of the radar input: range or frame."""


class UNet(Forecaster):
    """Rain rate of the last frame from the radar fields of all frames, at any grid size that the depth divides."""

    def __init__(self, config: UNetConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config = config
        self.blocks = (ResidualBlock,)
        self.net = UNetBody(inputs.channels, 1, config.widths)

    def loss(self, batch: Batch) -> Tensor:
        """`rain_loss` of the last frame; raises BadInput for a grid that can't be halved as often as needed."""
        return rain_loss(self._scaled_rain(batch), last_rain(batch), self.config)

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Rain rate in mm/h of the last frame, (b, 1, t = 1, y, x)."""
        return as_forecast(self._scaled_rain(batch), self.config)

    def _scaled_rain(self, batch: Batch) -> Tensor:
        scaling = make_scaling(self.config.scaling, batch.variables, batch.radar)
        return self.net(scaling.apply(batch.radar).flatten(1, 3))


class UNetBody(nn.Module):
    """(b, c, y, x) → (b, out, y, x). No normalisation layers: rain rate is absolute, and a network that divides by a
    frame's statistics answers differently when the same storm stands in a larger frame."""

    def __init__(self, channels: int, out: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise([widths[0], *widths]))
        self.decoders = nn.ModuleList(ResidualBlock(low + skip, skip) for skip, low in pairwise(widths))
        self.head = nn.Conv2d(widths[0], out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Raises BadInput when the grid can't be halved as often as the depth needs."""
        require_halvable(x, len(self.decoders))
        *skips, deepest = encode(self.stem(x.contiguous(memory_format=torch.channels_last)), self.encoders)
        return self.head(decode(deepest, skips, self.decoders))


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


def encode(x: Tensor, encoders: Iterable[nn.Module]) -> list[Tensor]:
    """Maps of every level, from full resolution down; each level has half the grid of the one before."""
    levels: list[Tensor] = []
    for encoder in encoders:
        x = encoder(F.avg_pool2d(x, 2) if levels else x)
        levels.append(x)
    return levels


def decode(x: Tensor, skips: Sequence[Tensor], decoders: nn.ModuleList) -> Tensor:
    """Back to full resolution from the deepest map; `decoders` and `skips` are listed from full resolution down."""
    for decoder, skip in zip(reversed(decoders), reversed(skips), strict=True):
        x = decoder(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
    return x


def require_halvable(x: Tensor, times: int) -> None:
    """Raises BadInput when the grid of (…, y, x) can't be halved that often."""
    factor = 2**times
    if x.shape[-1] % factor or x.shape[-2] % factor:
        raise BadInput(
            f"a grid of {tuple(x.shape[-2:])} can't be halved {times} times",
            "model.widths",
            f"use sides divisible by {factor}, or fewer levels",
        )
