"""Who am I among how many: rank, world size and device from torchrun, from Slurm, or alone."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from polarcast.data.errors import BadInput


@dataclass(frozen=True)
class World:
    """This process's place in the job."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = "127.0.0.1"
    """Where the processes meet; a process alone meets nobody."""
    port: int = 0
    hosts: tuple[str, ...] = ()
    """Names of the job's nodes, where the scheduler tells them."""

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that writes."""
        return self.rank == 0


def detect(env: Mapping[str, str] = os.environ) -> World:
    """The world as torchrun's or srun's environment tells it; one process without either."""
    if "RANK" in env and "WORLD_SIZE" in env:
        return _from_torchrun(env)
    if int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return _from_slurm(env)
    return World()


def device_name() -> str:
    """`cuda` where a GPU is visible, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def device_of(world: World) -> str:
    """The device of this process: the GPU of its local rank, or `cpu`."""
    import torch

    # Where a scheduler shows each process one GPU only, that is number 0 to all of them.
    return f"cuda:{world.local_rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def one_gpu_each(processes: int, gpus: int, where: str) -> None:
    """Raises BadInput unless there are as many GPUs as processes, or none: NCCL lets no two processes talk over one."""
    if 0 < gpus < processes:
        raise BadInput(
            f"{processes} processes can't share {gpus} GPU{'s' * (gpus > 1)}",
            where,
            "start one for each GPU, or hide the GPUs: CUDA_VISIBLE_DEVICES=''",
        )


def visible_gpus() -> int:
    """How many GPUs this process sees."""
    import torch

    return torch.cuda.device_count()


def set_up_torch(wanted: int, world: World) -> int:
    """Give this process its share of the cores (or `wanted`), and all digits of fp32; returns the number of threads.

    Unless told otherwise, torch convolves fp32 fields on GPUs in TF32, with ten bits: scores would not be a CPU's.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    threads = wanted or max(1, len(os.sched_getaffinity(0)) // world.local_size)
    torch.set_num_threads(threads)
    return threads


def _from_torchrun(env: Mapping[str, str]) -> World:
    return World(
        rank=int(env["RANK"]),
        size=int(env["WORLD_SIZE"]),
        local_rank=int(env.get("LOCAL_RANK", "0")),
        local_size=int(env.get("LOCAL_WORLD_SIZE", "1")),
        address=env.get("MASTER_ADDR", "127.0.0.1"),
        port=int(env.get("MASTER_PORT", "29500")),
    )


def _from_slurm(env: Mapping[str, str]) -> World:
    hosts = subprocess.run(
        ["scontrol", "show", "hostnames", env.get("SLURM_STEP_NODELIST") or env["SLURM_JOB_NODELIST"]],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return World(
        rank=int(env["SLURM_PROCID"]),
        size=int(env["SLURM_STEP_NUM_TASKS"]),
        local_rank=int(env["SLURM_LOCALID"]),
        local_size=int(env["SLURM_STEP_NUM_TASKS"]) // len(hosts),
        address=hosts[0],
        # Jobs that share a node must not meet on one port, and every rank must compute the same.
        port=20_000 + int(env["SLURM_JOB_ID"]) % 20_000,
        hosts=tuple(hosts),
    )
