"""A trained run that another model builds on: its configuration travels with that model's, its weights within them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from polarcast.data.errors import BadInput

if TYPE_CHECKING:
    from polarcast.hpc.config import RunConfig
    from polarcast.models.forecaster import Forecaster


def resolve(base: Any) -> dict[str, Any] | None:
    """A run folder → `{run, config}`; what is that already stays.

    Raises:
        BadInput: the folder is not a run.
    """
    if base is None:
        return None
    if not isinstance(base, str | Path):
        return {"run": str(base["run"]), "config": dict(base["config"])}
    from polarcast.hpc.config import load_config

    file = Path(base) / "config.yaml"
    if not file.is_file():
        raise BadInput("not a run: it has no config.yaml", base, "give the folder of a trained run, as base=runs/unet")
    return {"run": str(Path(base).resolve()), "config": load_config(file).to_dict()}


def config_of(base: dict[str, Any]) -> "RunConfig":
    """The configuration of the base."""
    from polarcast.hpc.config import load_config

    name = base["config"]["model"]["name"]
    return load_config({"model": {"name": name}}, base["config"])


def load_base(model: "Forecaster", base: dict[str, Any]) -> None:
    """Give a new model the weights of the run that it builds on.

    Raises:
        BadInput: that run is not trained, or holds another model.
    """
    from polarcast.hpc import checkpoint
    from polarcast.hpc.run_folder import RunFolder

    run = RunFolder(Path(base["run"]))
    if not run.is_trained:
        raise BadInput("the run to build on is not trained to its end", run.path, "train it first")
    if run.config().digest() != config_of(base).digest():
        raise BadInput("holds another run than this model was configured for", run.path, "choose another folder")
    checkpoint.load_weights(run.weights_file, model.base)  # type: ignore[arg-type]
