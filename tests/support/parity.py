"""Compare every backend with a training loop in plain torch, on the ranks that run this."""

from itertools import product

import torch

from polarcast.data.loading.reader import Reader
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.train import learning_rate

STEPS, BATCH = 8, 8
WAYS = [("deepspeed", stage) for stage in range(4)] + [("ddp", 0)]
SETTINGS = ["model.widths=[4,8]", "match_params=false", f"train.global_batch={BATCH}", "train.warmup_steps=2",
            f"train.steps={STEPS}", "train.threads=1", "train.clip_norm=0.05"]  # fmt: skip


def main(shards: str, *overrides: str) -> dict[str, dict[str, float]]:
    """Return the largest loss (relative) and weight differences, by `<engine> <stage> <accumulation>`."""
    torch.set_num_threads(1)
    config = load_config("demo", [f"data.shards={shards}", *SETTINGS, *overrides])
    reader = build_reader(config, read_manifest(shards), "train")
    losses, weights, norms = train_in_torch(config, reader)
    result = {}
    for (engine, stage), accumulation in product(WAYS, (1, 2)):
        world = detect()
        changes = [f"train.engine={engine}", f"train.zero_stage={stage}"]
        one = load_config("demo", [f"data.shards={shards}", *SETTINGS, *overrides, *changes])
        micro = BATCH // world.size // accumulation
        found, state = train_in_engine(one, reader, micro)
        result[f"{engine} {stage} {accumulation}"] = {
            "loss": max(abs(a - b) / abs(b) for a, b in zip(found, losses, strict=True)),
            "weights": max(float((state[k] - weights[k]).abs().max()) for k in weights) if state else 0.0,
            "clipped": sum(n > config.train.clip_norm for n in norms),
        }
    return result


def train_in_torch(config: RunConfig, reader: Reader) -> tuple[list[float], dict[str, torch.Tensor], list[float]]:
    """Train with plain torch on whole batches; return losses, final weights and gradient norms."""
    model, settings = build_model(resolve(config)), config.train
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay)
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16")
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = learning_rate(settings, step)
        optimizer.zero_grad()
        with bf16:
            loss = model.loss(reader.read(windows(step, reader)).to("cpu"))
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)))
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, model.state_dict(), norms


def train_in_engine(config: RunConfig, reader: Reader, micro: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Train with an engine; return losses, and final weights on rank 0."""
    world = detect()
    engine = Engine(build_model(resolve(config)), config.train, world, micro)
    losses = []
    for step in range(STEPS):
        mine = windows(step, reader)[world.rank :: world.size]
        batches = [reader.read(mine[i : i + micro]) for i in range(0, len(mine), micro)]
        loss = torch.tensor(engine.step(batches, learning_rate(config.train, step)), dtype=torch.float64)
        if world.size > 1:
            torch.distributed.all_reduce(loss)
        losses.append(float(loss) / world.size)
    state = engine.state_dict()
    return losses, state.weights if state else {}


def windows(step: int, reader: Reader) -> list[int]:
    """Return the windows of one global batch."""
    return [(BATCH * step + i * 5) % len(reader) for i in range(BATCH)]
