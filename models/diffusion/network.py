"""Denoising U-Net, conditioned on noise level and radar fields."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polarcast.models.common.stacked import channels_last
from polarcast.models.qpe.unet import require_halvable

_FREQUENCIES = 16
_MAX_FREQUENCY = 200.0
"""Highest frequency of the level embedding, in radians over the range of levels."""


class DenoisingUNet(nn.Module):
    """Denoising U-Net (source paper §7.4.1; Ho et al. 2020, appendix B)."""

    def __init__(self, noisy: int, condition: int, widths: Sequence[int]) -> None:
        """Build the network.

        Args:
            noisy: Number of noisy fields.
            condition: Number of condition channels.
            widths: Channels of each level, from full resolution down; each level halves the grid.
        """
        super().__init__()
        hidden = 4 * widths[0]
        self.embedding = LevelEmbedding(hidden)
        self.stem = nn.Conv2d(noisy + condition, widths[0], 3, padding=1)
        levels = pairwise([widths[0], *widths])
        self.encoders = nn.ModuleList(DenoisingBlock(a, b, hidden) for a, b in levels)
        self.middle = DenoisingBlock(widths[-1], widths[-1], hidden)
        self.decoders = nn.ModuleList(DenoisingBlock(low + skip, skip, hidden) for skip, low in pairwise(widths))
        self.norm = PixelNorm(widths[0])
        self.head = nn.Conv2d(widths[0], noisy, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor, angle: Tensor, is_kept: Tensor) -> Tensor:
        """Return the prediction, whose type is up to the process.

        Args:
            x: Noisy fields, (b, c, y, x).
            condition: Condition channels, (b, k, y, x).
            angle: Noise level of each sample, (b,), from 0 (clean) to 1 (pure noise).
            is_kept: Condition mask, (b,): 1 to use the condition, 0 to drop it.

        Returns:
            (b, c, y, x).

        Raises:
            BadInput: the grid can't be halved once per level.
        """
        require_halvable(x, len(self.decoders))
        embedded = self.embedding(angle, is_kept)
        h = torch.cat([x, condition * is_kept[:, None, None, None]], 1)
        h = self.stem(channels_last(h))
        levels: list[Tensor] = []
        for encoder in self.encoders:
            h = encoder(F.avg_pool2d(h, 2) if levels else h, embedded)
            levels.append(h)
        h = self.middle(h, embedded)
        for decoder, skip in zip(reversed(self.decoders), reversed(levels[:-1]), strict=True):
            h = decoder(torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), skip], 1), embedded)
        return self.head(F.silu(self.norm(h)))


class LevelEmbedding(nn.Module):
    """Embedding of noise level and condition mask, (b, hidden)."""

    frequencies: Tensor

    def __init__(self, hidden: int) -> None:
        super().__init__()
        waves = torch.exp(torch.linspace(0, math.log(_MAX_FREQUENCY), _FREQUENCIES))
        self.register_buffer("frequencies", waves, persistent=False)
        self.first = nn.Linear(2 * _FREQUENCIES + 1, hidden)
        self.second = nn.Linear(hidden, hidden)

    def forward(self, angle: Tensor, is_kept: Tensor) -> Tensor:
        """Embed `angle` and `is_kept`, both (b,). The mask is needed because zeros may also be a clear sky."""
        waves = angle[:, None] * self.frequencies
        features = torch.cat([waves.sin(), waves.cos(), is_kept[:, None]], 1)
        return F.silu(self.second(F.silu(self.first(features))))


class DenoisingBlock(nn.Module):
    """Residual block x → shortcut(x) + conv(SiLU(FiLM(norm(conv(SiLU(norm(x))))))) (FiLM: Perez et al. 2018)."""

    def __init__(self, channels: int, width: int, hidden: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = PixelNorm(channels), PixelNorm(width)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(hidden, 2 * width)
        self.shortcut = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()
        # Zero initialization: the block starts as its shortcut.
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        """(b, channels, y, x) and (b, hidden) → (b, width, y, x)."""
        scale, shift = self.film(embedded)[:, :, None, None].chunk(2, 1)
        h = self.first(F.silu(self.first_norm(x)))
        h = torch.addcmul(shift, self.second_norm(h), 1 + scale)
        return self.shortcut(x) + self.second(F.silu(h))


class PixelNorm(nn.Module):
    """RMS normalization of each pixel over its channels, with a learned gain (Karras et al. 2018, §4.2).

    Unlike group norm it uses a single pixel only, so the rain of a storm does not depend on the size of the frame.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (b, channels, y, x); the shape is unchanged."""
        # Channels last makes the kernels contiguous, 4 times faster on a CPU. Without the cast of the gain, autocast
        # would continue in single precision.
        h = F.rms_norm(x.permute(0, 2, 3, 1), (x.shape[1],), self.gain.to(x), 1e-4)
        return h.permute(0, 3, 1, 2)
