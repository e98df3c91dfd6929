"""Reduce an event to the data required for the tables and figures of an exploration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.explore.content import ArchiveContent, content_of
from polarcast.data.explore.measures import EventSummary, summarise

Real = npt.NDArray[np.floating]

ZH_EDGES_DBZ = np.arange(0, 71, 1.0)
EDGES = {"zdr": np.arange(-3, 6.01, 0.1), "kdp": np.arange(-2, 8.01, 0.1)}
"""Bins of the frequency maps: ZDR in dB, KDP in deg/km."""
_PIXELS_PER_FRAME = 400


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
    """By variable (zdr, kdp, if there) and height in km."""
    means: Real
    """(t, v, z) mean of each field over its echoes; NaN without echo."""
    rain: float | None
    """Mean rain rate of the observed pixels, mm/h; None without rain."""
    pixels: Real
    """(n, v · z) sample of pixels with echo or rain: all fields, then the rain rate, if there."""

    @property
    def wetness(self) -> float:
        """Mean rain rate, or the share of pixels with echo in an archive without rain."""
        return self.summary.wet_fraction if self.rain is None else self.rain


def read_fields(archive: Archive, event: int, frames: Sequence[int]) -> Real:
    """Read the radar fields of some frames of an event, (t, v, z, y, x) in dBZ, dB, deg/km.

    Raises:
        BadInput: A frame is unreadable, or has another shape than the first.
    """
    radar = [archive.read_radar(event, frame) for frame in frames]
    for frame, fields in zip(frames, radar, strict=True):
        if fields.shape != radar[0].shape:
            shapes = (
                f"{fields.shape[-2]} × {fields.shape[-1]} pixels, others {radar[0].shape[-2]} × {radar[0].shape[-1]}"
            )
            raise BadInput(shapes, f"event {event:03d} frame {frame:03d}", "regrid the event to one grid")
    return np.stack(radar)


def describe_event(archive: Archive, event: int) -> Description:
    """Read and describe one event.

    Raises:
        BadInput: A frame is unreadable.
    """
    content, frames = content_of(archive), archive.frames[event]
    radar = read_fields(archive, event, frames)
    rain = np.stack([archive.read_rain(event, f) for f in frames]) if archive.has_rain else None
    masks = archive.read_observed(event, radar.shape[-2:])
    observed = None if masks is None else np.stack([masks.masks(f) for f in frames])
    return Description(
        event=event,
        summary=summarise(radar, rain, None if observed is None else observed[:, content.storm], content),
        maps=_maps(radar, content),
        means=_echo_means(radar),
        rain=None if rain is None else _mean(rain if observed is None else rain[observed[:, -1]]),
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


def _maps(radar: Real, content: ArchiveContent) -> dict[tuple[str, float], FrequencyMap]:
    return {
        (variable, height): _map(radar[:, 0, z], radar[:, content.variables.index(variable), z], EDGES[variable])
        for variable in EDGES
        if variable in content.variables
        for z, height in enumerate(content.heights_km)
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


def _sample(radar: Real, rain: Real | None, rng: np.random.Generator) -> Real:
    """Sample pixels of each frame uniformly from those with echo at any height or rain."""
    t, pixels = len(radar), radar.shape[-2] * radar.shape[-1]
    fields = radar.reshape(t, -1, pixels)
    if rain is not None:
        fields = np.concatenate([fields, rain.reshape(t, 1, pixels)], axis=1)
    parts = []
    for frame in fields:
        valid = np.flatnonzero((frame != 0).any(0))
        parts.append(frame[:, rng.permutation(valid)[:_PIXELS_PER_FRAME]].T)
    return np.concatenate(parts)
