"""What is used of pysteps, without its banner, its prints and its hold on numpy's random numbers."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput

Fields = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Library:
    """The functions of pysteps that make nowcasts."""

    lucas_kanade: Callable[..., Fields]
    extrapolation: Callable[..., Fields]
    sprog: Callable[..., Fields]
    anvil: Callable[..., Fields]
    steps: Callable[..., Fields]


@cache
def pysteps_library() -> Library:
    """pysteps, imported when it is first asked for. Raises BadInput where it, or OpenCV, is not installed."""
    try:
        # OpenCV is optional to pysteps, which would complain only when it looks for motion.
        with contained():
            import cv2  # noqa: F401
            from pysteps.motion.lucaskanade import dense_lucaskanade
            from pysteps.nowcasts import anvil, extrapolation, sprog, steps
    except ImportError as error:
        fix = "install the extra: pip install 'polarcast[nowcast]'"
        raise BadInput(f"{error.name} is not installed", "model.name", fix) from None
    return Library(dense_lucaskanade, extrapolation.forecast, sprog.forecast, anvil.forecast, steps.forecast)


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Run pysteps without a trace: nothing printed, no warnings, numpy's global random numbers as they were."""
    state: Any = np.random.get_state()  # noqa: NPY002 - STEPS seeds these, whoever else may be drawing from them
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
