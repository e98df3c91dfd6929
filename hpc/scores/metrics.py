"""Metrics as functions of sums; what is undefined is NaN, never a guess."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.hpc.scores.sums import COLUMNS

Array = npt.NDArray[np.float64]
_INDEX = {name: i for i, name in enumerate(COLUMNS)}


@dataclass(frozen=True)
class Metric:
    """A score: its label in tables, unit, and the value of a perfect forecast."""

    label: str
    unit: str
    perfect: float
    of: Callable[[Array, int], Array]
    """(…, s) sums of `COLUMNS` and pixels per sample → (…) values."""


def compute(name: str, sums: Array, pixels_per_sample: int) -> Array:
    """A metric of sums (…, s), pooled over whatever was added up; (…) values, NaN where undefined."""
    return METRICS[name].of(np.asarray(sums, dtype=np.float64), pixels_per_sample)


def _mse(s: Array, _: int) -> Array:
    return _ratio(_of(s, "sum_sq_error"), _of(s, "pixels"))


def _rmse(s: Array, n: int) -> Array:
    return np.sqrt(_mse(s, n))


def _ne(s: Array, _: int) -> Array:
    return _ratio(_of(s, "sum_abs_error"), _of(s, "sum_obs"))


def _nb(s: Array, _: int) -> Array:
    return _ratio(_of(s, "sum_fc") - _of(s, "sum_obs"), _of(s, "sum_obs"))


def _paper_mre(s: Array, pixels_per_sample: int) -> Array:
    """mean|y − ŷ| / Σy of a sample, so RBIAS over the sample's pixels (in the paper's table 5.1 exactly: their ratio is
    10 × 256 × 256)."""
    return _ne(s, pixels_per_sample) / pixels_per_sample


def _paper_csi(s: Array, _: int) -> Array:
    hits = _of(s, "paper_hits")
    return _ratio(hits, hits + _of(s, "paper_misses") + _of(s, "paper_false_alarms"))


def _percent(metric: Callable[[Array, int], Array]) -> Callable[[Array, int], Array]:
    return lambda s, n: 100 * metric(s, n)


def _of(sums: Array, name: str) -> Array:
    return sums[..., _INDEX[name]]


def _ratio(above: Array, below: Array) -> Array:
    defined = below > 0
    return np.where(defined, above / np.where(defined, below, 1), np.nan)


METRICS: dict[str, Metric] = {
    "paper_mse": Metric("MSE", "(mm/h)²", 0, _mse),
    "paper_mre": Metric("MRE", "1", 0, _paper_mre),
    "paper_rbias": Metric("RBIAS", "1", 0, _ne),
    "paper_csi": Metric("CSI", "1", 1, _paper_csi),
    "rmse": Metric("RMSE", "mm/h", 0, _rmse),
    "ne": Metric("NE", "%", 0, _percent(_ne)),
    "nb": Metric("NB", "%", 0, _percent(_nb)),
}
