"""What a detector says, and the arrays that detectors look at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Fields = npt.NDArray[np.floating[Any]]
Change = Callable[[Fields], Fields]


def unchanged(fields: Fields) -> Fields:
    """Return fields as they are."""
    return fields


@dataclass(frozen=True)
class Sign:
    """A sign of an error in forecasts.

    Attributes:
        name: Short name, such as `transposed`.
        title: The error in a few words.
        evidence: The numbers that show it.
        fix: What to do.
        undo: Function of forecasts (…, t, z, y, x) that puts them right; None if that is not possible.
    """

    name: str
    title: str
    evidence: str
    fix: str
    undo: Change | None = field(default=None, compare=False)

    def as_record(self) -> dict[str, Any]:
        """Return a JSON-serializable dict."""
        return {"name": self.name, "title": self.title, "evidence": self.evidence, "fix": self.fix}


@dataclass(frozen=True)
class ClaimSample:
    """Forecasts of some windows, and what was observed before, then and after.

    All fields are in the unit of the observation, NaN where nothing was observed. An estimate of rain has t = z = 1.

    Attributes:
        forecast: Ensemble mean as given, (n, t, z, y, x); any value.
        frames: Observed fields in order of time, (n, f, z, y, x).
        start: Position among the frames of the first forecast one.
        cue: What the forecast was made from, (n, z, y, x): zh of the last input frame in dBZ.
        events: Event of each window, (n,).
        unit: dBZ or mm/h.
        step_minutes: Time between frames.
        equal: Largest share over the members of echo pixels equal to the observation, (n, t).
    """

    forecast: Fields
    frames: Fields
    start: int
    cue: Fields
    events: npt.NDArray[np.int64]
    unit: str
    step_minutes: float
    equal: Fields

    @property
    def leads(self) -> int:
        """Number of forecast frames."""
        return self.forecast.shape[1]

    @property
    def observed(self) -> Fields:
        """The frames that are forecast, (n, t, z, y, x)."""
        return self.frames[:, self.start : self.start + self.leads]

    @property
    def is_nowcast(self) -> bool:
        """Whether the forecasts are of zh."""
        return self.unit == "dBZ"

    @property
    def echo_level(self) -> float:
        """Value from which a pixel counts as echo."""
        return 10.0 if self.is_nowcast else 0.5

    @cached_property
    def echo(self) -> npt.NDArray[np.bool_]:
        """Where echo was observed, (n, t, z, y, x)."""
        with np.errstate(invalid="ignore"):
            return self.observed >= self.echo_level


def squared_error(forecast: Fields, observed: Fields) -> npt.NDArray[np.float64]:
    """Compute the mean squared difference of each window, (n,) of fields (n, …); NaN without a common pixel."""
    difference = (forecast.astype(np.float64) - observed).reshape(len(forecast), -1) ** 2
    known = np.isfinite(difference)
    with np.errstate(invalid="ignore"):
        return np.where(known, difference, 0).sum(1) / known.sum(1)


def is_equal(forecast: Fields, observed: Fields, unit: str) -> npt.NDArray[np.bool_]:
    """Return where two fields are equal but for rounding to half precision, or of dBZ to 256 levels of 80 dBZ."""
    absolute, relative = (0.16, 1e-3) if unit == "dBZ" else (0.005, 1e-3)
    with np.errstate(invalid="ignore"):
        return abs(forecast - observed) <= absolute + relative * abs(observed)
