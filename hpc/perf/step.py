"""Speed of optimizer steps: DeepSpeed's stages, DDP and torch alone, in turn on equal batches."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from time import perf_counter

import torch

from polarcast.data.archive import open_archive
from polarcast.data.batch import Batch
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.config.resolve import ResolvedConfig, resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.process_group import barrier, join
from polarcast.hpc.distributed.world import World, device_of, set_up_torch
from polarcast.hpc.perf.busy import neighbors
from polarcast.hpc.perf.measure import Measured, PerfRow, Run, busy_rows, interleaved, machine, peak_flops, ratio
from polarcast.hpc.runs.build import build_model, build_reader, build_sampler
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.backends.base import Backend, wants_bf16
from polarcast.hpc.training.backends.ddp import DDPBackend
from polarcast.hpc.training.backends.deepspeed import DeepSpeedBackend
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.estimate import count, example_batch
from polarcast.hpc.training.loader import TrainLoader
from polarcast.hpc.training.micro_batch import divisors, share_of
from polarcast.models.forecaster import InputSpec

TORCH, DDP = "torch alone", "DDP"
STAGES = (0, 1, 2, 3)
_RATE = 1e-4
_STEPS_WAITING = 40


def measure_step(
    config: RunConfig,
    size: int,
    steps: int,
    rounds: int,
    world: World,
    on_round: Callable[[int], None] | None = None,
    busy: int = 0,
) -> Measured:
    """Time all backends in turn; every process of the world calls this.

    Args:
        config: Configuration of the network and its batch.
        size: Pixels per side.
        steps: Steps of each backend in each round.
        rounds: Measured rounds, after one warm-up round.
        world: Rank of this process among all.
        on_round: Called with the number of rounds done.
        busy: Number of spinning neighbors, of all processes together, in the busy half of each turn.
    """
    join(world, even_alone=True)
    set_up_torch(config.train.threads, world)
    share = share_of(config.train, world.size)
    requested = config.train.micro_batch
    micro = max(divisors(share, share if isinstance(requested, str) else requested))
    resolved = resolve(config)
    batches = [example(resolved.inputs, size, micro, world)] * (share // micro)
    backends = _backends(resolved, micro, len(batches), world)
    contenders = {
        name: stepping(backend, batches, steps, config.train.global_batch) for name, backend in backends.items()
    }
    # Rank 0 has the neighbors; the others take part in the busy half without any.
    with neighbors(busy if world.is_first else 0) as own:
        switch = own or (_others_switch if busy else None)
        rows = interleaved(contenders, rounds, "samples/s", on_round, switch=switch)
    ratios, busy_ratios = (
        {f"time of {name} / {DDP}": ratio(found, DDP, name) for name in contenders if found and name != DDP}
        for found in (rows, busy_rows(rows))
    )
    extra, notes = _use_of_the_device(resolved, size, rows, world)
    waiting = _waiting(resolved, size, world)
    about = {**machine(), "processes": world.size}
    return Measured("step", about, [*rows, *extra, waiting], ratios, notes, busy, busy_ratios)


def _others_switch(run: bool) -> None:
    """Leave the neighbors to rank 0."""


def stage_name(stage: int) -> str:
    """Return the row name of a ZeRO stage."""
    return f"DeepSpeed, stage {stage}"


def example(inputs: InputSpec, size: int, samples: int, world: World) -> Batch:
    """Return a batch of noise on this process's device; speed does not depend on the values."""
    batch = example_batch(inputs, (size, size), samples)
    batch.radar.copy_(40 * torch.rand(batch.radar.shape, generator=torch.Generator().manual_seed(world.rank)))
    return batch.to(device_of(world))


