"""FURENet that moves what is seen: motion and change are forecast, not the field itself (after Zhang et al. 2023).

A network that is to say each pixel anew says the mean of what may be there, and what it has not seen in training (weak
cells, another climate) it blurs away. What is moved stays as sharp as it was, wherever it comes from.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import Inputs
from polarcast.models.nowcast.furenet import FURENet, FURENetConfig
from polarcast.models.nowcast.losses import LOSSES
from polarcast.models.nowcast.network import scaled_target, zh_scaling

_PIXELS = 10.0
"""Motion that the network speaks of as 1, in pixels a frame: as fast as storms are, or it would be learned last."""
_SMOOTH = 16
"""Pixels a side of the blocks over which motion is averaged: storms' neighbours move alike."""


@dataclass
class AdvectedConfig(FURENetConfig):
    """Configuration of a FURENet whose output is motion and change."""


class Advected(FURENet):
    """zh(t) = the last frame moved by t times the motion + change(t); one motion a height, in pixels a frame."""

    def __init__(self, config: AdvectedConfig, inputs: Inputs) -> None:
        if "zh" not in inputs.variables:
            raise BadInput("what is moved is zh, which is not among the inputs", "model.name", "use furenet")
        # The last two of its fields are the motion along x and y.
        super().__init__(config, replace(inputs, lead_frames=inputs.lead_frames + 2))
        self.inputs = inputs

    def scaled_forecast(self, batch: Batch) -> Tensor:
        """Scaled zh of the coming frames, (b, t, z, y, x)."""
        in_motion, change = self.parts(batch)
        return in_motion + change

    def loss(self, batch: Batch) -> Tensor:
        """The configured loss of the forecast, and of what is moved alone: or change would learn what motion could."""
        cost, target = LOSSES[self.config.loss], scaled_target(self.config, batch)
        in_motion, change = self.parts(batch)
        return cost(in_motion + change, target) + cost(in_motion, target)

    def judge(self, batch: Batch) -> Tensor:
        """The configured loss of the forecast."""
        return super().loss(batch)

    def parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is moved, and by how much it changes: scaled zh, (b, t, z, y, x) both."""
        change, motion = self.net(self.seen(batch)[0]).split([self.inputs.lead_frames, 2], 1)
        last = zh_scaling(self.config, batch).apply(batch.variable("zh")[:, -1:, None])[:, 0, 0]
        return moved(last, _PIXELS * smoothed(motion.float()), self.inputs.lead_frames), change


def smoothed(motion: Tensor) -> Tensor:
    """Averages over blocks of 16 pixels a side, or the grid where it is smaller, interpolated: (…, y, x), unchanged."""
    y, x = motion.shape[-2:]
    fields = motion.reshape(-1, 1, y, x)
    coarse = F.avg_pool2d(fields, (min(_SMOOTH, y), min(_SMOOTH, x)), ceil_mode=True)
    return F.interpolate(coarse, (y, x), mode="bilinear").view_as(motion)


def moved(field: Tensor, motion: Tensor, frames: int) -> Tensor:
    """A field as it is after 1, 2, … frames of steady motion: each pixel shows what was upstream of it.

    Args:
        field: (b, z, y, x).
        motion: (b, 2, z, y, x), along x and y, in pixels a frame.
        frames: Number of frames ahead.

    Returns:
        (b, frames, z, y, x), interpolated linearly; 0 is what comes from outside.
    """
    b, z, y, x = field.shape
    here = torch.stack(torch.meshgrid(torch.arange(x), torch.arange(y), indexing="xy"), -1).to(motion)
    ahead = torch.arange(1, frames + 1).to(motion).view(1, -1, 1, 1, 1, 1)
    upstream = here - ahead * motion.permute(0, 2, 3, 4, 1)[:, None]  # (b, t, z, y, x, 2)
    size = here.new_tensor([x, y])
    # As grid_sample counts: −1 and 1 are the outer edges of the first and the last pixel.
    grid = (2 * upstream + 1) / size - 1
    source = field[:, None].expand(-1, frames, -1, -1, -1).reshape(-1, 1, y, x).float()
    return F.grid_sample(source, grid.reshape(-1, y, x, 2), align_corners=False).view(b, frames, z, y, x)
