"""Environment checks of `polarcast doctor`; each check runs the real operation."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from polarcast.data.check.findings import Finding
from polarcast.data.errors import BadInput
from polarcast.hpc.distributed.launch import run_ranks, signal_name
from polarcast.hpc.distributed.preflight import preflight
from polarcast.hpc.distributed.process_group import join
from polarcast.hpc.distributed.world import World
from polarcast.hpc.utils.versions import package_versions

_PACKAGES = ("torch", "deepspeed", "ray", "webdataset", "numpy", "wandb", "submitit")
_MIN_FREE_GB = 5
_SECONDS_TO_TALK = 180
_TALK = """
import torch
from polarcast.hpc.training.backends.deepspeed import deepspeed_for
from polarcast.hpc.utils.console import exit_process
from polarcast.hpc.distributed.world import detect, device_of
world = detect()
with deepspeed_for(world):
    value = torch.ones(1, device=device_of(world))
    torch.distributed.all_reduce(value)
assert value.item() == world.size == 2
exit_process(0)
"""
_ERROR_LINE = re.compile(r"^(?:\[rank\d\]: )?(?!torch\.)[\w.]+(?:Error|Exception)\b.*", re.MULTILINE)
"""Error in the output of a failed rank."""


def examine() -> list[Finding]:
    """Run all checks; a check that raises becomes a failed finding."""
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
    """Compare the nodes of a job. Collective: call it on all ranks."""
    join(world)
    try:
        facts = preflight(Path.cwd(), world)
    except BadInput as error:
        return [Finding("nodes", False, str(error))]
    return [
        Finding(
            "nodes", True, f"{world.size} processes on {', '.join(facts['hosts'])}, with the same package versions"
        ),
        Finding("free disk", True, f"{facts['free_gb']:g} GB in {Path.cwd()}, visible to all nodes"),
        Finding("all-reduce", True, f"{facts['all_reduce_gb_per_s']:g} GB/s for 16 MiB over all processes"),
    ]


def free_disk() -> tuple[bool, str]:
    """Return whether the working directory has space for the archive, shards and runs of a demo, and a message."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free > _MIN_FREE_GB:
        return True, f"{free:.0f} GB in {Path.cwd()}"
    return False, f"{free:.1f} GB in {Path.cwd()}, {_MIN_FREE_GB} GB required: free some space"


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

    return _computes("cpu"), f"{torch.__version__}, {torch.get_num_threads()} threads"


def _accelerator() -> tuple[bool, str]:
    import torch

    if not torch.cuda.is_available():
        return True, "no GPU visible: training runs on the CPU"
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus)
    return all(_computes(f"cuda:{i}") for i in range(len(gpus))), names


def _computes(device: str) -> bool:
    """Whether a convolution gives the correct result."""
    import torch

    ones = torch.ones(1, 1, 8, 8, device=device)
    return bool((torch.nn.functional.conv2d(ones, ones[..., :3, :3]) == 9).all())


def _two_processes() -> tuple[bool, str]:
    """Check a DeepSpeed all-reduce between two local processes, on two GPUs if available."""
    import torch

    has_two = torch.cuda.device_count() > 1
    environment = os.environ if has_two else {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryFile() as errors:
        code, _ = run_ranks([sys.executable, "-P", "-c", _TALK], 2, environment, errors, _SECONDS_TO_TALK)
        errors.seek(0)
        error = _ERROR_LINE.search(errors.read().decode(errors="replace"))
    if code:
        ended = f"a process was ended by {signal_name(code)}" if code < 0 else f"exit code {code}"
        return False, error[0].strip() if error else ended
    return True, f"DeepSpeed all-reduce between two processes, on {'GPUs' if has_two else 'the CPU'}"


def _slurm() -> tuple[bool, str]:
    if shutil.which("sinfo") is None:
        return True, "not installed: runs start on this machine"
    done = subprocess.run(
        ["sinfo", "--noheader", "-o", "%P %D nodes %t"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=20,
    )
    if done.returncode:
        return True, "installed, but no cluster responds: runs start on this machine"
    return True, "; ".join(done.stdout.splitlines()[:4])
