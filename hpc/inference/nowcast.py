"""Nowcast an event from its latest frames, and convert the nowcast to CF netCDF."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.inference.cf_dataset import NO_DATE, member_axis
from polarcast.hpc.inference.grid import Field, Ground
from polarcast.hpc.inference.inputs import Input, OnProgress
from polarcast.hpc.inference.netcdf import FILL, Attribute, Dataset, Variable, check_size
from polarcast.hpc.inference.qpe import (
    coverage_warnings,
    ensemble_of,
    forecast_warnings,
    place_of,
    site_of,
    site_warnings,
)
from polarcast.hpc.inference.warnings import FieldStatistics, describe_frames, input_warnings
from polarcast.models.forecaster import Forecaster

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Nowcast:
    """Forecast after a frame.

    Attributes:
        zh: Forecast reflectivity (m, t, z, y, x) in dBZ; 0 without echo.
        issued: Number of the last input frame.
        known: Frame number → observed zh (z, y, x) of the last input frame, and of forecast frames if available.
        heights_km: Heights of the levels, (z,).
        ground: Grid of the forecast.
        step_minutes: Time between frames.
        time: UTC time of the last input frame; None if unknown.
        warnings: Warnings about input and forecast, one line each.
    """

    zh: Field
    issued: int
    known: Mapping[int, Field]
    heights_km: tuple[float, ...]
    ground: Ground
    step_minutes: float
    time: str | None
    warnings: tuple[str, ...]

    @property
    def lead_minutes(self) -> list[float]:
        """Lead time of each forecast frame, (t,)."""
        return [self.step_minutes * (1 + t) for t in range(self.zh.shape[1])]

    def mean(self) -> Field:
        """Return the ensemble mean (t, z, y, x) in dBZ."""
        return self.zh.mean(0, dtype=np.float64).astype(np.float32)


@torch.no_grad()
def nowcast_event(
    config: RunConfig,
    model: Forecaster,
    source: Input,
    issued: int | None = None,
    members: int | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Nowcast:
    """Forecast the frames after a frame of an event, with the window and random numbers of `evaluate`.

    Args:
        config: Configuration of the run.
        model: Trained model.
        source: Input event; it need not contain the forecast frames.
        issued: Number of the last input frame; default: the latest with enough frames before it.
        members: Ensemble size; default: that of the run's evaluation.
        seed: Seed of a generative model.
        on_progress: Called with (stage, done, total).

    Raises:
        BadInput: too few consecutive frames end there, or the model does not support the grid.
    """
    reader = _reader(config, source, config.variables(), config.frames)
    window, last = _window(reader.windows.begins(np.arange(len(reader)))[:, 1], config.frames, issued)
    members = config.evaluate.members if members is None else members
    levels = len(config.data.heights_km)
    check_size("zh", 4 * members * config.lead_frames * levels * source.manifest.pixels)
    batch = reader.read([window]).to(device_of(World()))
    zh = ensemble_of(model, batch, members, seed, source.name)[0].float().cpu().numpy()
    if on_progress:
        on_progress("forecast", 1, 1)
    radar, frames = batch.radar[0].cpu().numpy(), np.arange(last + 1 - config.frames, last + 1)
    from_input = input_warnings(
        FieldStatistics.measure(radar, batch.variables), frames, batch.variables, batch.heights_km
    )
    times = source.note.get("times", ())
    rows, columns = source.manifest.shape
    return Nowcast(
        zh=zh,
        issued=last,
        known=_known(config, source, range(last, last + config.lead_frames + 1)),
        heights_km=tuple(config.data.heights_km),
        ground=Ground((rows, columns), source.manifest.spacing_km, site_of(source), place_of(source)),
        step_minutes=source.manifest.time_step_minutes,
        time=times[last] if last < len(times) else None,
        warnings=(*site_warnings(source), *coverage_warnings(source), *from_input, *forecast_warnings(zh, members)),
    )


def _reader(config: RunConfig, source: Input, variables: tuple[str, ...], frames: int) -> Reader:
    try:
        return open_reader(
            source.manifest, "test", variables=variables, heights_km=config.data.heights_km, frames=frames, rain=False
        )
    except BadInput as error:  # its advice is for writing shards
        raise BadInput(error.what, source.name, f"the run needs {frames} consecutive frames") from None


def _window(begins: Numbers, frames: int, issued: int | None) -> tuple[int, int]:
    """Return the index of the window that ends with frame `issued` (default: the last window), and that frame."""
    ends = begins + frames - 1
    if issued is None:
        return len(ends) - 1, int(ends[-1])
    if not (ends == issued).any():
        problem = f"no {frames} consecutive frames end with frame {issued}"
        raise BadInput(problem, "--issued", f"choose from {describe_frames(ends)}")
    return int(np.flatnonzero(ends == issued)[0]), issued


def _known(config: RunConfig, source: Input, frames: range) -> dict[int, Field]:
    """Return zh of those frames that the input contains; empty if it has no zh."""
    if "zh" not in source.manifest.variables:
        return {}
    reader = _reader(config, source, ("zh",), 1)
    numbers = reader.windows.begins(np.arange(len(reader)))[:, 1]
    chosen = np.flatnonzero(np.isin(numbers, frames))
    fields = reader.read(chosen).to("cpu").variable("zh")[:, 0].numpy()
    return dict(zip(numbers[chosen].tolist(), fields, strict=True))


def nowcast_dataset(nowcast: Nowcast, attributes: Mapping[str, Attribute]) -> Dataset:
    """Return a dataset with coordinates, zh of every member, and the mean of several members.

    Args:
        nowcast: Forecast of an event.
        attributes: Global attributes of the file.
    """
    place: dict[str, Attribute] = {
        **nowcast.ground.attributes("forecast_reference_time", "forecast_period"),
        "cell_methods": "time: point",
    }
    axes = ("time", "height", "y", "x")
    variables = {
        **_coordinates(nowcast),
        **nowcast.ground.variables(),
        "zh": _zh("reflectivity factor", nowcast.zh, ("member", *axes), place),
    }
    if len(nowcast.zh) > 1:
        averaged: dict[str, Attribute] = {**place, "comment": "mean over the dimension member of zh"}
        variables["zh_mean"] = _zh("mean reflectivity factor of the members", nowcast.mean(), axes, averaged)
    return Dataset(variables, attributes)


def _zh(long_name: str, values: Field, dimensions: tuple[str, ...], more: Mapping[str, Attribute]) -> Variable:
    about: dict[str, Attribute] = {
        "standard_name": "equivalent_reflectivity_factor", "long_name": long_name, "units": "dBZ", "_FillValue": FILL,
    }  # fmt: skip
    return Variable(dimensions, np.where(np.isfinite(values), values, FILL), {**about, **more})


def _coordinates(nowcast: Nowcast) -> dict[str, Variable]:
    since = nowcast.time.replace("T", " ") if nowcast.time else NO_DATE
    clock: dict[str, Attribute] = {"units": f"seconds since {since}", "calendar": "standard"}
    if not nowcast.time:
        # CF requires a date for every time axis.
        clock["comment"] = f"the input has no date: {NO_DATE} is a nominal time of the last input frame"
    seconds = 60 * np.array(nowcast.lead_minutes)
    return {
        "member": member_axis(len(nowcast.zh)),
        "time": Variable(("time",), seconds, {
            "standard_name": "time", "long_name": "valid time of the forecast", "axis": "T", **clock}),
        "height": Variable(("height",), np.array(nowcast.heights_km), {
            "standard_name": "height", "long_name": "height of the level", "units": "km", "axis": "Z",
            "positive": "up"}),
        "forecast_reference_time": Variable((), np.zeros(()), {
            "standard_name": "forecast_reference_time", "long_name": "time of the last input frame", **clock}),
        "forecast_period": Variable(("time",), seconds, {
            "standard_name": "forecast_period", "long_name": "time since the last input frame", "units": "s"}),
    }  # fmt: skip
