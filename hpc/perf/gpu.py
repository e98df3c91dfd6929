"""Training on one GPU, in one table: a small network, a nowcaster of the paper's size, and a diffusion."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from polarcast.data.archive import open_archive
from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.files import write_json
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import ResolvedConfig, resolve
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.world import World, device_of, set_up_torch
from polarcast.hpc.perf.measure import PerfRow, Run, interleaved, machine, peak_flops
from polarcast.hpc.runs.build import build_model, build_reader, build_sampler
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.backends.base import wants_bf16
from polarcast.hpc.training.backends.graphed import GRAPHS
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.estimate import count, example_batch
from polarcast.hpc.training.loader import TrainLoader
from polarcast.hpc.training.together_stack import NetStack

RESULT = "perf-gpu.json"
"""File with the table, below the folder that the user gives."""
_RATE, _WORLD = 1e-4, World()
_PLAIN, _GRAPHS, _TOGETHER = "plain", "graphs", "together"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class GPUCase:
    """A network and the batch of its steps."""

    name: str
    values: Mapping[str, Any]
    size: int
    """Pixels per side."""
    batch: int
    together: int = 0
    """Number of nets to step together as well; 0: none."""


_QPE: dict[str, Any] = {"match_params": False, "data": {"heights_km": [3.0]}}
_NOWCAST: dict[str, Any] = {**_QPE, "task": "nowcast"}
_SMALL = {"name": "unet", "widths": [16, 32, 64]}
PAPER_CASES = (
    GPUCase("U-Net of the demo", {**_QPE, "model": _SMALL}, 32, 16, together=8),
    GPUCase("FURENet of the paper", {**_NOWCAST, "model": {"name": "furenet"}}, 256, 16),
    GPUCase("diffusion of the paper", {**_QPE, "model": {"name": "diffusion"}}, 256, 16),
)
TINY_CASES = (
    GPUCase("tiny U-Net", {**_QPE, "model": {"name": "unet", "widths": [4, 8]}}, 32, 4, together=2),
    GPUCase("tiny FURENet", {**_NOWCAST, "model": {"name": "furenet", "widths": [4, 8], "squeeze": 2}}, 32, 2),
    GPUCase("tiny diffusion", {**_QPE, "model": {"name": "diffusion", "widths": [4, 8]}}, 32, 2),
)


@dataclass(frozen=True)
class GPURow:
    """Speed of one network; None or a reason where a value could not be measured."""

    name: str
    parameters: int
    size: int
    batch: int
    plain_ms: float
    """Time of a step launched kernel by kernel, in ms."""
    graphs_ms: float | None
    """Time of a step launched as CUDA graphs, in ms."""
    graphs: str
    """How the steps of the column before ran: CUDA graphs, or why not."""
    samples_per_second: float
    """With the faster of the two."""
    mfu: float | None
    """Model FLOPs utilization of the faster one, as a share of the peak on the data sheet, 0 to 1."""
    waiting: float
    """Share of the time of training that is spent waiting for data, 0 to 1, from shards in the page cache."""
    together: int
    """Number of nets that were stepped together; 0: none."""
    together_samples_per_second: float | None
    """Samples of all of them."""
    together_gain: float | None
    """Speed of all of them divided by that of one."""
    together_note: str
    """Why they were not measured; empty if they were."""


def measure_gpu(
    steps: int, rounds: int, out: Path | None, on_cpu: bool = False, on_round: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Measure all networks in turn; return machine, device and rows as plain values, and write them to a file.

    Args:
        steps: Steps of each contender in each round.
        rounds: Measured rounds, after one warm-up round.
        out: Folder for the file `RESULT`; None: no file.
        on_cpu: Whether to measure tiny networks on the CPU, to try the command.
        on_round: Called with the number of rounds done, over all networks.

    Raises:
        BadInput: there is no GPU.
    """
    device = torch.device(device_of(_WORLD))
    if on_cpu and device.type == "cuda":
        raise BadInput("there is a GPU", "--cpu", "leave it out, or hide the GPU with CUDA_VISIBLE_DEVICES=''")
    if device.type != "cuda" and not on_cpu:
        raise BadInput("no NVIDIA GPU found", "perf gpu", "run it where there is one, or try it with --cpu")
    set_up_torch(1 if on_cpu else 0, _WORLD)
    cases = TINY_CASES if on_cpu else PAPER_CASES
    rows = []
    for number, case in enumerate(cases):
        rows.append(measure_case(case, steps, rounds, partial(_count, on_round, number * (rounds + 1))))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    found = {"perf": "gpu", "machine": {**machine(), "device": name}, "rows": [asdict(row) for row in rows]}
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / RESULT, found)
    return found


def _count(on_round: Callable[[int], None] | None, before: int, done: int) -> None:
    if on_round:
        on_round(before + done)


