"""Sums of the scored windows, one by one, and the sample of windows that detectors look at."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from polarcast.data.batch import Batch
from polarcast.data.loading.reader import Reader
from polarcast.hpc.evaluation.evaluate import Forecast, Sums, protocol_of, scored_observation, window_sums
from polarcast.hpc.leaderboard.claims.signs import ClaimSample, Fields
from polarcast.hpc.leaderboard.claims.timing import equal_share
from polarcast.hpc.leaderboard.forecasts import ForecastSet, windows_in
from polarcast.hpc.runs.build import scoring_batch
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.records import Records

Numbers = npt.NDArray[np.int64]
_MOST_WINDOWS, _MOST_VALUES = 48, 2**25
"""Windows of the sample, and values of its forecasts, at most."""


@dataclass(frozen=True)
class WindowSums:
    """Sums of each window.

    Attributes:
        protocol: Coordinates of the sums.
        events: Event of each window, (n,).
        sums: Family → (n, lead time, height, *axes, columns).
        data: Digest of the shards.
        groups: Group by event.
    """

    protocol: Protocol
    events: Numbers
    sums: Sums
    data: str
    groups: dict[int, str]

    def records(self) -> Records:
        """Add up by event."""
        return Records.of_windows(self.protocol, self.events, self.sums, self.data, self.groups)

    def by_window(self) -> Records:
        """Return records in which each window is an event of its own."""
        return Records.of_windows(self.protocol, np.arange(len(self.events)), self.sums, self.data)


@torch.no_grad()
def sums_of(
    forecast: Forecast,
    reader: Reader,
    chosen: Numbers,
    only: Collection[str],
    thresholds: Sequence[float] = (),
    everywhere: bool = False,
) -> WindowSums:
    """Compute the sums of each window.

    Args:
        forecast: Function of a batch that returns (b, m, t, y, x) or (b, m, t, z, y, x).
        reader: Reader of the split.
        chosen: Numbers of the windows.
        only: Names of the families of sums.
        thresholds: Further thresholds.
        everywhere: Whether pixels without an observation count, too, with what the shards hold there.
    """
    parts: list[Sums] = []
    protocol: Protocol | None = None
    size = scoring_batch(reader.manifest)
    for start in range(0, len(chosen), size):
        batch = reader.read(chosen[start : start + size]).to("cpu")
        batch = replace(batch, observed=None, last_observed=None) if everywhere else batch
        ensemble = forecast(batch)
        if protocol is None:
            protocol = protocol_of(reader.manifest, ensemble, batch.heights_km)
            protocol = replace(protocol, threshold=tuple(sorted({*protocol.threshold, *thresholds})))
        parts.append(window_sums(ensemble, batch, protocol, only))
    assert protocol is not None, "no window was chosen"
    sums = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    events, manifest = reader.events()[chosen], reader.manifest
    groups = {event: manifest.group_of(event) for event in np.unique(events).tolist()}
    return WindowSums(protocol, events, sums, manifest.digest(), groups)


def sample_of(forecasts: ForecastSet, reader: Reader, chosen: Numbers) -> ClaimSample:
    """Read evenly spaced windows, with the frames around them as far as other windows have them."""
    values = int(np.prod(forecasts.fields.shape[2:]))
    count = max(2, min(_MOST_WINDOWS, len(chosen), _MOST_VALUES // max(values, 1)))
    picked = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(count, len(chosen))).round().astype(int))]
    batch = reader.read(picked).to("cpu")
    ensemble = forecasts.of(batch)
    ensemble = ensemble if forecasts.is_nowcast else ensemble[:, :, :, None]
    observed = scored_observation(batch).numpy()
    # A mean of values that are no numbers must not warn, and half of a mean must not be infinite.
    with np.errstate(all="ignore"):
        mean = ensemble.double().mean(1).float().numpy()
    neighbor = _Neighbors(reader, picked)
    cue: Fields
    if forecasts.is_nowcast:
        past = _seen(batch)
        after = neighbor.at(1, lambda b: scored_observation(b)[:, -1])
        frames, start, cue = np.concatenate([past, observed, after[:, None]], 1), past.shape[1], past[:, -1]
    else:
        before, after = (neighbor.at(k, lambda b: scored_observation(b)[:, -1]) for k in (-1, 1))
        frames, start = np.concatenate([before[:, None], observed, after[:, None]], 1), 1
        cue = batch.variable("zh")[:, -1, :1].clamp(min=0).numpy()
    sample = ClaimSample(
        mean, frames, start, cue, batch.event.numpy(), "dBZ" if forecasts.is_nowcast else "mm/h",
        reader.manifest.time_step_minutes, np.empty((0, 0), np.float32),
    )  # fmt: skip
    shares = [equal_share(member, observed, sample) for member in ensemble.numpy().swapaxes(0, 1)]
    return replace(sample, equal=np.fmax.reduce(shares))


def _seen(batch: Batch) -> Fields:
    """Return zh of the input frames, (b, t, z, y, x), the last one NaN where it was not observed."""
    seen = batch.variable("zh").clamp(min=0).numpy().copy()
    if batch.last_observed is not None:
        seen[:, -1] = np.where(batch.last_observed.numpy(), seen[:, -1], np.nan)
    return seen


class _Neighbors:
    """Fields of the windows one frame earlier or later; NaN where there is no such window."""

    def __init__(self, reader: Reader, picked: Numbers) -> None:
        windows = windows_in(reader)
        self._numbers = {window: number for number, window in enumerate(windows)}
        self._picked, self._reader = [windows[number] for number in picked], reader

    def at(self, shift: int, field: Callable[[Batch], torch.Tensor]) -> Fields:
        """Return a field (n, z, y, x) of the windows that begin `shift` frames later."""
        there = [self._numbers.get((event, frame + shift)) for event, frame in self._picked]
        known = [n for n, number in enumerate(there) if number is not None]
        probe = field(self._reader.read([0]).to("cpu")).numpy()
        found = np.full((len(there), *probe.shape[1:]), np.nan, np.float32)
        if known:
            found[known] = field(self._reader.read([there[n] or 0 for n in known]).to("cpu")).numpy()
        return found
