"""Run a suite: data, cells, tables and figures. Complete parts are not repeated."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from polarcast.data.archive import HEIGHTS_KM, NOT_RECORDED
from polarcast.data.cores import usable_cores
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, sole_writer, write_private, write_text
from polarcast.data.secrets import redacted, redacted_tree
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.hpc.bench.analyses import check_plans, run_analyses, sections_of
from polarcast.hpc.bench.cells import MOST_TOGETHER, Cell, SuiteFolder, cells_of, check_cells
from polarcast.hpc.bench.checks import check_data, known_of
from polarcast.hpc.bench.cluster.claims import claimed_in
from polarcast.hpc.bench.contrasts import Run, all_runs
from polarcast.hpc.bench.costs import Cost, cost_note, costs_of
from polarcast.hpc.bench.data import prepare_data
from polarcast.hpc.bench.executor import CellJob, Watch, in_one_process, run_processes
from polarcast.hpc.bench.failures import FILE as FAILED_FILE
from polarcast.hpc.bench.failures import CellFailure, failures_of, with_failures
from polarcast.hpc.bench.fetched import expected_volumes, guess_work
from polarcast.hpc.bench.fork_server import start_server
from polarcast.hpc.bench.notes import gain_note, rain_note
from polarcast.hpc.bench.origin import origin_of
from polarcast.hpc.bench.render import write_costs, write_table
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.bench.table import ComparisonTable, build_table
from polarcast.hpc.bench.unfinished import finished_part, is_scored
from polarcast.hpc.bench.verdict import FILE as VERDICT_FILE
from polarcast.hpc.bench.verdict import verdict_of
from polarcast.hpc.config.schema import BaseRun, RunConfig, StartRun
from polarcast.hpc.runs.folder import Output, RunFolder
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.scores.records import Records, read_records
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.models.registry import get_model

if TYPE_CHECKING:
    from polarcast.hpc.bench.figures.source import Kept
    from polarcast.hpc.bench.report import Section

_log = logging.getLogger("polarcast")

Tables = dict[str, ComparisonTable]
PathOf = Callable[[Cell], Path]
_PAPER_GRID = (256, 256)
USUAL_FRAMES = 20
_TABLES = "tables and figures"


@dataclass(frozen=True)
class SuiteNumbers:
    """Tables by name, sentences of the verdict, costs, and the records and folders of the runs they follow from."""

    tables: Tables
    verdict: list[str]
    costs: list[Cost]
    scores: dict[Run, list[Records]]
    paths: dict[Run, list[Path]]


def run_suite(
    suite: Suite, folder: SuiteFolder, workers: int | None, board: ProgressBoard, together: bool = False
) -> Tables:
    """Make the data, run every cell, and write tables and figures.

    Args:
        suite: Suite to run.
        folder: Folder of the suite.
        workers: Processes at a time; by default chosen for the machine.
        board: Progress board.
        together: Whether runs that differ in their seed only are trained in one process; see `train_together`.

    Returns:
        Tables by name.

    Raises:
        BadInput: data or settings are invalid, a cell failed because of its input, or another process runs this suite.
        WorkFailed: a cell failed for another reason.
    """
    known = check_data(suite.data, folder.shards)
    cells = cells_of(suite, folder.shards)
    check_cells(suite, cells, known)
    check_plans(suite, Path(suite.name), cells)
    with sole_writer(checked_output(folder.path, is_folder=True)):
        if busy := claimed_in(folder.path):
            fix = f"wait for them; see: polarcast bench status {folder.path}"
            raise BadInput(f"jobs of a cluster work here, such as on {busy[0]}", folder.path, fix)
        write_private(folder.suite_file, OmegaConf.to_yaml(OmegaConf.structured(suite)))
        workers = workers or default_workers(cells)
        pending = pending_cells(cells, folder)
        if pending:
            start_server()  # which imports while the data are made
        _plan(suite, folder, pending, workers, board)
        manifest = prepare_data(suite.data, folder.archive, folder.shards, workers, board, folder.raw)
        if suite.data.fetch:  # whose events were not known before
            check_cells(suite, cells, known_of(manifest))
        run_cells(pending, folder, manifest, workers, board, together)
        return analysed_tables(suite, folder, workers, board)


def finished_tables(suite: Suite, folder: SuiteFolder) -> Tables:
    """Build the tables of the finished part of a suite. Raises BadInput if no model is finished."""
    manifest = read_manifest(folder.shards)
    part, scored, note, failures = _finished(suite, folder, manifest)
    sections = sections_of(part, folder, [cell for cell, _ in scored], manifest)
    return write_tables(part, folder.path, scored, paths_of(folder, manifest), note, manifest, sections, failures)


def analysed_tables(suite: Suite, folder: SuiteFolder, workers: int, board: ProgressBoard) -> Tables:
    """Make the analyses of the finished part of a suite that has ended, and build its tables.

    Raises:
        BadInput: no model is finished, or an analysis does not apply.
    """
    manifest = read_manifest(folder.shards)
    part, scored, note, failures = _finished(suite, folder, manifest)
    cells, path_of = [cell for cell, _ in scored], paths_of(folder, manifest)
    run_analyses(part, folder, cells, manifest, workers, board)
    sections = sections_of(part, folder, cells, manifest)
    with board.stage(_TABLES, "report", 1):
        return write_tables(part, folder.path, scored, path_of, note, manifest, sections, failures)


def _finished(
    suite: Suite, folder: SuiteFolder, manifest: Manifest
) -> tuple[Suite, Sequence[tuple[Cell, Output]], str, list[CellFailure]]:
    """Return the finished part of a suite, its outputs, a note on data and missing cells, and the failures."""
    cells = cells_of(suite, folder.shards)
    outputs = [(c, folder.cell(c, manifest).output) for c in cells]
    part, scored, missing = finished_part(suite, outputs, folder.path)
    path_of = paths_of(folder, manifest)
    failed = [c for c, output in outputs if (path_of(c) / FAILED_FILE).is_file() and not is_scored(output)]
    failures = failures_of(suite, failed, path_of)
    note = "; ".join(filter(None, [rain_note(suite.task, manifest), missing]))
    return part, scored, note, failures


def paths_of(folder: SuiteFolder, manifest: Manifest) -> PathOf:
    """Return the function that finds the run folder of a cell that was trained on these shards."""
    return lambda cell: folder.cell(cell, manifest).path


def is_synthetic(manifest: Manifest) -> bool:
    """Return whether the storms of shards are synthetic."""
    return "preset" in manifest.provenance


def is_paper_archive(manifest: Manifest) -> bool:
    """Return whether shards are of NJU-CPOL as published: its grid and heights, and no recorded generator."""
    grid = (manifest.shape, manifest.heights_km)
    return manifest.provenance.get("generator") == NOT_RECORDED and grid == (_PAPER_GRID, HEIGHTS_KM)


def run_cells(
    pending: Sequence[Cell],
    folder: SuiteFolder,
    manifest: Manifest,
    workers: int,
    board: ProgressBoard,
    together: bool = False,
    watch: Watch | None = None,
) -> None:
    """Train and score the incomplete cells, seed by seed so that tables fill early, and the longest first."""
    jobs: dict[str, list[CellJob]] = {}
    seeds = list(dict.fromkeys(cell.seed for cell in pending))
    for cell in sorted(pending, key=lambda cell: (seeds.index(cell.seed), -_seconds_from(cell, pending))):
        run = folder.cell(cell, manifest)
        start_cell(run, located(cell, folder, manifest))
        after = tuple(folder.cell(one, manifest).path for one in cell.needs if one in pending)
        key = key_of_stack(cell) if together else run.path.name
        jobs.setdefault(key, []).append(job_of(cell, run.path, after))
    parts = [found[i : i + MOST_TOGETHER] for found in jobs.values() for i in range(0, len(found), MOST_TOGETHER)]
    if parts:
        run_processes([in_one_process(part) for part in parts], workers, board, watch)


def located(cell: Cell, folder: SuiteFolder, manifest: Manifest) -> RunConfig:
    """Return the configuration of a cell with the folders of the runs that it builds on and starts from."""
    paths = [str(folder.cell(base, manifest).path.resolve()) for base in cell.bases]
    bases = [BaseRun(path, base.config) for path, base in zip(paths, cell.config.bases, strict=True)]
    config, start = cell.config.with_bases(bases), cell.start
    if not start:
        return config
    return config.with_start(StartRun(str(folder.cell(start, manifest).path.resolve()), start.config))


def key_of_stack(cell: Cell) -> str:
    """Return a text that is equal for cells whose nets can be trained together."""
    from polarcast.hpc.training.together import stack_key

    return (
        f"{cell.model} {cell.arm} {stack_key(cell.config)}"
        if is_trained(cell)
        else f"{cell.model} {cell.arm} {cell.seed}"
    )


def job_of(cell: Cell, folder: Path, after: tuple[Path, ...]) -> CellJob:
    """Return the job that trains and scores a cell in a run folder, after the cells in other folders."""
    seconds = expected_seconds(cell)
    return CellJob(folder, seconds, after, training=_training_seconds(cell) / seconds)


def start_cell(run: RunFolder, config: RunConfig) -> None:
    """Write the configuration of a cell, also over a damaged or lost one: the folder's name holds its digest."""
    try:
        run.config()
    except BadInput:
        run.write_config(config)
    run.start(config)


