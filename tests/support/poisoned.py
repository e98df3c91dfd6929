"""Train on non-finite samples on one rank; return the error of each rank."""

import math

import torch

from polarcast.data.errors import WorkFailed
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.training.engine import Engine

BATCH, GOOD_STEPS = 4, 2


def main(shards: str, *stages: str) -> list[str]:
    """Return the error of the third step at each ZeRO stage; its samples are non-finite on the last rank."""
    torch.set_num_threads(1)
    return [fail_at(shards, int(stage)) for stage in stages]


def fail_at(shards: str, stage: int, poison: float = math.nan) -> str:
    settings = ["model.widths=[4,8]", "match_params=false", f"train.global_batch={BATCH}", f"train.zero_stage={stage}"]
    config, world = load_config("demo", [f"data.shards={shards}", *settings]), detect()
    micro = BATCH // world.size // 2
    engine = Engine(build_model(resolve(config)), config.train, world, micro)
    reader = build_reader(config, read_manifest(shards), "train")
    for step in range(GOOD_STEPS + 1):
        mine = range(step * BATCH + world.rank, (step + 1) * BATCH, world.size)
        batches = [reader.read(mine[i : i + micro]) for i in range(0, len(mine), micro)]
        if step == GOOD_STEPS and world.rank == world.size - 1:
            rain = batches[1].rain
            assert rain is not None
            rain.fill_(poison)
        try:
            engine.step(batches, 1e-3)
        except WorkFailed as error:
            return str(error)
    return "no error"
