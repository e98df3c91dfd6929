"""Wrapper of pysteps that suppresses its output and restores NumPy's global random state."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import not_installed

Fields = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Library:
    """Functions of pysteps for motion and nowcasts."""

    lucas_kanade: Callable[..., Fields]
    extrapolation: Callable[..., Fields]
    sprog: Callable[..., Fields]
    anvil: Callable[..., Fields]
    steps: Callable[..., Fields]


@cache
def pysteps_library() -> Library:
    """Import pysteps on first use.

    Raises:
        BadInput: pysteps or OpenCV is not installed.
    """
    try:
        # pysteps imports without OpenCV and would fail only when it estimates motion.
        with contained():
            import cv2  # noqa: F401
            from pysteps.motion.lucaskanade import dense_lucaskanade
            from pysteps.nowcasts import anvil, extrapolation, sprog, steps
    except ImportError as error:
        raise not_installed(str(error.name), "model.name", "nowcast") from None
    return Library(dense_lucaskanade, extrapolation.forecast, sprog.forecast, anvil.forecast, steps.forecast)


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Suppress output and warnings of pysteps, and restore NumPy's global random state on exit."""
    state: Any = np.random.get_state()  # noqa: NPY002 - STEPS seeds the global state
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
