"""SimVP (Gao et al. 2022): frames are encoded separately, and time is mixed at reduced resolution.

The mixing uses gated large-kernel attention (Tan et al. 2022, SimVP v2; Guo et al. 2022).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.models.common.settings import ALWAYS, setting, widths_setting
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.network import NetworkNowcast, NowcastConfig
from polarcast.models.qpe.unet import require_halvable

_EXPANSION = 4


@dataclass
class SimVPConfig(NowcastConfig):
    """Configuration of SimVP."""

    widths: list[int] = widths_setting([64, 512], shortest=2, longest=2)
    """Channels per encoded frame, and channels of all frames together where time is mixed."""
    halvings: int = setting(2, ALWAYS, least=1, most=10)
    """Number of halvings of the grid before time is mixed."""
    depth: int = setting(8, ALWAYS, least=1, most=1000)
    """Number of blocks that mix time and space."""


class SimVP(NetworkNowcast):
    """SimVP, which forecasts all lead times and heights at once."""

    def __init__(self, config: SimVPConfig, inputs: InputSpec) -> None:
        super().__init__(config, inputs)
        self.blocks = (MixingBlock,)
        self.net = VideoNet(inputs, config)


class VideoNet(nn.Module):
    """Network from scaled radar (b, t, v, z, y, x) to scaled zh (b, lead, z, y, x)."""

    def __init__(self, inputs: InputSpec, config: SimVPConfig) -> None:
        super().__init__()
        frame_width, mixed = config.widths
        heights, self._lead_frames = len(inputs.heights_km), inputs.lead_frames
        self.first = Layer(len(inputs.variables) * heights, frame_width, halve=True)
        self.downs = nn.ModuleList(Layer(frame_width, frame_width, halve=True) for _ in range(config.halvings - 1))
        self.into = nn.Conv2d(inputs.frames * frame_width, mixed, 1)
        self.mixing = nn.Sequential(*(MixingBlock(mixed) for _ in range(config.depth)))
        self.out_of = nn.Conv2d(mixed, inputs.lead_frames * frame_width, 1)
        self.ups = nn.ModuleList(Layer(frame_width, frame_width, double=True) for _ in range(config.halvings - 1))
        self.last = Layer(2 * frame_width, frame_width)
        self.head = nn.Sequential(nn.Conv2d(frame_width, 4 * heights, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, radar: Tensor) -> Tensor:
        """Return the forecast. Raises BadInput if the grid can't be halved as often as configured."""
        require_halvable(radar, 1 + len(self.downs))
        b, t = radar.shape[:2]
        fine = x = self.first(radar.flatten(0, 1).flatten(1, 2))
        for down in self.downs:
            x = down(x)
        x = self.out_of(self.mixing(self.into(x.unflatten(0, (b, t)).flatten(1, 2))))
        x = x.unflatten(1, (self._lead_frames, -1)).flatten(0, 1)
        for up in self.ups:
            x = up(x)
        # The skip connection gives every lead time the fine scales of the last input frame.
        skip = fine.unflatten(0, (b, t))[:, -1].repeat_interleave(self._lead_frames, 0)
        return self.head(self.last(torch.cat([x, skip], 1))).unflatten(0, (b, self._lead_frames))


class Layer(nn.Module):
    """Convolution, channel norm and SiLU, at half, the same or twice the resolution."""

    def __init__(self, channels: int, width: int, halve: bool = False, double: bool = False) -> None:
        super().__init__()
        out = 4 * width if double else width
        self.conv = nn.Conv2d(channels, out, 3, stride=2 if halve else 1, padding=1)
        self.shuffle = nn.PixelShuffle(2) if double else nn.Identity()
        self.norm = ChannelNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, channels, y, x) to (b, width, y′, x′)."""
        return nn.functional.silu(self.norm(self.shuffle(self.conv(x))))


class MixingBlock(nn.Module):
    """Residual block, x + gate(norm(x)) followed by x + perceptron(norm(x)), over the channels of all frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = _EXPANSION * width
        self.gate = nn.Sequential(ChannelNorm(width), nn.Conv2d(width, width, 1), nn.GELU(), LargeKernelGate(width))
        self.project = nn.Conv2d(width, width, 1)
        self.perceptron = nn.Sequential(
            ChannelNorm(width),
            nn.Conv2d(width, inner, 1),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner),
            nn.GELU(),
            nn.Conv2d(inner, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x, (b, width, y, x)."""
        x = x + self.project(self.gate(x))
        return x + self.perceptron(x)


class LargeKernelGate(nn.Module):
    """Gated large-kernel attention with a 23 × 23 receptive field."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.far = nn.Conv2d(width, width, 7, padding=9, groups=width, dilation=3)
        self.mix, self.gate = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x, (b, width, y, x)."""
        around = self.far(self.near(x))
        return torch.sigmoid(self.gate(around)) * self.mix(around)


class ChannelNorm(nn.Module):
    """Layer normalization of each pixel over its channels, independent of the rest of the frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x, (b, c, y, x)."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)
