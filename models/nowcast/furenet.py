"""FURENet: an encoder for each radar variable, fused late, residual U-Net (Pan et al. 2021; source paper §5.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.network import NetworkNowcast, NowcastConfig
from polarcast.models.qpe.unet import require_halvable

_NORM_EPSILON, _NORM_MOMENTUM = 1e-3, 0.01
"""Channels that hardly ever respond have next to no variance. With torch's ε of 1e-5, and statistics of the last ten
batches, the rare storm that they do respond to was blown up a hundredfold when it was forecast, though never in
training, which takes the batch's own."""


@dataclass
class FURENetConfig(NowcastConfig):
    """Configuration of FURENet; by default as the source paper has it."""

    widths: list[int] = setting([64, 128, 192, 256, 384, 512], ALWAYS)
    """Channels of each level of an encoder, from half resolution down; each level halves the grid."""
    squeeze: int = setting(96, ALWAYS)
    """Channels within the squeeze-and-excitation block: a 16th of the three times 512 that come in by default."""
    attention: bool = setting(False, ALWAYS)
    """Self-attention at the deepest level, and a residual block at full resolution before and after all else."""


class FURENet(NetworkNowcast):
    """Forecasts all lead times and heights at once.

    Its batch normalisation, the paper's, takes the statistics of the samples that a process computes at once: with more
    processes or smaller micro-batches the same steps are not quite the same.
    """

    def __init__(self, config: FURENetConfig, inputs: InputSpec) -> None:
        super().__init__(config, inputs)
        self.blocks = (FURENetBlock,)
        self.net = LateFusion(inputs, config.widths, config.squeeze, config.attention)


class LateFusion(nn.Module):
    """Scaled radar (b, t, v, z, y, x), and fields of `more` channels (b, t, z, y, x) → scaled zh (b, lead, z, y, x)."""

    def __init__(self, inputs: InputSpec, widths: Sequence[int], squeeze: int, attention: bool, more: int = 0) -> None:
        super().__init__()
        self._heights = len(inputs.heights_km)
        seen, out = inputs.frames * self._heights, inputs.lead_frames * self._heights
        channels = [seen] * len(inputs.variables) + [more] * (more > 0)
        encoders = len(channels)
        self.encoders = nn.ModuleList(Encoder(into, widths, attention) for into in channels)
        self.squeeze = SqueezeExcitation(encoders * widths[-1], squeeze)
        self.attention = SelfAttention(encoders * widths[-1], widths[-1]) if attention else nn.Identity()
        ups = [*reversed(widths[:-1]), out]
        # Into each block go all encoders' maps of its level, into all but the first also what comes from below.
        below = [0, *ups[:-1]]
        levels = zip(below, reversed(widths), ups, strict=True)
        self.decoders = nn.ModuleList(FURENetBlock(b + encoders * w, up, transposed=True) for b, w, up in levels)
        self.last = FURENetBlock(out, out, stride=1) if attention else nn.Identity()
        self.apply(_as_xavier)

    def forward(self, radar: Tensor, *more: Tensor) -> Tensor:
        """Raises BadInput when the grid can't be halved as often as the depth needs."""
        require_halvable(radar, len(self.decoders))
        # (b, t, v, z, y, x) → of each variable (b, t·z, y, x)
        of_variables = [encoder(x) for encoder, x in zip(self.encoders, (*radar.unbind(2), *more), strict=True)]
        fused = [torch.cat(maps, 1) for maps in zip(*of_variables, strict=True)]
        x = self.attention(self.squeeze(fused.pop()))
        for number, decoder in enumerate(self.decoders):
            x = decoder(torch.cat([x, fused.pop()], 1) if number else x)
        return self.last(x).unflatten(1, (-1, self._heights))


class Encoder(nn.Module):
    """The frames of one variable, (b, t, z, y, x) → maps of every level, from half resolution down."""

    def __init__(self, channels: int, widths: Sequence[int], first_block: bool) -> None:
        super().__init__()
        self.first = FURENetBlock(channels, channels, stride=1) if first_block else nn.Identity()
        self.levels = nn.ModuleList(FURENetBlock(a, b) for a, b in pairwise([channels, *widths]))

    def forward(self, frames: Tensor) -> list[Tensor]:
        """[(b, width, y / 2ⁿ, x / 2ⁿ), …]"""
        # With channels innermost a CPU computes convolutions faster, in bfloat16 almost twice as fast.
        x = self.first(frames.flatten(1, 2).contiguous(memory_format=torch.channels_last))
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps


class FURENetBlock(nn.Module):
    """x₂ = ReLU(conv(x)) at half the resolution, or twice it; then x₂ + conv(BatchNorm(LeakyReLU(conv(x₂))))."""

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
        """(b, channels, y, x) → (b, width, y′, x′)."""
        x = F.relu(self.resize(x))
        return x + self.second(self.norm(F.leaky_relu(self.first(x))))


class SqueezeExcitation(nn.Module):
    """Channels weighted by what is in them (Hu et al. 2018)."""

    def __init__(self, channels: int, narrow: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, narrow), nn.Linear(narrow, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, y, x) → the same shape."""
        weight = torch.sigmoid(self.up(F.relu(self.down(x.mean((-2, -1))))))
        return x * weight[..., None, None]


class SelfAttention(nn.Module):
    """x + W₄(V Aᵀ), A = softmax(K Qᵀ) over the pixels (Wang et al. 2018; source paper §6.1)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, y, x) → the same shape."""
        # Scaled by √c, as the exponential of a sum over channels would saturate.
        query, key, value = (of(x).flatten(2).mT for of in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(query, key, value)
        return x + self.out(seen.mT.unflatten(2, x.shape[-2:]))


def _as_xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
