"""Models, scores and perturbations of a robustness analysis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from polarcast.data.arguments import text_of
from polarcast.data.degrade.perturbation import (
    KINDS,
    LOST,
    LOST_HEIGHT,
    NONE,
    Level,
    Perturbation,
    checked_name,
    level_text,
)
from polarcast.data.errors import BadInput, shown

COMBINED = "combined"
"""Name of the list of perturbations that combine several kinds."""
_MOST_LEVELS = 100
_BIASES: dict[str, list[Any]] = {
    "zdr_bias": [-0.5, -0.25, 0, 0.25, 0.5],
    "zh_bias": [-2, -1, 0, 1, 2],
}
_OTHERS: dict[str, list[Any]] = {
    "noise": [1, 2, 3, 4],
    "kdp_smoothing": [1, 5, 9],
    "attenuation": [0, 0.5, 1],
    "blockage": [0, 0.25, 0.5],
    "resolution": [1, 2, 4],
    LOST: ["zdr", "kdp"],
    LOST_HEIGHT: [1, 3, 7],
}
USUAL: dict[str, list[Any]] = {**_BIASES, **_OTHERS}
"""Perturbations and levels by default. Those that do not apply to the task or the archive are left out."""
USUAL_SCORES = {"qpe": ["rmse", "csi@threshold=10"], "nowcast": ["csi@threshold=20", "csi@threshold=35"]}
"""Scores by default, by task."""


@dataclass
class RobustnessSpec:
    """Robustness analysis of a suite."""

    models: list[str] | None = None
    """Models, by name; by default all that tables show and that have both arms."""
    scores: list[str] = field(default_factory=list)
    """Scores; by default rmse and csi@threshold=10 of rain, csi@threshold=20 and csi@threshold=35 of nowcasts."""
    perturbations: dict[str, list[Any]] = field(default_factory=dict)
    """Levels by kind, such as {zdr_bias: [-0.5, 0, 0.5], lost: [zdr]}; by default all kinds. `combined` is a list of
    several at once, such as zdr_bias=0.3,noise=2."""


@dataclass(frozen=True)
class Series:
    """Levels of one kind of perturbation, in ascending order, with the one that changes nothing.

    Attributes:
        name: Kind, or `combined`.
        label: Name in figures and tables.
        unit: Unit of the levels; empty if they have none.
        levels: Numbers; or, of what has no order, `none` and the lost variables or heights, or the combinations.
        perturbations: Perturbation of each level.
    """

    name: str
    label: str
    unit: str
    levels: tuple[Level, ...]
    perturbations: tuple[Perturbation, ...]

    @property
    def is_ordered(self) -> bool:
        """Whether the levels are numbers on an axis that contains the level that changes nothing."""
        return self.name not in (COMBINED, LOST, LOST_HEIGHT)

    @property
    def neutral(self) -> int | None:
        """Position of the level that changes nothing; None without order."""
        return self.levels.index(float(KINDS[self.name].neutral or 0)) if self.is_ordered else None

    def only(self, kept: Sequence[bool]) -> "Series":
        """Return the levels that are kept."""
        pairs = [
            p for p, is_kept in zip(zip(self.levels, self.perturbations, strict=True), kept, strict=True) if is_kept
        ]
        return replace(self, levels=tuple(level for level, _ in pairs), perturbations=tuple(p for _, p in pairs))


def series_of(perturbations: Mapping[str, Sequence[Any]], where: str = "robustness.perturbations") -> list[Series]:
    """Check the levels of each kind, and return them in ascending order with the neutral one.

    Raises:
        BadInput: a kind is unknown, or a level is out of range, repeated or missing.
    """
    return [_series(name, levels, where) for name, levels in perturbations.items()]


def _series(name: str, levels: Any, where: str) -> Series:
    if not isinstance(levels, list | tuple) or not levels:
        raise BadInput(f"expected a list of levels, got {shown(levels)}", f"{where}, {name}", "give [0, 0.5, 1]")
    if len(levels) > _MOST_LEVELS:
        raise BadInput(f"has {len(levels)} levels", f"{where}, {name}", f"give at most {_MOST_LEVELS}")
    if name == COMBINED:
        found = [Perturbation.parse(level, f"{where}, {name}") for level in levels]
        chosen = dict.fromkeys([Perturbation(), *found])
        return Series(name, "several at once", "", tuple(map(str, chosen)), tuple(chosen))
    kind = KINDS[checked_name(name, where)]
    parsed = [Perturbation.parse(f"{name}={_plain(level)}", where).steps[0][1] for level in levels]
    if kind.neutral is not None:
        parsed = sorted(map(float, parsed))
    texts = [level_text(level) for level in parsed]
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise BadInput(f"{twice[0]} appears twice", f"{where}, {name}", "give each level once")
    if kind.neutral is not None:
        parsed = sorted({*parsed, float(kind.neutral)})
    steps = [Perturbation(((name, level),)) for level in parsed]
    if kind.neutral is None:
        return Series(name, kind.label, kind.unit, (NONE, *parsed), (Perturbation(), *steps))
    return Series(name, kind.label, kind.unit, tuple(parsed), tuple(steps))


def _plain(level: Any) -> str:
    return repr(level) if isinstance(level, float) else str(level)


def parse_series(texts: Sequence[str], where: str = "--perturb") -> dict[str, list[Any]]:
    """Parse perturbations of a command line.

    `zdr_bias=-0.5:0.5:0.25` is a range with its step, `noise=1,2,4` a list, `zdr_bias=0.3,noise=2` both at once.

    Raises:
        BadInput: a text is neither, or a kind is unknown.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        parts = text_of(text, where, "zdr_bias=-0.5:0.5:0.25").split(",")
        if sum("=" in part for part in parts) > 1:
            found.setdefault(COMBINED, []).append(str(Perturbation.parse(text, where)))
            continue
        name, equals, rest = text.partition("=")
        if not equals or not rest.strip():
            raise BadInput(f"{shown(text)} has no level", where, "give for example zdr_bias=-0.5:0.5:0.25")
        levels = found.setdefault(checked_name(name.strip(), where), [])
        levels += [level for part in rest.split(",") for level in _range(part.strip(), f"{where}, {name.strip()}")]
    return found


def _range(text: str, where: str) -> list[Any]:
    """Return the levels of `low:high:step`, or a single one."""
    if ":" not in text:
        return [text]
    try:
        low, high, step = map(float, text.split(":"))
        count = (high - low) / step
    except (ValueError, ZeroDivisionError):
        raise BadInput(f"{shown(text)} is not a range", where, "give low:high:step, such as -0.5:0.5:0.25") from None
    if not 0 <= count <= _MOST_LEVELS:
        raise BadInput(f"{text} has no levels, or too many", where, f"give 1 to {_MOST_LEVELS}")
    return [float(f"{low + n * step:.9g}") for n in range(int(count + 1e-9) + 1)]
