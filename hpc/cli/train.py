"""The verb `polarcast train`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from polarcast.hpc.cli.checks import find_shards
from polarcast.hpc.utils.console import Json, plain, print_json, print_text, progress


def train(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="demo, standard, paper, or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<preset>-<arm>-s<seed> by default.")] = None,
    processes: Annotated[int, typer.Option(help="Processes on this machine; torchrun and srun start their own.")] = 1,
    as_json: bool = Json,
) -> None:
    """Train one model, or resume from its run folder.

    Example: polarcast train demo data.shards=shards arm=radar train.steps=500 --out runs/radar
    """
    from polarcast.data.errors import BadInput
    from polarcast.data.files import checked_output, sole_writer
    from polarcast.data.folder_kind import checked_kind
    from polarcast.hpc.config.load import load_config
    from polarcast.hpc.distributed.launch import end_with_launcher, launch_local
    from polarcast.hpc.distributed.world import detect, one_gpu_each, visible_gpus

    end_with_launcher()
    if processes < 1:
        raise BadInput(f"{processes} is too small", "--processes", "give 1 or more")
    world = detect()
    is_alone = world.size == 1  # ranks of a job check together, and name the node where something is missing
    if is_alone and out:
        checked_kind(checked_output(out, is_folder=True), "a run")
    if is_alone:
        _find_given_shards(overrides or [])
    config = load_config(source, overrides or [])
    folder = checked_kind(out or Path("runs") / f"{Path(source).stem}-{config.arm}-s{config.seed}", "a run")
    if is_alone:
        find_shards(config.data.shards)
        checked_output(folder, is_folder=True)
    from polarcast.hpc.runs.folder import RunFolder

    if processes > 1 and "RANK" not in os.environ:
        from polarcast.data.shards.manifest import read_manifest
        from polarcast.hpc.training.micro_batch import share_of

        # Report invalid input once, not on every rank.
        RunFolder(folder).check(config)
        read_manifest(config.data.shards)
        share_of(config.train, processes)
        one_gpu_each(processes, visible_gpus(), "--processes")
        launch_local(["train", source, *(overrides or []), "--out", str(folder)], processes)
    else:
        from polarcast.hpc.training.train import train as train_run

        with progress("train", config.train.steps, world.is_first) as show, sole_writer(folder, world.is_first):
            train_run(config, RunFolder(folder, trust=True), world, lambda n, of, loss: show(n, of, f"loss {loss:.4f}"))
        if not world.is_first or world.folder:  # the launcher reports
            return
    _report_training(RunFolder(folder).path, config.data.shards, as_json)


def _find_given_shards(overrides: Sequence[str]) -> None:
    """Raise BadInput if a local folder in the overrides has no shards, before the configuration imports torch."""
    given = [word.removeprefix("data.shards=") for word in overrides if word.startswith("data.shards=")]
    if given and not set(given[-1]) & set("${'\""):
        find_shards(given[-1])


def _report_training(folder: Path, shards: str, as_json: bool) -> None:
    from polarcast.data.secrets import redacted
    from polarcast.hpc.runs.folder import RunFolder

    run = RunFolder(folder)
    records, kept = list(run.records()), run.best_step()
    best = next((r for r in records if r["event"] == "validation" and r.get("step") == kept), None)
    bad = {r["shard"]: r for r in records if r["event"] == "bad_shard"}
    if as_json:
        print_json({"run": str(folder), "best": best, "bad_shards": list(bad.values())})
    else:
        at = f"; best validation loss {best['loss']:.4f} at step {best['step']}" if best else ""
        lost = f"; {len(bad)} bad shards left out: {', '.join(bad)}" if bad else ""
        print_text(f"trained {folder} on {plain(redacted(shards))}{at}{lost}\nnext: polarcast evaluate {folder}")
