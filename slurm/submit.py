"""Submit a job to Slurm with sbatch or submitit. Both run the same command with the same options."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from polarcast.slurm.profile import Profile
from polarcast.slurm.render import (
    Job,
    check,
    completed,
    container_prefix,
    nodes,
    options,
    preparation,
    srun_options,
    tasks_per_node,
)  # fmt: skip
from polarcast.slurm.rules import check_form, shown
from polarcast.slurm.verb import Verb

_CLIENT_SECONDS = 120
_SUBMITIT_SETS = ("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "time", "signal",
                  "output", "open-mode")  # fmt: skip


def has_slurm() -> bool:
    """Whether sbatch is installed and the Slurm controller responds."""
    if shutil.which("sbatch") is None:
        return False
    try:
        return subprocess.run(["scontrol", "ping"], capture_output=True, timeout=_CLIENT_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def by_sbatch(text: str) -> str:
    """Submit a script; return the job id. Raise RuntimeError with the message of sbatch if it fails."""
    return _sbatch(text, "--parsable").split(";")[0].strip()


def tested(text: str) -> str:
    """Return when and where sbatch would start a script. Raise RuntimeError with the message of sbatch if it fails."""
    return _sbatch(text, "--test-only")


def by_submitit(profile: Profile, job: Job, folder: Path) -> str:
    """Submit through submitit, which keeps its files in `folder`; return the job id.

    Raises:
        ValueError: the job is an array, or a value is not allowed; see `check`.
        RuntimeError: sbatch rejected the job; the message includes that of sbatch.
    """
    import submitit

    if job.array:
        raise ValueError("--array: not supported by submitit — remove --by")

    check(profile, job)
    check_form(str(folder.absolute()), "line", "folder")
    job = completed(profile, job)
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    sbatch_options = options(profile, job)
    named = sbatch_options | _named(profile.options)
    more = {key: True if value is None else value for key, value in named.items() if key not in _SUBMITIT_SETS}
    parameters = {
        "name": job.name, "nodes": nodes(profile, job), "tasks_per_node": tasks_per_node(profile, job),
        "cpus_per_task": profile.cpus_per_task, "slurm_time": sbatch_options["time"],
        "slurm_signal_delay_s": profile.signal_seconds, "slurm_srun_args": srun_options(profile),
        "slurm_setup": preparation(profile), "slurm_additional_parameters": more,
    }  # fmt: skip
    if profile.gpus_per_node:
        parameters["gpus_per_node"] = profile.gpus_per_node
    if prefix := container_prefix(profile):
        parameters["slurm_python"] = shlex.join([*prefix, "python"])
    executor.update_parameters(**parameters)
    try:
        return str(executor.submit(Verb(job.command)).job_id)
    except submitit.core.utils.FailedJobError as error:
        raise RuntimeError(f"sbatch rejected the job: {_one_line(str(error))}") from None


def _named(further: Sequence[str]) -> dict[str, str | None]:
    """Return a profile's further options by name, which is how submitit takes them.

    Raises:
        ValueError: an option has no long name, or submitit sets it itself.
    """
    named: dict[str, str | None] = {}
    for option in further:
        name, has_value, value = option.removeprefix("--").partition("=")
        if not option.startswith("--") or " " in name or name in _SUBMITIT_SETS:
            raise ValueError(
                f"options: {shown(option)} is not supported by submitit — write --name=value, or remove --by"
            )
        named[name] = value if has_value else None
    return named


def _sbatch(text: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["sbatch", *arguments], input=text, capture_output=True, encoding="utf-8", errors="replace",
            timeout=_CLIENT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"sbatch did not answer within {_CLIENT_SECONDS} s — try again later") from None
    if done.returncode:
        raise RuntimeError(f"sbatch rejected the job: {_one_line(done.stderr) or _one_line(done.stdout)}")
    print(done.stderr, file=sys.stderr, end="") if "--test-only" not in arguments else None
    return done.stdout + (done.stderr if "--test-only" in arguments else "")


def _one_line(output: str) -> str:
    return "; ".join(line.strip() for line in output.splitlines() if line.strip())
