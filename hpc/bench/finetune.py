"""Fine-tune the runs of a finished suite on another archive, and score each group of events by runs without it.

Each fold of `leave-one-out` trains from the suite's weights on all groups of events but one, and is scored on that one.
The records of the folds are of different events. They merge to records of the whole archive, from which tables follow
as from those of `polarcast evaluate SUITE --archive`.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from polarcast.data.archive import Archive, open_archive
from polarcast.data.check.shared_events import shared_event
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, replacing, sole_writer
from polarcast.data.groups import groups_of
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.splits import LEAVE_ONE_OUT, assign, count_folds
from polarcast.hpc.bench.cells import Cell, SuiteFolder, cells_of
from polarcast.hpc.bench.checks import check_run, known_of
from polarcast.hpc.bench.contrasts import all_runs
from polarcast.hpc.bench.executor import run_processes
from polarcast.hpc.bench.notes import rain_note
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.run import (
    Tables,
    default_workers,
    expected_seconds,
    is_synthetic,
    job_of,
    start_cell,
    write_tables,
)
from polarcast.hpc.bench.suite import Suite, without_synthetic_rows
from polarcast.hpc.bench.unfinished import finished_part, is_scored
from polarcast.hpc.config.load import load_config, parse_overrides
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import BaseRun, RunConfig
from polarcast.hpc.config.stored import literal
from polarcast.hpc.runs.folder import Output, RunFolder
from polarcast.hpc.scores.records import Records, read_records, write_records
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.hpc.utils.text import printable
from polarcast.models.registry import get_model

_log = logging.getLogger("polarcast")
FOLDER = "finetuned"
_STEPS_SHARE, _RATE_SHARE = 10, 10
"""By default, fine-tuning takes a tenth of the steps at a tenth of the learning rate."""
_VALIDATIONS = 5
_FEW_GROUPS = 10
_FIXED = ("task", "arm", "seed", "base", "model.name", "data.shards", "data.stage_to", "train.start_from")
"""Keys that are those of the suite's run, or follow from it and the fold."""
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned cell of one fold, and its run."""

    cell: Cell
    run: RunFolder


def finetune(
    path: Path,
    archive: Path,
    board: ProgressBoard,
    *,
    overrides: Sequence[str] = (),
    group_by: str | None = None,
    out: Path | None = None,
    workers: int | None = None,
) -> tuple[Tables, Path]:
    """Fine-tune the runs of a suite by leave-one-event-out, and write tables of the scores on the events left out.

    Networks start from the weights of the suite's run. Models that are fitted in one pass are fitted anew, to the other
    groups of events. Complete runs are not repeated.

    Args:
        path: Folder of a finished suite.
        archive: Archive to fine-tune and score on.
        board: Progress board.
        overrides: Settings of the fine-tuned runs, as `train.steps=200`; see `tuned_config` for their defaults.
        group_by: Rule or table of groups of events; see `groups_of`.
        out: Output folder; by default below that of the suite, with the name of the archive.
        workers: Runs at a time; by default chosen for the machine.

    Returns:
        The tables, and the folder they were written to.

    Raises:
        BadInput: the suite is not finished, the archive has fewer than two groups of events or shares an event with
            the suite's data, no run can be trained on it, or another process writes there.
        WorkFailed: a run failed for another reason.
    """
    suite = saved_suite(path)
    folder = SuiteFolder(path, suite.data)
    trained_on = read_manifest(folder.shards)
    _check_overrides(overrides)
    out = out or path / FOLDER / archive.resolve().name
    with sole_writer(checked_output(out, is_folder=True)):
        folds = _folds(open_archive(archive), out, group_by, board)
        _check_new(folds[0], trained_on)
        if not is_synthetic(folds[0]):
            suite = without_synthetic_rows(suite)
        cells = _needed(suite, cells_of(suite, folder.shards))
        runs = {_key(cell): folder.cell(cell, trained_on) for cell in cells}
        fitting = _fitting(cells, runs, folds, overrides, out)
        _run(fitting, board, workers)
        return _tables(suite, cells, fitting, folds, out, archive), out


def _check_overrides(overrides: Sequence[str]) -> None:
    """Raise BadInput for settings that the suite or the fold determines."""
    given = parse_overrides(overrides)
    if fixed := [key for key in _FIXED if OmegaConf.select(given, key) is not None]:
        raise BadInput("is that of the suite's run", fixed[0], "remove it")


def _check_new(manifest: Manifest, trained_on: Manifest) -> None:
    """Raise BadInput if the suite was trained on events that are to be left out."""
    if shared := shared_event(manifest, trained_on):
        raise BadInput(f"shares an event with the data of the suite: {shared}", "--archive", "give other events")


def _folds(archive: Archive, out: Path, group_by: str | None, board: ProgressBoard) -> list[Manifest]:
    """Write the shards of all folds, unless they exist; they differ in their splits and training statistics."""
    groups = groups_of(archive, group_by).names
    assign(list(archive.frames), f"{LEAVE_ONE_OUT}/1", groups=groups)  # refuses a single group before any work
    count = count_folds(archive.frames, groups)
    key = hashlib.sha256(json.dumps([archive.fingerprint(), sorted(groups.items())]).encode()).hexdigest()[:8]
    found = []
    with board.stage("shard", "folds", count) as done:
        for fold in range(1, count + 1):
            shards = out.resolve() / f"shards-{key}" / f"fold-{fold}"
            rule = f"{LEAVE_ONE_OUT}/{fold}"
            is_new = not (shards / NAME).is_file()
            if is_new:
                write_shards(archive, shards, split=rule, group_by=group_by)
            found.append(read_manifest(shards))
            done(fold)
    return found


def _key(cell: Cell) -> Key:
    return cell.model, cell.arm, cell.seed


def _needed(suite: Suite, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of models that tables show or compare with, and the bases of those that are fitted on top."""
    shown = {model for table in suite.tables.values() for model, _ in all_runs(suite, table)}
    needed: set[Key] = set()
    for cell in reversed(cells):
        if cell.model in shown or _key(cell) in needed:
            needed |= {_key(cell), *(() if _is_trained(cell) else map(_key, cell.bases))}
    return [cell for cell in cells if _key(cell) in needed]


