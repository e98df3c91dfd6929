"""Render job scripts: a pure function of cluster profile, resources and command."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from polarcast.slurm.profile import Profile, check_profile
from polarcast.slurm.rules import check_array, check_count, check_form

MULTI_PROCESS_VERBS = ("train", "evaluate", "perf", "doctor")
"""Verbs that run on all processes of a job; any other verb runs on one node only."""
ALL, ONE = "all", "one"
_MEGABYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}
TASK = "{task}"
"""Placeholder in a command for the index of the array element."""

IGNORE_USR2 = 'trap "" USR2; exec "$0" "$@"'
"""Shell wrapper of a command that ignores USR2 until the command sets a handler.

The signal would kill a process that is still importing, and there is nothing to save yet. srun's tasks do not inherit
the trap of the batch shell.
"""


RAY = """\
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
# Use a port, folder and token specific to this job: nodes may be shared with other Ray users.
export RAY_ADDRESS="$head:$((20000 + SLURM_JOB_ID % 20000))"
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"
# Imports are slow when many nodes share one file system.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# Trials are the main workload: run them at normal priority.
export RAY_worker_niceness=0
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$(head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1)"
"""


@dataclass(frozen=True)
class Job:
    """A command to run, and its resources."""

    command: tuple[str, ...]
    """Verb and arguments of polarcast."""
    name: str
    """Up to 100 letters, digits, `_`, `-` and `.`; the first is a letter, a digit or `_`."""
    nodes: int | None = None
    """Number of nodes; default: the profile's."""
    time: str | None = None
    array: str | None = None
    """Indices of a job array, such as 0-9%4; TASK in the command stands for the index."""
    after: str | None = None
    """Ids of jobs that must complete first, such as 12:13."""
    after_any: str | None = None
    """Ids of jobs that must have ended first, with or without success."""
    processes: str = ""
    """all: every process of the nodes runs the command; one: a single one, on one GPU. Default: as the verb does."""
    logs: str = ""
    """Folder of the logs; default: the working directory."""
    cancel_if_unmet: bool = False
    """Whether to cancel the job if one of `after` fails, instead of leaving it in the queue for ever."""

    @property
    def is_together(self) -> bool:
        """Whether all processes of the job run the command together."""
        return self.processes == ALL or (not self.processes and self.command[0] in MULTI_PROCESS_VERBS)

    @property
    def is_spread(self) -> bool:
        """Whether one process distributes work to all nodes: true of a sweep, unless it is an array worker."""
        return self.command[0] == "sweep" and not self.is_worker

    @property
    def is_worker(self) -> bool:
        """Whether the job is a worker of a sweep, which tries one point at a time on one GPU."""
        return self.command[0] == "sweep" and "--worker" in self.command

    @property
    def run_folder(self) -> str | None:
        """Output folder of a training; None for other verbs."""
        if self.command[0] != "train":
            return None
        given = [b for a, b in zip(self.command, self.command[1:], strict=False) if a == "--out"]
        return given[-1] if given else f"runs/{self.name}" + ("" if self.array is None else f"-{TASK}")


def tasks_per_node(profile: Profile, job: Job) -> int:
    """Return the number of processes per node."""
    return (profile.tasks_per_node or profile.gpus_per_node or 1) if job.is_together else 1


def nodes(profile: Profile, job: Job) -> int:
    """Return the number of nodes of a job."""
    return (job.nodes or profile.nodes) if job.is_together or job.is_spread else 1


def gpus_per_node(profile: Profile, job: Job) -> int:
    """Return the number of GPUs that the job requests per node."""
    is_single = job.is_worker or job.processes == ONE
    return min(1, profile.gpus_per_node) if is_single else profile.gpus_per_node


def memory(profile: Profile, job: Job) -> str | None:
    """Return the memory that the job requests per node: the part of one GPU, if it gets one of several."""
    part = gpus_per_node(profile, job)
    if not profile.memory or part in (0, profile.gpus_per_node):
        return profile.memory
    number, unit = re.fullmatch(r"(\d+)(.*)", profile.memory).groups()  # type: ignore[union-attr]
    megabytes = int(number) * _MEGABYTES[unit[:1].upper() or "M"]
    return f"{int(megabytes * part / profile.gpus_per_node)}M"


def completed(profile: Profile, job: Job) -> Job:
    """Return the job with the output and staging folders of a training added to its command."""
    command = list(job.command)
    if job.command[0] == "train":
        if profile.scratch and not any(word.startswith("data.stage_to=") for word in command):
            command.append(f"data.stage_to={profile.scratch}")
        if "--out" not in command and (folder := job.run_folder):
            command += ["--out", folder]
    return replace(job, command=tuple(command))


def sbatch_text(profile: Profile, job: Job) -> str:
    """Return the script to submit with `sbatch`.

    Args:
        profile: Profile of the cluster.
        job: Command and resources.

    Raises:
        ValueError: see `check`.
    """
    check(profile, job)
    job = completed(profile, job)
    lines = ["#!/bin/bash", f"# polarcast {shlex.join(job.command)}", *_header(profile, job), "", "set -euo pipefail"]
    return "\n".join([*lines, *preparation(profile), "", _work(profile, job)]) + "\n"


