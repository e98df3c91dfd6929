"""Load the weights of finished runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from polarcast.data.errors import BadInput
from polarcast.hpc.config.digest import same_run
from polarcast.hpc.config.resolve import ResolvedConfig, require_model, resolve
from polarcast.hpc.config.schema import BaseRun
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.runs.folder import RunFolder
from polarcast.models.forecaster import Forecaster


def check_bases(bases: Sequence[BaseRun]) -> None:
    """Check the base runs of a configuration, before its model is built.

    Raises:
        BadInput: a base run is not fully trained, its configuration has changed, or its weights are of another model.
    """
    for base in bases:
        _check_base(base)


def _check_base(base: BaseRun) -> None:
    run = RunFolder(Path(base.run))
    if not run.is_trained:
        raise BadInput("the base run is not fully trained", run.path, "train it first")
    if not same_run(run.config(), base.config):
        raise BadInput("is not the base run of this configuration", run.path, "choose another folder")
    _check_weights(run, resolve(base.config))


def load_bases(model: Forecaster, bases: Sequence[BaseRun]) -> None:
    """Load the weights of the base runs, which `check_bases` has checked, into a new model."""
    parts: Any = model.base if len(bases) > 1 else [model.base] if bases else []
    for part, base in zip(parts, bases, strict=True):
        checkpoint.load_weights(RunFolder(Path(base.run)).weights_file, part)


def load_model(run: RunFolder, world: World) -> Forecaster:
    """Load the model of a finished run, in evaluation mode, on the device of this process.

    Raises:
        BadInput: the folder is not a run, the run is not fully trained or of a model of other software, or its weights
            are damaged or of another model.
    """
    config = run.config()
    require_model(config, run.path, "use its stored scores")
    if not run.is_trained:
        raise BadInput("the run is not fully trained", run.path, "continue it with: polarcast train")
    resolved = resolve(config)
    _check_weights(run, resolved)
    model = build_model(resolved)
    checkpoint.load_weights(run.weights_file, model)
    return model.to(device_of(world)).eval()


def _check_weights(run: RunFolder, resolved: ResolvedConfig) -> None:
    """Check the weights of a run before memory is allocated: its configuration may claim any size."""
    with torch.device("meta"):
        model = build_model(resolved)
    checkpoint.check_weights(run.weights_file, model)
