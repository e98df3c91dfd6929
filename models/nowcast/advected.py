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


@dataclass
class AdvectedConfig(FURENetConfig):
    """Configuration of a FURENet with one more encoder, of the last frame carried along."""


class Advected(NetworkNowcast):
    """zh(t) = kept(t) × the last frame carried along t frames + change(t); each height has a motion."""

    def __init__(self, config: AdvectedConfig, inputs: Inputs) -> None:
        """Raises BadInput without zh."""
        if "zh" not in inputs.variables:
            raise BadInput("what is carried along is zh, which is not among the inputs", "model.name", "use furenet")
        super().__init__(config, inputs)
        self.blocks = (ResidualBlock,)
        both = replace(inputs, lead_frames=2 * inputs.lead_frames)
        carried_along = inputs.lead_frames * len(inputs.heights_km)
        self.net = LateFusion(both, config.widths, config.squeeze, config.attention, more=carried_along)

    def scaled_forecast(self, batch: Batch) -> Tensor:
        """Scaled zh of the coming frames, (b, t, z, y, x)."""
        ahead = self.ahead(batch)
        kept, change = self.net(self.seen(batch)[0], self.seen_zh(ahead)).chunk(2, 1)
        return torch.sigmoid(kept) * ahead + change

    def ahead(self, batch: Batch) -> Tensor:
        """Scaled zh of the coming frames if echo only moved, (b, t, z, y, x)."""
        zh = batch.variable("zh")[:, :, None]
        scaled = zh_scaling(self.config, batch).apply(zh)[:, :, 0].nan_to_num(0).transpose(1, 2)
        frames = scaled.flatten(0, 1).float()
        along = carried(frames[:, -1], motion(frames), self.inputs.lead_frames)
        return along.unflatten(0, scaled.shape[:2]).transpose(1, 2)
