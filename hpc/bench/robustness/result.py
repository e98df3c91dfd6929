"""Result of a robustness analysis, and its file `robustness.json`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.files import read_limited, write_json
from polarcast.hpc.bench.robustness.crossing import Crossing

FORMAT = "polarcast-robustness/1"
FILE = "robustness.json"
MADE_FROM = "made_from.json"
"""What a suite made the result from: it is not made again from the same."""


@dataclass(frozen=True)
class Number:
    """A value with its interval; None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Point:
    """Scores at one level.

    Attributes:
        level: Level of the perturbation.
        radar, dualpol: Score of each arm.
        gain: Gain of dual-pol over radar, positive if dual-pol is better: 1 − dualpol / radar of errors, otherwise the
            difference.
    """

    level: float | str
    radar: Number
    dualpol: Number
    gain: Number


@dataclass(frozen=True)
class RobustCurve:
    """Scores of one model along the levels of one perturbation.

    Attributes:
        model, score, perturbation: Names.
        neutral: Level that changes nothing; None if the levels have no order.
        points: Scores at each level, in ascending order.
        gone: Where the gain is gone, above and below the neutral level; empty if the levels have no order.
    """

    model: str
    score: str
    perturbation: str
    neutral: float | None
    points: tuple[Point, ...]
    gone: tuple[Crossing, ...]


@dataclass(frozen=True)
class RobustModel:
    """A model of the analysis: its label, its number of seeds, and the perturbations that it was trained with."""

    model: str
    label: str
    seeds: int
    lacks_seeds: bool
    degrade: tuple[str, ...] = ()


@dataclass(frozen=True)
class RobustScore:
    """A score of the analysis: its heading and unit, and whether its gain is a ratio."""

    score: str
    heading: str
    unit: str
    is_ratio: bool


@dataclass(frozen=True)
class Robustness:
    """Result of a robustness analysis.

    Attributes:
        suite, task: Name and task of the suite.
        events, groups: Number of test events, and of independent groups of them.
        models, scores: Rows.
        labels: Kind of perturbation → (name in figures, unit).
        curves: One for each model, score and kind.
        left_out: What was not examined, and why.
    """

    suite: str
    task: str
    events: int
    groups: int
    models: tuple[RobustModel, ...]
    scores: tuple[RobustScore, ...]
    labels: Mapping[str, tuple[str, str]]
    curves: tuple[RobustCurve, ...]
    left_out: tuple[str, ...] = ()

    @property
    def intervals(self) -> str:
        """Name of the intervals: one seed of a trained model has the events' variation only."""
        return "events' intervals" if any(model.lacks_seeds for model in self.models) else "95% intervals"

    def curve(self, model: str, score: str, perturbation: str) -> RobustCurve:
        """Return one curve."""
        key = (model, score, perturbation)
        return next(c for c in self.curves if (c.model, c.score, c.perturbation) == key)


def write_robustness(folder: Path, result: Robustness) -> None:
    """Write `robustness.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, as_record(result))


def as_record(result: Robustness) -> dict[str, Any]:
    """Return a result as plain values for JSON."""
    return {"format": FORMAT, **asdict(result)}


def read_robustness(folder: Path) -> Robustness:
    """Read `robustness.json`. Raises BadInput if it is missing, damaged, or of another format."""
    path = folder / FILE
    fix = "run: polarcast robustness SUITE_FOLDER"
    try:
        content = json.loads(read_limited(path).decode())
        if (version := content.pop("format")) != FORMAT:
            raise BadInput(f"format {version!r:.40}, this version reads {FORMAT!r}", path, fix)
        return _from_json(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"is missing or damaged ({type(error).__name__})", path, fix) from None


def _from_json(content: dict[str, Any]) -> Robustness:
    made: dict[str, Any] = {
        "models": tuple(RobustModel(**{**m, "degrade": tuple(m["degrade"])}) for m in content.pop("models")),
        "scores": tuple(RobustScore(**s) for s in content.pop("scores")),
        "labels": {name: (label, unit) for name, (label, unit) in content.pop("labels").items()},
        "curves": tuple(_curve(c) for c in content.pop("curves")),
        "left_out": tuple(content.pop("left_out")),
    }
    return Robustness(**content, **made)


def _curve(content: dict[str, Any]) -> RobustCurve:
    points = tuple(
        Point(p["level"], Number(**p["radar"]), Number(**p["dualpol"]), Number(**p["gain"])) for p in content["points"]
    )
    return RobustCurve(**{**content, "points": points, "gone": tuple(Crossing(**g) for g in content["gone"])})


def number(value: float | None, low: float | None = None, high: float | None = None) -> Number:
    """Return a number with None for what is not finite; limits only with both of them."""
    finite = [x if x is not None and abs(x) < float("inf") else None for x in (value, low, high)]
    return Number(*finite) if None not in finite[1:] else Number(finite[0])


def rows_of(result: Robustness) -> Sequence[dict[str, Any]]:
    """Return one row for each model, score and level, for CSV."""
    models = {model.model: model for model in result.models}
    rows = []
    for curve in result.curves:
        _, unit = result.labels[curve.perturbation]
        for point in curve.points:
            row: dict[str, Any] = {
                "model": curve.model, "label": models[curve.model].label, "seeds": models[curve.model].seeds,
                "score": curve.score, "perturbation": curve.perturbation, "level": point.level, "unit": unit,
            }  # fmt: skip
            for name in ("radar", "dualpol", "gain"):
                found: Number = getattr(point, name)
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
            rows.append(row)
    return rows