def write_tables(
    suite: Suite,
    folder: Path,
    outputs: Sequence[tuple[Cell, Output]],
    path_of: PathOf,
    note: str,
    manifest: Manifest,
    sections: "Sequence[Section]" = (),
    failures: Sequence[CellFailure] = (),
) -> Tables:
    """Write `tables/`, `figures/` and `report.html` below a folder, from the score records and kept cases alone.

    The verdict on the suite is in `tables/verdict.txt`, a sentence a line, and on top of the report.

    Args:
        suite: Suite that defines the tables.
        folder: Output folder.
        outputs: Files that the evaluation of each cell wrote.
        path_of: Function that returns the run folder of a cell.
        note: Note on the data, shown below each table.
        manifest: Manifest of the test data; the report on the paper's archive shows the paper's numbers, too.
        sections: Analyses that the report shows below the tables.
        failures: Cells that failed; tables show each model that has none of its own numbers because of them,
            and the report names all.

    Raises:
        BadInput: records are missing or damaged, or cells were scored on different events.
    """
    from polarcast.hpc.bench.figures.draw import draw_figures
    from polarcast.hpc.bench.figures.drawn import drawn_or_draw, fingerprint
    from polarcast.hpc.bench.figures.source import FigureData
    from polarcast.hpc.bench.report import write_report
    from polarcast.hpc.bench.report.context import context_of

    numbers = write_numbers(suite, folder, outputs, path_of, note, is_synthetic(manifest), failures)
    tables, costs = numbers.tables, numbers.costs
    kept = _kept(outputs)
    key = fingerprint(suite, [file for _, output in outputs for file in (output.scores, output.cases)])
    data = FigureData(suite, numbers.scores, kept)
    figures = drawn_or_draw(folder / "figures", key, lambda: draw_figures(folder / "figures", data, usable_cores()))
    title, about = f"polarcast: {suite.name}", _about(suite, path_of(outputs[0][0]))
    verdict, with_paper = numbers.verdict, is_paper_archive(manifest)
    write_report(
        folder / "report.html", title, tables, figures, about, costs, sections, verdict=verdict, with_paper=with_paper,
        failures=failures, context=context_of(suite, folder, manifest, data, numbers.paths),
    )  # fmt: skip
    return tables


