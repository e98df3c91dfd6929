"""Start a run from the weights of a trained one, to fine-tune it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.hpc.config.digest import digest, same_run, waits_for_weights
from polarcast.hpc.config.load import digest_of_weights
from polarcast.hpc.config.schema import BaseRun, RunConfig, StartRun
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.folder import RunFolder
from polarcast.models.forecaster import Forecaster

_FIX = "restore the run, or start another one from it in a new folder"


def with_weights(config: RunConfig) -> RunConfig:
    """Return the configuration with the weights that it starts from, which a suite does not know in advance.

    Raises:
        BadInput: the run to start from, or a base run that starts from another, is not trained.
    """
    if config.train.start_from is not None and not config.start:
        raise BadInput("is a folder that was not read", "train.start_from", "make the configuration by load_config")
    if not waits_for_weights(config):
        return config
    bases = [replace(base, config=_trained(base)) for base in config.bases]
    start = config.start and _start_with_weights(config.start)
    return config.with_bases(bases).with_start(start)


def _trained(base: BaseRun) -> RunConfig:
    """Return the configuration of a base run, as its folder holds it if it waited for weights."""
    return RunFolder(Path(base.run)).config() if waits_for_weights(base.config) else base.config


def _start_with_weights(start: StartRun) -> StartRun:
    folder = Path(start.run)
    config = RunFolder(folder).config() if waits_for_weights(start.config) else start.config
    return replace(start, config=config, weights=start.weights or digest_of_weights(folder))


def check_start(start: StartRun) -> None:
    """Check the run to start from before its weights are loaded.

    Raises:
        BadInput: it is not fully trained, or its configuration or weights are others than when the run was configured.
    """
    run = RunFolder(Path(start.run))
    if not run.is_trained:
        raise BadInput("the run to start from is not fully trained", run.path, "train it first")
    if not same_run(run.config(), start.config):
        raise BadInput("is not the run to start from of this configuration", run.path, "choose another folder")
    if start.weights and digest_of_weights(run.path) != start.weights:
        raise BadInput("the weights to start from have changed", run.weights_file, _FIX)


def load_start(model: Forecaster, start: StartRun) -> None:
    """Load the weights to start from into a model, with its normalization. Raises BadInput; see `check_start`."""
    check_start(start)
    weights = RunFolder(Path(start.run)).weights_file
    checkpoint.check_weights(weights, model)
    checkpoint.load_weights(weights, model)


def started_from(config: RunConfig) -> dict[str, Any] | None:
    """Return the run that a run started from, for its provenance and card; None if it has random initial weights."""
    start = config.start
    if not start:
        return None
    name = start.config.model["name"]
    return {"model": name, "run": start.run, "config": digest(start.config), "weights": start.weights}
