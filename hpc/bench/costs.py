"""Cost of the models of a suite by arm: parameters and FLOPs, from the model cards of their runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json
from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.suite import Suite

REFERENCE = "dualpol"
"""Arm whose parameters the others match; ratios are relative to it."""
QUANTITIES = {
    "parameters": "parameters",
    "training_flops": "FLOPs of a training step",
    "forecast_flops": "FLOPs of a forecast",
    "run_flops": "FLOPs of all training, base runs included",
}
"""Names of the costs. A multiply-add counts as two; a step and a forecast are of one sample and one member."""


@dataclass(frozen=True)
class Cost:
    """Cost of one model on one arm, the same for every seed.

    Attributes:
        model, label, arm: Position in a table.
        parameters: Number of trained parameters; None for a model without any.
        training_flops: FLOPs of a training step of one sample, forward and backward; None without training.
        forecast_flops: FLOPs of one forecast, including those of the base runs; None for a model without a network.
        run_flops: FLOPs of all training steps of the run and of its base runs; None without training, or in older runs.
    """

    model: str
    label: str
    arm: str
    parameters: float | None
    training_flops: float | None
    forecast_flops: float | None
    run_flops: float | None = None

    def as_row(self) -> dict[str, object]:
        """Return plain values for JSON, CSV and Parquet."""
        return asdict(self)


def costs_of(suite: Suite, runs: Mapping[tuple[str, str], Path], models: Iterable[str] | None = None) -> list[Cost]:
    """Collect the costs of the models of a suite, by model and arm.

    Args:
        suite: Suite that defines labels, arms, and the models whose radar arm others show.
        runs: Folder of one run, any seed, by (model, arm); missing ones are left out.
        models: Models, in this order; by default all of the suite.

    Returns:
        Costs of models that have parameters or FLOPs; a run without a readable model card is left out.
    """
    found = []
    for model in models or suite.models:
        for arm, source in suite.model_by_arm(model).items():
            if (path := runs.get((source, arm))) is not None:
                card = _card(path)
                values = {name: _number(card.get(name)) for name in QUANTITIES}
                found.append(Cost(model, suite.models[model].label, arm, **values))
    return [cost for cost in found if any(getattr(cost, name) for name in QUANTITIES)]


def _card(run: Path) -> dict[str, object]:
    """Read the model card of a run; empty without one, or if it is damaged, because it is informative only."""
    with suppress(BadInput, TypeError, RecursionError):
        return read_json(run / "card.json")
    return {}


def _number(value: object) -> float | None:
    """Return a positive finite number of a model card; None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 < value < math.inf else None  # type: ignore[operator, return-value]


def ratios_of(costs: Sequence[Cost], quantity: str) -> dict[tuple[str, str], float]:
    """Return the ratio of a cost to that of the dual-pol arm, by (model, arm), for the other arms.

    Args:
        costs: Costs of the models.
        quantity: Key of `QUANTITIES`.
    """
    values = {(cost.model, cost.arm): getattr(cost, quantity) for cost in costs}
    return {
        (model, arm): value / reference
        for (model, arm), value in values.items()
        if arm != REFERENCE and value and (reference := values.get((model, REFERENCE)))
    }


def cost_note(costs: Sequence[Cost]) -> str:
    """Return a sentence on the ratio of the arms' parameters and FLOPs by model; empty without two arms.

    Example: `parameters and training FLOPs relative to dual-pol: radar: U-Net 0.997, 0.991`.
    """
    parameters, flops = (ratios_of(costs, quantity) for quantity in ("parameters", "training_flops"))
    labels = {cost.model: cost.label for cost in costs}
    by_arm = {
        arm: ", ".join(
            f"{labels[model]} {ratio:.3f} and {flops[model, arm]:.3f}"
            for (model, a), ratio in parameters.items()
            if a == arm and (model, arm) in flops
        )
        for arm in dict.fromkeys(arm for _, arm in parameters)
    }
    parts = [f"{ARM_NAMES[arm]}: {text}" for arm, text in by_arm.items() if text]
    return (
        f"parameters and FLOPs of a training step, relative to {ARM_NAMES[REFERENCE]}: {'; '.join(parts)}"
        if parts
        else ""
    )


def cost_rows(costs: Sequence[Cost]) -> list[dict[str, object]]:
    """Return a row for each model and arm: its costs, and the ratio of each to that of the dual-pol arm.

    Ratios are in `parameters_ratio`, `training_flops_ratio`, `forecast_flops_ratio` and `run_flops_ratio`; None where
    undefined, 1 for the dual-pol arm itself.
    """
    ratios = {name: ratios_of(costs, name) for name in QUANTITIES}
    return [
        {**cost.as_row(), **{f"{name}_ratio": _ratio(cost, name, ratios[name]) for name in QUANTITIES}}
        for cost in costs
    ]


def _ratio(cost: Cost, quantity: str, ratios: Mapping[tuple[str, str], float]) -> float | None:
    if cost.arm == REFERENCE:
        return 1.0 if getattr(cost, quantity) else None
    return ratios.get((cost.model, cost.arm))
