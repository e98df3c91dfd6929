"""One run, scored on its own."""

from pathlib import Path
from typing import Any

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.progress import Board
from polarcast.hpc.bench.rescore import shards_of
from polarcast.hpc.build import open_shards
from polarcast.hpc.evaluate import evaluate
from polarcast.hpc.group import gather, join
from polarcast.hpc.run_folder import Output, RunFolder
from polarcast.hpc.scores.metrics import METRICS, compute
from polarcast.hpc.world import World


def evaluate_run(path: Path, archive: Path | None, split: str, board: Board, world: World) -> dict[str, Any]:
    """Score one run on a split of its own shards, or on all events of an archive, with all ranks of `world`.

    Returns:
        Where the records went, the metrics pooled over all events, and a text that says so.

    Raises:
        BadInput: the run is not trained, or the data lack what it reads.
    """
    run = RunFolder(path)
    if archive is None:
        manifest, name = open_shards(run.config()), split
        output = (
            run.output if split == "test" else Output(path / f"scores-{split}.parquet", path / f"cases-{split}.npz")
        )
    else:
        split, name = "test", archive.resolve().name
        out = path / "on" / name
        manifest, output = _shards(archive, out, board, world), Output(out / "scores.parquet", out / "cases.npz")
    with board.stage("evaluate", "frames", 1) as done:
        sums = evaluate(run, manifest, output, split, lambda n, of: done(n // of), world)
    pooled = sums.sums.sum((0, 1))
    values = {m: float(compute(m, pooled, sums.pixels_per_sample)) for m in METRICS}
    lines = [f"{METRICS[m].label:<6} {value:12.5g} {METRICS[m].unit}" for m, value in values.items()]
    text = "\n".join(
        [
            f"{path} on {name}: {len(sums.events)} event{'s' * (len(sums.events) != 1)}",
            *lines,
            f"records: {output.scores}",
        ]
    )
    return {"run": str(path), "scored_on": name, "events": len(sums.events), "metrics": values, "text": text}


def _shards(archive: Path, out: Path, board: Board, world: World) -> Manifest:
    """The archive's shards, made by rank 0 where they are not there yet; the others wait for it."""
    join(world)
    manifest = shards_of(archive, out, board) if world.is_first else None
    gather(world.rank, world)
    return manifest or shards_of(archive, out, board)