def write_numbers(
    suite: Suite,
    folder: Path,
    outputs: Sequence[tuple[Cell, Output]],
    path_of: PathOf,
    note: str,
    synthetic: bool,
    failures: Sequence[CellFailure] = (),
) -> SuiteNumbers:
    """Write `tables/` and the costs below a folder, from score records, provenance and cards of runs alone.

    Nothing else is read, and no random number is drawn anew: the same files give the same numbers anywhere.

    Args:
        suite: Suite that defines the tables.
        folder: Output folder.
        outputs: Files that the evaluation of each cell wrote.
        path_of: Function that returns the run folder of a cell.
        note: Note on the data, shown below each table.
        synthetic: Whether the storms of the test data are synthetic.
        failures: Cells that failed; see `with_failures`.

    Raises:
        BadInput: records are missing or damaged, or cells were scored on different events.
    """
    scores: dict[Run, list[Records]] = {}
    paths: dict[Run, list[Path]] = {}
    for cell, output in outputs:
        scores.setdefault((cell.model, cell.arm), []).append(read_records(output.scores))
        paths.setdefault((cell.model, cell.arm), []).append(path_of(cell))
    tables = {name: _annotated(build_table(name, suite, scores, note), suite, name, paths) for name in suite.tables}
    verdict = verdict_of(suite, tables, synthetic)
    tables = {name: with_failures(table, failures) for name, table in tables.items()}
    for table in tables.values():
        write_table(folder / "tables", table)
    write_text(folder / "tables" / VERDICT_FILE, "\n".join([*verdict, ""]))
    costs = _costs(suite, paths)
    write_costs(folder, costs)
    return SuiteNumbers(tables, verdict, costs, scores, paths)


def _kept(outputs: Sequence[tuple[Cell, Output]]) -> "list[Kept]":
    """Return the cases of the first run of each model and arm; log a warning for those that are damaged."""
    from polarcast.hpc.bench.figures.source import Kept

    first: dict[tuple[str, str], Kept] = {}
    for cell, output in outputs:
        first.setdefault((cell.model, cell.arm), Kept(cell.model, cell.arm, output.cases))
    if damaged := [str(kept.cases) for kept in first.values() if not kept.is_readable]:
        _log.warning("polarcast: damaged, and left out of the figures: %s", ", ".join(damaged))
    return [kept for kept in first.values() if kept.is_readable]