def _backends(resolved: ResolvedConfig, micro: int, accumulation: int, world: World) -> dict[str, Backend]:
    """Build a backend per contender. Torch alone exchanges no gradients, even with several processes."""
    config, alone = resolved.run, World(local_rank=world.local_rank)
    stages = {stage: replace(config.train, zero_stage=stage) for stage in STAGES}
    return {
        TORCH: DDPBackend(build_model(resolved), config.train, accumulation, alone),
        DDP: DDPBackend(build_model(resolved), config.train, accumulation, world, always_ddp=True),
        **{stage_name(s): DeepSpeedBackend(build_model(resolved), train, micro, world) for s, train in stages.items()},
    }


def stepping(backend: Backend, batches: list[Batch], steps: int, samples: int) -> Run:
    """Return a run of `steps` optimizer steps with `samples` samples each over all processes."""
    last = len(batches) - 1

    def run() -> float:
        for _ in range(steps):
            for i, batch in enumerate(batches):
                backend.backward(batch, i == last)
            float(backend.update(_RATE))  # waits for the device
        return float(steps * samples)

    return run


def _use_of_the_device(
    resolved: ResolvedConfig, size: int, rows: list[PerfRow], world: World
) -> tuple[list[PerfRow], dict[str, str]]:
    """Return the FLOP/s that the default backend reaches per device, and their share of the device's peak."""
    default = next(row for row in rows if row.name == stage_name(0))
    counted = count(resolved, (size, size))
    reached = replace(default, name="stage 0: computed", unit="GFLOP/s", rounds=(), busy=None)
    reached = scaled(reached, counted.flops / world.size / 1e9)
    device = torch.device(device_of(world))
    peak = peak_flops(device, wants_bf16(resolved.run.train, device))
    if peak is None:
        return [reached], {"model FLOPs utilisation": "n/a: the peak FLOP/s of this device are unknown"}
    return [reached, scaled(replace(reached, name="model FLOPs utilisation", unit="%"), 100e9 / peak)], {}


def scaled(row: PerfRow, factor: float) -> PerfRow:
    """Return a row scaled to another unit."""
    return replace(row, value=factor * row.value, low=factor * row.low, high=factor * row.high)


def _waiting(resolved: ResolvedConfig, size: int, world: World) -> PerfRow:
    """Measure the share of training time spent waiting for data, with shards in the page cache."""
    frames = resolved.inputs.frames + resolved.inputs.lead_frames
    with tempfile.TemporaryDirectory(prefix="polarcast-perf-") as folder:
        shares = _waits(resolved, _shards(Path(folder), size, frames), Path(folder), world)
        barrier(world)
    shares = sorted(shares)[1:-1]
    middle = sum(shares) / len(shares)
    return PerfRow("stage 0: waiting for data", 100 * middle, "%", 100 * shares[0], 100 * shares[-1])


def _shards(folder: Path, size: int, frames: int) -> Manifest:
    """Write shards of six events with at least five windows of `frames` frames each."""
    write_archive(folder / "archive", 6, size=size, seed=0, preset="tiny", frames=max(16, frames + 4))
    return write_shards(open_archive(folder / "archive"), folder / "shards", split="0.6/0.2/0.2")


def _waits(resolved: ResolvedConfig, manifest: Manifest, folder: Path, world: World) -> list[float]:
    """Return the share of waiting in each of several intervals, after a warm-up."""
    config = replace(resolved.run, train=replace(resolved.run.train, steps=10**9))
    share = share_of(config.train, world.size)
    reader = build_reader(config, manifest, "train")
    batches = TrainLoader(build_sampler(config, reader), RunFolder(folder), world).batches(config, share, 0)
    engine = Engine(build_model(resolved), config.train, world, share)
    shares = []
    for _ in range(6):
        waited, started = 0.0, perf_counter()
        for _ in range(_STEPS_WAITING // 5):
            before = perf_counter()
            drawn = list(islice(batches, engine.accumulation))
            waited += perf_counter() - before
            engine.step(drawn, _RATE)
        shares.append(waited / (perf_counter() - started))
    return shares[1:]
