"""A nowcasting model on the last frames of an event → the frames that come next, as CF netCDF holds them."""

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
from polarcast.hpc.inference.qpe import ensemble_of, of_forecast, site_of, unseen
from polarcast.hpc.inference.warnings import Seen, named, unusual
from polarcast.models.forecaster import Forecaster

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Nowcast:
    """What comes after a frame.

    Attributes:
        zh: (m, t, z, y, x) in dBZ, 0 without echo.
        issued: Number of the last frame seen.
        known: Frame number → zh (z, y, x) of the last frame seen, and of those of the forecast that the input has.
        heights_km: Along z.
        ground: Where the pixels lie.
        step_minutes: Between frames.
        time: UTC of the last frame seen, None where it is not known.
        warnings: What was unusual, a line each.
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
        """Of each frame of the forecast."""
        return [self.step_minutes * (1 + t) for t in range(self.zh.shape[1])]

    def mean(self) -> Field:
        """(t, z, y, x), over the members."""
        return self.zh.mean(0, dtype=np.float64).astype(np.float32)


@torch.no_grad()
def nowcast_event(
    config: RunConfig,
    model: Forecaster,
    given: Input,
    issued: int | None = None,
    members: int | None = None,
    seed: int = 0,
    tell: OnProgress | None = None,
) -> Nowcast:
    """Forecast what comes after a frame of an event; the window and random numbers are those of `evaluate`.

    Args:
        config: Of the model's run.
        model: Ready to forecast.
        given: The event; frames to come need not be in it.
        issued: The last frame seen; the newest that has enough before it, by default.
        members: Ensemble size; that of the run's evaluation by default.
        seed: Of a generative model's random numbers.
        tell: Called with (what, done, total).

    Raises:
        BadInput: too few frames in a row end there, or a grid that the model can't take.
    """
    reader = _reader(config, given, config.variables(), config.frames)
    window, last = _window(reader.windows.begins(np.arange(len(reader)))[:, 1], config.frames, issued)
    wanted = config.evaluate.members if members is None else members
    levels = len(config.data.heights_km)
    check_size("zh", 4 * wanted * config.lead_frames * levels * given.manifest.pixels)
    batch = reader.read([window]).to(device_of(World()))
    zh = ensemble_of(model, batch, wanted, seed, given.name)[0].float().cpu().numpy()
    if tell:
        tell("forecast", 1, 1)
    radar, frames = batch.radar[0].cpu().numpy(), np.arange(last + 1 - config.frames, last + 1)
    odd = unusual(Seen.of(radar, batch.variables), frames, batch.variables, batch.heights_km)
    times = given.note.get("times", ())
    rows, columns = given.manifest.shape
    return Nowcast(
        zh=zh,
        issued=last,
        known=_known(config, given, range(last, last + config.lead_frames + 1)),
        heights_km=tuple(config.data.heights_km),
        ground=Ground((rows, columns), given.manifest.spacing_km, site_of(given)),
        step_minutes=given.manifest.time_step_minutes,
        time=times[last] if last < len(times) else None,
        warnings=(*unseen(given), *odd, *of_forecast(zh, wanted)),
    )


def _reader(config: RunConfig, given: Input, variables: tuple[str, ...], frames: int) -> Reader:
    try:
        return open_reader(
            given.manifest, "test", variables=variables, heights_km=config.data.heights_km, frames=frames, rain=False
        )
    except BadInput as error:  # its advice is for who makes shards
        raise BadInput(error.what, given.name, f"the run sees {frames} frames in a row") from None


def _window(begins: Numbers, frames: int, issued: int | None) -> tuple[int, int]:
    """Number of the window that ends with a frame, the last by default, and that frame."""
    ends = begins + frames - 1
    if issued is None:
        return len(ends) - 1, int(ends[-1])
    if not (ends == issued).any():
        problem = f"no {frames} frames in a row end with frame {issued}"
        raise BadInput(problem, "--issued", f"it can be {named(ends)}")
    return int(np.flatnonzero(ends == issued)[0]), issued


def _known(config: RunConfig, given: Input, wanted: range) -> dict[int, Field]:
    """zh of these frames, as far as they are there; none where the input has no zh."""
    if "zh" not in given.manifest.variables:
        return {}
    reader = _reader(config, given, ("zh",), 1)
    numbers = reader.windows.begins(np.arange(len(reader)))[:, 1]
    chosen = np.flatnonzero(np.isin(numbers, wanted))
    fields = reader.read(chosen).to("cpu").variable("zh")[:, 0].numpy()
    return dict(zip(numbers[chosen].tolist(), fields, strict=True))


def nowcast_dataset(nowcast: Nowcast, story: Mapping[str, Attribute]) -> Dataset:
    """Coordinates, zh of every member, and their mean where there are several.

    Args:
        nowcast: What was forecast.
        story: Attributes of the whole file.
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
    return Dataset(variables, story)


def _zh(long_name: str, values: Field, dimensions: tuple[str, ...], more: Mapping[str, Attribute]) -> Variable:
    about: dict[str, Attribute] = {
        "standard_name": "equivalent_reflectivity_factor", "long_name": long_name, "units": "dBZ", "_FillValue": FILL,
    }  # fmt: skip
    return Variable(dimensions, np.where(np.isfinite(values), values, FILL), {**about, **more})


def _coordinates(nowcast: Nowcast) -> dict[str, Variable]:
    since = nowcast.time.replace("T", " ") if nowcast.time else NO_DATE
    clock: dict[str, Attribute] = {"units": f"seconds since {since}", "calendar": "standard"}
    if not nowcast.time:
        # CF wants a date of every time axis.
        clock["comment"] = f"the input tells no date: {NO_DATE} stands for the last frame seen"
    seconds = 60 * np.array(nowcast.lead_minutes)
    return {
        "member": member_axis(len(nowcast.zh)),
        "time": Variable(("time",), seconds, {
            "standard_name": "time", "long_name": "time that the forecast is for", "axis": "T", **clock}),
        "height": Variable(("height",), np.array(nowcast.heights_km), {
            "standard_name": "height", "long_name": "height of the level", "units": "km", "axis": "Z",
            "positive": "up"}),
        "forecast_reference_time": Variable((), np.zeros(()), {
            "standard_name": "forecast_reference_time", "long_name": "time of the last frame seen", **clock}),
        "forecast_period": Variable(("time",), seconds, {
            "standard_name": "forecast_period", "long_name": "time since the last frame seen", "units": "s"}),
    }  # fmt: skip
