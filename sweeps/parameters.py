"""Search parameters: one configuration key each, with its values and an optional condition."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, Any

from polarcast.data.errors import BadInput, shown

if TYPE_CHECKING:
    from optuna.trial import Trial

Point = dict[str, Any]
"""Configuration key → chosen value."""


@dataclass(frozen=True)
class Parameter(ABC):
    """One configuration key; chosen only if the earlier choices satisfy `when`."""

    key: str
    when: Mapping[str, tuple[Any, ...]]

    @abstractmethod
    def suggest(self, trial: "Trial") -> Any:
        """Return a value suggested by the searcher."""

    @abstractmethod
    def grid(self, count: int) -> list[Any]:
        """Return every choice, or `count` values over the range."""

    @property
    @abstractmethod
    def extremes(self) -> list[Any]:
        """Values to validate; if they are valid, so are all others."""

    @abstractmethod
    def as_distribution(self) -> Any:
        """Return the Optuna distribution."""

    def is_chosen(self, point: Mapping[str, Any]) -> bool:
        """Whether `point` satisfies the condition of this parameter."""
        return all(point.get(key) in values for key, values in self.when.items())

    def encode(self, value: Any) -> Any:
        """Return a value as Optuna stores it."""
        return value


@dataclass(frozen=True)
class Choice(Parameter):
    """A choice from a list of values."""

    values: tuple[Any, ...]

    def suggest(self, trial: "Trial") -> Any:
        """Return one of the values; Optuna stores each as text, because it does not accept lists as choices."""
        by_text = {self.encode(value): value for value in self.values}
        return by_text[trial.suggest_categorical(self.key, list(by_text))]

    def grid(self, count: int) -> list[Any]:
        """Return all values."""
        return list(self.values)

    @property
    def extremes(self) -> list[Any]:
        """All values."""
        return list(self.values)

    def as_distribution(self) -> Any:
        """Return a categorical distribution of the encoded values."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([self.encode(value) for value in self.values])

    def encode(self, value: Any) -> str:
        """Return a value as JSON text."""
        return json.dumps(value)


@dataclass(frozen=True)
class Range(Parameter):
    """A number between two bounds, uniform or log-uniform."""

    low: float
    high: float
    log: bool = False
    is_integer: bool = False

    def suggest(self, trial: "Trial") -> float | int:
        """Return a number within the range."""
        if self.is_integer:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def grid(self, count: int) -> list[Any]:
        """Return evenly spaced numbers including both bounds, without duplicate integers."""
        import numpy as np

        spaced = (np.geomspace if self.log else np.linspace)(self.low, self.high, count).tolist()
        return list(dict.fromkeys(round(v) for v in spaced)) if self.is_integer else spaced

    @property
    def extremes(self) -> list[Any]:
        """Both bounds."""
        return [int(v) for v in (self.low, self.high)] if self.is_integer else [self.low, self.high]

    def as_distribution(self) -> Any:
        """Return a float or integer distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.is_integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


_KINDS = ("choice", "uniform", "log_uniform", "integer", "log_integer")


def parse_parameter(key: str, content: Any) -> Parameter:
    """Parse one parameter of a space file.

    Accept `{choice: […]}`, `{uniform: [a, b]}`, `{log_uniform: [a, b]}`, `{integer: [a, b]}` and
    `{log_integer: [a, b]}`, each with an optional `when: {key: value or values}`.

    Raises:
        BadInput: the content is none of these, or a range is empty.
    """
    kinds = [k for k in content if k != "when"] if isinstance(content, Mapping) else []
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise BadInput(
            f"{shown(content)} is not a parameter", key, f"use one of {', '.join(_KINDS)}, such as {{choice: [1, 2]}}"
        )
    (kind,), values = kinds, content[kinds[0]]
    if not isinstance(content.get("when") or {}, Mapping):
        raise BadInput("`when` is not a condition", key, "write for example when: {model.name: unet}")
    when = {k: tuple(v) if isinstance(v, list) else (v,) for k, v in (content.get("when") or {}).items()}
    if kind == "choice":
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise BadInput("a choice needs a list of values", key, "write for example {choice: [1, 2]}")
        return Choice(key, when, tuple(values))
    return _range(key, kind, values, when)


def _range(key: str, kind: str, values: Any, when: Mapping[str, tuple[Any, ...]]) -> Range:
    is_pair = isinstance(values, Sequence) and len(values) == 2
    if not is_pair or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise BadInput(f"{kind} needs two bounds", key, f"write for example {{{kind}: [1, 10]}}")
    low, high = values
    if not all(-inf < bound < inf for bound in values):
        raise BadInput(f"{kind} needs finite bounds", key, f"write for example {{{kind}: [1, 10]}}")
    log, is_integer = kind.startswith("log"), kind.endswith("integer")
    if low >= high or (log and low <= 0) or (is_integer and not all(isinstance(v, int) for v in values)):
        raise BadInput(
            f"invalid {kind} range from {low} to {high}", key, "give the smaller bound first, above 0 for logarithms"
        )
    return Range(key, when, low, high, log, is_integer)


def suggest(parameters: Sequence[Parameter], trial: "Trial") -> Point:
    """Return a point suggested by the searcher: a value for each parameter whose condition holds."""
    point: Point = {}
    for parameter in parameters:
        if parameter.is_chosen(point):
            point[parameter.key] = parameter.suggest(trial)
    return point


def grid(parameters: Sequence[Parameter], count: int) -> list[Point]:
    """Return every point of the grid, with `count` values over each range."""
    points: list[Point] = [{}]
    for parameter in parameters:
        points = [
            further
            for point in points
            for further in (
                [{**point, parameter.key: value} for value in parameter.grid(count)]
                if parameter.is_chosen(point)
                else [point]
            )
        ]
    return points


def grid_size(parameters: Sequence[Parameter], count: int) -> int:
    """Return an upper bound of the number of points of a grid, without building it."""
    return prod(len(p.values) if isinstance(p, Choice) else count for p in parameters)


def encoded(parameters: Sequence[Parameter], point: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point as Optuna stores it."""
    return {p.key: p.encode(point[p.key]) for p in parameters if p.key in point}