def measure_case(case: GPUCase, steps: int, rounds: int, on_round: Callable[[int], None]) -> GPURow:
    """Measure one network: plain steps, steps as graphs, several nets together, and waiting for data."""
    train = {"global_batch": case.batch, "micro_batch": case.batch, "steps": 10**6, "engine": "ddp"}
    resolved = resolve(load_config("demo", {**case.values, "train": train}))
    device = torch.device(device_of(_WORLD))
    plain, graphs = (_engine(resolved, use) for use in (False, "auto"))
    contenders = {_PLAIN: _stepping(plain, resolved, case, steps)}
    if device.type == "cuda":
        contenders[_GRAPHS] = _stepping(graphs, resolved, case, steps)
    note = "" if case.together else NOT_MEASURED
    if case.together:
        try:
            contenders[_TOGETHER] = _stepping_together(resolved, case, steps)
        except (RuntimeError, ValueError) as error:
            note = f"{NOT_MEASURED}: {str(error).partition(chr(10))[0]}"
    found = {row.name: row for row in interleaved(contenders, rounds, "samples/s", on_round)}
    best = max((found[name] for name in (_PLAIN, _GRAPHS) if name in found), key=lambda row: row.value)
    counted = count(resolved, (case.size, case.size))
    peak = peak_flops(device, wants_bf16(resolved.run.train, device))
    all_nets = found.get(_TOGETHER)
    return GPURow(
        name=case.name,
        parameters=counted.parameters,
        size=case.size,
        batch=case.batch,
        plain_ms=_milliseconds(found[_PLAIN], case),
        graphs_ms=_milliseconds(found[_GRAPHS], case) if graphs.mode == GRAPHS else None,
        graphs=graphs.mode or "there is no GPU",
        samples_per_second=best.value,
        mfu=counted.flops * best.value / peak if peak else None,
        waiting=_waiting(resolved, case, steps),
        together=case.together,
        together_samples_per_second=all_nets.value if all_nets else None,
        together_gain=all_nets.value / best.value if all_nets else None,
        together_note=note,
    )


def _milliseconds(row: PerfRow, case: GPUCase) -> float:
    return 1e3 * case.batch / row.value


def _engine(resolved: ResolvedConfig, graphs: bool | str) -> Engine:
    train: TrainConfig = replace(resolved.run.train, graphs=graphs)
    return Engine(build_model(resolved), train, _WORLD, train.global_batch)


def _example(resolved: ResolvedConfig, case: GPUCase) -> Batch:
    """Return a batch of noise on the CPU; speed does not depend on the values."""
    generator = torch.Generator().manual_seed(0)
    batch = example_batch(resolved.inputs, (case.size, case.size), case.batch)
    batch = batch.map(lambda field: 40 * torch.rand(field.shape, generator=generator))
    return replace(batch, sample_index=torch.arange(case.batch))


def _stepping(engine: Engine, resolved: ResolvedConfig, case: GPUCase, steps: int) -> Run:
    """Return a run of optimizer steps on a batch that is already on the device."""
    batch = engine.stager.take(engine.stager.stage(_example(resolved, case)))

    def run() -> float:
        for _ in range(steps):
            engine.step([batch], _RATE, wait=not engine.lags)
        engine.settle()
        return float(steps * case.batch)

    return run


def _stepping_together(resolved: ResolvedConfig, case: GPUCase, steps: int) -> Run:
    """Return a run of steps of several nets at once, each with a batch of its own on the host.

    Raises:
        RuntimeError: the network can't be stacked.
    """
    stack = NetStack(case.together, resolved.run.train, _WORLD, 1)
    for slot in range(case.together):
        stack.adopt(slot, build_model(resolved))
    drawn = [[_example(resolved, case)] for _ in range(case.together)]
    stack.step(drawn, _RATE)

    def run() -> float:
        for _ in range(steps):
            stack.step(drawn, _RATE)
        return float(steps * case.batch * case.together)

    return run


def _waiting(resolved: ResolvedConfig, case: GPUCase, steps: int) -> float:
    """Return the share of time that training waits for data, after a warm-up."""
    with _batches(resolved, case) as (engine, batches):
        for _ in range(steps):
            engine.step([next(batches)], _RATE, wait=not engine.lags)
        engine.settle()
        waited, started = 0.0, perf_counter()
        for _ in range(4 * steps):
            before = perf_counter()
            batch = next(batches)
            waited += perf_counter() - before
            engine.step([batch], _RATE, wait=not engine.lags)
        engine.settle()
        return waited / (perf_counter() - started)


@contextmanager
def _batches(resolved: ResolvedConfig, case: GPUCase) -> Iterator[tuple[Engine, Iterator[Batch]]]:
    """Provide an engine and its batches from shards of synthetic storms."""
    frames = resolved.inputs.frames + resolved.inputs.lead_frames
    with tempfile.TemporaryDirectory(prefix="polarcast-perf-") as folder:
        root = Path(folder)
        write_archive(root / "archive", 6, size=case.size, seed=0, preset="tiny", frames=max(8, frames + 4))
        manifest = write_shards(open_archive(root / "archive"), root / "shards", split="0.6/0.2/0.2")
        config, engine = resolved.run, _engine(resolved, "auto")
        loader = TrainLoader(build_sampler(config, build_reader(config, manifest, "train")), RunFolder(root), _WORLD)
        yield engine, loader.batches(config, case.batch, 0, engine.stager)
