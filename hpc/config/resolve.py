"""Resolve a configuration into the model class, channel widths, input specification and base."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from polarcast.data.errors import BadInput
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import model_config
from polarcast.hpc.config.schema import PROPORTIONS, RunConfig
from polarcast.models.common.matching import match_levels, match_widths
from polarcast.models.forecaster import Forecaster, InputSpec, parameter_count
from polarcast.models.registry import RegisteredModel, get_model

_MAY_CHANGE = frozenset(
    (
        "loss",
        "rate_weight",
        "rate_scale",
        "heavy_power",
        "heavy_cap",
        "heavy_weight",
        "kl_weight",
        "drop",
        "guidance",
        "guidance_rescale",
        "sampler",
        "steps",
    )
)
"""Settings of models that a run may change from those that it starts from: of losses and samplers, not of the net."""


@dataclass(frozen=True)
class ResolvedConfig:
    """A configuration with all derived values. Training, estimate, micro-batch and model card use it."""

    run: RunConfig
    """The configuration as given."""
    model: RegisteredModel
    """Registry entry of the model."""
    settings: Any
    """Configuration of the model, with the channel widths of this arm."""
    inputs: InputSpec
    """Variables, heights, input frames and forecast frames."""
    bases: "tuple[ResolvedConfig, ...]" = ()
    """Resolved configurations of the base runs."""
    start: "ResolvedConfig | None" = None
    """Resolved configuration of the run whose weights training starts from."""


def resolve(config: RunConfig) -> ResolvedConfig:
    """Resolve the model, channel widths, inputs and base of a configuration.

    Raises:
        BadInput: it is of a model of other software, `match_params` can't be met near the configured widths, the base
            run reads other inputs, or the run to start from has another net.
    """
    require_model(config)
    for base in config.bases:
        require_model(base.config, base.run, "choose another base run")
        _check_inputs_of_base(config, base.config)
    bases = tuple(resolve(base.config) for base in config.bases)
    settings = model_config(config)
    inputs = input_spec(config, config.variables())
    resolved = ResolvedConfig(config, get_model(config.model["name"]), settings, inputs, bases)
    if resolved.model.has_widths:
        settings.widths = _widths(resolved)
    if not config.start:
        return resolved
    require_model(config.start.config, config.start.run, "choose another run to start from")
    start = resolve(config.start.config)
    _check_start(resolved, start)
    return replace(resolved, start=start)


def require_model(config: RunConfig, where: object = "model.name", fix: str = "choose another model") -> None:
    """Raise BadInput if the forecasts of a run were made by other software."""
    if get_model(config.model["name"]).external:
        raise BadInput("its forecasts were made by other software, so it has no model", where, fix)


def input_spec(config: RunConfig, variables: tuple[str, ...]) -> InputSpec:
    """Return what a model of a configuration reads and forecasts, for an arm with these variables."""
    return InputSpec(variables, tuple(config.data.heights_km), config.frames, config.lead_frames)


def _widths(resolved: ResolvedConfig) -> list[int]:
    """Return the configured widths for the dual-pol arm; for others, widths that match its parameter count."""
    config, widths = resolved.run, list(resolved.settings.widths)
    if not config.solves_widths:
        return widths
    reference = config.arm_variables("dualpol")
    match = match_widths if config.match_by == PROPORTIONS else match_levels
    target = _count(resolved, input_spec(config, reference), widths)
    try:
        return match(lambda candidate: _count(resolved, resolved.inputs, candidate), widths, target)
    except ValueError as error:
        raise BadInput(str(error), "match_params", "use wider layers, or set match_params=false") from None


def _count(resolved: ResolvedConfig, inputs: InputSpec, widths: Sequence[int]) -> int:
    settings = model_config(resolved.run)
    settings.widths = list(widths)
    with torch.device("meta"):
        return parameter_count(resolved.model.build(settings, inputs, *_bases(resolved)))


def _bases(resolved: ResolvedConfig) -> list[Forecaster]:
    return [base.model.build(base.settings, base.inputs, *_bases(base)) for base in resolved.bases]


def _check_inputs_of_base(config: RunConfig, base: RunConfig) -> None:
    """Raise BadInput if the base run does not read the batches of this run, or forecasts other frames."""
    if base.task != config.task:
        raise BadInput(f"the base run is for {base.task}", "base", "choose another run")
    model = get_model(base.model["name"])
    variables = config.variables()
    if model.any_inputs and not model.sees_truth and (lacking := set(base.variables()) - set(variables)):
        raise BadInput(f"the base run reads {lacking.pop()}, which is not an input", "data.variables", "add it")
    if base.is_placebo != config.is_placebo and set(base.variables()) != {"zh"} and not model.sees_truth:
        arms = f"the base run has arm={base.arm}, this run arm={config.arm}"
        raise BadInput(f"{arms}: one takes ZDR and KDP from other events", "base", "choose a base run of this arm")
    frames = "seen_frames" if config.is_nowcast else "context"
    needed = {
        "data.variables": (list(base.variables()), list(variables)),
        "data.heights_km": (list(base.data.heights_km), list(config.data.heights_km)),
        f"data.{frames}": (getattr(base.data, frames), getattr(config.data, frames)),
    }
    needed = {"data.lead_frames": (base.lead_frames, config.lead_frames)} | ({} if model.any_inputs else needed)
    for key, (theirs, ours) in needed.items():
        if theirs != ours:
            raise BadInput(f"the base run has {theirs}, this run {ours}", key, "give both the same, or change arm")


def _check_start(resolved: ResolvedConfig, start: ResolvedConfig) -> None:
    """Raise BadInput if the run to start from has another net, or reads or forecasts something else."""
    config, other = resolved.run, start.run
    frames = "seen_frames" if config.is_nowcast else "context"
    compared = {
        "task": (other.task, config.task),
        "model.name": (other.model["name"], config.model["name"]),
        "data.variables": (list(other.variables()), list(config.variables())),
        "data.heights_km": (list(other.data.heights_km), list(config.data.heights_km)),
        f"data.{frames}": (getattr(other.data, frames), getattr(config.data, frames)),
        "data.lead_frames": (other.lead_frames, config.lead_frames),
    }
    for key, (theirs, ours) in compared.items():
        _require_equal(key, theirs, ours)
    if other.is_placebo != config.is_placebo:
        _require_equal("arm", other.arm, config.arm)
    for field in fields(resolved.settings):
        if field.name not in _MAY_CHANGE:
            _require_equal(f"model.{field.name}", *(getattr(of.settings, field.name) for of in (start, resolved)))
    _require_equal("base", *([digest(base.config)[:8] for base in of.bases] for of in (other, config)))


def _require_equal(key: str, theirs: Any, ours: Any) -> None:
    if theirs != ours:
        raise BadInput(f"the run to start from has {theirs}, this run {ours}", key, "give both the same")