def options(profile: Profile, job: Job) -> dict[str, str | None]:
    """Return the sbatch options; None marks an option without a value."""
    log = (f"{job.logs}/" if job.logs else "") + ("%x-%A_%a.log" if job.array else "%x-%j.log")
    # Slurm signals the tasks of srun by default. A command that runs in the batch shell needs the prefix B:.
    target = "" if job.is_together or _by_ray(profile, job) else "B:"
    values: dict[str, object] = {
        "job-name": job.name, "nodes": nodes(profile, job), "ntasks-per-node": tasks_per_node(profile, job),
        "cpus-per-task": profile.cpus_per_task, "gpus-per-node": gpus_per_node(profile, job) or None,
        "mem": memory(profile, job), "time": job.time or profile.time, "partition": profile.partition,
        "account": profile.account, "qos": profile.qos, "constraint": profile.constraint, "array": job.array,
        "dependency": dependency(job),
        "signal": f"{target}USR2@{profile.signal_seconds}",
        "output": log, "open-mode": "append",
    }  # fmt: skip
    if job.after and job.cancel_if_unmet:
        values["kill-on-invalid-dep"] = "yes"
    flags: dict[str, str | None] = {"requeue" if profile.requeue else "no-requeue": None}
    return {key: str(value) for key, value in values.items() if value is not None} | flags


def dependency(job: Job) -> str | None:
    """Return the condition on other jobs; None without one."""
    conditions = {"afterok": job.after, "afterany": job.after_any}
    return ",".join(f"{kind}:{jobs}" for kind, jobs in conditions.items() if jobs) or None


def preparation(profile: Profile) -> list[str]:
    """Return the shell lines before the command."""
    variables = {"WANDB_MODE": profile.wandb_mode, **profile.environment}
    if profile.interface:
        variables |= {"GLOO_SOCKET_IFNAME": profile.interface, "NCCL_SOCKET_IFNAME": profile.interface}
    exports = [f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()]
    return [*(f"module load {shlex.quote(m)}" for m in profile.modules), *profile.setup, *exports, "trap '' USR2"]


def srun_options(profile: Profile) -> list[str]:
    """Return the srun options.

    --kill-on-bad-exit ends all ranks when one dies, because the others would wait for it forever.
    """
    # Since Slurm 22.05, srun no longer inherits --cpus-per-task from the batch job.
    arguments = ["--kill-on-bad-exit=1", f"--cpus-per-task={profile.cpus_per_task}"]
    if profile.container and profile.container.kind == "pyxis":
        arguments.append(f"--container-image={profile.container.image}")
        if profile.container.mounts:
            arguments.append(f"--container-mounts={','.join(profile.container.mounts)}")
    return arguments


def container_prefix(profile: Profile) -> list[str]:
    """Return the words that run a command in an apptainer image; empty without one."""
    if not profile.container or profile.container.kind != "apptainer":
        return []
    binds = [f"--bind={mount}" for mount in profile.container.mounts]
    gpus = ["--nv"] if profile.gpus_per_node else []
    return ["apptainer", "exec", *gpus, *binds, profile.container.image]


def check(profile: Profile, job: Job) -> None:
    """Check that no value of a profile or a job can add a line or an option to its script.

    Raises:
        ValueError: a value is not allowed, the command is empty, or the numbers of processes and GPUs differ; the
            message is one line.
    """
    check_profile(profile)
    _check_job(job)
    tasks = tasks_per_node(profile, job)
    if profile.gpus_per_node and job.is_together and tasks != profile.gpus_per_node:
        problem = f"{profile.gpus_per_node} GPUs per node, but {tasks} processes"
        raise ValueError(f"tasks_per_node: {problem} — remove tasks_per_node from the profile")


def _check_job(job: Job) -> None:
    if not job.command:
        raise ValueError("no command — give a verb after --, for example: polarcast submit -- train demo")
    for word in job.command:
        check_form(word, "line", "command: a word")
    check_form(job.name, "name", "name")
    if job.nodes is not None:
        check_count(job.nodes, 1, "nodes")
    if job.array is not None:
        check_array(job.array, "array")
    forms = {"time": (job.time, "time"), "after": (job.after, "jobs"), "after_any": (job.after_any, "jobs")}
    for option, (text, form) in {**forms, "logs": (job.logs or None, "folder")}.items():
        if text is not None:
            check_form(text, form, option)


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
    # A single process replaces the batch shell: it needs no srun, and Slurm ends its children with the job.
    return f"{_quoted(together)} sh -c {shlex.quote(IGNORE_USR2)} {command}" if job.is_together else f"exec {command}"


def _by_ray(profile: Profile, job: Job) -> bool:
    return job.is_spread and nodes(profile, job) > 1


def _ray_command(profile: Profile, job: Job) -> list[str]:
    """Return the command that starts Ray on all nodes and runs the following words on the first."""
    count = ["--min-nodes", str(nodes(profile, job)), "--num-cpus", str(profile.cpus_per_task)]
    gpus = ["--num-gpus", str(profile.gpus_per_node)] if profile.gpus_per_node else []
    # Only numbers go through Ray's object store.
    store = ["--object-store-memory", str(100 * 2**20)]
    return ["ray", "symmetric-run", "--address", "RAY_ADDRESS", *count, *gpus, *store, "--"]


def _quoted(words: Sequence[str]) -> str:
    """Quote words for the shell; replace TASK with the variable that Slurm sets."""
    index = '"${SLURM_ARRAY_TASK_ID}"'
    return " ".join(index.join(shlex.quote(p) if p else "" for p in word.split(TASK)) or "''" for word in words)
