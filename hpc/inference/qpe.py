"""A model on the frames of one event → forecasts, with what was unusual about the input."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.loading.prefetch import prefetch
from polarcast.data.loading.reader import Reader
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.inference.cf_dataset import Forecasts
from polarcast.hpc.inference.grid import Field
from polarcast.hpc.inference.inputs import Input, OnProgress
from polarcast.hpc.inference.netcdf import check_size
from polarcast.hpc.inference.warnings import Seen, named, percent, unusual
from polarcast.hpc.runs.build import build_reader, scoring_batch
from polarcast.models.forecaster import Forecaster

_WORKERS = 2
_WELL_COVERED = 0.999

Range = tuple[int | None, int | None]
"""First frame and the one after the last, by their numbers; None: from or to the end."""
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    """Of a batch of frames: rain rate (m, b, y, x), radar (b, v, y, x) at the lowest height, rain grid (b, y, x)."""

    rain_rate: Field
    radar: Field
    observed: Field | None
    seen: Seen


@torch.no_grad()
def forecast_event(
    config: RunConfig,
    model: Forecaster,
    given: Input,
    frames: Range = (None, None),
    members: int | None = None,
    seed: int = 0,
    tell: OnProgress | None = None,
) -> Forecasts:
    """Forecast the frames of an event: the windows, context and random numbers are those of `evaluate`.

    Args:
        config: Of the model's run.
        model: Ready to forecast.
        given: The event.
        frames: Which of its frames.
        members: Ensemble size; that of the run's evaluation by default.
        seed: Of a generative model's random numbers.
        tell: Called with (what, done, total).

    Raises:
        BadInput: no such frames, a grid the model can't take, or more members than a file holds.
    """
    reader = build_reader(config, given.manifest, "test", rain=given.manifest.has_rain)
    windows = _windows(reader, frames)
    members = config.evaluate.members if members is None else members
    check_size("rain_rate", 4 * members * len(windows) * given.manifest.pixels)
    size = scoring_batch(given.manifest)
    batches = [windows[start : start + size] for start in range(0, len(windows), size)]
    parts = []
    for batch in prefetch(reader.read, batches, _WORKERS):
        parts.append(_part(model, batch.to(device_of(World())), members, seed, given))
        if tell:
            tell("forecast", len(parts), len(batches))
    return _joined(parts, reader, windows, members, given)


def _windows(reader: Reader, frames: Range) -> Numbers:
    """Windows whose frame is among those wanted."""
    there = _numbers(reader, np.arange(len(reader)))
    first, end = frames
    chosen = np.flatnonzero((there >= (first or 0)) & (there < (there[-1] + 1 if end is None else end)))
    if not len(chosen):
        wanted = ":".join("" if f is None else str(f) for f in frames)
        raise BadInput(f"no frame in {wanted}", "--frames", f"the event has {named(there)}")
    return chosen


def _numbers(reader: Reader, windows: Numbers) -> Numbers:
    """Numbers of the windows' frames."""
    return reader.windows.begins(windows)[:, 1]


def ensemble_of(model: Forecaster, batch: Batch, members: int, seed: int, name: str) -> torch.Tensor:
    """The model's forecast, (b, m, …). Raises BadInput for a grid that it can't take."""
    try:
        return model.forecast(batch, members, seed)
    except BadInput as error:  # its advice is for who trains
        y, x = batch.radar.shape[-2:]
        raise BadInput(
            f"the run can't take fields of {y} × {x} pixels ({error.what})",
            name,
            "use such a grid as it was trained on; for a radar volume set --size",
        ) from None


def _part(model: Forecaster, batch: Batch, members: int, seed: int, given: Input) -> _Part:
    ensemble = ensemble_of(model, batch, members, seed, given.name)
    # Estimated is the last frame; those before it are context.
    radar = batch.radar[:, -1].cpu().numpy()
    observed = None if batch.rain is None else batch.rain[:, -1].cpu().numpy()
    rain_rate = ensemble[:, :, -1].transpose(0, 1).float().cpu().numpy()
    return _Part(rain_rate, radar[:, :, 0], observed, Seen.of(radar, batch.variables))


def _joined(parts: Sequence[_Part], reader: Reader, windows: Numbers, wanted: int, given: Input) -> Forecasts:
    frames, fields = _numbers(reader, windows), reader.fields
    rain_rate = np.concatenate([part.rain_rate for part in parts], 1)
    seen = Seen.joined([part.seen for part in parts])
    warnings = unusual(seen, frames, fields.variables, fields.heights_km)
    return Forecasts(
        rain_rate=rain_rate,
        frames=frames,
        first_frame=int(_numbers(reader, np.arange(1))[0]),
        radar=np.concatenate([part.radar for part in parts]),
        variables=fields.variables,
        height_km=fields.heights_km[0],
        observed=np.concatenate([part.observed for part in parts if part.observed is not None])
        if given.manifest.has_rain
        else None,
        spacing_km=given.manifest.spacing_km,
        step_minutes=given.manifest.time_step_minutes,
        times=tuple(given.note.get("times", ())),
        site=site_of(given),
        warnings=(*unseen(given), *warnings, *of_forecast(rain_rate, wanted)),
    )


def of_forecast(values: Field, wanted: int) -> list[str]:
    """What is unusual about a forecast (m, …), a line each."""
    lines = []
    if wanted > len(values):
        lines.append(f"{wanted} members asked for: the model is deterministic, it gives one")
    if lost := float(1 - np.isfinite(values).mean()):
        lines.append(f"{percent(lost)} of the forecast is not finite; written as missing")
    return lines


def unseen(given: Input) -> list[str]:
    """What no beam has reached, as far as the archive tells."""
    coverage = given.note.get("quality", {}).get("coverage")
    if coverage is None or coverage >= _WELL_COVERED:
        return []
    return [f"{percent(1 - coverage)} of the lowest level was not seen by the radar; taken as no echo"]


def site_of(given: Input) -> tuple[float, float] | None:
    """Latitude and longitude of the grid's centre pixel, as far as the archive tells."""
    site = given.note.get("site") or {}
    return (float(site["latitude"]), float(site["longitude"])) if {"latitude", "longitude"} <= set(site) else None
