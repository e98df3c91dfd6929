"""One run, scored on its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.distributed.process_group import gather, join
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.evaluation.shards import shards_of
from polarcast.hpc.evaluation.summary import FEW, ScoreSummary, check_wanted, summarize
from polarcast.hpc.runs.build import open_shards
from polarcast.hpc.runs.folder import Output, RunFolder
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.scores.stats.paired import POOLED
from polarcast.hpc.utils.progress import ProgressBoard


@dataclass(frozen=True)
class Wanted:
    """Which scores, by which axis, put together how; and whether from the records of the last time."""

    scores: tuple[str, ...] = (FEW,)
    by: str | None = None
    aggregation: str = POOLED
    recorded: bool = False


def evaluate_run(
    path: Path,
    archive: Path | None,
    split: str,
    board: ProgressBoard,
    world: World,
    wanted: Wanted,
) -> tuple[list[ScoreSummary], dict[str, Any]]:
    """Score one run on a split of its own shards, or on all events of an archive, with all ranks of `world`.

    Returns:
        The scores that were asked for, and what else there is to say: where the records went, and on what they stand.

    Raises:
        BadInput: the run is not trained, the data lack what it reads, or a score is unknown.
    """
    run = RunFolder(path)
    check_wanted(wanted.scores, wanted.by, wanted.aggregation)
    if archive is None:
        manifest, name = open_shards(run.config()), split
        output = (
            run.output if split == "test" else Output(path / f"scores-{split}.parquet", path / f"cases-{split}.npz")
        )
    else:
        split, name = "test", archive.resolve().name
        out = path / "on" / name
        manifest, output = _shards(archive, out, board, world), Output(out / "scores.parquet", out / "cases.npz")
    if wanted.recorded:
        records = read_records(output.scores)
    else:
        with board.stage("evaluate", "frames", 1) as done:
            records = evaluate(run, manifest, output, split, lambda n, of: done(n // of), world)
    about = {"run": str(path), "scored_on": name, "events": len(records.events), "records": str(output.scores)}
    return summarize(records, wanted.scores, wanted.by, wanted.aggregation), about


def _shards(archive: Path, out: Path, board: ProgressBoard, world: World) -> Manifest:
    """The archive's shards, made by rank 0 where they are not there yet; the others wait for it."""
    join(world)
    manifest = shards_of(archive, out, board) if world.is_first else None
    gather(world.rank, world)
    return manifest or shards_of(archive, out, board)
