"""Quotients and logarithms that are NaN where undefined, and numbers for JSON, which has no NaN."""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def quotient(numerator: Array, denominator: Array) -> Array:
    """Divide, with NaN where the denominator is 0."""
    defined = np.asarray(denominator) != 0
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)


def logarithm(value: Array) -> Array:
    """Return the natural logarithm, with NaN where the value is not positive."""
    return np.log(np.where(value > 0, value, np.nan))


def number_or_none(value: float) -> float | None:
    """Return a finite number; None for others, which JSON does not have."""
    return float(value) if math.isfinite(value) else None
