"""Configuration → reader and model."""

from collections.abc import Sequence

import torch

from polarcast.data.errors import BadInput
from polarcast.data.manifest import Manifest
from polarcast.data.reader import MappedReader
from polarcast.hpc.config import RunConfig, model_config
from polarcast.models.forecaster import Forecaster, Inputs, parameter_count
from polarcast.models.matching import match_widths
from polarcast.models.registry import entry


def build_reader(config: RunConfig, manifest: Manifest, split: str) -> MappedReader:
    """The reader of one split, with the variables and heights of the run.

    Raises:
        BadInput: the shards lack something, or hold a reflectivity that was computed from the rain itself.
    """
    if derived := manifest.provenance.get("derived", {}).get("zh"):
        raise BadInput(
            f"its zh is not measured ({derived})",
            manifest.folder,
            "estimating rain from it would be going in a circle: use an archive of measured reflectivity",
        )
    return MappedReader(manifest, split, variables=config.variables(), heights_km=config.data.heights_km)


def build_model(config: RunConfig) -> Forecaster:
    """The run's model with freshly drawn weights: same seed, same weights.

    Raises:
        BadInput: `match_params` can't be met for these widths.
    """
    model = entry(config.model["name"])
    settings = model_config(config)
    if model.has_widths:
        settings.widths = _widths(config)
    torch.manual_seed(config.seed)
    return model.build(settings, _inputs(config, config.variables()))


def _widths(config: RunConfig) -> list[int]:
    """Widths of this arm: the configured ones for the dual-pol arm, matched to its parameter count for any other."""
    widths = list(config.model["widths"])
    reference = config.arm_variables("dualpol")
    if not config.match_params or config.variables() == reference:
        return widths
    try:
        return match_widths(lambda w: _count(config, config.variables(), w), widths, _count(config, reference, widths))
    except ValueError as error:
        raise BadInput(str(error), "match_params", "use wider layers, or match_params=false") from None


def _count(config: RunConfig, variables: tuple[str, ...], widths: Sequence[int]) -> int:
    settings = model_config(config)
    settings.widths = list(widths)
    with torch.device("meta"):
        return parameter_count(entry(config.model["name"]).build(settings, _inputs(config, variables)))


def _inputs(config: RunConfig, variables: tuple[str, ...]) -> Inputs:
    return Inputs(variables, tuple(config.data.heights_km))
