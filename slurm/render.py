"""The script of a job, as text: a pure function of cluster, resources and command."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from polarcast.slurm.profile import Profile

MULTI_PROCESS_VERBS = ("train", "evaluate", "perf", "doctor")
"""Verbs that many processes do together; any other has a job's first node to itself."""
TASK = "{task}"
"""In a command: the number of this element of a job array."""

IGNORE_USR2 = 'trap "" USR2; exec "$0" "$@"'
"""A shell that becomes a command. Who is warned while still importing would die of it: the warning is ignored until
there is something to save. srun's tasks do not inherit that from the batch shell."""


RAY = """\
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
# A port, a folder and a password of this job's own: nodes may be shared with others who use Ray.
export RAY_ADDRESS="$head:$((20000 + SLURM_JOB_ID % 20000))"
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"
# Many nodes that import from one file system take their time.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# Trials are the work itself, and yield to nobody.
export RAY_worker_niceness=0
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$(head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1)"
"""


@dataclass(frozen=True)
class Job:
    """What is to be run, and on how much."""

    command: tuple[str, ...]
    """Verb and arguments of polarcast."""
    name: str
    nodes: int | None = None
    """The profile's by default."""
    time: str | None = None
    array: str | None = None
    """Numbers of an array's elements, such as 0-9%4; TASK in the command is the number."""
    after: str | None = None
    """Numbers of jobs that must have ended well before, such as 12:13."""

    @property
    def is_together(self) -> bool:
        """Whether all processes of the job do it together."""
        return self.command[0] in MULTI_PROCESS_VERBS

    @property
    def is_spread(self) -> bool:
        """Whether one process, on the first node, hands work to all nodes: a sweep, but for a worker of an array."""
        return self.command[0] == "sweep" and not self.is_worker

    @property
    def is_worker(self) -> bool:
        """Whether it is one of a sweep's workers, who try one point at a time, on one GPU."""
        return self.command[0] == "sweep" and "--worker" in self.command

    @property
    def run_folder(self) -> str | None:
        """Where a training writes."""
        if self.command[0] != "train":
            return None
        given = [b for a, b in zip(self.command, self.command[1:], strict=False) if a == "--out"]
        return given[-1] if given else f"runs/{self.name}" + ("" if self.array is None else f"-{TASK}")


def tasks_per_node(profile: Profile, job: Job) -> int:
    """Processes on each node."""
    return (profile.tasks_per_node or profile.gpus_per_node or 1) if job.is_together else 1


def nodes(profile: Profile, job: Job) -> int:
    """Nodes of a job."""
    return (job.nodes or profile.nodes) if job.is_together or job.is_spread else 1


def gpus_per_node(profile: Profile, job: Job) -> int:
    """GPUs of each node that the job asks for."""
    return min(1, profile.gpus_per_node) if job.is_worker else profile.gpus_per_node


def completed(profile: Profile, job: Job) -> Job:
    """The job with what a training on this cluster needs: where it writes, and where it stages its shards."""
    command = list(job.command)
    if job.command[0] == "train":
        if profile.scratch and not any(word.startswith("data.stage_to=") for word in command):
            command.append(f"data.stage_to={profile.scratch}")
        if "--out" not in command and (folder := job.run_folder):
            command += ["--out", folder]
    return replace(job, command=tuple(command))


def sbatch_text(profile: Profile, job: Job) -> str:
    """The script that `sbatch` takes.

    Args:
        profile: The cluster.
        job: What to run on it.

    Raises:
        ValueError: no command, or more processes than GPUs; told in one line.
    """
    _check(profile, job)
    job = completed(profile, job)
    lines = ["#!/bin/bash", f"# polarcast {shlex.join(job.command)}", *_header(profile, job), "", "set -euo pipefail"]
    return "\n".join([*lines, *preparation(profile), "", _work(profile, job)]) + "\n"


def options(profile: Profile, job: Job) -> dict[str, str | None]:
    """Options of sbatch; None for those that have no value."""
    log = "%x-%A_%a.log" if job.array else "%x-%j.log"
    # Tasks are warned by Slurm itself; the batch shell, where the work is in it, only if that is asked for.
    warned = "" if job.is_together or _by_ray(profile, job) else "B:"
    wanted: dict[str, object] = {
        "job-name": job.name, "nodes": nodes(profile, job), "ntasks-per-node": tasks_per_node(profile, job),
        "cpus-per-task": profile.cpus_per_task, "gpus-per-node": gpus_per_node(profile, job) or None,
        "mem": profile.memory, "time": job.time or profile.time, "partition": profile.partition,
        "account": profile.account, "qos": profile.qos, "constraint": profile.constraint, "array": job.array,
        "dependency": f"afterok:{job.after}" if job.after else None,
        "signal": f"{warned}USR2@{profile.signal_seconds}",
        "output": log, "open-mode": "append",
    }  # fmt: skip
    flags: dict[str, str | None] = {"requeue" if profile.requeue else "no-requeue": None}
    return {key: str(value) for key, value in wanted.items() if value is not None} | flags