def _is_trained(cell: Cell) -> bool:
    return get_model(cell.config.model["name"]).trained


def _fitting(
    cells: Sequence[Cell],
    runs: Mapping[Key, RunFolder],
    folds: Sequence[Manifest],
    overrides: Sequence[str],
    out: Path,
) -> dict[Key, list[Tuned]]:
    """Return the cells of all folds, for each cell that can be trained on them; log a warning for each other one.

    Raises:
        BadInput: no cell can be trained.
    """
    found: dict[Key, list[Tuned]] = {}
    failures: list[BadInput] = []
    for cell in cells:
        try:
            found[_key(cell)] = [
                _tuned(cell, runs[_key(cell)], fold, {key: of[number] for key, of in found.items()}, overrides, out)
                for number, fold in enumerate(folds)
            ]
        except BadInput as error:
            failures.append(error)
            _log.warning("polarcast: not fine-tuned: %s", error)
    if not found:
        raise failures[0]
    return found


def _tuned(
    cell: Cell, run: RunFolder, fold: Manifest, others: Mapping[Key, Tuned], overrides: Sequence[str], out: Path
) -> Tuned:
    """Return a cell for one fold. Raises BadInput if it can't be trained on it, or the suite's run is not finished."""
    if not run.is_trained:
        raise BadInput("the run is not finished", run.path, "run the suite again")
    bases: tuple[Tuned, ...] = ()
    if not _is_trained(cell):
        if lost := [base for base in cell.bases if _key(base) not in others]:
            raise BadInput(f"its base {lost[0].model} is not fine-tuned", run.path, "see above")
        bases = tuple(others[_key(base)] for base in cell.bases)
    config = tuned_config(run, fold, overrides).with_bases(
        [BaseRun(str(base.run.path.resolve()), base.cell.config) for base in bases] or run.config().bases
    )
    check_run(config, known_of(fold), f"{cell.model}, {cell.arm}")
    resolve(config)
    tuned = replace(cell, config=config, bases=tuple(base.cell for base in bases), start=None)
    return Tuned(tuned, RunFolder(tuned.folder(out / "cells", fold.digest())))


