"""FURENet: residual U-Net with one encoder per radar variable and late fusion (Pan et al. 2021; source paper §5.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polarcast.data.errors import BadInput
from polarcast.models.common.settings import ALWAYS, WIDEST, setting, widths_setting
from polarcast.models.common.stacked import channels_last
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.network import NetworkNowcast, NowcastConfig
from polarcast.models.qpe.unet import require_halvable

_NORM_EPSILON, _NORM_MOMENTUM = 1e-3, 0.01
"""Rarely active channels have almost no variance. With the defaults of PyTorch (ε = 1e-5, momentum 0.1), the running
statistics amplified rare storms in such channels a hundredfold in forecasts. Training, which uses batch statistics,
was not affected."""


@dataclass
class FURENetConfig(NowcastConfig):
    """Configuration of FURENet; the defaults are those of the source paper."""

    widths: list[int] = widths_setting([64, 128, 192, 256, 384, 512])
    """Channels of each level of an encoder, from half resolution down; each level halves the grid."""
    squeeze: int = setting(96, ALWAYS, least=1, most=WIDEST)
    """Inner channels of the squeeze-and-excitation block; the default is 1/16 of its 3 × 512 input channels."""
    attention: bool = setting(False, ALWAYS)
    """Whether to add self-attention at the deepest level and full-resolution residual blocks at input and output."""


class FURENet(NetworkNowcast):
    """FURENet, which forecasts all lead times and heights at once.

    Batch normalization, as in the paper, uses the statistics of each process's micro-batch. Training therefore depends
    slightly on the number of processes and the micro-batch size.
    """

    def __init__(self, config: FURENetConfig, inputs: InputSpec) -> None:
        super().__init__(config, inputs)
        self.blocks = (FURENetBlock,)
        self.net = LateFusion(inputs, config.widths, config.squeeze, config.attention)


class LateFusion(nn.Module):
    """Network from scaled radar (b, t, v, z, y, x), plus `more` channels (b, t, z, y, x), to zh (b, lead, z, y, x)."""

    def __init__(self, inputs: InputSpec, widths: Sequence[int], squeeze: int, attention: bool, more: int = 0) -> None:
        super().__init__()
        self._heights = len(inputs.heights_km)
        variable_channels, out = inputs.frames * self._heights, inputs.lead_frames * self._heights
        channels = [variable_channels] * len(inputs.variables) + [more] * (more > 0)
        encoders = len(channels)
        self.encoders = nn.ModuleList(Encoder(into, widths, attention) for into in channels)
        self.squeeze = SqueezeExcitation(encoders * widths[-1], squeeze)
        self.attention = SelfAttention(encoders * widths[-1], widths[-1]) if attention else nn.Identity()
        ups = [*reversed(widths[:-1]), out]
        # Each block takes the maps of all encoders at its level; all but the first also take the block below.
        below = [0, *ups[:-1]]
        levels = zip(below, reversed(widths), ups, strict=True)
        self.decoders = nn.ModuleList(FURENetBlock(b + encoders * w, up, transposed=True) for b, w, up in levels)
        self.last = FURENetBlock(out, out, stride=1) if attention else nn.Identity()
        self.apply(_init_xavier)

    def forward(self, radar: Tensor, *more: Tensor) -> Tensor:
        """Return the forecast. Raises BadInput if the grid can't be halved once per level, or is left with one pixel.

        Batch normalization can't be trained on one pixel of one sample.
        """
        require_halvable(radar, len(self.decoders))
        if self.training and len(radar) * radar[0, 0, 0, 0].numel() == 4 ** len(self.decoders):
            raise BadInput(
                "one pixel of one sample is left at the deepest level",
                "model.widths",
                "use fewer levels, or larger batches",
            )
        by_variable = [encoder(x) for encoder, x in zip(self.encoders, (*radar.unbind(2), *more), strict=True)]
        fused = [torch.cat(maps, 1) for maps in zip(*by_variable, strict=True)]
        x = self.attention(self.squeeze(fused.pop()))
        for number, decoder in enumerate(self.decoders):
            x = decoder(torch.cat([x, fused.pop()], 1) if number else x)
        return self.last(x).unflatten(1, (-1, self._heights))


class Encoder(nn.Module):
    """Encoder of one variable, (b, t, z, y, x) → feature maps of every level, from half resolution down."""

    def __init__(self, channels: int, widths: Sequence[int], first_block: bool) -> None:
        super().__init__()
        self.first = FURENetBlock(channels, channels, stride=1) if first_block else nn.Identity()
        self.levels = nn.ModuleList(FURENetBlock(a, b) for a, b in pairwise([channels, *widths]))

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Return the maps of each level n, (b, widths[n − 1], y / 2ⁿ, x / 2ⁿ)."""
        # Channels last is faster on CPUs, almost twice as fast in bfloat16.
        x = self.first(channels_last(frames.flatten(1, 2)))
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps


class FURENetBlock(nn.Module):
    """Residual block: x₂ = ReLU(conv(x)) at half or twice the resolution, x₂ + conv(BatchNorm(LeakyReLU(conv(x₂))))."""

    def __init__(self, channels: int, width: int, transposed: bool = False, stride: int = 2) -> None:
        super().__init__()
        self.resize: nn.Module = (
            nn.ConvTranspose2d(channels, width, 3, stride, padding=1, output_padding=1)
            if transposed
            else nn.Conv2d(channels, width, 3, stride, padding=1)
        )
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width, _NORM_EPSILON, _NORM_MOMENTUM)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, channels, y, x) to (b, width, y′, x′)."""
        x = F.relu(self.resize(x))
        return x + self.second(self.norm(F.leaky_relu(self.first(x))))


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018)."""

    def __init__(self, channels: int, narrow: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, narrow), nn.Linear(narrow, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x, (b, c, y, x)."""
        weight = torch.sigmoid(self.up(F.relu(self.down(x.mean((-2, -1))))))
        return x * weight[..., None, None]


class SelfAttention(nn.Module):
    """Self-attention over pixels, x + W₄(V Aᵀ), A = softmax(K Qᵀ) (Wang et al. 2018; source paper §6.1)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x, (b, c, y, x)."""
        # Scores are divided by √c: the softmax of a plain sum over channels would saturate.
        query, key, value = (conv(x).flatten(2).mT for conv in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(attended.mT.unflatten(2, x.shape[-2:]))


def _init_xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
