"""Estimate the rain rate of the frames of one event, with warnings about the input."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.gauges.places import GridPlace, place_of_event
from polarcast.data.loading.prefetch import prefetch
from polarcast.data.loading.reader import Reader
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.inference.cf_dataset import Forecasts
from polarcast.hpc.inference.grid import Field
from polarcast.hpc.inference.inputs import Input, OnProgress
from polarcast.hpc.inference.netcdf import check_size
from polarcast.hpc.inference.warnings import FieldStatistics, describe_frames, input_warnings, percent
from polarcast.hpc.runs.build import build_reader, scoring_batch
from polarcast.models.forecaster import Forecaster

_WORKERS = 2
_WELL_COVERED = 0.999
_MOST_NORTH, _MOST_EAST = 90, 360

Range = tuple[int | None, int | None]
"""Numbers of the first frame and of the frame after the last; None leaves that side open."""
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    """One batch of frames.

    Rain rate (m, b, y, x), radar (b, v, y, x) at the lowest height, observed rain rate (b, y, x), and field statistics.
    """

    rain_rate: Field
    radar: Field
    observed: Field | None
    statistics: FieldStatistics


@torch.no_grad()
def forecast_event(
    config: RunConfig,
    model: Forecaster,
    source: Input,
    frames: Range = (None, None),
    members: int | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Forecasts:
    """Estimate the frames of an event, with the windows, context and random numbers of `evaluate`.

    Args:
        config: Configuration of the run.
        model: Trained model.
        source: Input event.
        frames: Range of frames.
        members: Ensemble size; default: that of the run's evaluation.
        seed: Seed of a generative model.
        on_progress: Called with (stage, done, total).

    Raises:
        BadInput: the frames don't exist, the model does not support the grid, or the output exceeds the file format.
    """
    reader = build_reader(config, source.manifest, "test", rain=source.manifest.has_rain)
    windows = _windows(reader, frames)
    members = config.evaluate.members if members is None else members
    check_size("rain_rate", 4 * members * len(windows) * source.manifest.pixels)
    size = scoring_batch(source.manifest)
    batches = [windows[start : start + size] for start in range(0, len(windows), size)]
    parts = []
    for batch in prefetch(reader.read, batches, _WORKERS):
        parts.append(_part(model, batch.to(device_of(World())), members, seed, source))
        if on_progress:
            on_progress("forecast", len(parts), len(batches))
    return _joined(parts, reader, windows, members, source)


def _windows(reader: Reader, frames: Range) -> Numbers:
    """Return the windows whose frame is in the range."""
    available = _numbers(reader, np.arange(len(reader)))
    first, end = frames
    chosen = np.flatnonzero((available >= (first or 0)) & (available < (available[-1] + 1 if end is None else end)))
    if not len(chosen):
        requested = ":".join("" if f is None else str(f) for f in frames)
        raise BadInput(f"no frame in {requested}", "--frames", f"choose from {describe_frames(available)}")
    return chosen


def _numbers(reader: Reader, windows: Numbers) -> Numbers:
    """Return the frame numbers of the windows."""
    return reader.windows.begins(windows)[:, 1]


def ensemble_of(model: Forecaster, batch: Batch, members: int, seed: int, name: str) -> torch.Tensor:
    """Return the model's forecast (b, m, …). Raise BadInput if it does not support the grid."""
    try:
        return model.forecast(batch, members, seed)
    except BadInput as error:  # its advice is for training
        y, x = batch.radar.shape[-2:]
        raise BadInput(
            f"the run does not support fields of {y} × {x} pixels ({error.what})",
            name,
            "use a grid like that of its training data; for a radar volume, set --size",
        ) from None


def _part(model: Forecaster, batch: Batch, members: int, seed: int, source: Input) -> _Part:
    ensemble = ensemble_of(model, batch, members, seed, source.name)
    # The last frame is estimated; earlier ones are context.
    radar = batch.radar[:, -1].cpu().numpy()
    observed = None if batch.rain is None else batch.rain[:, -1].cpu().numpy()
    rain_rate = ensemble[:, :, -1].transpose(0, 1).float().cpu().numpy()
    return _Part(rain_rate, radar[:, :, 0], observed, FieldStatistics.measure(radar, batch.variables))


def _joined(parts: Sequence[_Part], reader: Reader, windows: Numbers, members: int, source: Input) -> Forecasts:
    frames, fields = _numbers(reader, windows), reader.fields
    rain_rate = np.concatenate([part.rain_rate for part in parts], 1)
    statistics = FieldStatistics.concatenate([part.statistics for part in parts])
    warnings = input_warnings(statistics, frames, fields.variables, fields.heights_km)
    return Forecasts(
        rain_rate=rain_rate,
        frames=frames,
        first_frame=int(_numbers(reader, np.arange(1))[0]),
        radar=np.concatenate([part.radar for part in parts]),
        variables=fields.variables,
        height_km=fields.heights_km[0],
        observed=np.concatenate([part.observed for part in parts if part.observed is not None])
        if source.manifest.has_rain
        else None,
        spacing_km=source.manifest.spacing_km,
        step_minutes=source.manifest.time_step_minutes,
        times=tuple(source.note.get("times", ())),
        site=site_of(source),
        place=place_of(source),
        warnings=(
            *site_warnings(source),
            *coverage_warnings(source),
            *warnings,
            *forecast_warnings(rain_rate, members),
        ),
    )


def forecast_warnings(values: Field, members: int) -> list[str]:
    """Return warnings about a forecast (m, …), one line each; `members` is the requested ensemble size."""
    lines = []
    if members > len(values):
        lines.append(f"{members} members requested, but the model is deterministic and returns one")
    if missing := float(1 - np.isfinite(values).mean()):
        lines.append(f"{percent(missing)} of the forecast is not finite; written as missing values")
    return lines


def coverage_warnings(source: Input) -> list[str]:
    """Return a warning about pixels outside the radar coverage, if the archive records it."""
    coverage = source.note.get("quality", {}).get("coverage")
    if coverage is None or coverage >= _WELL_COVERED:
        return []
    return [f"{percent(1 - coverage)} of the lowest level is outside the radar coverage; treated as no echo"]


def site_of(source: Input) -> tuple[float, float] | None:
    """Return latitude and longitude of the center pixel; None if the archive does not record a place on the Earth."""
    site = source.note.get("site") or {}
    try:
        place = float(site["latitude"]), float(site["longitude"])
    except (KeyError, TypeError, ValueError):
        return None
    is_place = abs(place[0]) <= _MOST_NORTH and abs(place[1]) <= _MOST_EAST and place != (0, 0)
    return place if is_place else None


def place_of(source: Input) -> GridPlace | None:
    """Return where the grid of an event without a site lies: a tile of a product; None if the note does not tell it."""
    if site_of(source):
        return None
    rows, columns = source.manifest.shape
    try:
        return place_of_event(source.note, (rows, columns), source.manifest.spacing_km, source.name)
    except BadInput:
        return None


def site_warnings(source: Input) -> list[str]:
    """Return a warning if the archive records a place that is none: 0° N 0° E stands for an unknown one."""
    if not source.note.get("site") or site_of(source):
        return []
    return ["the place of the radar is unknown: the file has no latitude and longitude"]
