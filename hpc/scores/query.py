"""A score as people ask for it: `rmse`, `csi@threshold=10`, `hk@threshold=10,window=9,lead_time=60`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.hpc.scores.metrics import METRICS, Metric
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import FAMILIES, Family

ALL = "*"
ALWAYS = ("lead_time", "height")
"""Axes of every family."""
_SUMMED = ("class",)
"""Axes over which a family is summed up unless a coordinate is asked for; of others one must be chosen."""
_NAMED = ("field", "change")
"""Axes whose coordinates are names."""
_LABELS = {
    "lead_time": "{} min", "height": "{} km", "threshold": "≥ {} {unit}", "class": "observed {} {unit}",
    "window": "within {} px", "pool": "pool {} px", "field": "of the {}", "change": "where echo {}",
    "wavenumber": "k = {}",
}  # fmt: skip


@dataclass(frozen=True)
class Score:
    """A metric and the coordinates it is taken at, as text: `{"threshold": "10"}`; a range `10-50` counts from 10 to
    below 50."""

    name: str
    at: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return self.name + ("@" + ",".join(f"{k}={v}" for k, v in self.at.items()) if self.at else "")

    @property
    def metric(self) -> Metric:
        """What it is."""
        return METRICS[self.name]

    @property
    def family(self) -> Family:
        """What it is computed from."""
        return FAMILIES[self.family_name]

    @property
    def family_name(self) -> str:
        """Of the metric's families the one whose axes are those asked for.

        Raises:
            BadInput: none is; says which coordinates are missing.
        """
        asked = set(self.at) - set(ALWAYS)
        for name in self.metric.families:
            free = [a for a in FAMILIES[name].axes if a not in self.metric.uses]
            if asked <= set(free) and asked >= {a for a in free if a not in (*_SUMMED, "field")}:
                return name
        ways = [[a for a in FAMILIES[n].axes if a not in self.metric.uses] for n in self.metric.families]
        told = " or ".join(self.name + ("@" + ",".join(f"{a}=…" for a in way) if way else "") for way in ways)
        raise BadInput(f"{str(self)!r} is no score", "metrics", f"ask for {told}")

    def unit(self, protocol: Protocol) -> str:
        """Of its values."""
        return self.metric.unit.format(unit=protocol.unit)

    def heading(self, protocol: Protocol, without: Sequence[str] = ()) -> str:
        """Label, coordinates and unit, for a table; coordinates that stand elsewhere are left out."""
        label = "MAE" if self.name == "crps" and protocol.members == 1 else self.metric.label
        where = [coordinate_label(axis, value, protocol) for axis, value in self.at.items() if axis not in without]
        unit = self.unit(protocol)
        return " ".join([label, *where, *([f"[{unit}]"] if unit != "1" else [])])

    def sums(self, records: Records) -> Array:
        """What it is computed from: (e, s) sums of each event.

        Raises:
            BadInput: the records don't hold it.
        """
        if self.family_name not in records.sums:
            raise BadInput(f"{self} is not in these records", "metrics", "it needs an ensemble, or another task")
        sums = records.sums[self.family_name]
        axes = [*ALWAYS, *self.family.axes]
        for position in reversed(range(len(axes))):
            if axes[position] not in self.metric.uses:
                chosen = self._chosen(axes[position], records.protocol)
                sums = np.take(sums, chosen, axis=1 + position).sum(1 + position)
        return sums.reshape(len(sums), -1)

    def of(self, sums: Array, protocol: Protocol) -> Array:
        """Its value (…) of sums (…, s), pooled over whatever was added up; NaN where undefined."""
        sizes = (len(protocol.axis(axis)) for axis in self.metric.uses)
        return self.metric.of(sums.reshape(*sums.shape[:-1], *sizes, len(self.family.columns)), protocol)

    def _chosen(self, axis: str, protocol: Protocol) -> list[int]:
        if axis == "field":
            return [protocol.fields.index(self.at.get(axis, protocol.fields[-1]))]
        if axis in _NAMED:
            return [self._named(axis, protocol)]
        coordinates = [float(c) for c in protocol.axis(axis)]
        if axis not in self.at:
            return list(range(len(coordinates)))
        low, high = _limits(self.at[axis])
        found = [i for i, c in enumerate(coordinates) if low <= c < high]
        if not found:
            there = ", ".join(f"{c:g}" for c in coordinates)
            raise BadInput(f"{self}: nothing at {axis}={self.at[axis]}", "metrics", f"there are: {there}")
        return found

    def _named(self, axis: str, protocol: Protocol) -> int:
        names = [str(name) for name in protocol.axis(axis)]
        if self.at[axis] not in names:
            raise BadInput(f"{self}: no {axis} {self.at[axis]!r}", "metrics", f"there are: {', '.join(names)}")
        return names.index(self.at[axis])


def parse_score(text: str) -> Score:
    """`csi@threshold=10,window=9` → the score.

    Raises:
        BadInput: an unknown metric, a coordinate that it doesn't have, or one that is missing.
    """
    name, _, rest = text.strip().partition("@")
    if name not in METRICS:
        raise BadInput(f"unknown metric {name!r}", "metrics", f"there are: {', '.join(METRICS)}")
    pairs = [part.partition("=") for part in rest.split(",")] if rest else []
    score = Score(name, {key.strip(): value.strip() for key, _, value in pairs})
    _ = score.family_name
    for axis, value in score.at.items():
        if axis not in _NAMED and value != ALL:
            _limits(value)
    return score


def check_single(texts: Sequence[str], where: str) -> None:
    """Raises BadInput for what is no score, or several at once."""
    for score in map(parse_score, texts):
        if ALL in score.at.values():
            raise BadInput(f"{score} is many scores", where, "name each of them")


def expand(score: Score, protocol: Protocol, apart: Sequence[str] = ()) -> list[Score]:
    """A score for every coordinate where `*` is asked for, but for axes that are to stay apart."""
    axes = [axis for axis, value in score.at.items() if value == ALL and axis not in apart]
    choices = [[plain(c) for c in protocol.axis(axis)] for axis in axes]
    return [Score(score.name, {**score.at, **dict(zip(axes, chosen, strict=True))}) for chosen in product(*choices)]


def coordinate_label(axis: str, value: str, protocol: Protocol) -> str:
    """A coordinate in words."""
    if axis == "class" and "-" not in value:
        inside = [float(c) for c in protocol.classes if float(c) > float(value)]
        value = f"{value}-{plain(inside[0])}" if inside else f"≥ {value}"
    return _LABELS[axis].format(value.replace("-", "–"), unit=protocol.unit)


def plain(coordinate: float | str) -> str:
    """A coordinate as a score's text names it."""
    return coordinate if isinstance(coordinate, str) else f"{coordinate:g}"


def _limits(text: str) -> tuple[float, float]:
    """`10` → (10, 10); `10-50` → (10, 50). Raises BadInput for anything else."""
    try:
        low, _, high = text.partition("-")
        return float(low), float(high) if high else math.nextafter(float(low), math.inf)
    except ValueError:
        raise BadInput(f"{text!r} is no number", "metrics", "give one like 10, a range like 10-50, or *") from None
