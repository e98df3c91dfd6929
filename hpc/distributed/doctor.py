"""Can this machine do the work? Each check tries the real thing."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from polarcast.data.check.findings import Finding
from polarcast.data.errors import BadInput
from polarcast.hpc.distributed.preflight import preflight
from polarcast.hpc.distributed.process_group import join
from polarcast.hpc.distributed.world import World
from polarcast.hpc.utils.versions import package_versions

_PACKAGES = ("torch", "deepspeed", "ray", "webdataset", "numpy", "wandb", "submitit")
_LEAST_FREE_GB = 5
_TALK = """
import torch
from polarcast.hpc.training.backends.deepspeed import deepspeed_for
from polarcast.hpc.utils.console import leave
from polarcast.hpc.distributed.world import detect, device_of
world = detect()
with deepspeed_for(world):
    value = torch.ones(1, device=device_of(world))
    torch.distributed.all_reduce(value)
assert value.item() == world.size == 2
leave(0)
"""
_SAID = re.compile(r"^(?:\[rank\d\]: )?(?!torch\.)[\w.]+(?:Error|Exception)\b.*|Signal \d+ \(\w+\)", re.MULTILINE)
"""What a rank said of its end."""


def examine() -> list[Finding]:
    """Run all checks; one that raises is a finding, not a crash."""
    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "packages": _packages,
        "torch": _torch,
        "accelerator": _accelerator,
        "two processes": _two_processes,
        "free disk": free_disk,
        "slurm": _slurm,
    }
    return [_attempt(name, check) for name, check in checks.items()]


def examine_nodes(world: World) -> list[Finding]:
    """Hold the nodes of a job against each other; with all its processes."""
    join(world)
    try:
        found = preflight(Path.cwd(), world)
    except BadInput as error:
        return [Finding("nodes", False, str(error))]
    return [
        Finding("nodes", True, f"{world.size} processes on {', '.join(found['hosts'])}, the same versions on all"),
        Finding("free disk", True, f"{found['free_gb']:g} GB in {Path.cwd()}, which all see"),
        Finding("all-reduce", True, f"{found['all_reduce_gb_per_s']:g} GB/s of 16 MiB over all processes"),
    ]


def free_disk() -> tuple[bool, str]:
    """Whether the working directory has room for a demo's archive, shards and runs, and how much."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free > _LEAST_FREE_GB:
        return True, f"{free:.0f} GB here"
    return False, f"{free:.1f} GB in {Path.cwd()}, {_LEAST_FREE_GB} are needed: make room"


def _attempt(name: str, check: Callable[[], tuple[bool, str]]) -> Finding:
    try:
        return Finding(name, *check())
    except Exception as error:
        return Finding(name, False, f"{type(error).__name__}: {error}")


def _packages() -> tuple[bool, str]:
    versions = package_versions(_PACKAGES)
    return "missing" not in versions.values(), ", ".join(f"{name} {v}" for name, v in versions.items())


def _torch() -> tuple[bool, str]:
    import torch

    return _computes("cpu"), f"computes; {torch.get_num_threads()} threads, {torch.__version__}"


def _accelerator() -> tuple[bool, str]:
    import torch

    if not torch.cuda.is_available():
        return True, "no GPU visible: training runs on the CPU"
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    told = ", ".join(f"{gpu.name} of {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus)
    return all(_computes(f"cuda:{i}") for i in range(len(gpus))), f"computes on {told}"


def _computes(device: str) -> bool:
    """Whether a convolution comes out right."""
    import torch

    ones = torch.ones(1, 1, 8, 8, device=device)
    return bool((torch.nn.functional.conv2d(ones, ones[..., :3, :3]) == 9).all())


def _two_processes() -> tuple[bool, str]:
    """DeepSpeed on two local processes: an all-reduce that must come back right; on GPUs where there are two."""
    import torch

    has_two = torch.cuda.device_count() > 1
    environment = os.environ if has_two else {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
    ]
    done = subprocess.run(
        [*launcher, sys.executable, "-c", _TALK], capture_output=True, text=True, timeout=180, env=environment
    )
    if done.returncode:
        said = _SAID.search(done.stderr)
        return False, said[0].strip() if said else f"exit code {done.returncode}"
    return True, f"DeepSpeed all-reduce between two processes, on {'GPUs' if has_two else 'the CPU'}"


def _slurm() -> tuple[bool, str]:
    if shutil.which("sinfo") is None:
        return True, "no Slurm here: runs start on this machine"
    done = subprocess.run(["sinfo", "--noheader", "-o", "%P %D nodes %t"], capture_output=True, text=True, timeout=20)
    if done.returncode:
        return True, "Slurm is installed, but no cluster answers: runs start on this machine"
    return True, "; ".join(done.stdout.splitlines()[:4])
