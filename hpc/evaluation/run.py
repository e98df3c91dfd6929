"""Score a single run."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput, shown
from polarcast.data.shards.manifest import NAME, Manifest
from polarcast.data.shards.source import ShardSource
from polarcast.hpc.config.resolve import require_model
from polarcast.hpc.distributed.process_group import gather, join
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.arguments import check_split
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.evaluation.shards import shards_of
from polarcast.hpc.evaluation.summary import FEW, ScoreSummary, check_wanted, shares, summarize
from polarcast.hpc.runs.build import build_reader, stored_shards
from polarcast.hpc.runs.folder import Output, RunFolder
from polarcast.hpc.runs.trained_grid import unlike_training
from polarcast.hpc.scores.records import Records, read_records
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.utils.progress import ProgressBoard

TEST = "test"
_log = logging.getLogger("polarcast")


@dataclass(frozen=True)
class Wanted:
    """Scores requested of an evaluation.

    Attributes:
        scores: Scores as text, `all` or `usual`.
        by: Axis of the tables; chosen by score if None.
        aggregation: pooled or mean.
        recorded: Whether to read existing records instead of scoring again.
        trust: Whether the user trusts the run; see `stored_shards`.
    """

    scores: tuple[str, ...] = (FEW,)
    by: str | None = None
    aggregation: str = POOLED
    recorded: bool = False
    trust: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Score records of a run.

    Attributes:
        records: Sums of each event.
        scored_on: Name of the split or archive.
        file: Where the records are kept.
    """

    records: Records
    scored_on: str
    file: Path


def evaluate_run(
    path: Path,
    archive: Path | None,
    split: str | None,
    board: ProgressBoard,
    world: World,
    wanted: Wanted,
) -> tuple[list[ScoreSummary], dict[str, Any]]:
    """Score one run and summarize the requested scores, on all ranks; the arguments are those of `evaluate_records`.

    Returns:
        The requested scores, and a record of the run, its data, the numbers of events and groups, the shares of pixels
        observed and scored, and the records file.

    Raises:
        BadInput: the run is not trained, the data lack variables that it reads, or a score is unknown.
    """
    check_wanted(wanted.scores, wanted.by, wanted.aggregation)
    found = evaluate_records(RunFolder(path, wanted.trust), archive, split, board, world, wanted.recorded)
    events = len(found.records.events)
    about = {"run": str(path), "scored_on": found.scored_on, "data": found.records.data, "events": events,
             "groups": len(set(found.records.groups.tolist())), "records": str(found.file),
             **shares(found.records)}  # fmt: skip
    return summarize(found.records, wanted.scores, wanted.by, wanted.aggregation), about


def evaluate_records(
    run: RunFolder, archive: Path | None, split: str | None, board: ProgressBoard, world: World, recorded: bool = False
) -> Evaluation:
    """Score one run on a split of its own shards, or on all events of an archive, on all ranks; keep the records.

    Args:
        run: Folder of the run.
        archive: Archive or shards to score on; None for the run's own shards.
        split: Split of the run's own shards; test by default. Only one of archive and split can be given.
        board: Progress display.
        world: This process's rank and world size.
        recorded: Whether to read existing records instead of scoring again.

    Raises:
        BadInput: the run is not trained, its shards need trust, or the data lack variables that it reads.
    """
    check_split(split, archive)
    split = split or TEST
    name = split if archive is None else archive.resolve().name
    output = _output(run, split) if archive is None else _output_on(run, name)
    if recorded:
        return Evaluation(read_records(output.scores), name, output.scores)
    require_model(run.config(), run.path, "add --recorded to see its scores")
    cache = output.scores.parent
    manifest = own_shards(run, split) if archive is None else archive_shards(archive, cache, board, world)
    if archive is not None and world.is_first:
        for line in unlike_training(run, run.config(), manifest):
            _log.warning("polarcast: %s", line)
    windows = len(build_reader(run.config(), manifest, split, observed=True))
    with board.stage("evaluate", "window" + "s" * (windows != 1), windows) as done:
        records = evaluate(run, manifest, output, split, lambda n, of: done(windows * n // of), world)
    return Evaluation(records, name, output.scores)


def _output(run: RunFolder, split: str) -> Output:
    if split == TEST:
        return run.output
    return Output(run.path / f"scores-{split}.parquet", run.path / f"cases-{split}.npz")


def _output_on(run: RunFolder, archive: str) -> Output:
    out = run.path / "on" / archive
    return Output(out / "scores.parquet", out / "cases.npz")


def own_shards(run: RunFolder, split: str) -> Manifest:
    """Return the shards that the configuration of the run names. Raises BadInput if they, or the split, are missing."""
    source = ShardSource(run.config().data.shards)
    if source.is_local and not source.folder.is_absolute() and not (source.folder / NAME).is_file():
        what = f"the run's data.shards, {shown(source.shown)}, is relative to the folder where it was trained"
        raise BadInput(what, run.path, "call this from there, or give --archive")
    manifest = stored_shards(run)
    if split not in manifest.splits:
        raise BadInput(f"unknown split {split!r}", "split", f"choose from: {', '.join(manifest.splits)}")
    return manifest


def archive_shards(archive: Path, out: Path, board: ProgressBoard, world: World) -> Manifest:
    """Return the shards of an archive, kept in `out`; rank 0 writes missing shards while the other ranks wait."""
    join(world)
    manifest = shards_of(archive, out, board) if world.is_first else None
    gather(world.rank, world)
    return manifest or shards_of(archive, out, board)
