"""Choose the times of the frames of a NetCDF file or Zarr folder, and tell what of a frame they are."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.ingest.event import Times
from polarcast.data.ingest.grids.axes import Dims
from polarcast.data.ingest.grids.times import time_variables, times_of

_STARTS = frozenset({"start", "starts", "starting", "begin", "begins", "beginning", "first", "from"})
_WORDS = re.compile(r"[^a-z]+")
_BOUNDS = ("time_bnds", "time_bounds")
_SUM = re.compile(r"\bsum\b|accumul|\bamount\b")
_HALF_SECOND = np.timedelta64(500, "ms")


def frame_times(content: Any, array: Any, dims: Dims, path: Path) -> tuple[Times, str]:
    """Return the time of each frame of a variable, and what of the frame it is, as far as the file tells it.

    Times are not shifted. Of a start and a stop, the start is taken.

    Raises:
        BadInput: There is not one time for each frame, or several differ and none is the start.
    """
    names = {id(variable): str(name) for name, variable in content.variables.items()}
    found = time_variables(content, array.dims)
    name, rivals = _chosen([(names[id(variable)], variable) for variable in found], path)
    variable = content.variables[name]
    times = times_of(variable, path).reshape(-1)
    frames = array.sizes[dims.time] if dims.time else 1
    if len(times) != frames:
        raise BadInput(f"{frames} frames and {len(times)} times", path, "give every frame one time")
    if rivals:
        return times, f"{name} of each frame, not {' or '.join(rivals)}"
    return times, _place_in_bounds(content, variable, times, path)


def is_sum(array: Any) -> bool:
    """Whether a variable is a sum over time by its names or its cell methods."""
    words = (array.name, *(array.attrs.get(key, "") for key in ("cell_methods", "standard_name", "long_name")))
    return bool(_SUM.search(" ".join(map(str, words)).lower().replace("_", " ")))


def minutes_of_bounds(content: Any, array: Any, dims: Dims, path: Path) -> float | None:
    """Return the minutes that each frame covers by the bounds of its times; None without bounds."""
    if not dims.time or dims.time not in content.variables:
        return None
    bounds = _bounds_of(content, content.variables[dims.time], array.sizes[dims.time])
    if bounds is None:
        return None
    start, stop = times_of(bounds, path).T
    minutes = (stop - start) / np.timedelta64(60, "s")
    return float(np.median(minutes)) if len(minutes) and np.median(minutes) > 0 else None


def _chosen(candidates: list[tuple[str, Any]], path: Path) -> tuple[str, list[str]]:
    """Return the name of the times to take, and of others that differ and are as likely."""
    best = max(_rank(*candidate) for candidate in candidates)
    alike = [candidate for candidate in candidates if _rank(*candidate) == best]
    first = times_of(alike[0][1], path).reshape(-1)
    if len(alike) == 1 or all(np.array_equal(times_of(v, path).reshape(-1), first) for _, v in alike[1:]):
        return alike[0][0], []
    names = [name for name, _ in alike]
    starts = [name for name, variable in alike if _is_start(name, variable)]
    if len(starts) != 1:
        raise BadInput(f"several times of the frames: {', '.join(names)}", path, "name the one to take 'time'")
    return starts[0], [name for name in names if name != starts[0]]


def _rank(name: str, variable: Any) -> tuple[bool, bool, bool, bool]:
    """Return how likely a variable has the times of frames: axes first, then by name, then by standard name."""
    is_standard = str(variable.attrs.get("standard_name", "")).lower() == "time"
    return variable.dims == (name,), variable.ndim > 0, name.lower() in ("time", "times", "valid_time"), is_standard


def _is_start(name: str, variable: Any) -> bool:
    text = f"{name} {variable.attrs.get('long_name', '')}".lower()
    return bool(set(_WORDS.split(text)) & _STARTS) or name.lower().startswith("start")


def _place_in_bounds(content: Any, variable: Any, times: Times, path: Path) -> str:
    """Return whether times are the start, the middle or the end of the intervals that the file gives; else empty."""
    bounds = _bounds_of(content, variable, len(times))
    if bounds is None:
        return ""
    name = next(n for n in (variable.attrs.get("bounds"), *_BOUNDS) if n in content.variables)
    start, stop = times_of(bounds, path).astype("datetime64[ms]").T
    places = {"start": start, "end": stop, "middle": start + (stop - start) / 2}
    for place, expected in places.items():
        if (np.abs(times.astype("datetime64[ms]") - expected) <= _HALF_SECOND).all() and (start < stop).all():
            return f"{place} of the interval of each frame, by {name}"
    return ""


def _bounds_of(content: Any, variable: Any, frames: int) -> Any:
    """Return the bounds of times, (frames, 2), with the attributes of their axis; None if there are none."""
    name = next((n for n in (variable.attrs.get("bounds"), *_BOUNDS) if n in content.variables), None)
    if name is None or content.variables[name].shape != (frames, 2):
        return None
    bounds = content.variables[name].copy(deep=False)
    bounds.attrs = {**variable.attrs, **bounds.attrs}  # bounds have the units of their axis (CF 1.11, section 7.1)
    return bounds
