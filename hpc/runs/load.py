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
    """Give a new model the weights of the run that it builds on.

    Raises:
        BadInput: that run is not trained, or holds another model.
    """
    run = RunFolder(Path(base.run))
    if not run.is_trained:
        raise BadInput("the run to build on is not trained to its end", run.path, "train it first")
    if digest(run.config()) != digest(base.config):
        raise BadInput("holds another run than this model was configured for", run.path, "choose another folder")
    checkpoint.load_weights(run.weights_file, model.base)  # type: ignore[arg-type]


def load_model(run: RunFolder, world: World) -> Forecaster:
    """The model of a finished run with its weights, ready to forecast on this process's device.

    Raises:
        BadInput: the folder is not a run, or the run is not trained.
    """
    config = run.config()
    if not run.is_trained:
        raise BadInput("this run is not trained to its end", run.path, "continue it with: polarcast train")
    model = build_model(resolve(config))
    checkpoint.load_weights(run.weights_file, model)
    return model.to(device_of(world)).eval()
