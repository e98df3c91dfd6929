"""WF-UNet: U-Net with one encoder stream per variable, fused in the decoder.

Based on the two-stream weather-fusion U-Net of Kaparakis & Mehrkanoon (2023) as used in the source paper, §7. ZH and
ZDR, at all heights, are encoded separately and fused at the start of the decoder and at every skip connection.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.data.scaling import SCALINGS, make_scaling
from polarcast.models.common.rain import RainConfig, as_forecast, last_rain, rain_loss
from polarcast.models.common.settings import ALWAYS, setting, widths_setting
from polarcast.models.common.stacked import channels_last
from polarcast.models.common.views import FeaturesConfig, views_per_field, with_features
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.qpe.first_guess import FirstGuessConfig, make_first_guess
from polarcast.models.qpe.unet import ResidualBlock, decode, encode, require_halvable


@dataclass
class WFUNetConfig(FirstGuessConfig, FeaturesConfig, RainConfig):
    """Configuration of WF-UNet."""

    widths: list[int] = widths_setting([64, 128, 256, 384])
    """Channels of each level, in streams and decoder, from full resolution down; each level halves the grid."""
    scaling: str = setting("range", ALWAYS, choices=SCALINGS)
    """Scaling of the radar input: range or frame."""


class WFUNet(Forecaster):
    """WF-UNet with one stream per variable, which covers all its heights and frames; estimates rain of the last frame.

    With one variable, as in the radar arm, there is one stream, and the fusion block mixes its deepest maps. A first
    guess is a further channel of the first stream.
    """

    def __init__(self, config: WFUNetConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config = config
        self.blocks = (ResidualBlock,)
        streams = [views_per_field(config) * inputs.frames * len(inputs.heights_km)] * len(inputs.variables)
        self.first_guess = make_first_guess(config, config.rain_transform, inputs)
        if self.first_guess:
            streams[0] += 1
        self.net = WFUNetBody(streams, 1, config.widths)

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
        scaled = make_scaling(self.config.scaling, batch.variables, batch.radar).apply(batch.radar)
        fields = with_features(scaled, self.config)
        first, *others = [variable.flatten(1, 2) for variable in fields.unbind(2)]
        if not self.first_guess:
            return self.net([first, *others])
        guess = self.first_guess(batch)
        return guess + self.net([torch.cat([first, self.first_guess.channel(guess)], 1), *others])


class WFUNetBody(nn.Module):
    """Multi-stream U-Net, [(b, c_i, y, x), …] → (b, out, y, x), without normalization layers, as `UNetBody`."""

    def __init__(self, channels: Sequence[int], out: int, widths: Sequence[int]) -> None:
        """Build one encoder stream for each entry of `channels`."""
        super().__init__()
        self.streams = nn.ModuleList(EncoderStream(c, widths) for c in channels)
        self.fusion = ResidualBlock(len(channels) * widths[-1], widths[-1])
        self.decoders = nn.ModuleList(ResidualBlock(low + len(channels) * skip, skip) for skip, low in pairwise(widths))
        self.head = nn.Conv2d(widths[0], out, 1)

    def forward(self, fields: Sequence[Tensor]) -> Tensor:
        """Return the output map. Raises BadInput if the grid can't be halved once per level."""
        require_halvable(fields[0], len(self.decoders))
        by_stream = [stream(x) for stream, x in zip(self.streams, fields, strict=True)]
        *skips, deepest = [torch.cat(maps, 1) for maps in zip(*by_stream, strict=True)]
        return self.head(decode(self.fusion(deepest), skips, self.decoders))


class EncoderStream(nn.Module):
    """Encoder, (b, channels, y, x) → feature maps of every level, from full resolution down."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise([widths[0], *widths]))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of each level i, (b, widths[i], y / 2^i, x / 2^i)."""
        return encode(self.stem(channels_last(x)), self.encoders)
