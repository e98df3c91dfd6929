"""Strong and weak scaling: measured on the available processes, modeled beyond them."""

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter

import torch

from polarcast.hpc.config.resolve import ResolvedConfig, resolve
from polarcast.hpc.config.schema import RunConfig, TrainConfig
from polarcast.hpc.distributed.process_group import barrier, gather, join
from polarcast.hpc.distributed.world import World, device_of, set_up_torch
from polarcast.hpc.perf.measure import Measured, PerfRow, Run, interleaved, machine, ratio
from polarcast.hpc.perf.network_model import Network, all_reduce_seconds, efficiency, fit_network
from polarcast.hpc.perf.step import example, stepping
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.backends.ddp import DDPBackend
from polarcast.hpc.training.backends.deepspeed import DeepSpeedBackend
from polarcast.hpc.training.estimate import Counted, count
from polarcast.hpc.training.micro_batch import share_of

ALONE, QUIET = "1 process", "processes that exchange nothing"
STRONG, WEAK = "strong: the same batch", "weak: a batch for each"
MOST = 1024
_FP32 = 4
_SIZES = [2**k for k in range(10, 25, 2)]
_REPEATS = 9


def measure_scaling(
    config: RunConfig,
    size: int,
    steps: int,
    rounds: int,
    world: World,
    network: Network,
    tflops: float,
    on_round: Callable[[int], None] | None = None,
) -> Measured:
    """Time the default engine on one process and on all, in turn, and model a larger machine.

    Args:
        config: Configuration of the network; its global batch is that of one process.
        size: Pixels per side.
        steps: Steps of each contender in each round.
        rounds: Measured rounds, after one warm-up round.
        world: Rank of this process among at least two.
        network: Network of the modeled machine.
        tflops: Speed of each of its GPUs, in TFLOP/s.
        on_round: Called with the number of rounds done.

    Raises:
        BadInput: the batch cannot be divided among the processes.
    """
    join(world)
    set_up_torch(config.train.threads, world)
    resolved = resolve(config)
    rows = interleaved(_contenders(resolved, size, steps, world), rounds, "samples/s", on_round)
    measured = {
        f"strong, {world.size} processes: efficiency": ratio(rows, STRONG, ALONE) / world.size,
        f"weak, {world.size} processes: efficiency": ratio(rows, WEAK, ALONE) / world.size,
        "of that the machine's own, nothing exchanged": ratio(rows, QUIET, ALONE) / world.size,
        "what exchanging leaves of it": ratio(rows, WEAK, QUIET),
    }
    here, fit = _network_here(world)
    counted = count(resolved, (size, size))
    by_name = {row.name: row for row in rows}
    predicted = _predicted(config.train, counted, by_name[QUIET], world, here)
    modelled = _modelled(config.train, counted, network, tflops)
    notes = {"all-reduce here": fit, "the model of it": predicted, "assumed beyond": _assumed(network, tflops)}
    return Measured("scaling", {**machine(), "processes": world.size}, [*rows, *modelled], measured, notes)


def _contenders(resolved: ResolvedConfig, size: int, steps: int, world: World) -> dict[str, Run]:
    config, inputs = resolved.run, resolved.inputs
    batch = config.train.global_batch
    share = share_of(config.train, world.size)
    weak = replace(config.train, global_batch=batch * world.size)
    whole, part = example(inputs, size, batch, world), example(inputs, size, share, world)
    alone = stepping(DDPBackend(build_model(resolved), config.train, 1, World()), [whole], steps, batch)
    quiet = stepping(DDPBackend(build_model(resolved), config.train, 1, World()), [whole], steps, batch * world.size)
    strong = DeepSpeedBackend(build_model(resolved), config.train, share, world)
    weak_backend = DeepSpeedBackend(build_model(resolved), weak, batch, world)
    together = {
        ALONE: lambda: alone() if world.is_first else float(steps * batch),
        QUIET: quiet,
        STRONG: stepping(strong, [part], steps, batch),
        WEAK: stepping(weak_backend, [whole], steps, batch * world.size),
    }
    return {name: _all_done(run, world) for name, run in together.items()}


def _all_done(run: Run, world: World) -> Run:
    """Extend a turn until all processes have finished it."""

    def turn() -> float:
        amount = run()
        barrier(world)
        return amount

    return turn


def _network_here(world: World) -> tuple[Network, str]:
    """Measure latency and bandwidth between the available processes by all-reduces of several sizes."""
    seconds = [median(gather(median(_reduced(size, world) for _ in range(_REPEATS)), world)) for size in _SIZES]
    network = fit_network(_SIZES, seconds, world.size)
    errors = [abs(all_reduce_seconds(network, world.size, n) / t - 1) for n, t in zip(_SIZES, seconds, strict=True)]
    text = f"latency {1e6 * network.latency:.3g} µs, bandwidth {network.bandwidth / 1e9:.3g} GB/s"
    return network, f"{text} (fitted to {len(_SIZES)} sizes, median error {100 * median(errors):.0f}%)"


def _reduced(size: int, world: World) -> float:
    values = torch.ones(size // _FP32, device=device_of(world))
    barrier(world)
    started = perf_counter()
    torch.distributed.all_reduce(values)
    values[0].item()
    return perf_counter() - started


def _predicted(train: TrainConfig, counted: Counted, quiet: PerfRow, world: World, here: Network) -> str:
    """Return the effect of the exchange on weak efficiency that the model predicts for the available processes."""
    compute = train.global_batch * world.size / quiet.value
    exchange = all_reduce_seconds(here, world.size, _FP32 * counted.parameters)
    return f"the exchange leaves {efficiency(compute, exchange, 0):.3f} of the efficiency without exchange"


def _modelled(train: TrainConfig, counted: Counted, network: Network, tflops: float) -> list[PerfRow]:
    """Return the efficiency in %, for a constant global batch (strong) or one that grows with the processes (weak).

    `low` assumes no overlap of the exchange with the backward pass, `high` the largest possible overlap.
    """
    rows = []
    for kind in ("weak", "strong"):
        for p in (2**k for k in range(1, int(math.log2(MOST)) + 1)):
            samples = train.global_batch if kind == "weak" else train.global_batch / p
            if samples < 1:
                continue
            compute = samples * counted.flops / (tflops * 1e12)
            exchange = all_reduce_seconds(network, p, _FP32 * counted.parameters)
            low, high = (100 * efficiency(compute, exchange, overlap) for overlap in (0, 1))
            rows.append(PerfRow(f"modelled {kind}, {p} GPUs", low, "%", low, high))
    return rows


def _assumed(network: Network, tflops: float) -> str:
    return (
        f"{tflops:g} TFLOP/s per GPU for any batch size, latency {1e6 * network.latency:g} µs, bandwidth "
        f"{network.bandwidth / 1e9:g} GB/s per GPU, one all-reduce of fp32 gradients per step by ring or double tree, "
        "whichever is faster; no stragglers, no congestion, no waiting for data; low: no overlap of the exchange with "
        "the backward pass, high: the largest possible overlap"
    )
