"""A running mean of the weights, which often forecasts better than the weights of any one step (Polyak averaging)."""

from collections.abc import Sequence

import torch
from torch import Tensor


class RunningMean:
    """Exponential moving average of what this process holds of the weights, shard by shard."""

    def __init__(self, shards: Sequence[Tensor], decay: float) -> None:
        self.shards = [shard.clone() for shard in shards]
        self._decay = decay

    @torch.no_grad()
    def update(self, shards: Sequence[Tensor], step: int) -> None:
        """Take in the weights after step number `step` (from 1). Early on the mean is over fewer steps."""
        decay = min(self._decay, step / (step + 9))
        torch._foreach_lerp_(self.shards, list(shards), 1 - decay)
