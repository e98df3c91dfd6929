"""Estimate what a suite takes on a cluster, before anything is submitted: GPUs, memory, disk and hours."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.cells import Cell, SuiteFolder
from polarcast.hpc.bench.checks import KnownData, check_data
from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.fetched import expected_volumes
from polarcast.hpc.bench.run import USUAL_FRAMES, expected_seconds, is_trained
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import AUTO
from polarcast.hpc.training.estimate import Counted, count, needed_by
from polarcast.hpc.training.micro_batch import share_of

GPU_GIB, GPU_TFLOPS = 72.0, 50.0
_PIXELS_OF_CORE_SECONDS = 64 * 64
"""Pixels of the fields for which `expected_seconds` holds on one core."""
_PROCESS_GIB = 1.5
"""Memory of Python, torch and the prefetched batches of one process."""
_BYTES = 2
_STATES = 3
"""Copies of the weights in a checkpoint: the weights and both moments."""
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class CellEstimate:
    """What each cell of a model and arm takes.

    Attributes:
        model, label, arm: Position in the suite.
        cells: Number of cells.
        parameters: Trained parameters; 0 without a network.
        nodes: Nodes of each cell; 0: a part of a node.
        processes: Processes of each cell, one on each GPU.
        memory_gib: Memory of a process: of its GPU, or of the host without GPUs.
        hours: Hours of each cell.
    """

    model: str
    label: str
    arm: str
    cells: int
    parameters: int
    nodes: int
    processes: int
    memory_gib: float
    hours: float

    @property
    def process_hours(self) -> float:
        """Hours times processes of all cells."""
        return self.cells * self.hours * self.processes


@dataclass(frozen=True)
class SuiteEstimate:
    """What a suite takes.

    Attributes:
        rows: Cells by model and arm.
        on_gpus: Whether cells get GPUs.
        shards_gib: Disk of the shards.
        runs_gib: Disk of checkpoints, weights and cases.
        chain_hours: Hours of the longest chain of cells that build on each other.
        free_gib: Free disk.
        problems: Why it can't fit the profile, one a line.
    """

    rows: Sequence[CellEstimate]
    on_gpus: bool
    shards_gib: float
    runs_gib: float
    chain_hours: float
    free_gib: float
    problems: Sequence[str]

    @property
    def process_hours(self) -> float:
        """Process-hours of all cells: GPU-hours where cells get GPUs."""
        return sum(row.process_hours for row in self.rows)


def estimate_suite(
    suite: Suite,
    folder: SuiteFolder,
    cells: Sequence[Cell],
    limits: Mapping[str, Any],
    gpu_gib: float = GPU_GIB,
    tflops: float = GPU_TFLOPS,
) -> SuiteEstimate:
    """Estimate what all cells of a suite take on a cluster.

    Args:
        suite: The suite.
        folder: Its folder, for the free disk and for shards that exist.
        cells: Its cells.
        limits: What the cluster gives to cells: gpus_per_node, tasks_per_node, memory, cpus_per_task.
        gpu_gib: Usable memory of a GPU, in GiB.
        tflops: Speed of one GPU on such a model, in TFLOP/s.

    Raises:
        BadInput: the data of the suite are invalid.
    """
    known = check_data(suite.data, folder.shards)
    by_row: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        by_row.setdefault((cell.model, cell.arm), []).append(cell)
    counted = {key: _counted(some[0], known) for key, some in by_row.items()}
    rows = [_row(suite, some, counted[key], known, limits, tflops) for key, some in by_row.items()]
    hours = {(row.model, row.arm): row.hours for row in rows}
    shards, runs = _shards_gib(suite, known), _runs_gib(by_row, counted)
    free = _free_gib(folder.path)
    problems = [what for row in rows for what in _problems(row, by_row[row.model, row.arm][0], limits, gpu_gib)]
    if shards + runs > free:
        problems.append(f"disk: {shards + runs:.3g} GiB are needed, {free:.3g} GiB are free — choose another --out")
    chain = max((_chain_hours(cell, hours) for cell in cells), default=0.0)
    return SuiteEstimate(rows, bool(limits["gpus_per_node"]), shards, runs, chain, free, problems)


def check_fits(estimate: SuiteEstimate, profile: str) -> None:
    """Raise BadInput if a suite can't fit a cluster; it names the first reason."""
    if estimate.problems:
        what, _, fix = estimate.problems[0].partition(" — ")
        more = f" (and {len(estimate.problems) - 1} more)" if len(estimate.problems) > 1 else ""
        raise BadInput(f"the suite can't run on this cluster: {what}{more}", profile, fix)


def _counted(cell: Cell, known: KnownData) -> Counted | None:
    return count(resolve(cell.config), known.shape) if is_trained(cell) else None


def _row(
    suite: Suite, some: Sequence[Cell], counted: Counted | None, known: KnownData, limits: Mapping[str, Any],
    tflops: float,
) -> CellEstimate:  # fmt: skip
    cell, gpus = some[0], int(limits["gpus_per_node"])
    nodes = cell.config.train.nodes
    processes = nodes * (limits["tasks_per_node"] or gpus or 1) if nodes else 1
    label = suite.models[cell.model].label
    pixels = known.shape[0] * known.shape[1]
    hours = expected_seconds(cell) * pixels / _PIXELS_OF_CORE_SECONDS / 3600 / processes
    if counted is None:
        gib = 0.0 if gpus else _PROCESS_GIB
        return CellEstimate(cell.model, label, cell.arm, len(some), 0, nodes, processes, gib, hours)
    train = cell.config.train
    if gpus:
        hours = counted.flops * train.global_batch * train.steps / (tflops * 1e12) / 3600 / processes
    gib = _memory_gib(cell, counted, processes) + (0 if gpus else _PROCESS_GIB)
    return CellEstimate(cell.model, label, cell.arm, len(some), counted.parameters, nodes, processes, gib, hours)


