"""Scores as quotients: what has nothing to divide by is undefined, NaN, and never a guess."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def quotient(above: Array, below: Array) -> Array:
    """above / below, NaN where below is 0."""
    defined = np.asarray(below) != 0
    return np.where(defined, above / np.where(defined, below, 1), np.nan)


def logarithm(value: Array) -> Array:
    """Natural logarithm, NaN where the value is not positive."""
    return np.log(np.where(value > 0, value, np.nan))