def preparation(profile: Profile) -> list[str]:
    """Lines of shell before the work."""
    variables = {"WANDB_MODE": profile.wandb_mode, **profile.environment}
    if profile.interface:
        variables |= {"GLOO_SOCKET_IFNAME": profile.interface, "NCCL_SOCKET_IFNAME": profile.interface}
    exports = [f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()]
    return [*(f"module load {shlex.quote(m)}" for m in profile.modules), *profile.setup, *exports, "trap '' USR2"]


def srun_options(profile: Profile) -> list[str]:
    """Options of srun: a rank that dies takes the others down at once, or they would wait for it."""
    # srun has not taken the number of CPUs from the batch job since Slurm 22.05.
    asked = ["--kill-on-bad-exit=1", f"--cpus-per-task={profile.cpus_per_task}"]
    if profile.container and profile.container.kind == "pyxis":
        asked.append(f"--container-image={profile.container.image}")
        if profile.container.mounts:
            asked.append(f"--container-mounts={','.join(profile.container.mounts)}")
    return asked


def container_prefix(profile: Profile) -> list[str]:
    """What stands before a command that is to run inside an apptainer image."""
    if not profile.container or profile.container.kind != "apptainer":
        return []
    binds = [f"--bind={mount}" for mount in profile.container.mounts]
    gpus = ["--nv"] if profile.gpus_per_node else []
    return ["apptainer", "exec", *gpus, *binds, profile.container.image]


def _check(profile: Profile, job: Job) -> None:
    if not job.command:
        raise ValueError("nothing to run — give a verb after --, such as: polarcast submit -- train demo")
    tasks = tasks_per_node(profile, job)
    if profile.gpus_per_node and job.is_together and tasks != profile.gpus_per_node:
        problem = f"{profile.gpus_per_node} GPUs a node, but {tasks} processes"
        raise ValueError(f"tasks_per_node: {problem} — leave tasks_per_node out of the profile")


def _header(profile: Profile, job: Job) -> list[str]:
    pairs = options(profile, job).items()
    return [*(f"#SBATCH --{k}" + ("" if v is None else f"={v}") for k, v in pairs), *_extra(profile)]


def _extra(profile: Profile) -> list[str]:
    return [f"#SBATCH {option}" for option in profile.options]


def _work(profile: Profile, job: Job) -> str:
    command = _quoted([*container_prefix(profile), "polarcast", *job.command])
    together = ["srun", *srun_options(profile)]
    if _by_ray(profile, job):
        ray = _quoted(_ray_command(profile, job)).replace("RAY_ADDRESS", '"$RAY_ADDRESS"')
        return f"{RAY}{_quoted(together)} sh -c {shlex.quote(IGNORE_USR2)} {ray} {command}"
    # Alone it is the job's own shell that becomes the work: no srun is needed, and its children are the job's.
    return f"{_quoted(together)} sh -c {shlex.quote(IGNORE_USR2)} {command}" if job.is_together else f"exec {command}"


def _by_ray(profile: Profile, job: Job) -> bool:
    return job.is_spread and nodes(profile, job) > 1


def _ray_command(profile: Profile, job: Job) -> list[str]:
    """Ray on all nodes, and what follows on the first of them."""
    count = ["--min-nodes", str(nodes(profile, job)), "--num-cpus", str(profile.cpus_per_task)]
    gpus = ["--num-gpus", str(profile.gpus_per_node)] if profile.gpus_per_node else []
    # Nothing but numbers goes through Ray's object store.
    store = ["--object-store-memory", str(100 * 2**20)]
    return ["ray", "symmetric-run", "--address", "RAY_ADDRESS", *count, *gpus, *store, "--"]


def _quoted(words: Sequence[str]) -> str:
    """For the shell; TASK becomes the variable that Slurm sets."""
    number = '"${SLURM_ARRAY_TASK_ID}"'
    return " ".join(number.join(shlex.quote(p) if p else "" for p in word.split(TASK)) or "''" for word in words)
