"""Reduce an event to the data required for the tables and figures of an exploration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import HEIGHTS_KM, VARIABLES, Archive
from polarcast.data.errors import BadInput
from polarcast.data.explore.measures import EventSummary, summarise

Real = npt.NDArray[np.floating]

ZH_EDGES_DBZ = np.arange(0, 71, 1.0)
EDGES = {"zdr": np.arange(-3, 6.01, 0.1), "kdp": np.arange(-2, 8.01, 0.1)}
"""Bins of the frequency maps: ZDR in dB, KDP in deg/km."""
_PIXELS_PER_FRAME = 400
_STORM_LEVEL = HEIGHTS_KM.index(3.0)
_FEWEST_PIXELS = 32
"""Least pixels per side, as of synthetic archives."""


@dataclass(frozen=True)
class FrequencyMap:
    """Joint histogram of zdr or kdp with zh, and moments by zh; maps of several events can be added."""

    counts: Real
    """(zh bin, value bin)."""
    sums: Real
    """(zh bin, 3): count, sum and sum of squares of all values, including those outside the value bins."""

    def __add__(self, other: "FrequencyMap") -> "FrequencyMap":
        return FrequencyMap(self.counts + other.counts, self.sums + other.sums)

    def moments(self) -> tuple[Real, Real]:
        """Return mean and standard deviation for each zh bin; NaN in bins with fewer than 20 values."""
        count, first, second = self.sums.T
        enough = np.where(count >= 20, count, np.nan)
        mean = first / enough
        return mean, np.sqrt(np.maximum(second / enough - mean**2, 0))


@dataclass(frozen=True)
class Description:
    """Data of one event for the tables and figures."""

    event: int
    summary: EventSummary
    maps: dict[tuple[str, float], FrequencyMap]
    """By variable (zdr, kdp) and height in km."""
    means: Real
    """(t, v, z) mean of each field over its echoes; NaN without echo."""
    rain: float
    """Mean rain rate of the observed pixels, mm/h."""
    pixels: Real
    """(n, v · z + 1) sample of pixels with echo or rain: all fields, then the rain rate."""


def check_fields(archive: Archive) -> None:
    """Check that an archive has squares of zh, zdr and kdp at 1, 3 and 7 km, and of rain. Raises BadInput otherwise."""
    if archive.variables != VARIABLES or archive.heights_km != HEIGHTS_KM:
        raise BadInput(
            f"only {', '.join(archive.variables)} at {', '.join(map(str, archive.heights_km))} km",
            archive.root,
            "give an archive with zh, zdr and kdp at 1, 3 and 7 km",
        )
    event, frames = next((item for item in archive.frames.items() if item[1]), (-1, ()))
    if not frames:
        raise BadInput("the events have no frames", archive.root, "add data_dir_NNN/frame_MMM.npy to each folder")
    height, width = archive.read_rain(event, frames[0]).shape
    if height != width or height < _FEWEST_PIXELS:
        raise BadInput(
            f"frames of {height} × {width} pixels", archive.root, f"give squares of {_FEWEST_PIXELS} or more"
        )


def describe_event(archive: Archive, event: int) -> Description:
    """Read and describe one event.

    Raises:
        BadInput: A frame is unreadable, or the archive lacks a variable or height.
    """
    check_fields(archive)
    frames = archive.frames[event]
    radar = np.stack([archive.read_radar(event, f) for f in frames])
    rain = np.stack([archive.read_rain(event, f) for f in frames])
    masks = archive.read_observed(event, rain.shape[1:])
    observed = None if masks is None else np.stack([masks.masks(f) for f in frames])
    return Description(
        event=event,
        summary=summarise(radar, rain, None if observed is None else observed[:, _STORM_LEVEL]),
        maps=_maps(radar),
        means=_echo_means(radar),
        rain=float(rain.mean()) if observed is None else _mean(rain[observed[:, -1]]),
        pixels=_sample(radar, rain, np.random.default_rng(event)),
    )


def join_maps(descriptions: Sequence[Description]) -> dict[tuple[str, float], FrequencyMap]:
    """Add the maps of several events."""
    joined = dict(descriptions[0].maps)
    for description in descriptions[1:]:
        joined = {key: joined[key] + added for key, added in description.maps.items()}
    return joined


def _mean(values: Real) -> float:
    return float(values.mean()) if values.size else 0.0


def _maps(radar: Real) -> dict[tuple[str, float], FrequencyMap]:
    return {
        (variable, height): _map(radar[:, 0, z], radar[:, VARIABLES.index(variable), z], EDGES[variable])
        for variable in EDGES
        for z, height in enumerate(HEIGHTS_KM)
    }


def _map(zh: Real, values: Real, edges: Real) -> FrequencyMap:
    echo = zh != 0
    x, y = zh[echo].astype(np.float64), values[echo].astype(np.float64)
    counts = np.histogram2d(x, y, (ZH_EDGES_DBZ, edges))[0]
    sums = [np.histogram(x, ZH_EDGES_DBZ, weights=w)[0] for w in (np.ones_like(x), y, y**2)]
    return FrequencyMap(counts, np.stack(sums, -1))


def _echo_means(radar: Real) -> Real:
    echo = np.broadcast_to(radar[:, :1] != 0, radar.shape)
    count = echo.sum((-2, -1))
    return np.where(count > 0, (radar * echo).sum((-2, -1)) / np.maximum(count, 1), np.nan)


def _sample(radar: Real, rain: Real, rng: np.random.Generator) -> Real:
    """Sample pixels of each frame uniformly from those with echo at any height or rain."""
    t = len(radar)
    fields = np.concatenate([radar.reshape(t, -1, rain[0].size), rain.reshape(t, 1, -1)], axis=1)
    parts = []
    for frame in fields:
        valid = np.flatnonzero((frame != 0).any(0))
        parts.append(frame[:, rng.permutation(valid)[:_PIXELS_PER_FRAME]].T)
    return np.concatenate(parts)
