"""Gather and restore weights and Adam moments, sharded or not, by parameter name.

Checkpoints do not depend on the number of processes or on the ZeRO stage; these classes convert from and to shards.
Parameters are indexed in the order of `model.named_parameters()`. Every process must call methods marked collective.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")


class State(Protocol):
    """State of a model in training."""

    def shards(self) -> list[Tensor]:
        """Return the fp32 shard of each parameter on this process; views, so they follow updates."""
        ...

    def whole(self, index: int, shard: Tensor) -> Tensor:
        """Gather a parameter from the shards of all processes; collective."""
        ...

    def shard(self, index: int, whole: Tensor) -> Tensor:
        """Copy this process's shard of a whole tensor with the shape of a parameter to the device."""
        ...

    def moment(self, index: int, key: str) -> Tensor:
        """Gather one of ADAM_MOMENTS of a parameter, after at least one step; collective."""
        ...

    def restore(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """Restore whole moments named `<parameter>/<key>`, and the optimizer's step count."""
        ...


class WholeState:
    """Unsharded state: plain torch, DistributedDataParallel, ZeRO stage 0."""

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

    def begin(self) -> None:
        """Create the state of the optimizer before its first step, where there is none yet."""
        for parameter in self._order:
            if parameter not in self._optimizer.state:
                _begin(self._optimizer, parameter, 0)

    def restore(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """See State."""
        for name, parameter in self._parameters.items():
            _begin(self._optimizer, parameter, steps)
            for key in ADAM_MOMENTS:
                self._optimizer.state[parameter][key].copy_(moments[f"{name}/{key}"])


class SharedMomentsState:
    """ZeRO stages 1 and 2: whole weights on every process; flat moments, sharded over the processes."""

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
        """See State. DeepSpeed gives access to its shards only after a step; this initializes them as a step would."""
        from deepspeed.utils import safe_set_full_optimizer_state

        for flat in self._zero.single_partition_of_fp32_groups:
            _begin(self._zero.optimizer, flat, steps)
        self._zero._lazy_init_hp_params_optimizer_state()
        for name, parameter in self._parameters.items():
            for key in ADAM_MOMENTS:
                safe_set_full_optimizer_state(parameter, moments[f"{name}/{key}"].to(parameter.device), key)


class SharedWeightsState:
    """ZeRO stage 3: equal shards of every parameter and of its moments; the last shard is padded."""

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
        shard = self._order[index].ds_tensor
        padded = F.pad(whole.flatten(), (0, self._size * shard.numel() - whole.numel()))
        return padded[self._rank * shard.numel() :][: shard.numel()].to(shard.device, copy=True)

    def moment(self, index: int, key: str) -> Tensor:
        """See State."""
        from deepspeed.utils import safe_get_local_optimizer_state

        return self.whole(index, safe_get_local_optimizer_state(self._order[index], key))

    def restore(self, moments: Mapping[str, Tensor], steps: int) -> None:
        """See State. Does not use DeepSpeed's setter of whole states: it reads past the end of padded parameters."""
        from deepspeed.utils import safe_set_local_optimizer_state

        for flat in self._zero.fp32_partitioned_groups_flat:
            _begin(self._zero.optimizer, flat, steps)
        for index, (name, parameter) in enumerate(self._parameters.items()):
            for key in ADAM_MOMENTS:
                safe_set_local_optimizer_state(parameter, self.shard(index, moments[f"{name}/{key}"]), key)


def _begin(optimizer: torch.optim.Optimizer, parameter: Tensor, steps: int) -> None:
    """Create the state that torch's Adam creates at its first step, with zero moments and the given step count."""
    # Adam keeps its step count on the CPU, unless fused.
    device = parameter.device if optimizer.param_groups[0].get("fused") else "cpu"
    moments = {key: torch.zeros_like(parameter.data) for key in ADAM_MOMENTS}
    optimizer.state[parameter] = {"step": torch.tensor(float(steps), device=device), **moments}
