"""Finished runs without training."""

from pathlib import Path

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import describe, write_provenance

UNET = ("model.widths=[4,8]", "match_params=false", "train.threads=1")
CONTEXT = (*UNET, "data.context=2")
DIFFUSION = (*UNET, "model.name=diffusion", "model.steps=2", "evaluate.members=3")
BASELINE = ("model.name=power_law", "train.threads=1")


def finished(shards: Manifest, folder: Path, *overrides: str) -> RunFolder:
    """Create a run folder as after training, with initial weights."""
    run, config = RunFolder(folder), load_config("demo", [f"data.shards={shards.folder}", *overrides])
    run.start(config)
    write_provenance(run.provenance_file, describe(shards))
    checkpoint.save_weights(run.weights_file, build_model(resolve(config)).state_dict())
    return run
