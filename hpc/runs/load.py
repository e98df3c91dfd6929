"""Load the weights of finished runs."""

from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import BaseRun
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.runs.folder import RunFolder
from polarcast.models.forecaster import Forecaster


def load_base(model: Forecaster, base: BaseRun) -> None:
    """Load the weights of the base run into a new model.

    Raises:
        BadInput: the base run is not fully trained, or its configuration has changed.
    """
    run = RunFolder(Path(base.run))
    if not run.is_trained:
        raise BadInput("the base run is not fully trained", run.path, "train it first")
    if digest(run.config()) != digest(base.config):
        raise BadInput("is not the base run of this configuration", run.path, "choose another folder")
    checkpoint.load_weights(run.weights_file, model.base)  # type: ignore[arg-type]


def load_model(run: RunFolder, world: World) -> Forecaster:
    """Load the model of a finished run, in evaluation mode, on the device of this process.

    Raises:
        BadInput: the folder is not a run, or the run is not fully trained.
    """
    config = run.config()
    if not run.is_trained:
        raise BadInput("the run is not fully trained", run.path, "continue it with: polarcast train")
    model = build_model(resolve(config))
    checkpoint.load_weights(run.weights_file, model)
    return model.to(device_of(world)).eval()
