"""Rank, world size and device, from a launcher such as torchrun, from Slurm, or for a single process."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from polarcast.data.cores import usable_cores
from polarcast.data.errors import BadInput

FOLDER = "POLARCAST_RANKS"
"""Environment variable with the folder of a local launch."""


@dataclass(frozen=True)
class World:
    """Rank of this process and size of its job."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = "127.0.0.1"
    """Address of rank 0; unused by a single process."""
    port: int = 0
    hosts: tuple[str, ...] = ()
    """Host names of the job's nodes, if the scheduler lists them."""
    folder: str = ""
    """Private folder in which the ranks of a local launch meet, instead of at an address; empty for other launchers."""

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the files."""
        return self.rank == 0

    @property
    def is_on_one_node(self) -> bool:
        """Whether all ranks run on this node."""
        return self.size == self.local_size


def detect(env: Mapping[str, str] = os.environ) -> World:
    """Read the world from the environment of a launcher or of srun; a single process without either."""
    if "RANK" in env and "WORLD_SIZE" in env:
        return _from_launcher(env)
    if int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return _from_slurm(env)
    return World()


def device_of(world: World) -> str:
    """Return the device of this process: the GPU of its local rank, or `cpu`."""
    import torch

    # If the scheduler exposes only one GPU to each process, its index is 0 in all of them.
    return f"cuda:{world.local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def one_gpu_each(processes: int, gpus: int, where: str) -> None:
    """Raise BadInput if there are GPUs, but fewer than processes: NCCL allows only one process per GPU."""
    if 0 < gpus < processes:
        raise BadInput(
            f"{processes} processes can't share {gpus} GPU{'s' * (gpus > 1)}",
            where,
            "start one process per GPU, or hide the GPUs with CUDA_VISIBLE_DEVICES=''",
        )


def visible_gpus() -> int:
    """Return the number of GPUs visible to this process."""
    import torch

    return torch.cuda.device_count()


def set_up_torch(threads: int, world: World) -> int:
    """Set the number of threads (0: this process's share of the cores) and full fp32 precision; return the threads.

    There are never more threads than the affinity mask and the cgroup's quota allow: operations that are divided among
    threads would wait for the one without a core.

    By default, torch computes fp32 convolutions on GPUs in TF32, with a 10-bit mantissa. Scores would differ from those
    of a CPU.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    cores = usable_cores()
    threads = min(threads or max(1, cores // world.local_size), cores)
    torch.set_num_threads(threads)
    return threads


def _from_launcher(env: Mapping[str, str]) -> World:
    return World(
        rank=int(env["RANK"]),
        size=int(env["WORLD_SIZE"]),
        local_rank=int(env.get("LOCAL_RANK", "0")),
        local_size=int(env.get("LOCAL_WORLD_SIZE", "1")),
        address=env.get("MASTER_ADDR", "127.0.0.1"),
        port=int(env.get("MASTER_PORT", "29500")),
        folder=env.get(FOLDER, ""),
    )


def _from_slurm(env: Mapping[str, str]) -> World:
    hosts = subprocess.run(
        ["scontrol", "show", "hostnames", env.get("SLURM_STEP_NODELIST") or env["SLURM_JOB_NODELIST"]],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
    ).stdout.split()
    return World(
        rank=int(env["SLURM_PROCID"]),
        size=int(env["SLURM_STEP_NUM_TASKS"]),
        local_rank=int(env["SLURM_LOCALID"]),
        local_size=int(env["SLURM_STEP_NUM_TASKS"]) // len(hosts),
        address=hosts[0],
        # Jobs that share a node need different ports, and all ranks of a job must compute the same one.
        port=20_000 + int(env["SLURM_JOB_ID"]) % 20_000,
        hosts=tuple(hosts),
    )
