"""`polarcast bench SUITE --cluster PROFILE`, and the hidden verb that its jobs run."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polarcast.data.errors import BadInput, WorkFailed
from polarcast.hpc.cli.show import open_board
from polarcast.hpc.cli.submit import slurm_errors
from polarcast.hpc.cli.suite_jobs import chain_of, job_name, jobs_of
from polarcast.hpc.utils.console import plain, print_json, print_text

if TYPE_CHECKING:
    from polarcast.hpc.bench.cells import Cell, SuiteFolder
    from polarcast.hpc.bench.cluster.plan import JobPlan
    from polarcast.hpc.bench.suite import Suite
    from polarcast.slurm.chain import Link
    from polarcast.slurm.profile import Profile
    from polarcast.slurm.queue import Queued

SUBMISSION = "submission"
_PATIENCE_SECONDS = 60.0
_MOST_ROUNDS = 20


@dataclass(frozen=True)
class ClusterOptions:
    """How a suite is submitted.

    Attributes:
        profile: Built-in profile, or a YAML file.
        at_most: Elements of an array that run at once; 0: as many as the cluster allows.
        together: Whether small cells share an element.
        dry_run: Whether to print the scripts only.
        wait: Whether to follow the jobs until they end.
        as_json: Whether to print one JSON object.
    """

    profile: str
    at_most: int = 0
    together: bool = False
    dry_run: bool = False
    wait: bool = False
    as_json: bool = False


def bench_on_cluster(suite: "Suite", folder: "SuiteFolder", options: ClusterOptions) -> None:
    """Submit the jobs of a suite, or find those that were submitted before.

    Raises:
        BadInput: the suite or the profile is invalid, the suite can't fit the profile, or there is no Slurm.
        WorkFailed: sbatch rejected a job, or the suite has failed cells after `wait`.
    """
    from polarcast.hpc.bench.cluster.estimate import check_fits, estimate_suite
    from polarcast.slurm.profile import load_profile

    with slurm_errors():
        profile = load_profile(options.profile)
    if not options.dry_run:
        _require_slurm(options.profile)
    cells = _checked_cells(suite, folder)
    check_fits(estimate_suite(suite, folder, cells, profile_limits(profile)), options.profile)
    if options.dry_run:
        _print_scripts(chain_of(folder.path, _new_plan(cells, folder, profile, options), suite.name))
        return
    plan, jobs, is_new = _submit_or_find(suite, folder, cells, profile, options)
    lost = _out_of_queue(folder, plan) if plan and not is_new else 0
    if options.as_json:
        found = {"folder": str(folder.path), "plan": plan and plan.key, "jobs": dict(jobs), "new": is_new}
        print_json({**found, "out_of_queue": lost})
    else:
        _report(folder, plan, jobs, is_new, lost)
    if options.wait and plan:
        _wait(folder.path, options.as_json)


def _wait(folder: Path, quiet: bool) -> None:
    """Follow the jobs of a suite until they end. Raises WorkFailed if a cell is not done."""
    from polarcast.hpc.bench.cluster.view import headline
    from polarcast.hpc.cli.status import followed

    status, report = followed(folder, quiet), folder / "report.html"
    if not quiet:
        print_text(headline(status) + (f"\nreport: {plain(report)}" if report.is_file() else ""))
    if not report.is_file() or status.count("done") < len(status.cells):
        raise WorkFailed(f"not all cells are done — see: {status_command(folder)}")


def _require_slurm(profile: str) -> None:
    from polarcast.slurm.submit import has_slurm

    if not has_slurm():
        fix = "submit from a login node, or print the scripts with --dry-run"
        raise BadInput("Slurm is not available", profile, fix)


def profile_limits(profile: "Profile") -> dict[str, Any]:
    """Return what a profile offers to a cell: GPUs and processes of a node, memory, time."""
    cells = profile.of_stage("cells")
    return {
        "gpus_per_node": cells.gpus_per_node, "tasks_per_node": cells.tasks_per_node, "memory": cells.memory,
        "time": cells.time, "cpus_per_task": cells.cpus_per_task,
    }  # fmt: skip


def _checked_cells(suite: "Suite", folder: "SuiteFolder") -> "list[Cell]":
    """Return the cells of a suite after the checks that `bench` makes before it starts."""
    from polarcast.hpc.bench.analyses import check_plans
    from polarcast.hpc.bench.cells import cells_of, check_cells
    from polarcast.hpc.bench.checks import check_data

    known = check_data(suite.data, folder.shards)
    cells = cells_of(suite, folder.shards)
    check_cells(suite, cells, known)
    check_plans(suite, Path(suite.name), cells)
    return cells


def _new_plan(cells: "Sequence[Cell]", folder: "SuiteFolder", profile: "Profile", options: ClusterOptions) -> "JobPlan":
    from polarcast.data.shards.manifest import NAME
    from polarcast.hpc.bench.cluster.plan import plan_of
    from polarcast.hpc.bench.run import key_of_stack, pending_cells

    makes_data = not (folder.shards / NAME).is_file()
    pending = pending_cells(cells, folder)
    return plan_of(pending, makes_data, asdict(profile), options.at_most, options.together, key_of_stack)


def _submit_or_find(
    suite: "Suite", folder: "SuiteFolder", cells: "Sequence[Cell]", profile: "Profile", options: ClusterOptions
) -> "tuple[JobPlan | None, dict[str, str], bool]":
    """Submit the jobs of a suite, or find them; return the plan, the job ids, and whether the plan is new.

    There is no plan if all cells are complete.
    """
    from polarcast.data.files import checked_output, sole_writer
    from polarcast.hpc.bench.cluster.plan import CLUSTER, plans_in

    checked_output(folder.path, is_folder=True)
    with sole_writer(folder.path / CLUSTER / SUBMISSION, patience=_PATIENCE_SECONDS):
        plans = plans_in(folder.path)
        alive = _alive(suite.name, plans)
        if running := [plan for plan in plans if alive.get(plan.key)]:
            _check_same(suite, folder)
            return running[-1], _submit(folder.path, running[-1], suite.name, alive[running[-1].key]), False
        plan = _new_plan(cells, folder, profile, options)
        if not plan.cells and not plan.makes_data and _is_reported(cells, folder):
            return None, {}, False
        _save_suite(suite, folder)
        _forget_failures(cells, folder)
        return plan, _submit(folder.path, plan, suite.name), True


def _is_reported(cells: "Sequence[Cell]", folder: "SuiteFolder") -> bool:
    """Whether the report of a complete suite is newer than the scores of its cells."""
    from polarcast.data.shards.manifest import read_manifest

    report, manifest = folder.path / "report.html", read_manifest(folder.shards)
    newest = max(folder.cell(cell, manifest).output.scores.stat().st_mtime for cell in cells)
    return report.is_file() and report.stat().st_mtime >= newest


def _save_suite(suite: "Suite", folder: "SuiteFolder") -> None:
    """Write the suite file, which the jobs read, unless it is there with the same content."""
    from polarcast.data.files import write_private

    if not _is_saved(suite, folder):
        write_private(folder.suite_file, _text_of(suite))


def _is_saved(suite: "Suite", folder: "SuiteFolder") -> bool:
    """Whether the suite file is there with this content. Raises BadInput if only another user can read it."""
    from polarcast.data.files import read_limited

    if not folder.suite_file.exists():
        return False
    try:
        return read_limited(folder.suite_file).decode() == _text_of(suite)
    except PermissionError:
        fix = "let them submit it, or choose another --out"
        raise BadInput("belongs to another user", folder.suite_file, fix) from None


def _text_of(suite: "Suite") -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(suite))


def _check_same(suite: "Suite", folder: "SuiteFolder") -> None:
    """Raise BadInput if the jobs that run or wait are of another version of the suite."""
    if not _is_saved(suite, folder):
        fix = "wait for them, cancel them with scancel, or choose another --out"
        raise BadInput("jobs of another version of this suite are in the queue", folder.path, fix)


def _forget_failures(cells: "Sequence[Cell]", folder: "SuiteFolder") -> None:
    """Try failed cells anew: whoever submits them again wants that."""
    from polarcast.data.shards.manifest import NAME, read_manifest
    from polarcast.hpc.bench.cluster.attempts import try_anew
    from polarcast.hpc.bench.run import pending_cells

    if (folder.shards / NAME).is_file():
        manifest = read_manifest(folder.shards)
        for cell in pending_cells(cells, folder):
            try_anew(folder.cell(cell, manifest).path)


def _submit(path: Path, plan: "JobPlan", suite: str, alive: "Sequence[Queued]" = ()) -> dict[str, str]:
    """Submit the jobs of a plan that are not submitted yet; return all ids by name."""
    from polarcast.hpc.bench.cluster.plan import PlanFolder
    from polarcast.slurm.chain import submit_chain
    from polarcast.slurm.submit import by_sbatch

    files = PlanFolder(path, plan.key)
    files.write(plan)
    by_name = {job_name(suite, plan.key, name): name for name in plan.names}
    known = files.jobs() | {by_name[job.name]: job.job for job in alive}
    with slurm_errors():
        return submit_chain(chain_of(path, plan, suite), known, by_sbatch, files.record)


def _alive(suite: str, plans: "Sequence[JobPlan]") -> "dict[str, list[Queued]]":
    """Return the jobs that run or wait, by the key of their plan. Raises WorkFailed if the controller does not answer.

    Jobs that have ended are among them, if others of the same plan have not.
    """
    found = jobs_of(suite, plans)
    if found is None:
        raise WorkFailed("the Slurm controller does not answer — try again later")
    return {key: jobs for key, jobs in found.items() if any(job.is_alive for job in jobs)}


def _print_scripts(chain: "Sequence[Link]") -> None:
    from polarcast.slurm.chain import scripts

    with slurm_errors():
        for text in scripts(chain).values():
            typer.echo(text)


def _report(
    folder: "SuiteFolder", plan: "JobPlan | None", jobs: Mapping[str, str], is_new: bool, out_of_queue: int
) -> None:  # fmt: skip
    """Print what was submitted, or what was found."""
    if plan is None:
        what = "all cells are complete"
    else:
        ids = ", ".join(f"{name} {job}" for name, job in jobs.items())
        what = f"{'submitted' if is_new else 'already submitted'}: {len(plan.cells)} cells, jobs {ids}"
    if out_of_queue:
        what += f"\n{out_of_queue} cells were canceled or lost: run the same command when the other jobs have ended"
    print_text(f"{what}\nlook: {status_command(folder.path)}; report: {plain(folder.path)}/report.html")


def status_command(folder: Path) -> str:
    """Return the command that shows the state of a suite, for a shell."""
    return f"polarcast bench status {shlex.quote(plain(folder))}"


def _out_of_queue(folder: "SuiteFolder", plan: "JobPlan") -> int:
    """Return the number of cells of a plan that are neither complete, nor failed, nor run, nor in the queue."""
    from polarcast.hpc.bench.cluster.status import OPEN, STOPPED
    from polarcast.hpc.cli.status import observed

    keys = set(plan.cells)
    shown, _ = observed(folder.path)
    return sum(cell.state in (OPEN, STOPPED) for cell in shown.cells if (cell.model, cell.arm, cell.seed) in keys)


def job(
    stage: Annotated[str, typer.Argument(help="data, cells or tables.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the suite.")],
    plan: Annotated[str, typer.Argument(help="Plan of the suite's jobs.")],
    array: Annotated[str, typer.Argument(help="Array of the plan.")] = "",
    element: Annotated[int, typer.Argument(help="Element of the array.")] = 0,
) -> None:
    """Run one job of a suite; `bench --cluster` submits these.

    Example: polarcast bench job cells runs/demo 20261129-210000-ab12 cells-0 3
    """
    from polarcast.hpc.bench.cluster.plan import PlanFolder
    from polarcast.hpc.bench.cluster.worker import finish, make_data, run_element

    found = PlanFolder(folder, plan).read()
    with open_board() as board:
        if stage == "data":
            make_data(folder, board)
        elif stage == "cells":
            if failed := run_element(folder, found, array, element, board):
                raise WorkFailed(f"failed: {', '.join(run.name for run in failed)} — the other cells go on")
        elif stage == "tables":
            _submit_again(folder, found, finish(folder, found, board).again)
        else:
            raise BadInput(f"no stage {stage!r}", "bench job", "choose from: data, cells, tables")


def _submit_again(path: Path, plan: "JobPlan", cells: "Sequence[Cell]") -> None:
    """Submit the cells again that were killed with their jobs."""
    from polarcast.data.files import sole_writer
    from polarcast.hpc.bench.cluster.plan import CLUSTER, plan_of
    from polarcast.hpc.bench.rescore import saved_suite
    from polarcast.hpc.bench.run import key_of_stack
    from polarcast.slurm.submit import has_slurm

    if not cells:
        return
    fix = "run the same command again: polarcast bench SUITE --cluster PROFILE"
    if plan.round >= _MOST_ROUNDS or not has_slurm():
        raise WorkFailed(f"{len(cells)} cells were killed, and can't be submitted from here — {fix}")
    suite = saved_suite(path).name
    again = plan_of(cells, False, plan.profile, plan.at_most, plan.together, key_of_stack, plan.round + 1)
    with sole_writer(path / CLUSTER / SUBMISSION, patience=_PATIENCE_SECONDS):
        jobs = _submit(path, again, suite)
    print_text(f"{len(cells)} cells were killed, and are submitted again: jobs {', '.join(jobs.values())}")
