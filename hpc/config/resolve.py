"""Resolve a configuration: work out, once, everything that a model is built from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polarcast.data.errors import BadInput
from polarcast.hpc.config.load import model_config
from polarcast.hpc.config.schema import RunConfig
from polarcast.models.common.matching import match_widths
from polarcast.models.forecaster import Forecaster, InputSpec, parameter_count
from polarcast.models.registry import RegisteredModel, get_model


@dataclass(frozen=True)
class ResolvedConfig:
    """A configuration, and what follows from it: training, estimate, micro-batch and card all take this."""

    run: RunConfig
    """The configuration as it was given."""
    model: RegisteredModel
    """The model's place in the registry."""
    settings: Any
    """The model's own configuration, with the channel widths of this arm."""
    inputs: InputSpec
    """What the model sees and forecasts."""
    base: "ResolvedConfig | None" = None
    """The run that the model builds on."""


def resolve(config: RunConfig) -> ResolvedConfig:
    """Return a configuration with its model, channel widths, inputs and base worked out.

    Raises:
        BadInput: `match_params` can't be met near the configured widths.
    """
    base = resolve(config.base.config) if config.base else None
    settings = model_config(config)
    found = ResolvedConfig(config, get_model(config.model["name"]), settings, _inputs(config, config.variables()), base)
    if found.model.has_widths:
        settings.widths = _widths(found)
    return found


def _widths(resolved: ResolvedConfig) -> list[int]:
    """Widths as configured for the dual-pol arm; for any other, widths that match its parameter count."""
    config, widths = resolved.run, list(resolved.settings.widths)
    reference = config.arm_variables("dualpol")
    if not config.match_params or config.variables() == reference:
        return widths
    target = _count(resolved, _inputs(config, reference), widths)
    try:
        return match_widths(lambda some: _count(resolved, resolved.inputs, some), widths, target)
    except ValueError as error:
        raise BadInput(str(error), "match_params", "use wider layers, or match_params=false") from None


def _count(resolved: ResolvedConfig, inputs: InputSpec, widths: Sequence[int]) -> int:
    settings = model_config(resolved.run)
    settings.widths = list(widths)
    with torch.device("meta"):
        return parameter_count(resolved.model.build(settings, inputs, _base(resolved)))


def _base(resolved: ResolvedConfig) -> Forecaster | None:
    base = resolved.base
    return base.model.build(base.settings, base.inputs, _base(base)) if base else None


def _inputs(config: RunConfig, variables: tuple[str, ...]) -> InputSpec:
    return InputSpec(variables, tuple(config.data.heights_km), config.frames, config.lead_frames)
