"""Step a network with batch normalization on several ranks; return the statistics in evaluation and in checkpoints."""

import torch

from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.process_group import join
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.training.engine import Engine


def main(config_file: str) -> dict[str, object]:
    """Return sums of the statistics before and in evaluation, and whether the checkpoint has the latter."""
    torch.set_num_threads(1)
    config, world = load_config(config_file), detect()
    join(world)
    model = build_model(resolve(config))
    engine = Engine(model, config.train, world, 1)
    reader = build_reader(config, read_manifest(config.data.shards), "train")
    engine.step([reader.read([world.rank])], 1e-3)
    own = _statistics(model)
    with engine.eval_model() as evaluated:
        shared = _statistics(evaluated)
    state = engine.state_dict()
    kept = shared if state is None else [float(v.sum()) for n, v in state.weights.items() if "running" in n]
    return {"own": own, "shared": shared, "kept": kept == shared}


def _statistics(model: torch.nn.Module) -> list[float]:
    return [float(value.sum()) for name, value in model.named_buffers() if "running" in name]
