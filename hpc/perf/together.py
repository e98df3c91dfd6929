"""Throughput of several small nets stepped together, beside that of one net alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.hpc.config.resolve import ResolvedConfig, resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, set_up_torch
from polarcast.hpc.perf.measure import Measured, Run, interleaved, machine, ratio
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.estimate import example_batch
from polarcast.hpc.training.micro_batch import divisors
from polarcast.hpc.training.together_stack import NetEngine, NetStack

ALONE = "one net"
_RATE = 1e-4


def measure_together(
    config: RunConfig,
    size: int,
    counts: Sequence[int],
    steps: int,
    rounds: int,
    on_round: Callable[[int], None] | None = None,
) -> Measured:
    """Time steps of one net, and of several stepped together, in turn. Batches start on the host.

    Args:
        config: Configuration of the network and its batch.
        size: Pixels per side.
        counts: Numbers of nets.
        steps: Steps in each round.
        rounds: Measured rounds, after one warm-up round.
        on_round: Called with the number of rounds done.

    Returns:
        Samples of all nets per second, and their ratio to the samples of one net. With a count of 1, the ratio shows
        what stacking itself costs.

    Raises:
        BadInput: a model that is not trained by gradient descent, or whose nets can't be stacked.
    """
    set_up_torch(config.train.threads, World())
    resolved = resolve(config)
    _require_stackable(resolved)
    contenders = {ALONE: _alone(resolved, size, steps)}
    contenders |= {_together(count): _stacked(resolved, size, count, steps) for count in counts}
    rows = interleaved(contenders, rounds, "samples/s", on_round)
    ratios = {f"{_together(n)} / {ALONE}": ratio(rows, _together(n), ALONE) for n in counts}
    return Measured("together", machine(), rows, ratios)


def _require_stackable(resolved: ResolvedConfig) -> None:
    name, fix = resolved.run.model["name"], "choose another network"
    if not resolved.model.trained:
        raise BadInput(f"{name} is not trained by gradient descent", "model.name", fix)
    if build_model(resolved).loss_numbers(example_batch(resolved.inputs, (1, 1))) is None:
        raise BadInput(f"{name} makes random numbers within its loss: its nets can't be stacked", "model.name", fix)


def _together(count: int) -> str:
    return f"{count} stacked"


def _alone(resolved: ResolvedConfig, size: int, steps: int) -> Run:
    settings = resolved.run.train
    model = build_model(resolved)
    batches = _batches(resolved, size, 0)
    engine = Engine(model, settings, World(), len(batches[0]))
    batches = [replace(batch, random=model.loss_numbers(batch) or ()) for batch in batches]

    def run() -> float:
        for _ in range(steps):
            engine.step(batches, _RATE)
        return float(steps * settings.global_batch)

    return run


def _stacked(resolved: ResolvedConfig, size: int, count: int, steps: int) -> Run:
    settings = resolved.run.train
    drawn = [_batches(resolved, size, number) for number in range(count)]
    stack = NetStack(count, settings, World(), len(drawn[0]))
    for slot in range(count):
        seeded = replace(resolved, run=replace(resolved.run, seed=slot))
        NetEngine(stack, slot, build_model(seeded), settings, World(), len(drawn[0][0]))
    numbered = [[replace(b, random=stack.nets.loss_numbers(b) or ()) for b in batches] for batches in drawn]

    def run() -> float:
        for _ in range(steps):
            stack.step(numbered, _RATE)
        return float(steps * settings.global_batch * count)

    return run


def _batches(resolved: ResolvedConfig, size: int, seed: int) -> list[Batch]:
    """Return the micro-batches of a step, noise in half precision on the host; speed does not depend on the values."""
    settings = resolved.run.train
    whole, requested = settings.global_batch, settings.micro_batch
    micro = max(divisors(whole, whole if isinstance(requested, str) else requested))
    generator = torch.Generator().manual_seed(seed)
    batch = example_batch(resolved.inputs, (size, size), micro)
    noise = batch.map(lambda field: (40 * torch.rand(field.shape, generator=generator)).half())
    return [replace(noise, sample_index=torch.arange(micro))] * (whole // micro)
