"""Create the backend selected in the configuration."""

from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.training.backends.base import Backend
from polarcast.hpc.training.backends.ddp import DDPBackend
from polarcast.hpc.training.backends.graphed import GraphedBackend, wants_graphs
from polarcast.models.forecaster import Forecaster


def make_backend(model: Forecaster, config: TrainConfig, micro_batch: int, world: World) -> Backend:
    """Create the backend `train.engine`; the weights of the model must be the same on every process.

    On one GPU, nothing is sharded or exchanged, and a step computes the same with every backend: it is then launched
    as CUDA graphs, unless `train.graphs` is off.
    """
    accumulation = config.global_batch // world.size // micro_batch
    if wants_graphs(config, world):
        return GraphedBackend(model, config, accumulation, world)
    if config.engine == "deepspeed":
        from polarcast.hpc.training.backends.deepspeed import DeepSpeedBackend

        return DeepSpeedBackend(model, config, micro_batch, world)
    return DDPBackend(model, config, accumulation, world)
