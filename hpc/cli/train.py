"""The verb `polarcast train`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from polarcast.hpc.utils.console import Json, print_json, print_text, progress


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
    from polarcast.data.files import sole_writer
    from polarcast.data.shards.manifest import read_manifest
    from polarcast.hpc.config.load import load_config
    from polarcast.hpc.distributed.launch import end_with_launcher, launch_local
    from polarcast.hpc.distributed.world import detect, one_gpu_each, visible_gpus
    from polarcast.hpc.runs.folder import RunFolder
    from polarcast.hpc.training.micro_batch import share_of

    end_with_launcher()
    config = load_config(source, overrides or [])
    folder = out or Path("runs") / f"{Path(source).stem}-{config.arm}-s{config.seed}"
    if processes > 1 and "RANK" not in os.environ:
        # Report invalid input once, not on every rank.
        read_manifest(config.data.shards)
        share_of(config.train, processes)
        one_gpu_each(processes, visible_gpus(), "--processes")
        launch_local(["train", source, *(overrides or []), "--out", str(folder)], processes)
    else:
        from polarcast.hpc.training.train import train as train_run

        world = detect()
        with progress("train", config.train.steps, world.is_first) as show, sole_writer(folder, world.is_first):
            train_run(config, RunFolder(folder), world, lambda n, of, loss: show(n, of, f"loss {loss:.4f}"))
        if not world.is_first:
            return
    _report_training(RunFolder(folder).path, as_json)


def _report_training(folder: Path, as_json: bool) -> None:
    from polarcast.hpc.runs.folder import RunFolder

    records = list(RunFolder(folder).records())
    best = min((r for r in records if r["event"] == "validation"), key=lambda r: r["loss"], default=None)
    bad = {r["shard"]: r for r in records if r["event"] == "bad_shard"}
    if as_json:
        print_json({"run": str(folder), "best": best, "bad_shards": list(bad.values())})
    else:
        at = f"; best validation loss {best['loss']:.4f} at step {best['step']}" if best else ""
        lost = f"; {len(bad)} bad shards left out: {', '.join(bad)}" if bad else ""
        print_text(f"trained {folder}{at}{lost}\nnext: polarcast evaluate {folder}")
