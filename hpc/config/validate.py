"""Validate the values of a configuration whose types are correct."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any, get_args

from polarcast.data.degrade.perturbation import Perturbation, parse_ranges
from polarcast.data.errors import CONTROL, BadInput, shown
from polarcast.data.frame_quality.rule import QUALITY
from polarcast.hpc.config.schema import DataConfig, RunConfig, TrainConfig
from polarcast.hpc.scores.query import check_single
from polarcast.models.common.settings import Limits
from polarcast.models.registry import get_model

_ALSO: dict[type, str] = {bool: "true, false", int: "or a number"}


def check(config: RunConfig) -> None:
    """Validate a configuration. Raises BadInput for invalid or inconsistent values."""
    check_values(RunConfig, vars(config))
    name = config.model["name"]
    check_values(get_model(name).config, config.model, "model.")
    if config.task not in get_model(name).tasks:
        raise BadInput(f"{name} does not support {config.task}", "model.name", "choose another model")
    if config.task == "qpe" and "kdp" in config.variables():
        raise BadInput(
            "KDP is forbidden in QPE: the archive's rain grid is computed from it", "data.variables", "use zh and zdr"
        )
    if config.is_placebo and set(config.variables()) == {"zh"}:
        raise BadInput("takes all variables but zh from other events, and there is no other", "arm", "use arm=radar")
    if config.is_nowcast and config.data.context:
        raise BadInput("not supported for nowcasts", "data.context", "remove it, and set data.seen_frames instead")
    _check_degrade(config)
    _check_dropped(config.data)
    _check_base(config)
    _check_train(config.train)
    if config.start and not get_model(name).trained:
        raise BadInput(f"{name} has no training that could start from weights", "train.start_from", "remove it")


def check_values(kind: type[Any], values: Mapping[str, Any], prefix: str = "") -> None:
    """Check each value of a dataclass, and of those inside it, against the limits of its field.

    Args:
        kind: The dataclass; its fields have `Limits`.
        values: Value of each field.
        prefix: Dotted key of the dataclass, such as `train.`, for messages.

    Raises:
        BadInput: a value is outside the limits, not finite, or text that is empty or has control characters.
    """
    plain = kind()
    for field in fields(kind):
        value, key = values[field.name], f"{prefix}{field.name}"
        if is_dataclass(getattr(plain, field.name)):
            check_values(type(value), vars(value), f"{key}.")
        elif problem := _problem(value, field.metadata.get("limits", Limits())):
            # A field of several types takes more than its named values.
            also = [_ALSO[kind] for kind in get_args(field.type) if kind in _ALSO and isinstance(value, str)]
            raise BadInput(problem[0], key, ", ".join([problem[1], *also]))


def _check_dropped(data: DataConfig) -> None:
    if data.drop_by != QUALITY and not data.drop_poor:
        raise BadInput("no windows are dropped", "data.drop_by", "set data.drop_poor, or remove it")
    if data.drop_poor and data.reader == "stream":
        raise BadInput("not supported for streams", "data.drop_poor", "set data.reader=mapped, or remove it")


def _check_base(config: RunConfig) -> None:
    name = config.model["name"]
    model, count = get_model(name), len(config.bases)
    if model.several_bases and count < 2:
        fix = "give their folders, such as base=runs/unet,runs/wf_unet"
        raise BadInput(f"{name} requires two or more trained base runs", "base", fix)
    if model.needs_base and not count:
        raise BadInput(f"{name} requires a trained base run", "base", "give its folder, such as base=runs/unet")
    if count and not model.needs_base:
        raise BadInput(f"{name} does not take a base run", "base", "remove it, or choose another model.name")
    if count > 1 and not model.several_bases:
        raise BadInput(
            f"{name} takes one base run, got {count}", "base", "give one folder, or choose another model.name"
        )
    if config.data.only_held_out and not config.data.hold_out:
        raise BadInput("no events are held out", "data.only_held_out", "set data.hold_out to the value of the base run")


def _check_degrade(config: RunConfig) -> None:
    """Check the perturbations of training samples. Those of variables that only the dual-pol arm reads are allowed."""
    name = config.model["name"]
    if config.data.degrade and not get_model(name).trained:
        raise BadInput(f"{name} is fitted to the data as they are", "data.degrade", "remove it")
    arms = {*config.variables(), *config.arm_variables("dualpol")}
    for step in parse_ranges(config.data.degrade):
        if obstacle := Perturbation((step,)).obstacle(arms, config.data.heights_km):
            raise BadInput(f"{step[0]} does not apply: {obstacle}", "data.degrade", "remove it")


def _check_train(train: TrainConfig) -> None:
    try:
        check_single(train.validate_scores, "train.validate_scores")
    except BadInput as error:
        raise error.at("train.validate_scores") from None
    if train.zero_stage and train.engine != "deepspeed":
        raise BadInput(
            f"{train.engine} does not support ZeRO stage {train.zero_stage}",
            "train.zero_stage",
            "give 0 to 3 with engine=deepspeed, or 0",
        )
    if train.offload_optimizer and not train.zero_stage:
        raise BadInput("requires ZeRO stage 1 or higher", "train.offload_optimizer", "set train.zero_stage=1")


def _problem(value: Any, limits: Limits) -> tuple[str, str] | None:
    """Return what is wrong with a value, and how to fix it; None if it is within the limits."""
    if isinstance(value, list | tuple):
        found = (problem for item in value if (problem := _problem(item, limits)))
        return _problem_of_list(value, limits) or next(found, None)
    if isinstance(value, str):
        return _problem_of_text(value, limits.choices)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _problem_of_number(value, limits)
    return None


def _problem_of_list(values: Sequence[Any], limits: Limits) -> tuple[str, str] | None:
    if odd := [value for value in values if value is None or isinstance(value, list | tuple | dict)]:
        return f"must hold single values, got {shown(odd[0])}", "give a flat list, such as [1, 2]"
    if not limits.shortest <= len(values) <= limits.longest:
        same = limits.shortest == limits.longest
        counts = f"{limits.shortest}" if same else f"{limits.shortest} to {limits.longest}"
        return (f"has {len(values)} values" if values else "must not be empty"), f"give {counts} values"
    if limits.distinct and (twice := [value for value in values if values.count(value) > 1]):
        return f"has {shown(twice[0])} more than once", "give it once"
    return None


def _problem_of_text(text: str, choices: Sequence[str]) -> tuple[str, str] | None:
    if choices:
        return None if text in choices else (f"unknown value {shown(text)}", f"choose from: {', '.join(choices)}")
    if not text.strip():
        return "must not be empty", "give a value, or remove it"
    return (f"has control characters: {shown(text)}", "remove them") if CONTROL.search(text) else None


def _problem_of_number(number: float, limits: Limits) -> tuple[str, str] | None:
    bounds = (
        ("at least", limits.least, operator.ge),
        ("above", limits.above, operator.gt),
        ("at most", limits.most, operator.le),
        ("below", limits.below, operator.lt),
    )
    given = [(f"{words} {bound}", holds(number, bound)) for words, bound, holds in bounds if bound is not None]
    broken = [
        rule for rule, holds in [("a finite number", isinstance(number, int) or isfinite(number)), *given] if not holds
    ]
    fix = f"give a number {' and '.join(rule for rule, _ in given)}" if given else "give another number"
    return (f"must be {broken[0]}, got {shown(number)}", fix) if broken else None
