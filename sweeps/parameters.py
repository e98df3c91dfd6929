"""What a search may choose: one key of the configuration, from where, and under which condition."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polarcast.data.errors import BadInput

if TYPE_CHECKING:
    from optuna.trial import Trial

Point = dict[str, Any]
"""Key → value of everything that was chosen."""


@dataclass(frozen=True)
class Parameter(ABC):
    """One key of the configuration; only chosen where `when` holds of what was chosen before."""

    key: str
    when: Mapping[str, tuple[Any, ...]]

    @abstractmethod
    def suggest(self, trial: "Trial") -> Any:
        """A value, by the searcher."""

    @abstractmethod
    def grid(self, count: int) -> list[Any]:
        """Every choice, or so many values over the range."""

    @property
    @abstractmethod
    def extremes(self) -> list[Any]:
        """Values that must all be valid, for all others to be."""

    @abstractmethod
    def as_distribution(self) -> Any:
        """As Optuna knows it."""

    def is_chosen(self, point: Mapping[str, Any]) -> bool:
        """Whether its condition holds."""
        return all(point.get(key) in values for key, values in self.when.items())

    def encode(self, value: Any) -> Any:
        """A value as Optuna keeps it."""
        return value


@dataclass(frozen=True)
class Choice(Parameter):
    """One of some values."""

    values: tuple[Any, ...]

    def suggest(self, trial: "Trial") -> Any:
        """One of them; Optuna knows each as text, for lists are none of its choices."""
        by_text = {self.encode(value): value for value in self.values}
        return by_text[trial.suggest_categorical(self.key, list(by_text))]

    def grid(self, count: int) -> list[Any]:
        """All."""
        return list(self.values)

    @property
    def extremes(self) -> list[Any]:
        """All."""
        return list(self.values)

    def as_distribution(self) -> Any:
        """Categorical."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([self.encode(value) for value in self.values])

    def encode(self, value: Any) -> str:
        """As JSON."""
        return json.dumps(value)


@dataclass(frozen=True)
class Range(Parameter):
    """A number between two, evenly or evenly in its logarithm."""

    low: float
    high: float
    log: bool = False
    is_integer: bool = False

    def suggest(self, trial: "Trial") -> float | int:
        """A number."""
        if self.is_integer:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def grid(self, count: int) -> list[Any]:
        """Numbers from end to end; integers once each."""
        import numpy as np

        spaced = (np.geomspace if self.log else np.linspace)(self.low, self.high, count).tolist()
        return list(dict.fromkeys(round(v) for v in spaced)) if self.is_integer else spaced

    @property
    def extremes(self) -> list[Any]:
        """Its ends."""
        return [int(v) for v in (self.low, self.high)] if self.is_integer else [self.low, self.high]

    def as_distribution(self) -> Any:
        """Float or integer."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.is_integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


_KINDS = ("choice", "uniform", "log_uniform", "integer", "log_integer")


def parse_parameter(key: str, content: Any) -> Parameter:
    """`{choice: […]}`, `{uniform: [a, b]}`, `{log_uniform: [a, b]}`, `{integer: [a, b]}` or `{log_integer: [a, b]}`,
    each with an optional `when: {key: value or values}`.

    Raises:
        BadInput: it is none of these, or a range is empty.
    """
    kinds = [k for k in content if k != "when"] if isinstance(content, Mapping) else []
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise BadInput("not a parameter", key, f"give one of {', '.join(_KINDS)}, such as {{choice: [1, 2]}}")
    (kind,), values = kinds, content[kinds[0]]
    when = {k: tuple(v) if isinstance(v, list) else (v,) for k, v in (content.get("when") or {}).items()}
    if kind == "choice":
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise BadInput("a choice needs a list of values", key, "such as {choice: [1, 2]}")
        return Choice(key, when, tuple(values))
    return _range(key, kind, values, when)


def _range(key: str, kind: str, values: Any, when: Mapping[str, tuple[Any, ...]]) -> Range:
    is_pair = isinstance(values, Sequence) and len(values) == 2
    if not is_pair or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        raise BadInput(f"{kind} needs its two ends", key, f"such as {{{kind}: [1, 10]}}")
    low, high = values
    log, is_integer = kind.startswith("log"), kind.endswith("integer")
    if low >= high or (log and low <= 0) or (is_integer and not all(isinstance(v, int) for v in values)):
        raise BadInput(
            f"no {kind} range from {low} to {high}", key, "give the smaller end first, above 0 for logarithms"
        )
    return Range(key, when, low, high, log, is_integer)


def suggest(parameters: Sequence[Parameter], trial: "Trial") -> Point:
    """A point by the searcher: each parameter whose condition holds."""
    point: Point = {}
    for parameter in parameters:
        if parameter.is_chosen(point):
            point[parameter.key] = parameter.suggest(trial)
    return point


def grid(parameters: Sequence[Parameter], count: int) -> list[Point]:
    """Every point of the grid, with so many values over each range."""
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


def encoded(parameters: Sequence[Parameter], point: Mapping[str, Any]) -> dict[str, Any]:
    """A point as Optuna keeps it."""
    return {p.key: p.encode(point[p.key]) for p in parameters if p.key in point}
