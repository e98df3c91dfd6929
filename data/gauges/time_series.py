"""The forms in which CF stores time series of stations, brought to one: observations with their station and time.

Source: CF-1.8, chapter 9 and appendix H.2: orthogonal (H.2.1), incomplete (H.2.2) and single (H.2.3) arrays, contiguous
(H.2.4) and indexed (H.2.5) ragged arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, shown
from polarcast.data.gauges.gauge import Real
from polarcast.data.ingest.cf_values import decoded
from polarcast.data.ingest.grids.times import is_time, time_variables

COUNT, INDEX = "sample_dimension", "instance_dimension"
"""Attributes of the count variable of contiguous ragged arrays, and of the index variable of indexed ones."""
FIX = "write (station, time), with latitudes and longitudes of the stations (CF, featureType timeSeries)"
_RAGGED = "write the file again: see CF, appendix H.2"
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TimeSeries:
    """Observations of stations.

    Attributes:
        station: Dimension of the stations; None if there is none, as of a single one.
        stations: Number of stations.
        times: Variable of the times, of any shape.
        station_of_time: Station of each of the times, flattened, (m,); 0 for all where stations share them.
        values: Values as the file means them, (n,); NaN where missing.
        of_station, of_time: Station of each value, and position of its time in the flattened times, (n,).
    """

    station: str | None
    stations: int
    times: Any
    station_of_time: Numbers
    values: Real
    of_station: Numbers
    of_time: Numbers


def time_series(content: Any, array: Any, path: Path) -> TimeSeries:
    """Return the observations of a variable in any of the forms.

    Args:
        content: xarray dataset, values as stored.
        array: Variable of it.
        path: Source file for error messages.

    Raises:
        BadInput: There are no times, there are further dimensions, or counts and indices of ragged arrays are damaged.
    """
    links = [(str(name), v) for name, v in content.variables.items() if COUNT in v.attrs or INDEX in v.attrs]
    if len(links) > 1:
        names = " and ".join(sorted(name for name, _ in links))
        raise BadInput(f"ragged arrays of several levels ({names}) are not supported", path, FIX)
    if links:
        return _ragged(content, array, *links[0], path)
    wide = {str(d) for d in array.dims if array.sizes[d] > 1}
    both = [
        v for n, v in content.variables.items()
        if v.ndim == 2 and is_time(str(n), v) and wide <= set(map(str, v.dims)) <= set(map(str, array.dims))
    ]  # fmt: skip
    return _incomplete(content, array, both[0], path) if both else _orthogonal(content, array, path)


def _orthogonal(content: Any, array: Any, path: Path) -> TimeSeries:
    """Stations share their times: (station, time), (time, station), or (time)."""
    times = _shared_times(content, array, path)
    axis = times.dims[0]
    others = [str(d) for d in array.dims if d != axis and array.sizes[d] > 1]
    if len(others) > 1:
        raise BadInput(f"{array.name} has the dimensions {', '.join(map(str, array.dims))}", path, FIX)
    station = others[0] if others else next((str(d) for d in array.dims if d != axis), None)
    values = _values(array, [station, str(axis)])
    of_station, of_time = (index.ravel() for index in np.indices(values.shape))
    no_station = np.zeros(values.shape[1], np.int64)
    return TimeSeries(station, len(values), times, no_station, values.ravel(), of_station, of_time)


def _incomplete(content: Any, array: Any, times: Any, path: Path) -> TimeSeries:
    """Every station has its own times: time (station, obs), the rest of a row without time."""
    first, second = map(str, times.dims)
    placed = [one for one, other in ((first, second), (second, first)) if _is_of_stations(content, one, other)]
    if len(placed) != 1:
        raise BadInput(f"the times are along {first} and {second}, and not one of them is of stations", path, FIX)
    [station] = placed
    order = [station, second if station == first else first]
    values = _values(array, order)
    turned = times.transpose(*order)
    of_station = np.indices(values.shape)[0].ravel()
    every = np.arange(values.size)
    return TimeSeries(station, len(values), turned, of_station, values.ravel(), of_station, every)


def _is_of_stations(content: Any, dim: str, other: str) -> bool:
    """Whether latitudes, names or the like are along a dimension, and not along the other."""
    return any(dim in v.dims and other not in v.dims and not is_time(str(n), v) for n, v in content.variables.items())


def _ragged(content: Any, array: Any, name: str, link: Any, path: Path) -> TimeSeries:
    """Observations one after the other; a count or an index variable tells their stations."""
    is_count = COUNT in link.attrs
    other = str(link.attrs[COUNT if is_count else INDEX])
    if link.ndim != 1:
        raise BadInput(f"{name} has {link.ndim} dimensions, not one", path, _RAGGED)
    if other not in content.sizes:
        what = f"{name} has {COUNT if is_count else INDEX} {shown(other)}, which is no dimension"
        raise BadInput(what, path, _RAGGED)
    own = str(link.dims[0])
    station, sample = (own, other) if is_count else (other, own)
    wide = {str(d) for d in array.dims if array.sizes[d] > 1}
    if sample not in array.dims or not wide <= {sample}:
        has = ", ".join(map(str, array.dims))
        raise BadInput(f"{array.name} has the dimensions {has}, not {sample}", path, _RAGGED)
    stations, samples = int(content.sizes[station]), int(content.sizes[sample])
    of_station = _by_counts(name, link, samples, path) if is_count else _by_index(name, link, stations, path)
    times = _shared_times(content, array, path)
    if times.dims != (sample,):
        raise BadInput(f"the times are not along {sample}", path, _RAGGED)
    values = _values(array, [None, sample]).ravel()
    return TimeSeries(station, stations, times, of_station, values, of_station, np.arange(samples))


def _by_counts(name: str, link: Any, samples: int, path: Path) -> Numbers:
    counts = _whole_numbers(name, link, path)
    if (counts < 0).any() or counts.sum() != samples:
        what = f"{name} counts {counts.sum()} observations of {samples}"
        what = f"{name} has the count {counts.min()}" if (counts < 0).any() else what
        raise BadInput(what, path, "copy it again from its source, or correct the counts")
    return np.repeat(np.arange(len(counts)), counts)


def _by_index(name: str, link: Any, stations: int, path: Path) -> Numbers:
    index = _whole_numbers(name, link, path)
    wrong = np.flatnonzero((index < 0) | (index >= stations))
    if len(wrong):
        what = f"{name} has the index {index[wrong[0]]} at observation {wrong[0]}, of {stations} stations"
        raise BadInput(what, path, f"write 0 to {stations - 1}, the place of the station along its dimension")
    return index


def _whole_numbers(name: str, link: Any, path: Path) -> Numbers:
    stored = np.asarray(link.values)
    numbers = decoded(stored, link.attrs) if stored.dtype.kind in "iuf" else np.full(stored.shape, np.nan)
    if not (np.abs(numbers) < 2**53).all() or (numbers != np.rint(numbers)).any():
        raise BadInput(f"{name} has values that are missing or no whole numbers", path, _RAGGED)
    return numbers.astype(np.int64)


def _shared_times(content: Any, array: Any, path: Path) -> Any:
    times = [v for v in time_variables(content, array.dims) if v.ndim == 1 and v.dims[0] in array.dims]
    if not times:
        raise BadInput(f"{array.name} has no time axis", path, FIX)
    return times[0]


def _values(array: Any, order: Sequence[str | None]) -> Real:
    """Return the values along two dimensions, of which the first may be absent; all others have length 1."""
    last = [d for d in order if d is not None]
    axes = [array.dims.index(d) for d in (*(d for d in array.dims if d not in last), *last)]
    values = decoded(np.asarray(array.values), array.attrs).transpose(axes)
    return values.reshape((-1, values.shape[-1]) if len(last) < 2 else values.shape[-2:])
