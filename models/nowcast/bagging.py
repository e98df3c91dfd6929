"""Bagging: networks that see views of the data of their own, and a learned convex combination (source paper §6.2)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.furenet import FURENetBlock, FURENetConfig, LateFusion
from polarcast.models.nowcast.losses import LOSSES
from polarcast.models.nowcast.network import NetworkNowcast, scaled_target
from polarcast.models.nowcast.views import VIEWS, View


@dataclass
class BaggingConfig(FURENetConfig):
    """Configuration of members that are FURENets all of one size."""

    views: list[str] = setting(["raw", "edges", "stretch"], ALWAYS)
    """What each member sees: raw, edges or stretch. Three times raw tells what the views are worth."""

    def __post_init__(self) -> None:
        """Raises BadInput for a view there is not, or none at all."""
        super().__post_init__()
        unknown = [view for view in self.views if view not in VIEWS]
        if unknown or not self.views:
            raise BadInput(f"unknown views {self.views!r}", "model.views", f"a list of: {', '.join(VIEWS)}")


class Bagging(NetworkNowcast):
    """Σ wₖ FURENetₖ(viewₖ), w ≥ 0, Σ w = 1.

    Members are trained apart, each for itself on every sample, so that their errors differ; the weights alone are
    trained on what the combination says.
    """

    def __init__(self, config: BaggingConfig, inputs: InputSpec) -> None:
        super().__init__(config, inputs, [VIEWS[name] for name in config.views])
        self.blocks = (FURENetBlock,)
        sizes = (config.widths, config.squeeze, config.attention)
        self.members = nn.ModuleList(LateFusion(inputs, *sizes) for _ in config.views)
        self.preference = nn.Parameter(torch.zeros(len(config.views)))

    @property
    def weights(self) -> Tensor:
        """w of each member."""
        return self.preference.softmax(0)

    @classmethod
    def input_views(cls, config: BaggingConfig) -> Mapping[str, View]:
        """Return the members' views of the scaled fields, each once."""
        return {name: VIEWS[name] for name in config.views}

    def scaled_forecast(self, batch: Batch) -> Tensor:
        """Scaled zh of the coming frames, (b, t, z, y, x)."""
        return self._combined(self._of_members(batch))

    def loss(self, batch: Batch) -> Tensor:
        """Mean of the members' own losses, and that of the combination, through which only the weights learn."""
        cost, target, members = LOSSES[self.config.loss], scaled_target(self.config, batch), self._of_members(batch)
        apart = torch.stack([cost(member, target) for member in members]).mean()
        return apart + cost(self._combined(members.detach()), target)

    def validation_loss(self, batch: Batch) -> Tensor:
        """The configured loss of the combination."""
        return super().loss(batch)

    def _of_members(self, batch: Batch) -> Tensor:
        """(k, b, t, z, y, x)"""
        return torch.stack([net(seen) for net, seen in zip(self.members, self.seen(batch), strict=True)])

    def _combined(self, members: Tensor) -> Tensor:
        return torch.einsum("k,k...->...", self.weights.to(members.dtype), members)
