"""FURENet that is shown where echo would be if it only moved (after Zhang et al. 2023).

A network that is to say each pixel anew blurs away what it has not seen in training (weak cells, another climate). What
is carried along its motion stays as sharp as it was, wherever it comes from: what is left to learn is how much of it is
to be relied on, and what changes. Adding to it alone won't do: to take away what has moved elsewhere, every detail of
it would have to be said again.
"""

from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.furenet import FURENetBlock, FURENetConfig, LateFusion
from polarcast.models.nowcast.motion import carried, motion, way_back
from polarcast.models.nowcast.network import NetworkNowcast, zh_scaling

_CARRIED = ("zh", "all")


@dataclass
class AdvectedConfig(FURENetConfig):
    """Configuration of a FURENet with one more encoder, of the last frame carried along."""

    carry: str = "zh"
    """zh alone; or all: zdr and kdp, too, so that what they tell of a storm's growth is where the storm will be."""
    carry_back: list[int] = field(default_factory=lambda: [0])
    """Frames before the newest, of those that are carried along: [0, 3] also shows what has grown in three frames."""

    def __post_init__(self) -> None:
        """Raises BadInput for an unknown choice, or without the newest frame."""
        super().__post_init__()
        if self.carry_back[:1] != [0] or min(self.carry_back) < 0:
            told = f"{list(self.carry_back)} does not begin with 0 and go back from it"
            raise BadInput(told, "model.carry_back", "the newest frame is 0, the one before it 1")
        if self.carry not in _CARRIED:
            raise BadInput(f"unknown value {self.carry!r}", "model.carry", f"there are: {', '.join(_CARRIED)}")


class Advected(NetworkNowcast):
    """zh(t) = kept(t) × the last frame carried along t frames + change(t); each height has a motion, that of its zh."""

    def __init__(self, config: AdvectedConfig, inputs: InputSpec) -> None:
        """Raises BadInput without zh."""
        if "zh" not in inputs.variables:
            raise BadInput("what is carried along is zh, which is not among the inputs", "model.name", "use furenet")
        super().__init__(config, inputs)
        self.blocks = (FURENetBlock,)
        self._back = list(config.carry_back)
        self._others = [n for n, v in enumerate(inputs.variables) if v != "zh" and config.carry == "all"]
        both = replace(inputs, lead_frames=2 * inputs.lead_frames)
        if max(config.carry_back) >= inputs.frames:
            raise BadInput(
                f"only {inputs.frames} frames are seen", "model.carry_back", f"use at most {inputs.frames - 1}"
            )
        fields = len(config.carry_back) * (1 + len(self._others))
        carried_along = fields * inputs.lead_frames * len(inputs.heights_km)
        self.net = LateFusion(both, config.widths, config.squeeze, config.attention, more=carried_along)

    def scaled_forecast(self, batch: Batch) -> Tensor:
        """Scaled zh of the coming frames, (b, t, z, y, x)."""
        seen = self.seen(batch)[0]
        others = [seen[:, :, v].transpose(1, 2) for v in self._others]
        zh, *others_ahead = self._carried([self._scaled_zh(batch), *others])
        shown = [*map(self.seen_zh, zh), *chain(*others_ahead)]
        kept, change = self.net(seen, torch.cat(shown, 2)).chunk(2, 1)
        return torch.sigmoid(kept) * zh[0] + change

    def _scaled_zh(self, batch: Batch) -> Tensor:
        """(b, z, t, y, x)"""
        zh = batch.variable("zh")[:, :, None]
        return zh_scaling(self.config, batch).apply(zh)[:, :, 0].nan_to_num(0).transpose(1, 2).float()

    def _carried(self, fields: list[Tensor]) -> list[list[Tensor]]:
        """Of each field (b, z, t, y, x), zh first, each age in the coming frames if it only moved, (b, t, z, y, x)."""
        n, lead = fields[0].shape[:2], self.inputs.lead_frames
        way = way_back(motion(fields[0].flatten(0, 1)), max(self._back) + lead)
        old = {back: torch.stack([f[:, :, -1 - back] for f in fields], 2).nan_to_num(0).float() for back in self._back}
        ages = [carried(old[back].flatten(0, 1), way[:, back : back + lead]).unflatten(0, n) for back in self._back]
        return [[age[:, :, :, field].transpose(1, 2) for age in ages] for field in range(len(fields))]
