"""Result of an explanation: Shapley values with intervals, and attributions of single pixels; read and write."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, as_one_line
from polarcast.data.files import read_limited, replacing
from polarcast.data.npz import check_npz

FORMAT = "polarcast-explain/1"
EXPLAIN_FILE, PIXELS_FILE = "explain.json", "pixels.npz"
_FIX = "run: polarcast explain RUN"
_DAMAGE = (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError, EOFError, BadZipFile)


@dataclass(frozen=True)
class PlayerValue:
    """Shapley value of one player, with its interval; the limits are None if too few groups of events define them."""

    player: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ExplainedScore:
    """Shapley values of one score; they add up to `full` − `empty`.

    Attributes:
        score: Name of the score, such as `csi@threshold=10`.
        heading: Readable name with its direction; errors are negated, so that higher is better.
        unit: Unit of the values.
        empty: Value without any player, None if undefined.
        full: Value with all players: that of the run's usual forecast.
        values: Values of the players.
    """

    score: str
    heading: str
    unit: str
    empty: float | None
    full: float | None
    values: tuple[PlayerValue, ...]


@dataclass(frozen=True)
class Pixels:
    """Attributions of single pixels, drawn at random among those with echo, averaged over the runs.

    Attributes:
        values: Shapley value of each player for the forecast of each pixel, (n, k) float32 in `unit`.
        features: Mean of each player's own fields at the pixel, (n, k) float32 in physical units.
        unit: Unit of the forecast.
    """

    values: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    unit: str


@dataclass(frozen=True)
class Explanation:
    """Shapley values of a model, from one or several runs that differ in seed only.

    Attributes:
        runs: Paths of the runs.
        task: qpe or nowcast.
        arm: Arm of the runs.
        players: Names of the players, in the order of all values.
        imputation: marginal or conditional.
        background: Number of donors of a window (`size`), `seed`, and where they are `from`.
        windows: Number of windows explained.
        events: Number of their events.
        groups: Number of their groups of events.
        seeds: Number of runs.
        members: Ensemble size.
        scores: Values of each score.
        forecast: Mean absolute attribution of the forecast at pixels with echo, in the unit of the forecast.
        pixels: Attributions of single pixels.
        lacks_seeds: Whether the intervals leave out the variation between training runs, because there is only one.
    """

    runs: tuple[str, ...]
    task: str
    arm: str
    players: tuple[str, ...]
    imputation: str
    background: Mapping[str, Any]
    windows: int
    events: int
    groups: int
    seeds: int
    members: int
    scores: tuple[ExplainedScore, ...]
    forecast: tuple[PlayerValue, ...]
    pixels: Pixels = field(repr=False, compare=False)
    lacks_seeds: bool = False

    def as_record(self) -> dict[str, Any]:
        """Return the content of `explain.json`: everything but the pixels."""
        content = {name: value for name, value in vars(self).items() if name not in ("pixels", "scores", "forecast")}
        values = {"scores": [asdict(of) for of in self.scores], "forecast": [asdict(of) for of in self.forecast]}
        return {"format": FORMAT, **content, "background": dict(self.background), **values}

    def __getitem__(self, score: str) -> ExplainedScore:
        """Return the values of a score by its name. Raises KeyError if it was not computed."""
        return next((of for of in self.scores if of.score == score), None) or _missing(score)


def _missing(score: str) -> ExplainedScore:
    raise KeyError(score)


def write_explanation(folder: Path, explanation: Explanation) -> None:
    """Write `explain.json` and `pixels.npz`. An error or a kill leaves the old files, the new ones, or no JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = explanation.pixels
    with replacing(folder / PIXELS_FILE) as arrays, replacing(folder / EXPLAIN_FILE) as content:
        with arrays.open("wb") as stream:
            np.savez(stream, values=pixels.values, features=pixels.features, unit=np.array(pixels.unit))
        content.write_text(json.dumps(explanation.as_record(), indent=1) + "\n", encoding="utf-8")
        # Files of two explanations never stand beside each other: the JSON goes first and comes last.
        (folder / EXPLAIN_FILE).unlink(missing_ok=True)


def read_explanation(folder: Path) -> Explanation:
    """Read what `write_explanation` wrote.

    Raises:
        BadInput: there is none, it is damaged, or of another format.
    """
    path = folder / EXPLAIN_FILE
    if not path.is_file():
        raise BadInput("no explanation: it has no explain.json", folder, _FIX)
    try:
        content = json.loads(read_limited(path).decode())
        if content.pop("format") != FORMAT:
            raise BadInput(f"not an explanation of the supported format {FORMAT}", path, _FIX)
        content["scores"] = tuple(
            ExplainedScore(**{**of, "values": tuple(PlayerValue(**value) for value in of["values"])})
            for of in content["scores"]
        )
        content["forecast"] = tuple(PlayerValue(**value) for value in content["forecast"])
        found = Explanation(**_tuples(content), pixels=_read_pixels(folder / PIXELS_FILE))
        _check(found)
    except _DAMAGE as error:
        raise BadInput(f"is damaged: not an explanation ({as_one_line(str(error))})", path, _FIX) from None
    return found


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "runs": tuple(content["runs"]), "players": tuple(content["players"])}


def _read_pixels(path: Path) -> Pixels:
    check_npz(path)
    with np.load(io.BytesIO(read_limited(path)), allow_pickle=False) as arrays:
        return Pixels(arrays["values"], arrays["features"], str(arrays["unit"]))


def _check(found: Explanation) -> None:
    """Raise ValueError if players and values do not match."""
    n = len(found.players)
    lists = [of.values for of in found.scores] + [found.forecast]
    if any([value.player for value in of] != list(found.players) for of in lists):
        raise ValueError("the values are of other players")
    if found.pixels.values.shape != found.pixels.features.shape or found.pixels.values.shape[:1] != (n,):
        raise ValueError("the pixels are of other players")