def _memory_gib(cell: Cell, counted: Counted, processes: int) -> float:
    """Return the memory of the network on each process, as configured; with `auto`, of the smallest micro-batch."""
    train = cell.config.train
    share = max(1, train.global_batch // processes)
    micro = 1 if train.micro_batch == AUTO else min(int(train.micro_batch), share)
    return needed_by(counted, train, processes, micro).total / 2**30


def _problems(row: CellEstimate, cell: Cell, limits: Mapping[str, Any], gpu_gib: float) -> list[str]:
    where = f"{row.label}, {row.arm}"
    found = []
    if limits["gpus_per_node"] and row.memory_gib > gpu_gib:
        fix = "lower train.micro_batch, raise train.nodes or train.zero_stage, or give --gpu-gib"
        found.append(f"{where} needs {row.memory_gib:.3g} GiB of a GPU, which has {gpu_gib:g} — {fix}")
    host = _host_gib(limits.get("memory"))
    per_node = row.processes // row.nodes if row.nodes else 1
    if not limits["gpus_per_node"] and host is not None and row.memory_gib * per_node > host:
        fix = "raise memory in the profile, or lower train.micro_batch"
        found.append(f"{where} needs {row.memory_gib * per_node:.3g} GiB of a node, which has {host:.3g} — {fix}")
    if is_trained(cell):
        try:
            share_of(cell.config.train, row.processes)
        except BadInput as error:
            found.append(f"{where}: {error.what} — {error.fix}")
    return found


def _host_gib(memory: object) -> float | None:
    """Return Slurm's size of memory, such as 120G, in GiB; a bare number is in MiB; None or 0 is no limit."""
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", str(memory).upper()) if memory is not None else None
    if not found or int(found[1]) == 0:
        return None
    return int(found[1]) * _UNITS[found[2] or "M"] / 2**30


def _shards_gib(suite: Suite, known: KnownData) -> float:
    """Return the size of the shards in float16, and of the archive that they are made from, if that is made, too."""
    frames = sum(map(len, known.splits.values())) * (known.frames or USUAL_FRAMES)
    if suite.data.fetch:
        frames = expected_volumes(suite.data.fetch)
    fields = 1 + len(known.variables) * len(known.heights_km)
    copies = 1 if suite.data.archive else 2
    return copies * frames * fields * known.shape[0] * known.shape[1] * _BYTES / 2**30


def _runs_gib(
    by_row: Mapping[tuple[str, str], Sequence[Cell]], counted: Mapping[tuple[str, str], Counted | None]
) -> float:
    total = 0.0
    for key, cells in by_row.items():
        if found := counted[key]:
            kept = cells[0].config.train.keep_checkpoints + 1
            total += len(cells) * 4 * found.parameters * (1 + _STATES * kept)
    return total / 2**30


def _free_gib(folder: Path) -> float:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free / 2**30


def _chain_hours(cell: Cell, hours: Mapping[tuple[str, str], float]) -> float:
    return hours[cell.model, cell.arm] + max((_chain_hours(need, hours) for need in cell.needs), default=0.0)


def as_record(estimate: SuiteEstimate) -> dict[str, Any]:
    """Return plain values for JSON."""
    plain = {name: value for name, value in vars(estimate).items() if name not in ("rows", "problems")}
    rows = [{**vars(row), "process_hours": row.process_hours} for row in estimate.rows]
    return {**plain, "process_hours": estimate.process_hours, "rows": rows, "problems": list(estimate.problems)}


def render(estimate: SuiteEstimate, profile: str, time: str) -> Any:
    """Return a table of the cells, the totals, and the problems, for a terminal.

    Args:
        estimate: What the suite takes.
        profile: Name of the cluster's profile.
        time: Time limit of a job on it.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    unit = "GPU" if estimate.on_gpus else "process"
    table = Table(title=Text(f"cells on {profile}"), title_justify="left")
    for name in (
        "model",
        "arm",
        "cells",
        "parameters",
        "nodes",
        f"{unit}{'s' if estimate.on_gpus else 'es'}",
        f"GiB of a {unit}",
        "hours each",
    ):
        table.add_column(name, justify="left" if name in ("model", "arm") else "right")
    for row in estimate.rows:
        table.add_row(
            Text(row.label), ARM_NAMES.get(row.arm, row.arm), str(row.cells),
            f"{row.parameters:,}" if row.parameters else "",
            str(row.nodes or "a part"), str(row.processes), f"{row.memory_gib:.3g}", f"{row.hours:.2g}",
        )  # fmt: skip
    lines = [
        f"in all: {sum(row.cells for row in estimate.rows)} cells, about {estimate.process_hours:.3g} {unit}-hours; "
        f"at least {estimate.chain_hours:.2g} hours one after the other; jobs of {time} are requeued and go on",
        f"disk: {estimate.shards_gib:.3g} GiB of shards, {estimate.runs_gib:.3g} GiB of runs; "
        f"{estimate.free_gib:.3g} GiB are free",
    ]
    lines += [f"does not fit: {problem}" for problem in estimate.problems]
    return Group(table, *map(Text, lines))
