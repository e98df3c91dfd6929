"""A strong simple video network: frames are encoded one by one, time is mixed at reduced resolution (Gao et al. 2022).

The mixing is by gated large-kernel attention (Tan et al. 2022, SimVP v2; Guo et al. 2022).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.data.errors import BadInput
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.network import NetworkNowcast, NowcastConfig
from polarcast.models.qpe.unet import require_halvable

_EXPANSION = 4


@dataclass
class SimVPConfig(NowcastConfig):
    """Configuration of the video network."""

    widths: list[int] = setting([64, 512], ALWAYS)
    """Channels of a frame, and of all frames together where time is mixed."""
    halvings: int = setting(2, ALWAYS)
    """How often the grid is halved before time is mixed."""
    depth: int = setting(8, ALWAYS)
    """Blocks that mix time and space."""

    def __post_init__(self) -> None:
        """Raises BadInput for other than two widths, or no blocks."""
        super().__post_init__()
        if len(self.widths) != 2:
            raise BadInput(f"{len(self.widths)} widths", "model.widths", "give two: of a frame, and of all together")
        for key in ("halvings", "depth"):
            if getattr(self, key) < 1:
                raise BadInput(f"{getattr(self, key)} is too few", f"model.{key}", "give 1 or more")


class SimVP(NetworkNowcast):
    """Forecasts all lead times and heights at once."""

    def __init__(self, config: SimVPConfig, inputs: InputSpec) -> None:
        super().__init__(config, inputs)
        self.blocks = (MixingBlock,)
        self.net = VideoNet(inputs, config)


class VideoNet(nn.Module):
    """Scaled radar (b, t, v, z, y, x) → scaled zh (b, lead, z, y, x)."""

    def __init__(self, inputs: InputSpec, config: SimVPConfig) -> None:
        super().__init__()
        of_frame, mixed = config.widths
        heights, self._lead_frames = len(inputs.heights_km), inputs.lead_frames
        self.first = Layer(len(inputs.variables) * heights, of_frame, halve=True)
        self.downs = nn.ModuleList(Layer(of_frame, of_frame, halve=True) for _ in range(config.halvings - 1))
        self.into = nn.Conv2d(inputs.frames * of_frame, mixed, 1)
        self.mixing = nn.Sequential(*(MixingBlock(mixed) for _ in range(config.depth)))
        self.out_of = nn.Conv2d(mixed, inputs.lead_frames * of_frame, 1)
        self.ups = nn.ModuleList(Layer(of_frame, of_frame, double=True) for _ in range(config.halvings - 1))
        self.last = Layer(2 * of_frame, of_frame)
        self.head = nn.Sequential(nn.Conv2d(of_frame, 4 * heights, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, radar: Tensor) -> Tensor:
        """Raises BadInput when the grid can't be halved as often as configured."""
        require_halvable(radar, 1 + len(self.downs))
        b, t = radar.shape[:2]
        fine = x = self.first(radar.flatten(0, 1).flatten(1, 2))
        for down in self.downs:
            x = down(x)
        x = self.out_of(self.mixing(self.into(x.unflatten(0, (b, t)).flatten(1, 2))))
        x = x.unflatten(1, (self._lead_frames, -1)).flatten(0, 1)
        for up in self.ups:
            x = up(x)
        # What is fine comes from the last frame seen, to whatever lead time.
        seen = fine.unflatten(0, (b, t))[:, -1].repeat_interleave(self._lead_frames, 0)
        return self.head(self.last(torch.cat([x, seen], 1))).unflatten(0, (b, self._lead_frames))


class Layer(nn.Module):
    """Convolution, normalisation of each pixel over its channels, SiLU; at half, the same or twice the resolution."""

    def __init__(self, channels: int, width: int, halve: bool = False, double: bool = False) -> None:
        super().__init__()
        out = 4 * width if double else width
        self.conv = nn.Conv2d(channels, out, 3, stride=2 if halve else 1, padding=1)
        self.shuffle = nn.PixelShuffle(2) if double else nn.Identity()
        self.norm = ChannelNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, y, x) → (b, width, y′, x′)."""
        return nn.functional.silu(self.norm(self.shuffle(self.conv(x))))


class MixingBlock(nn.Module):
    """x + gate(norm(x)); then x + perceptron(norm(x)): every pixel, all frames' channels."""

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
        """(b, width, y, x) → the same shape."""
        x = x + self.project(self.gate(x))
        return x + self.perceptron(x)


class LargeKernelGate(nn.Module):
    """What lies within 23 × 23 pixels, weighted by what lies there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.far = nn.Conv2d(width, width, 7, padding=9, groups=width, dilation=3)
        self.mix, self.gate = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, y, x) → the same shape."""
        around = self.far(self.near(x))
        return torch.sigmoid(self.gate(around)) * self.mix(around)


class ChannelNorm(nn.Module):
    """Layer normalisation of each pixel over its channels: what stands elsewhere in a frame changes nothing here."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, y, x) → the same shape."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)
