"""Before the first step of a job of several processes: do all of them see the same, and reach each other?"""

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
_LEAST_FREE_GB = 1.0

Result = TypeVar("Result")


def on_every_rank(work: Callable[[], Result], world: World) -> Result:
    """This rank's result of something that may be wrong with its node; all ranks learn of it, none is left waiting.

    Raises:
        BadInput: it could not be done somewhere; names the hosts where that is not all of them.
    """
    join(world)
    result: Result | None = None
    problem: BadInput | None = None
    try:
        result = work()
    except BadInput as error:
        problem = error
    problems = gather((socket.gethostname(), problem and (problem.what, problem.where, problem.fix)), world)
    failed = [(host, told) for host, told in problems if told]
    if failed:
        what, where, fix = failed[0][1]
        only = "" if len(failed) == world.size else f" (on {', '.join(sorted({host for host, _ in failed}))} only)"
        raise BadInput(what + only, where, fix)
    return result  # type: ignore[return-value]


def preflight(folder: Path, world: World) -> dict[str, Any]:
    """Hold the nodes of a job against each other; returns what was found.

    Args:
        folder: Where the run will write.
        world: This process's place.

    Raises:
        BadInput: versions of packages differ, processes share a GPU, a node does not see the folder, or there is no
            room in it.
    """
    seen = gather((socket.gethostname(), _facts(folder)), world)
    hosts, facts = [host for host, _ in seen], [fact for _, fact in seen]
    _same(hosts, [tuple(sorted(fact["versions"].items())) for fact in facts])
    gpus = {fact["gpu"] for fact in facts}
    if None not in gpus:
        one_gpu_each(world.size, len(gpus), ", ".join(sorted(set(hosts))))
    if blind := sorted({host for host, fact in seen if fact["free_gb"] is None}):
        raise BadInput(f"not there on {', '.join(blind)}", folder, "give a folder on storage that all nodes share")
    free = min(fact["free_gb"] for fact in facts)
    if free < _LEAST_FREE_GB:
        raise BadInput(f"only {free:.2f} GB free", folder, "make room for checkpoints, or choose another folder")
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
    """What no other GPU is called: where a scheduler shows each process one only, all are number 0."""
    if not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)


def _same(hosts: Sequence[str], versions: Sequence[tuple[tuple[str, str], ...]]) -> None:
    """Raises BadInput when a package is not the same everywhere."""
    for name in dict(versions[0]):
        by_version = grouped(hosts, [dict(v)[name] for v in versions])
        if len(by_version) > 1:
            told = ", ".join(f"{version} on {' '.join(sorted(set(of)))}" for version, of in by_version.items())
            raise BadInput(f"not the same everywhere: {told}", name, "install the same versions on all nodes")


def grouped(hosts: Sequence[str], values: Sequence[Hashable]) -> Mapping[Hashable, list[str]]:
    """Hosts by value."""
    found = defaultdict(list)
    for host, value in zip(hosts, values, strict=True):
        found[value].append(host)
    return found


def _all_reduce(world: World) -> float:
    """Seconds of summing 16 MiB over all ranks, at best; the slowest rank's."""
    values, best = torch.ones(_BYTES // 4, device=device_of(world)), float("inf")
    for _ in range(_REPEATS):
        barrier(world)
        started = time.perf_counter()
        torch.distributed.all_reduce(values)
        values[0].item()
        best = min(best, time.perf_counter() - started)
    return float(max(gather(best, world)))