def _about(suite: Suite, first: Path) -> dict[str, str]:
    """Return the configuration of a suite and the provenance of its first run, by heading."""
    about = {"Configuration of the suite": redacted(OmegaConf.to_yaml(OmegaConf.structured(suite)))}
    provenance = redacted_tree(read_provenance(RunFolder(first).provenance_file))
    return about | ({"Provenance of the first run": json.dumps(provenance, indent=1)} if provenance else {})


def _annotated(table: ComparisonTable, suite: Suite, name: str, paths: Mapping[Run, Sequence[Path]]) -> ComparisonTable:
    """Add the note that follows from the table's own records, the costs of its arms, and the origin of its runs."""
    notes = [note for note in (table.note, gain_note(table.records)) if note]
    spec = suite.tables[name]
    runs = [path for run in all_runs(suite, spec) for path in paths[run]]
    origin = origin_of(read_provenance(RunFolder(path).provenance_file) for path in dict.fromkeys(runs))
    costs = cost_note(_costs(suite, paths, suite.shown(spec))) if any(r.is_comparison for r in table.records) else ""
    return replace(table, note="; ".join(notes), origin=origin, costs=costs)


def _costs(suite: Suite, paths: Mapping[Run, Sequence[Path]], models: Sequence[str] | None = None) -> list[Cost]:
    return costs_of(suite, {run: of_run[0] for run, of_run in paths.items()}, models)


def default_workers(cells: Sequence[Cell]) -> int:
    """Return the number of processes at a time: one with a GPU, otherwise cores divided by threads per cell."""
    import torch

    if torch.cuda.is_available():
        return 1
    threads = max((c.config.train.threads for c in cells if is_trained(c)), default=0)
    return max(1, usable_cores() // threads) if threads else 1


def expected_seconds(cell: Cell) -> float:
    """Return a cell's expected seconds on one core; only proportions matter, the board measures the speed."""
    return _training_seconds(cell) + _scoring_seconds(cell)


def _training_seconds(cell: Cell) -> float:
    settings, cost = cell.config.train, get_model(cell.config.model["name"]).cost
    starting = 4.0 + 3.0 * max(0, len(cell.bases) - 1)
    return starting + 0.0045 * cost * settings.steps * settings.global_batch if is_trained(cell) else 0.0


def _scoring_seconds(cell: Cell) -> float:
    """Return the time to fit, forecast and score; each step of a sampler evaluates a network, for each member."""
    models = [one.config.model for one in (cell, *cell.bases)]
    sampler_steps = cell.config.evaluate.members * max(model.get("steps", 0) for model in models)
    each = max(1, len(cell.bases)) if is_trained(cell) else get_model(cell.config.model["name"]).cost
    return 4.0 * each + 3.0 * sampler_steps


def _seconds_from(cell: Cell, pending: Sequence[Cell]) -> float:
    """Return the seconds of the longest chain of cells that starts with this one."""
    following = [_seconds_from(other, pending) for other in pending if cell in other.needs]
    return expected_seconds(cell) + max(following, default=0.0)


def is_trained(cell: Cell) -> bool:
    return get_model(cell.config.model["name"]).trained


def _plan(suite: Suite, folder: SuiteFolder, pending: Sequence[Cell], workers: int, board: ProgressBoard) -> None:
    """Announce the expected work to the board, in seconds of one core for a 64 × 64 demo."""
    if not (folder.shards / NAME).is_file():
        frames = suite.data.synth.events * (suite.data.synth.frames or USUAL_FRAMES)
        if suite.data.fetch:
            guess_work(suite.data.fetch, board)
            frames = expected_volumes(suite.data.fetch)
        elif suite.data.is_synthetic:
            board.expect("synthesize", 0.028 * frames / workers)
        board.expect("shard", 0.002 * frames)
    for cell in pending:
        board.expect("cells", expected_seconds(cell) / min(workers, len(pending)))
    if plan := suite.explain:
        each = 0.5 * plan.windows * plan.background * len(suite.seeds)
        board.guess("explain", each * len(plan.models) * len(plan.imputations) if pending else 0.0)
    board.expect(_TABLES, 8.0 + 0.3 * len(pending))


def pending_cells(cells: Sequence[Cell], folder: SuiteFolder) -> list[Cell]:
    """Return the cells without scores, or whose scores are damaged; all cells if there are no shards yet."""
    if not (folder.shards / NAME).is_file():
        return list(cells)
    manifest = read_manifest(folder.shards)
    return [c for c in cells if not is_scored(folder.cell(c, manifest).output)]
