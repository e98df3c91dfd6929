"""FURENet that is shown where echo would be if it only moved (after Zhang et al. 2023).

A network that is to say each pixel anew blurs away what it has not seen in training (weak cells, another climate). What
is carried along its motion stays as sharp as it was, wherever it comes from: what is left to learn is how much of it is
to be relied on, and what changes. Adding to it alone won't do: to take away what has moved elsewhere, every detail of
it would have to be said again.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import Inputs
from polarcast.models.nowcast.furenet import FURENetConfig, LateFusion, ResidualBlock
from polarcast.models.nowcast.motion import carried, motion
from polarcast.models.nowcast.network import NetworkNowcast, zh_scaling

_CARRIED = ("zh", "all")


@dataclass
class AdvectedConfig(FURENetConfig):
    """Configuration of a FURENet with one more encoder, of the last frame carried along."""

    carry: str = "zh"
    """zh alone; or all: zdr and kdp, too, so that what they tell of a storm's growth is where the storm will be."""

    def __post_init__(self) -> None:
        """Raises BadInput for an unknown choice."""
        super().__post_init__()
        if self.carry not in _CARRIED:
            raise BadInput(f"unknown value {self.carry!r}", "model.carry", f"there are: {', '.join(_CARRIED)}")


class Advected(NetworkNowcast):
    """zh(t) = kept(t) × the last frame carried along t frames + change(t); each height has a motion, that of its zh."""

    def __init__(self, config: AdvectedConfig, inputs: Inputs) -> None:
        """Raises BadInput without zh."""
        if "zh" not in inputs.variables:
            raise BadInput("what is carried along is zh, which is not among the inputs", "model.name", "use furenet")
        super().__init__(config, inputs)
        self.blocks = (ResidualBlock,)
        self._others = [n for n, v in enumerate(inputs.variables) if v != "zh" and config.carry == "all"]
        both = replace(inputs, lead_frames=2 * inputs.lead_frames)
        carried_along = inputs.lead_frames * len(inputs.heights_km) * (1 + len(self._others))
        self.net = LateFusion(both, config.widths, config.squeeze, config.attention, more=carried_along)

    def scaled_forecast(self, batch: Batch) -> Tensor:
        """Scaled zh of the coming frames, (b, t, z, y, x)."""
        seen, zh = self.seen(batch)[0], self._scaled_zh(batch)
        along = motion(zh.flatten(0, 1))
        ahead = self._carried(zh[:, :, -1], along)
        shown = [self.seen_zh(ahead), *(self._carried(seen[:, -1, v].nan_to_num(0), along) for v in self._others)]
        kept, change = self.net(seen, torch.cat(shown, 2)).chunk(2, 1)
        return torch.sigmoid(kept) * ahead + change

    def ahead(self, batch: Batch) -> Tensor:
        """Scaled zh of the coming frames if echo only moved, (b, t, z, y, x)."""
        zh = self._scaled_zh(batch)
        return self._carried(zh[:, :, -1], motion(zh.flatten(0, 1)))

    def _scaled_zh(self, batch: Batch) -> Tensor:
        """(b, z, t, y, x)"""
        zh = batch.variable("zh")[:, :, None]
        return zh_scaling(self.config, batch).apply(zh)[:, :, 0].nan_to_num(0).transpose(1, 2).float()

    def _carried(self, field: Tensor, along: Tensor) -> Tensor:
        """A field (b, z, y, x) in the coming frames if it only moved, (b, t, z, y, x)."""
        moved = carried(field.flatten(0, 1).float(), along, self.inputs.lead_frames)
        return moved.unflatten(0, field.shape[:2]).transpose(1, 2)
