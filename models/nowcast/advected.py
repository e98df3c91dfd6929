"""FURENet with an additional encoder for the extrapolated echo (after Zhang et al. 2023).

A network that predicts every pixel from scratch blurs features that are rare in training, such as weak cells or another
climate. Echo advected along its motion stays sharp, and the network only has to learn how far to trust it and what
changes. An additive correction alone is not enough: to remove displaced echo, it would have to reproduce every detail.
"""

from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.common.settings import setting
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.furenet import FURENetBlock, FURENetConfig, LateFusion
from polarcast.models.nowcast.motion import advect, backward_displacement, motion
from polarcast.models.nowcast.network import NetworkNowcast, zh_scaling

_CARRY = ("zh", "all")


@dataclass
class AdvectedConfig(FURENetConfig):
    """Configuration of a FURENet with one more encoder, for advected frames."""

    carry: str = setting("zh", choices=_CARRY)
    """Variables to advect: zh, or all, which places the growth signal of zdr and kdp where the storm will be."""
    carry_back: list[int] = setting([0], least=0, most=1000, shortest=1, longest=1000, distinct=True)
    """Ages of the advected frames: 0 is the newest; [0, 3] also exposes the growth over three frames."""

    def __post_init__(self) -> None:
        """Raise BadInput if `carry_back` does not start with 0."""
        if self.carry_back[:1] != [0]:
            problem = f"{list(self.carry_back)} does not start with 0"
            raise BadInput(problem, "model.carry_back", "count back from the newest frame, 0, as in [0, 3]")


class Advected(NetworkNowcast):
    """zh(t) = kept(t) × last frame advected by t frames + change(t); each height moves with its own zh."""

    def __init__(self, config: AdvectedConfig, inputs: InputSpec) -> None:
        """Raise BadInput if zh is not an input, or if `carry_back` exceeds the input frames."""
        if "zh" not in inputs.variables:
            raise BadInput("advection needs zh, which is not an input", "model.name", "use furenet")
        super().__init__(config, inputs)
        self.blocks = (FURENetBlock,)
        self._back = list(config.carry_back)
        self._others = [n for n, v in enumerate(inputs.variables) if v != "zh" and config.carry == "all"]
        both = replace(inputs, lead_frames=2 * inputs.lead_frames)
        if max(config.carry_back) >= inputs.frames:
            raise BadInput(
                f"there are only {inputs.frames} input frames", "model.carry_back", f"use at most {inputs.frames - 1}"
            )
        fields = len(config.carry_back) * (1 + len(self._others))
        advected_channels = fields * inputs.lead_frames * len(inputs.heights_km)
        self.net = LateFusion(both, config.widths, config.squeeze, config.attention, more=advected_channels)

    def scaled_forecast(self, batch: Batch) -> Tensor:
        """Return scaled zh of the lead frames, (b, t, z, y, x)."""
        observed = self.network_inputs(batch)[0]
        others = [observed[:, :, v].transpose(1, 2) for v in self._others]
        zh, *others_ahead = self._advected([self._scaled_zh(batch), *others])
        ahead = [*map(self.standardized_zh, zh), *chain(*others_ahead)]
        kept, change = self.net(observed, torch.cat(ahead, 2)).chunk(2, 1)
        return torch.sigmoid(kept) * zh[0] + change

    def _scaled_zh(self, batch: Batch) -> Tensor:
        """Return scaled zh without missing values, (b, z, t, y, x)."""
        zh = batch.variable("zh")[:, :, None]
        return zh_scaling(self.config, batch).apply(zh)[:, :, 0].nan_to_num(0).transpose(1, 2).float()

    def _advected(self, fields: list[Tensor]) -> list[list[Tensor]]:
        """Advect each field (b, z, t, y, x), zh first, at each age to the lead frames, (b, t, z, y, x)."""
        n, lead = fields[0].shape[:2], self.inputs.lead_frames
        displacement = backward_displacement(motion(fields[0].flatten(0, 1)), max(self._back) + lead)
        old = {back: torch.stack([f[:, :, -1 - back] for f in fields], 2).nan_to_num(0).float() for back in self._back}
        ages = [
            advect(old[back].flatten(0, 1), displacement[:, back : back + lead]).unflatten(0, n) for back in self._back
        ]
        return [[age[:, :, :, field].transpose(1, 2) for age in ages] for field in range(len(fields))]
