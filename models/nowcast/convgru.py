"""ConvGRU encoder-forecaster (Ballas et al. 2016; Shi et al. 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polarcast.models.common.settings import widths_setting
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.network import NetworkNowcast, NowcastConfig
from polarcast.models.qpe.unet import require_halvable


@dataclass
class ConvGRUConfig(NowcastConfig):
    """Configuration of the ConvGRU."""

    widths: list[int] = widths_setting([64, 128, 192])
    """Channels of the state at each level, from half resolution down; each level halves the grid."""


class ConvGRU(NetworkNowcast):
    """Recurrent network that encodes the input frames one by one, then steps through the lead frames."""

    def __init__(self, config: ConvGRUConfig, inputs: InputSpec) -> None:
        super().__init__(config, inputs)
        self.blocks = (GatedUnit,)
        self.net = RecurrentNet(inputs, config.widths)


class RecurrentNet(nn.Module):
    """Encoder-forecaster: scaled radar (b, t, v, z, y, x) → scaled zh (b, lead, z, y, x)."""

    def __init__(self, inputs: InputSpec, widths: Sequence[int]) -> None:
        super().__init__()
        self._lead_frames, heights = inputs.lead_frames, len(inputs.heights_km)
        channels = len(inputs.variables) * heights
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise([channels, *widths]))
        self.readers = nn.ModuleList(GatedUnit(w, w) for w in widths)
        # The deepest unit has only its state; the others also get the upsampled state below.
        below = [*widths[:-1], 0]
        self.writers = nn.ModuleList(GatedUnit(a, w) for a, w in zip(below, widths, strict=True))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(b, a, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.last = nn.ConvTranspose2d(widths[0], widths[0], 4, stride=2, padding=1)
        self.head = nn.Conv2d(widths[0], heights, 3, padding=1)

    def forward(self, radar: Tensor) -> Tensor:
        """Return the forecast. Raises BadInput if the grid can't be halved once per level."""
        require_halvable(radar, len(self.downs))
        states: list[Tensor | None] = [None] * len(self.downs)
        for frame in radar.flatten(2, 3).unbind(1):
            states = self._encode_frame(frame, states)
        ahead = []
        for _ in range(self._lead_frames):
            states = self._step_forecast(states)
            ahead.append(self._decode(states))
        return torch.stack(ahead, 1)

    def _encode_frame(self, frame: Tensor, states: Sequence[Tensor | None]) -> list[Tensor | None]:
        x, after = frame, list[Tensor | None]()
        for down, reader, state in zip(self.downs, self.readers, states, strict=True):
            x = reader(F.leaky_relu(down(x), 0.2), state)
            after.append(x)
        return after

    def _step_forecast(self, states: Sequence[Tensor | None]) -> list[Tensor | None]:
        x, after = None, list[Tensor | None]()
        for level in reversed(range(len(states))):
            x = self.writers[level](x, states[level])
            after.insert(0, x)
            x = F.leaky_relu(self.ups[level - 1](x), 0.2) if level else None
        return after

    def _decode(self, states: Sequence[Tensor | None]) -> Tensor:
        return self.head(F.leaky_relu(self.last(states[0]), 0.2))


class GatedUnit(nn.Module):
    """Convolutional GRU cell: h′ = z h + (1 − z) tanh(W [x, r h]), with gates r and z computed from [x, h]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels + width, 2 * width, 3, padding=1)
        self.candidate = nn.Conv2d(channels + width, width, 3, padding=1)

    def forward(self, x: Tensor | None, state: Tensor | None) -> Tensor:
        """Return the next state.

        Args:
            x: Input, (b, channels, y, x); None for a unit without input.
            state: Previous state, (b, width, y, x); None for zeros.

        Raises:
            ValueError: both are None.
        """
        if state is None:
            if x is None:
                raise ValueError("both input and state are None")
            state = x.new_zeros(len(x), self.candidate.out_channels, *x.shape[-2:])
        inputs = () if x is None else (x,)
        reset, keep = torch.sigmoid(self.gates(torch.cat([*inputs, state], 1))).chunk(2, 1)
        new = torch.tanh(self.candidate(torch.cat([*inputs, reset * state], 1)))
        return keep * state + (1 - keep) * new
