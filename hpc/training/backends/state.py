"""Weights and Adam's moments, whole or in shards, brought together and put back by parameter name.

What a checkpoint holds does not know how many processes wrote it, nor at which ZeRO stage: these classes stand between.
Parameters are counted in the order of `model.named_parameters()`. What is called collective must be called by every
process.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")


class State(Protocol):
    """The state of a model in training."""

    def shards(self) -> list[Tensor]:
        """What this process holds of each parameter, fp32; views that see later updates."""
        ...

    def whole(self, index: int, shard: Tensor) -> Tensor:
        """The whole parameter of which every process gives its shard; collective."""
        ...

    def shard(self, index: int, whole: Tensor) -> Tensor:
        """This process's shard of a whole parameter (or of what has its shape), a copy on the device."""
        ...

    def moment(self, index: int, key: str) -> Tensor:
        """One of ADAM_MOMENTS of a parameter, whole, after at least one step; collective."""
        ...

    def restore(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """Put back moments named `<parameter>/<key>`, whole, as they were after so many steps of the optimizer."""
        ...


class WholeState:
    """Every process holds everything: torch alone, DistributedDataParallel, ZeRO stage 0."""

    def __init__(self, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        self._parameters, self._optimizer = parameters, optimizer
        self._order = list(parameters.values())

    def shards(self) -> list[Tensor]:
        """See State."""
        return [p.data for p in self._order]

    def whole(self, index: int, shard: Tensor) -> Tensor:
        """See State."""
        return shard

    def shard(self, index: int, whole: Tensor) -> Tensor:
        """See State."""
        return whole.to(self._order[index].device, copy=True)

    def moment(self, index: int, key: str) -> Tensor:
        """See State."""
        return self._optimizer.state[self._order[index]][key]

    def restore(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """See State."""
        for name, parameter in self._parameters.items():
            _begin(self._optimizer, parameter, steps)
            for key in ADAM_MOMENTS:
                self._optimizer.state[parameter][key].copy_(moments[f"{name}/{key}"])


class SharedMomentsState:
    """ZeRO stages 1 and 2: whole weights everywhere, each process has the moments of its part of them, laid flat."""

    def __init__(self, parameters: Mapping[str, Tensor], zero: Any) -> None:
        self._parameters, self._zero = parameters, zero
        self._order = list(parameters.values())

    def shards(self) -> list[Tensor]:
        """See State."""
        return [p.data for p in self._order]

    def whole(self, index: int, shard: Tensor) -> Tensor:
        """See State."""
        return shard

    def shard(self, index: int, whole: Tensor) -> Tensor:
        """See State."""
        return whole.to(self._order[index].device, copy=True)

    def moment(self, index: int, key: str) -> Tensor:
        """See State."""
        from deepspeed.utils import safe_get_full_optimizer_state

        return safe_get_full_optimizer_state(self._order[index], key)

    def restore(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """See State. DeepSpeed's own way into its shards opens only after a step; this opens it as that step would."""
        from deepspeed.utils import safe_set_full_optimizer_state

        for flat in self._zero.single_partition_of_fp32_groups:
            _begin(self._zero.optimizer, flat, steps)
        self._zero._lazy_init_hp_params_optimizer_state()
        for name, parameter in self._parameters.items():
            for key in ADAM_MOMENTS:
                safe_set_full_optimizer_state(parameter, moments[f"{name}/{key}"].to(parameter.device), key)


class SharedWeightsState:
    """ZeRO stage 3: each process has an equal part of every parameter and of its moments; the last one is padded."""

    def __init__(self, parameters: Mapping[str, Any], zero: Any, rank: int, size: int) -> None:
        self._parameters, self._zero = parameters, zero
        self._rank, self._size = rank, size
        self._order = list(parameters.values())

    def shards(self) -> list[Tensor]:
        """See State."""
        return [p.ds_tensor.data for p in self._order]

    def whole(self, index: int, shard: Tensor) -> Tensor:
        """See State."""
        parameter = self._order[index]
        parts = [torch.empty_like(shard) for _ in range(self._size)]
        torch.distributed.all_gather(parts, shard.contiguous())
        return torch.cat(parts)[: parameter.ds_numel].view(parameter.ds_shape)

    def shard(self, index: int, whole: Tensor) -> Tensor:
        """See State."""
        held = self._order[index].ds_tensor
        padded = F.pad(whole.flatten(), (0, self._size * held.numel() - whole.numel()))
        return padded[self._rank * held.numel() :][: held.numel()].to(held.device, copy=True)

    def moment(self, index: int, key: str) -> Tensor:
        """See State."""
        from deepspeed.utils import safe_get_local_optimizer_state

        return self.whole(index, safe_get_local_optimizer_state(self._order[index], key))

    def restore(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """See State. Not DeepSpeed's setter of whole states: it reads beyond the end of what has to be padded."""
        from deepspeed.utils import safe_set_local_optimizer_state

        for flat in self._zero.fp32_partitioned_groups_flat:
            _begin(self._zero.optimizer, flat, steps)
        for index, (name, parameter) in enumerate(self._parameters.items()):
            for key in ADAM_MOMENTS:
                safe_set_local_optimizer_state(parameter, self.shard(index, moments[f"{name}/{key}"]), key)


def _begin(optimizer: torch.optim.Optimizer, parameter: Tensor, steps: int) -> None:
    """Give torch's Adam the state it would have made at its first step, with its count of steps."""
    # It counts on the CPU, but for the fused kind.
    device = parameter.device if optimizer.param_groups[0].get("fused") else "cpu"
    moments = {key: torch.zeros_like(parameter.data) for key in ADAM_MOMENTS}
    optimizer.state[parameter] = {"step": torch.tensor(float(steps), device=device), **moments}