def tuned_config(run: RunFolder, fold: Manifest, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the configuration that fine-tunes a run on the shards of a fold, or fits its model anew.

    By default it takes a tenth of the steps at a tenth of the peak learning rate, with as large a share of warm-up, and
    validates five times. All training events are used, also if the run held some out.

    Args:
        run: A finished run.
        fold: Shards with the events to leave out as test split.
        overrides: Settings instead of these defaults and those of the run.

    Raises:
        BadInput: a setting is unknown or invalid.
    """
    config = run.config()
    content = config.to_dict()
    content["data"] |= {"shards": str(fold.folder), "stage_to": None, "hold_out": 0.0, "only_held_out": False}
    content["train"]["start_from"] = None
    if not get_model(config.model["name"]).trained:
        of_data = [word for word in overrides if not word.startswith(("train.", "model."))]
        return load_config(literal(content), of_data, advise=False)
    given = parse_overrides(overrides)
    steps = OmegaConf.select(given, "train.steps") or max(1, config.train.steps // _STEPS_SHARE)
    content["train"] |= _schedule(config, steps)
    return load_config(literal(content), [*overrides, f"train.start_from={run.path.resolve()}"], advise=False)


def _schedule(config: RunConfig, steps: Any) -> dict[str, Any]:
    """Return the defaults of the settings that depend on the number of steps, and the learning rate."""
    train = config.train
    if not isinstance(steps, int):
        return {"learning_rate": train.learning_rate / _RATE_SHARE}
    return {
        "steps": steps,
        "learning_rate": train.learning_rate / _RATE_SHARE,
        "warmup_steps": train.warmup_steps * steps // train.steps,
        "validate_every": max(1, steps // _VALIDATIONS),
    }


def _run(fitting: Mapping[Key, Sequence[Tuned]], board: ProgressBoard, workers: int | None) -> None:
    """Train and score the cells of all folds that are not scored."""
    pending = [one for folds in fitting.values() for one in folds if not is_scored(one.run.output)]
    if not pending:
        return
    folders = {id(one.cell): one.run.path for folds in fitting.values() for one in folds}
    waiting = {one.run.path for one in pending}
    workers = workers or default_workers([one.cell for one in pending])
    jobs = []
    for one in pending:
        start_cell(one.run, one.cell.config)
        after = tuple(folder for base in one.cell.bases if (folder := folders[id(base)]) in waiting)
        jobs.append(job_of(one.cell, one.run.path, after))
        board.expect("cells", expected_seconds(one.cell) / min(workers, len(pending)))
    run_processes(jobs, workers, board)


def _tables(
    suite: Suite,
    cells: Sequence[Cell],
    fitting: Mapping[Key, Sequence[Tuned]],
    folds: Sequence[Manifest],
    out: Path,
    archive: Path,
) -> Tables:
    """Merge the records of the folds, and write tables of them."""
    outputs = []
    for cell in cells:
        name = f"{cell.model}-{cell.arm}-s{cell.seed}"
        output = Output(out / "scores" / f"{name}.parquet", out / "cases" / f"{name}.npz")
        output.scores.unlink(missing_ok=True)
        if tuned := fitting.get(_key(cell)):
            merge_folds([one.run.output for one in tuned], output)
        outputs.append((cell, output))
    part, scored, missing = finished_part(suite, outputs, out)
    name = printable(archive.resolve().name)
    titled = {
        n: replace(t, title=f"{t.title}; fine-tuned on {name}, leave one event out") for n, t in part.tables.items()
    }
    first = next(iter(fitting.values()))[0].cell.config
    note = "; ".join(filter(None, [_note(folds, fitting, first), rain_note(suite.task, folds[0]), missing]))
    path_of = {id(cell): fitting[_key(cell)][0].run.path for cell, _ in scored}
    return write_tables(replace(part, tables=titled), out, scored, lambda cell: path_of[id(cell)], note, folds[0])


def _note(folds: Sequence[Manifest], fitting: Mapping[Key, Sequence[Tuned]], first: RunConfig) -> str:
    """Return how the scores of a table came about."""
    trains = {
        (one.config.train.steps, one.config.train.learning_rate)
        for tuned in fitting.values()
        for one in (tuned[0].cell,)
        if one.config.start
    }
    schedules = " or ".join(f"{steps:,} steps at a learning rate of {rate:g}" for steps, rate in sorted(trains))
    count = len(folds)
    parts = [
        f"each of {count} groups of events is scored by runs that were fine-tuned on the others",
        f"networks start from the suite's weights and train for {schedules}" if schedules else "",
        "other models are fitted anew" if any(not one[0].cell.config.start for one in fitting.values()) else "",
        "no groups were left to validate on, so the weights kept are those of the lowest loss on the training events"
        if folds[0].splits["train"] == folds[0].splits["validation"]
        else "",
        f"intervals over {count} groups are wide, or can't be given" if count < _FEW_GROUPS else "",
    ]
    return "; ".join(filter(None, parts))


def merge_folds(outputs: Sequence[Output], into: Output) -> None:
    """Merge the records and cases of runs that were scored on different events.

    Raises:
        BadInput: records are missing or damaged, have different protocols, or share an event.
    """
    records = merged_records([output.scores for output in outputs])
    parts = [dict(np.load(output.cases)) for output in outputs]
    merged = {
        # The states of sampling are those of the first case.
        name: value if name == "process" else np.concatenate([part[name] for part in parts])
        for name, value in parts[0].items()
    }
    for file in (into.scores, into.cases):
        file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(into.cases) as partial, partial.open("wb") as stream:
        np.savez(stream, **merged)  # type: ignore[arg-type]
    write_records(into.scores, records)


def merged_records(files: Sequence[Path]) -> Records:
    """Read records of different events, at least one file, and merge them. Raises BadInput; see `merge_folds`."""
    found = [read_records(file) for file in files]
    counted = np.unique(np.concatenate([one.events for one in found]), return_counts=True)
    if (counted[1] > 1).any():
        twice = int(counted[0][counted[1] > 1][0])
        raise BadInput(f"event {twice:03d} is in two records", files[0], "give records of different events")
    return reduce(Records.merged, found)
