"""Finished runs without training."""

from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
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


def forecasts_of(run: RunFolder, shards: Manifest) -> dict[str, npt.NDArray[Any]]:
    """Return the forecasts of a finished run for all test windows, as other software would write them."""
    config, model = run.config(), load_model(run, World())
    reader = build_reader(config, shards, "test")
    batch = reader.read(range(len(reader))).to("cpu")
    with torch.no_grad():
        found = model.forecast(batch, config.evaluate.members)
    found = found if config.is_nowcast else found[:, :, 0]
    return {"event": batch.event.numpy(), "frame": batch.frame.numpy(), "forecast": found.numpy()}
