"""Bagging: networks trained on different views of the data, combined with learned weights (source paper §6.2)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.common.views import VIEWS, View
from polarcast.models.forecaster import InputSpec
from polarcast.models.nowcast.furenet import FURENetBlock, FURENetConfig, LateFusion
from polarcast.models.nowcast.losses import LOSSES
from polarcast.models.nowcast.network import NetworkNowcast, scaled_target


@dataclass
class BaggingConfig(FURENetConfig):
    """Configuration of bagging with FURENet members of equal size."""

    views: list[str] = setting(["raw", "edges", "stretch"], ALWAYS, choices=tuple(VIEWS), shortest=1, longest=100)
    """Input view of each member: raw, edges or stretch. Three times raw is the control for the views."""


class Bagging(NetworkNowcast):
    """Convex combination of networks, Σ wₖ FURENetₖ(viewₖ), w ≥ 0, Σ w = 1.

    Each member is trained with its own loss on every sample, so that errors differ between members. Only the weights
    are trained with the loss of the combination.
    """

    def __init__(self, config: BaggingConfig, inputs: InputSpec) -> None:
        super().__init__(config, inputs, [VIEWS[name] for name in config.views])
        self.blocks = (FURENetBlock,)
        sizes = (config.widths, config.squeeze, config.attention)
        self.members = nn.ModuleList(LateFusion(inputs, *sizes) for _ in config.views)
        self.preference = nn.Parameter(torch.zeros(len(config.views)))

    @property
    def weights(self) -> Tensor:
        """Weight w of each member, (k,)."""
        return self.preference.softmax(0)

    @classmethod
    def input_views(cls, config: BaggingConfig) -> Mapping[str, View]:
        """Return the views of the scaled fields that the members use, by name."""
        return {name: VIEWS[name] for name in config.views}

    def scaled_forecast(self, batch: Batch) -> Tensor:
        """Return scaled zh of the lead frames, (b, t, z, y, x)."""
        return self._combined(self._member_forecasts(batch))

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of the members plus the loss of the combination, which trains the weights only."""
        cost, target = LOSSES[self.config.loss], scaled_target(self.config, batch)
        members = self._member_forecasts(batch)
        member_loss = torch.stack([cost(member, target) for member in members]).mean()
        return member_loss + cost(self._combined(members.detach()), target)

    def validation_loss(self, batch: Batch) -> Tensor:
        """Return the configured loss of the combination."""
        return super().loss(batch)

    def _member_forecasts(self, batch: Batch) -> Tensor:
        """Return the forecasts of all members, (k, b, t, z, y, x)."""
        return torch.stack([net(x) for net, x in zip(self.members, self.network_inputs(batch), strict=True)])

    def _combined(self, members: Tensor) -> Tensor:
        return torch.einsum("k,k...->...", self.weights.to(members.dtype), members)
