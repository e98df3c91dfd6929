"""The jobs of a suite: their names, their scripts, and what the queue says of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polarcast.hpc.bench.cluster.plan import CellArray, JobPlan
    from polarcast.slurm.chain import Link
    from polarcast.slurm.queue import Queued

Element = tuple[int | None, str, str]
"""Index of an element of an array, its state and its reason."""


def job_name(suite: str, key: str, name: str) -> str:
    """Return the name of a job, which follows from its plan."""
    from polarcast.slurm.rules import name_of

    return name_of(f"{suite[:40]}-{key}-{name}")


def jobs_of(suite: str, plans: "Sequence[JobPlan]") -> "dict[str, list[Queued]] | None":
    """Return the jobs that Slurm knows, by the key of their plan; None if the controller does not answer."""
    from polarcast.slurm.queue import jobs_named

    key_of = {job_name(suite, plan.key, name): plan.key for plan in plans for name in plan.names}
    listed = jobs_named(key_of)
    if listed is None:
        return None
    found: dict[str, list[Queued]] = {}
    for job in listed:
        if job.name in key_of:
            found.setdefault(key_of[job.name], []).append(job)
    return found


def listed_by_name(suite: str, plans: "Sequence[JobPlan]") -> dict[tuple[str, str], list[Element]] | None:
    """Return element, state and reason of the jobs that run or wait, by plan and name; None without an answer."""
    found = jobs_of(suite, plans)
    if found is None:
        return None
    names = {job_name(suite, plan.key, name): (plan.key, name) for plan in plans for name in plan.names}
    listed: dict[tuple[str, str], list[Element]] = {}
    for jobs in found.values():
        for job in jobs:
            if job.is_alive:
                listed.setdefault(names[job.name], []).append((job.element, job.state, job.reason))
    return listed


def chain_of(path: Path, plan: "JobPlan", suite: str) -> "list[Link]":
    """Return the jobs of a plan: the data, then the cells by level, then the tables, whatever became of the cells."""
    from polarcast.hpc.bench.cluster.plan import DATA, TABLES, PlanFolder, waits_for
    from polarcast.slurm.chain import Link
    from polarcast.slurm.profile import profile_of
    from polarcast.slurm.render import ONE, Job

    profile, logs = profile_of(dict(plan.profile), "profile"), _log_folder(PlanFolder(path, plan.key).path)

    def single(stage: str, after: tuple[str, ...] = ()) -> "Link":
        command = ("bench", "job", stage, str(path), plan.key)
        job = Job(command, job_name(suite, plan.key, stage), processes=ONE, logs=logs)
        return Link(stage, profile.of_stage(stage), job, after_any=after)

    data = [single(DATA)] if plan.makes_data else []
    begins = (DATA,) if plan.makes_data else ()
    arrays = [
        Link(
            array.name, profile.of_stage("cells"), _array_job(path, plan, array, suite, logs),
            after=begins if array.level == 0 else (), after_any=tuple(waits_for(plan, array)),
        )
        for array in plan.arrays
    ]  # fmt: skip
    return [*data, *arrays, single(TABLES, tuple(array.name for array in plan.arrays) or begins)]


def _array_job(path: Path, plan: "JobPlan", array: "CellArray", suite: str, logs: str) -> Any:
    from polarcast.slurm.render import ALL, ONE, TASK, Job

    indices = f"0-{len(array.elements) - 1}" + (f"%{plan.at_most}" if plan.at_most else "")
    command = ("bench", "job", "cells", str(path), plan.key, array.name, TASK)
    name, processes = job_name(suite, plan.key, array.name), ALL if array.nodes else ONE
    return Job(
        command, name, array.nodes or None, array=indices, processes=processes, logs=logs,
        cancel_if_unmet=True,
    )  # fmt: skip


def _log_folder(path: Path) -> str:
    """Return the folder of a plan for its logs; the working directory if its name can't be an option of sbatch."""
    from polarcast.slurm.rules import check_form

    try:
        check_form(str(path), "folder", "logs")
    except ValueError:
        return ""
    return str(path)
