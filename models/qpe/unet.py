"""U-Net for QPE: radar fields to rain rate of the last frame (source paper §7; Ronneberger et al. 2015)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import SCALINGS, make_scaling
from polarcast.models.common.rain import RainConfig, as_forecast, last_rain, rain_loss
from polarcast.models.common.settings import ALWAYS, setting, widths_setting
from polarcast.models.common.stacked import channels_last
from polarcast.models.common.views import FeaturesConfig, views_per_field, with_features
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.qpe.first_guess import FirstGuessConfig, make_first_guess


@dataclass
class RainUNetConfig(FeaturesConfig, RainConfig):
    """Configuration shared by the U-Nets that output one field of transformed rain."""

    widths: list[int] = widths_setting([64, 128, 256, 384])
    """Channels of each level, from full resolution down; each level halves the grid."""
    scaling: str = setting("range", ALWAYS, choices=SCALINGS)
    """Scaling of the radar input: range or frame."""


@dataclass
class UNetConfig(FirstGuessConfig, RainUNetConfig):
    """Configuration of the QPE U-Net."""


class UNet(Forecaster):
    """U-Net that estimates the rain rate of the last frame from the radar fields of all frames."""

    def __init__(self, config: UNetConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config = config
        self.blocks = (ResidualBlock,)
        self.first_guess = make_first_guess(config, config.rain_transform, inputs)
        channels = views_per_field(config) * inputs.channels
        self.net = UNetBody(channels + (self.first_guess is not None), 1, config.widths)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the first guess, if there is one."""
        if self.first_guess:
            self.first_guess.fit(batches)

    def loss(self, batch: Batch) -> Tensor:
        """Return the `rain_loss` of the last frame. Raises BadInput if the grid can't be halved once per level."""
        return rain_loss(self._scaled_rain(batch), last_rain(batch), self.config)

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h of the last frame, (b, 1, t = 1, y, x)."""
        return as_forecast(self._scaled_rain(batch), self.config)

    def _scaled_rain(self, batch: Batch) -> Tensor:
        scaling = make_scaling(self.config.scaling, batch.variables, batch.radar)
        radar = with_features(scaling.apply(batch.radar), self.config).flatten(1, 3)
        if not self.first_guess:
            return self.net(radar)
        guess = self.first_guess(batch)
        return guess + self.net(torch.cat([radar, self.first_guess.channel(guess)], 1))


class UNetBody(nn.Module):
    """U-Net, (b, c, y, x) → (b, out, y, x), without normalization layers.

    Rain rate is absolute: normalization by frame statistics would make the rain of a storm depend on the frame size.
    """

    def __init__(self, channels: int, out: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise([widths[0], *widths]))
        self.decoders = nn.ModuleList(ResidualBlock(low + skip, skip) for skip, low in pairwise(widths))
        self.head = nn.Conv2d(widths[0], out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output map. Raises BadInput if the grid can't be halved once per level."""
        require_halvable(x, len(self.decoders))
        *skips, deepest = encode(self.stem(channels_last(x)), self.encoders)
        return self.head(decode(deepest, skips, self.decoders))


class ResidualBlock(nn.Module):
    """Residual block, x → SiLU(conv(SiLU(conv(x))) + shortcut(x))."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, channels, y, x) to (b, width, y, x)."""
        return F.silu(self.second(F.silu(self.first(x))) + self.shortcut(x))


def encode(x: Tensor, encoders: Iterable[nn.Module]) -> list[Tensor]:
    """Return the feature maps of every level, from full resolution down; each level halves the grid."""
    levels: list[Tensor] = []
    for encoder in encoders:
        x = encoder(F.avg_pool2d(x, 2) if levels else x)
        levels.append(x)
    return levels


def decode(x: Tensor, skips: Sequence[Tensor], decoders: nn.ModuleList) -> Tensor:
    """Decode the deepest map to full resolution; `decoders` and `skips` are ordered from full resolution down."""
    for decoder, skip in zip(reversed(decoders), reversed(skips), strict=True):
        x = decoder(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
    return x


def require_halvable(x: Tensor, times: int) -> None:
    """Raise BadInput if the grid of x (…, y, x) can't be halved `times` times."""
    factor = 2**times
    if x.shape[-1] % factor or x.shape[-2] % factor:
        raise BadInput(
            f"a grid of {tuple(x.shape[-2:])} can't be halved {times} times",
            "model.widths",
            f"use sides divisible by {factor}, or fewer levels",
        )
