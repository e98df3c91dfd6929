"""Checks before the first step of a job: compare the nodes, and time an all-reduce between the ranks."""

import shutil
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from polarcast.data.errors import BadInput
from polarcast.hpc.distributed.process_group import barrier, gather, join
from polarcast.hpc.distributed.world import World, device_of, one_gpu_each
from polarcast.hpc.utils.versions import package_versions

_PACKAGES = ("polarcast", "torch", "deepspeed", "webdataset", "numpy")
_BYTES = 2**24
_REPEATS = 3
_MIN_FREE_GB = 1.0

Result = TypeVar("Result")


def on_every_rank(work: Callable[[], Result], world: World) -> Result:
    """Call `work` on every rank; return this rank's result, or raise on all ranks if any rank failed.

    This keeps ranks from waiting for a rank whose node has a problem.

    Raises:
        BadInput: `work` failed on a rank; the message names the hosts unless all failed.
    """
    join(world)
    result: Result | None = None
    problem: BadInput | None = None
    try:
        result = work()
    except BadInput as error:
        problem = error
    problems = gather((socket.gethostname(), problem and (problem.what, problem.where, problem.fix)), world)
    failed = [(host, parts) for host, parts in problems if parts]
    if failed:
        what, where, fix = failed[0][1]
        only = "" if len(failed) == world.size else f" (on {', '.join(sorted({host for host, _ in failed}))} only)"
        raise BadInput(what + only, where, fix)
    return result  # type: ignore[return-value]


def preflight(folder: Path, world: World) -> dict[str, Any]:
    """Compare the nodes of a job; return hosts, free disk space and all-reduce bandwidth. Collective.

    Args:
        folder: Run folder.
        world: Rank and size of this process's job.

    Raises:
        BadInput: package versions differ, processes share a GPU, the folder is missing on a node, or its disk is full.
    """
    gathered = gather((socket.gethostname(), _facts(folder)), world)
    hosts, facts = [host for host, _ in gathered], [fact for _, fact in gathered]
    _check_versions(hosts, [tuple(sorted(fact["versions"].items())) for fact in facts])
    gpus = {fact["gpu"] for fact in facts}
    if None not in gpus:
        one_gpu_each(world.size, len(gpus), ", ".join(sorted(set(hosts))))
    if missing := sorted({host for host, fact in gathered if fact["free_gb"] is None}):
        raise BadInput(
            f"not visible on {', '.join(missing)}", folder, "choose a folder on storage that all nodes share"
        )
    free = min(fact["free_gb"] for fact in facts)
    if free < _MIN_FREE_GB:
        raise BadInput(f"only {free:.2f} GB free", folder, "free space for checkpoints, or choose another folder")
    seconds = _all_reduce(world)
    return {
        "hosts": sorted(set(hosts)),
        "free_gb": round(free, 1),
        "all_reduce_gb_per_s": round(_BYTES / seconds / 1e9, 3),
    }


def _facts(folder: Path) -> dict[str, Any]:
    free = shutil.disk_usage(folder).free / 1e9 if folder.is_dir() else None
    return {"versions": package_versions(_PACKAGES), "free_gb": free, "gpu": _gpu()}


def _gpu() -> str | None:
    """Return the UUID of the current GPU. Its index is not unique: if each process sees only one GPU, all are 0."""
    if not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)


def _check_versions(hosts: Sequence[str], versions: Sequence[tuple[tuple[str, str], ...]]) -> None:
    """Raise BadInput if the version of a package differs between hosts."""
    for name in dict(versions[0]):
        by_version = grouped(hosts, [dict(v)[name] for v in versions])
        if len(by_version) > 1:
            versions_text = ", ".join(f"{version} on {' '.join(sorted(set(on)))}" for version, on in by_version.items())
            raise BadInput(
                f"version differs between nodes: {versions_text}", name, "install the same version on all nodes"
            )


def grouped(hosts: Sequence[str], values: Sequence[Hashable]) -> Mapping[Hashable, list[str]]:
    """Group hosts by value."""
    by_value = defaultdict(list)
    for host, value in zip(hosts, values, strict=True):
        by_value[value].append(host)
    return by_value


def _all_reduce(world: World) -> float:
    """Return the time of a 16 MiB all-reduce in seconds: the minimum over repeats, the maximum over ranks."""
    values, best = torch.ones(_BYTES // 4, device=device_of(world)), float("inf")
    for _ in range(_REPEATS):
        barrier(world)
        started = time.perf_counter()
        torch.distributed.all_reduce(values)
        values[0].item()
        best = min(best, time.perf_counter() - started)
    return float(max(gather(best, world)))
