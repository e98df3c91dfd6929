"""Measure the optimizer and weight memory of an engine on each rank, at every ZeRO stage, after a step."""

from typing import Any

import torch

from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.training.engine import Engine


def main(shards: str) -> list[dict[str, Any]]:
    return [measure(shards, stage) for stage in range(4)]


def measure(shards: str, stage: int) -> dict[str, Any]:
    overrides = [
        f"data.shards={shards}",
        "model.widths=[16,32,64]",
        "train.global_batch=8",
        f"train.zero_stage={stage}",
    ]
    config, world = load_config("demo", overrides), detect()
    engine = Engine(build_model(resolve(config)), config.train, world, 4)
    reader = build_reader(config, read_manifest(shards), "train")
    engine.step([reader.read(range(world.rank, 8, 2))], 1e-3)
    zero = engine._backend._engine.optimizer  # type: ignore[attr-defined]
    adam = zero.optimizer if stage else zero
    moments = sum(s[k].nbytes for s in adam.state.values() for k in ("exp_avg", "exp_avg_sq"))
    masters = sum(p.nbytes for group in adam.param_groups for p in group["params"]) if stage in (1, 2) else 0
    if stage == 3:
        masters = sum(flat.nbytes for flat in zero.fp32_partitioned_groups_flat)
    weights = sum(shard.nbytes for shard in engine._state.shards())
    assert torch.distributed.get_world_size() == 2
    return {"overrides": overrides, "optimizer": moments + masters, "weights": weights}
