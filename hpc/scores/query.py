"""Parse and evaluate score names such as `rmse`, `csi@threshold=10` or `hk@threshold=10,window=9,lead_time=60`."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from polarcast.data.arguments import text_of
from polarcast.data.errors import BadInput, nearest
from polarcast.hpc.scores import support
from polarcast.hpc.scores.metrics import GAIN_AXIS, METRICS, Metric
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import ADDED_LATER, FAMILIES, Family, families

ALL = "*"
ALWAYS = ("lead_time", "height")
"""Axes that every family has."""
_SUMMED = ("class",)
"""Axes that are summed over unless a coordinate is given; all other axes require a coordinate."""
_NAMED = ("field", "change", "pooling")
"""Axes whose coordinates are names."""
_LABELS = {
    "lead_time": "{} min", "height": "{} km", "threshold": "≥ {} {unit}", "class": "observed {} {unit}",
    "window": "within {} px", "pool": "pool {} px", "pooling": "{}", "field": "of the {}",
    "change": "where echo {}", "wavenumber": "k = {}", "quantile": "at {}",
}  # fmt: skip


@dataclass(frozen=True)
class Score:
    """A metric at given coordinates.

    Attributes:
        name: Name of the metric.
        at: Axis → coordinate as text, such as `{"threshold": "10"}`; the range `10-50` excludes its upper limit.
    """

    name: str
    at: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return self.name + ("@" + ",".join(f"{k}={v}" for k, v in self.at.items()) if self.at else "")

    @property
    def metric(self) -> Metric:
        """The metric."""
        return METRICS[self.name]

    @property
    def family(self) -> Family:
        """The family of sums it is computed from."""
        return FAMILIES[self.family_name]

    @property
    def family_name(self) -> str:
        """Name of the metric's family whose axes match the given coordinates.

        Raises:
            BadInput: no family matches; the message lists the coordinates to give.
        """
        given = set(self.at) - set(ALWAYS)
        for name in self.metric.families:
            free = [a for a in FAMILIES[name].axes if a not in self.metric.uses]
            if given <= set(free) and given >= {a for a in free if a not in (*_SUMMED, "field")}:
                return name
        options = [[a for a in FAMILIES[n].axes if a not in self.metric.uses] for n in self.metric.families]
        usage = " or ".join(self.name + ("@" + ",".join(f"{a}=…" for a in axes) if axes else "") for axes in options)
        raise BadInput(f"{str(self)!r} is not a score", "metrics", f"use {usage}")

    def unit(self, protocol: Protocol) -> str:
        """Return the unit of its values."""
        return self.metric.unit.format(unit=protocol.unit)

    def heading(self, protocol: Protocol, without: Sequence[str] = ()) -> str:
        """Return label, coordinates and unit as a table heading, omitting the coordinates of axes in `without`."""
        label = "MAE" if self.name == "crps" and protocol.members == 1 else self.metric.label
        labels = [coordinate_label(axis, value, protocol) for axis, value in self.at.items() if axis not in without]
        unit = self.unit(protocol)
        return " ".join([label, *labels, *([f"[{unit}]"] if unit != "1" else [])])

    def sums(self, records: Records) -> Array:
        """Select the sums of each event that it is computed from, (e, s).

        Those of a gain hold the chosen window, then the smallest one.

        Raises:
            BadInput: the records lack the family or a coordinate.
        """
        if self.family_name not in records.sums:
            raise BadInput(f"these records do not contain {self}", "metrics", self._remedy(records.protocol))
        sums = records.sums[self.family_name]
        axes = [*ALWAYS, *self.family.axes]
        for position in reversed(range(len(axes))):
            if axes[position] not in self.metric.uses:
                sums = self._along(axes[position], sums, 1 + position, records.protocol)
        return sums.reshape(len(sums), -1)

    def _along(self, axis: str, sums: Array, position: int, protocol: Protocol) -> Array:
        """Add up what it selects along an axis; along that of a gain, keep it beside the smallest coordinate."""
        chosen = np.take(sums, self.indices(axis, protocol), position).sum(position)
        if not self.metric.gain_of or axis != GAIN_AXIS:
            return chosen
        return np.stack([chosen, np.take(sums, _smallest(axis, protocol), position)], position)

    def _remedy(self, protocol: Protocol) -> str:
        """Return what to do about records of a protocol that lack the family."""
        if min(protocol.shape) < self.family.least_side:
            return f"score fields of at least {self.family.least_side} × {self.family.least_side} pixels"
        is_older = self.family_name in ADDED_LATER and self.family.applies(protocol)
        return "evaluate the run again with this version" if is_older else "score an ensemble or another task"

    def of(self, sums: Array, protocol: Protocol) -> Array:
        """Compute its value (…) from sums (…, s); NaN where undefined."""
        return self.metric.of(self._shaped(sums, protocol), protocol)

    def pixels(self, sums: Array, protocol: Protocol) -> Array:
        """Return the number of pixels that its value rests on (…), from the same sums (…, s) as `of`.

        Contingency tables and probabilities: pixels of observed events. Moments: pixels of the class. CRPS and other
        ensemble scores: scored pixels. Pooled scores count blocks, SSIM counts windows. NaN for FSS, spectra and SAL:
        their sums do not count pixels; `support` does.
        """
        shaped = self._shaped(sums, protocol)
        # Windows widen the forecast: the observed events are the same in all of them.
        counted = shaped[..., 0, :] if self.metric.gain_of else shaped
        return support.pixels(self.family_name, counted, len(self.metric.uses))

    def support(self, records: Records) -> Array:
        """Return the number of pixels of each event that its value rests on, (e,).

        As `pixels`; for FSS the pixels at or above the threshold in the observation, for spectra and SAL all scored
        pixels. Add up for all events; events above 0 are those that have a say.

        Raises:
            BadInput: the records lack a family or a coordinate.
        """
        at = {axis: value for axis, value in self.at.items() if axis in (*ALWAYS, "threshold")}
        names = {"fractions": "csi", "spectrum": "mae", "sal": "mae"}
        score = Score(names[self.family_name], at) if self.family_name in names else self
        return score.pixels(score.sums(records), records.protocol)

    def reason(self, sums: Array, protocol: Protocol) -> str:
        """Return why its value from pooled sums (s,) is undefined, in a few words; empty if it is defined."""
        if not np.isnan(self.of(sums, protocol)):
            return ""
        within = {"class": "pixel of the class", "change": "field where echo {}"}
        axis = next((axis for axis in within if axis in self.at), "")
        event = coordinate_label("threshold", self.at["threshold"], protocol) if "threshold" in self.at else ""
        subset = within[axis].format(self.at[axis]) if axis else ""
        shaped = self._shaped(sums, protocol)
        name, counted = (self.metric.gain_of, shaped[0]) if self.metric.gain_of else (self.name, shaped)
        return support.reason(name, self.family_name, counted, event, subset)

    def _shaped(self, sums: Array, protocol: Protocol) -> Array:
        sizes = [len(protocol.axis(axis)) for axis in self.metric.uses] + [2] * bool(self.metric.gain_of)
        return sums.reshape(*sums.shape[:-1], *sizes, len(self.family.columns))

    def indices(self, axis: str, protocol: Protocol) -> list[int]:
        """Return the positions along an axis that it selects. Raises BadInput if there are none."""
        if axis == "field" and axis not in self.at:
            return [len(protocol.fields) - 1]
        if axis in _NAMED:
            return [self._index_of_name(axis, protocol)]
        coordinates = [float(c) for c in protocol.axis(axis)]
        if axis not in self.at:
            return list(range(len(coordinates)))
        low, high = _limits(self.at[axis])
        found = [i for i, c in enumerate(coordinates) if low <= c < high]
        if not found:
            choices = ", ".join(f"{c:g}" for c in coordinates)
            raise BadInput(f"{self}: no coordinate {axis}={self.at[axis]}", "metrics", f"choose from: {choices}")
        return found

    def _index_of_name(self, axis: str, protocol: Protocol) -> int:
        names = [str(name) for name in protocol.axis(axis)]
        if self.at[axis] not in names:
            raise BadInput(f"{self}: no {axis} {self.at[axis]!r}", "metrics", f"choose from: {', '.join(names)}")
        return names.index(self.at[axis])


def parse_score(text: str) -> Score:
    """Parse a score such as `csi@threshold=10,window=9`.

    Raises:
        BadInput: it is not text, the metric is unknown, or a coordinate is unknown, missing or not a number.
    """
    name, _, rest = text_of(text, "score", "rmse").strip().partition("@")
    if name not in METRICS:
        fix = f"{nearest(name, METRICS)} choose from: {', '.join(METRICS)}".strip()
        raise BadInput(f"unknown metric {name!r}", "metrics", fix)
    pairs = [part.partition("=") for part in rest.split(",")] if rest else []
    score = Score(name, {key.strip(): value.strip() for key, _, value in pairs})
    _ = score.family_name
    for axis, value in score.at.items():
        if axis not in _NAMED and value != ALL:
            _limits(value)
    return score


def check_single(texts: Sequence[str], where: str) -> None:
    """Check that each text is exactly one score. Raises BadInput otherwise."""
    for score in map(parse_score, texts):
        if ALL in score.at.values():
            raise BadInput(f"{score} selects many scores", where, "list each score")


def check_available(score: Score, protocol: Protocol, unknown: Collection[str] = ()) -> None:
    """Check that records of a protocol will contain a score.

    Args:
        score: The score; `*` stands for any coordinate.
        protocol: Coordinates of the records.
        unknown: Axes whose coordinates are not known yet.

    Raises:
        BadInput: the family of its sums is not defined for the protocol, or a coordinate is not part of it.
    """
    if score.family_name not in families(protocol):
        needs = "an ensemble" if score.family.needs_members and protocol.members < 2 else "another task"
        raise BadInput(f"{score} is not available", "metrics", f"it needs {needs}")
    for axis in (axis for axis, value in score.at.items() if value != ALL and axis not in unknown):
        score.indices(axis, protocol)


def expand(score: Score, protocol: Protocol, apart: Sequence[str] = ()) -> list[Score]:
    """Expand each `*` into one score per coordinate, except along the axes in `apart`.

    Of a gain, the smallest window is left out, where it is 0.
    """
    axes = [axis for axis, value in score.at.items() if value == ALL and axis not in apart]
    choices = [[plain(c) for c in protocol.axis(axis)] for axis in axes]
    if score.metric.gain_of and GAIN_AXIS in axes:
        del choices[axes.index(GAIN_AXIS)][_smallest(GAIN_AXIS, protocol)]
    return [Score(score.name, {**score.at, **dict(zip(axes, chosen, strict=True))}) for chosen in product(*choices)]


def _smallest(axis: str, protocol: Protocol) -> int:
    """Return the position of the smallest coordinate along an axis of numbers."""
    return int(np.argmin([float(c) for c in protocol.axis(axis)]))


def coordinate_label(axis: str, value: str, protocol: Protocol) -> str:
    """Return a readable label of a coordinate."""
    if axis == "class" and "-" not in value:
        above = [float(c) for c in protocol.classes if float(c) > float(value)]
        value = f"{value}-{plain(above[0])}" if above else f"≥ {value}"
    return _LABELS[axis].format(value.replace("-", "–"), unit=protocol.unit)


def plain(coordinate: float | str) -> str:
    """Format a coordinate as in the text of a score."""
    return coordinate if isinstance(coordinate, str) else f"{coordinate:g}"


def _limits(text: str) -> tuple[float, float]:
    """Parse `10` or `10-50` as a half-open range [low, high). Raises BadInput for anything else."""
    try:
        low, _, high = text.partition("-")
        return float(low), float(high) if high else math.nextafter(float(low), math.inf)
    except ValueError:
        fix = "give a number such as 10, a range such as 10-50, or *"
        raise BadInput(f"{text!r} is not a number", "metrics", fix) from None
