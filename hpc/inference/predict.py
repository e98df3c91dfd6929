"""Forecast one event with a trained run; write a netCDF file and a figure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import TIME_STEP_MINUTES
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, replacing
from polarcast.data.secrets import redacted
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, set_up_torch
from polarcast.hpc.inference.cf_dataset import to_dataset
from polarcast.hpc.inference.grid import Field
from polarcast.hpc.inference.inputs import Input, OnProgress, open_input
from polarcast.hpc.inference.limits import check_numbers
from polarcast.hpc.inference.netcdf import Attribute, checked_netcdf, fill_netcdf
from polarcast.hpc.inference.nowcast import nowcast_dataset, nowcast_event
from polarcast.hpc.inference.plot import draw_forecasts, draw_nowcast
from polarcast.hpc.inference.prediction import Prediction
from polarcast.hpc.inference.qpe import Range, forecast_event
from polarcast.hpc.runs import provenance
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.runs.trained_grid import trained_grid, unlike_training
from polarcast.models.forecaster import Forecaster

_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction.

    Attributes:
        event: Event number; required if the input has several.
        members: Ensemble size; default: that of the run's evaluation.
        seed: Seed of a generative model.
        frames: First frame and end of the range to estimate.
        issued: Last input frame of a nowcast; default: the latest.
        size: Pixels per side, of 1 km each, of a gridded radar volume.
        picture: Whether to draw a figure.
        history: What made the forecast, for the attribute `history`: the command line or the call.
    """

    event: int | None = None
    members: int | None = None
    seed: int = 0
    frames: Range = (None, None)
    issued: int | None = None
    size: int = 256
    picture: bool = True
    history: str = ""


@dataclass(frozen=True)
class Written:
    """Summary of a written prediction.

    Attributes:
        output: Path of the netCDF file.
        picture: Path of the PNG file; None if not requested.
        event: Number of the event.
        frames: Number of forecast frames.
        members: Number of ensemble members.
        seed: Seed of the random numbers.
        issued: Last input frame of a nowcast; None for an estimate.
        rain_rate_max: Largest rain rate of any member in mm/h; None for a nowcast, or if none is finite.
        zh_max: Largest reflectivity of any member in dBZ; None for an estimate, or if none is finite.
        warnings: Warnings about input and forecast, one line each.
    """

    output: str
    picture: str | None
    event: int
    frames: int
    members: int
    seed: int
    issued: int | None
    rain_rate_max: float | None
    zh_max: float | None
    warnings: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return asdict(self)


def predict(
    run: RunFolder, path: Path, out: Path, options: PredictOptions, on_progress: OnProgress | None = None
) -> Written:
    """Forecast one event with a trained run; write `out`, and a figure with the suffix .png next to it.

    Args:
        run: Finished run. An estimator gives the rain rate of every frame, a nowcast zh after one frame.
        path: Input; see `open_input`.
        out: Path of the netCDF file; an existing file is replaced atomically.
        options: Part of the input, ensemble size and figure.
        on_progress: Called with (stage, done, total).

    Raises:
        BadInput: the run is not trained, or the input is unusable or lacks a field that the run needs. Nothing is
            written then.
    """
    checked_netcdf(out)
    if options.picture:
        checked_output(out.with_suffix(".png"))
    found = forecast(run, path, options, on_progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    # The netCDF file gets its name last: if it exists, the output is complete. If either can't be written, none is.
    with replacing(out) as partial:
        fill_netcdf(partial, found.dataset)
        if options.picture:
            found.to_png(out.with_suffix(".png"))
    return _written(out, options, found)


def forecast(run: RunFolder, path: Path, options: PredictOptions, on_progress: OnProgress | None = None) -> Prediction:
    """Forecast one event with a trained run, in memory.

    Args:
        run: Finished run.
        path: Input; see `open_input`.
        options: Part of the input and ensemble size.
        on_progress: Called with (stage, done, total).

    Raises:
        BadInput: the run is not trained, or the input is unusable or lacks a field that the run needs.
    """
    config = run.config()
    _check_options(options, config)
    model = load_model(run, World())
    set_up_torch(config.train.threads, World())
    step = trained_grid(run)[1] or TIME_STEP_MINUTES
    with open_input(path, config, options.event, options.size, on_progress, step) as source:
        make = _nowcast if config.is_nowcast else _estimate
        return make(run, config, model, source, options, on_progress)


def _estimate(
    run: RunFolder,
    config: RunConfig,
    model: Forecaster,
    source: Input,
    options: PredictOptions,
    on_progress: OnProgress | None,
) -> Prediction:
    forecasts = forecast_event(config, model, source, options.frames, options.members, options.seed, on_progress)
    warnings = (*source.warnings, *unlike_training(run, config, source.manifest), *forecasts.warnings)
    forecasts = replace(forecasts, warnings=warnings)
    title = f"Rain rate estimated from radar fields: {_title(config, source)}"
    members = len(forecasts.rain_rate)
    dataset = to_dataset(forecasts, _file_attributes(run, config, source, title, members, options, warnings))
    draw = partial(draw_forecasts, forecasts, _title(config, source))
    return Prediction(dataset, source.event, None, warnings, draw)


def _nowcast(
    run: RunFolder,
    config: RunConfig,
    model: Forecaster,
    source: Input,
    options: PredictOptions,
    on_progress: OnProgress | None,
) -> Prediction:
    nowcast = nowcast_event(config, model, source, options.issued, options.members, options.seed, on_progress)
    warnings = (*source.warnings, *unlike_training(run, config, source.manifest), *nowcast.warnings)
    title = f"Reflectivity forecast from radar fields: {_title(config, source)}, after frame {nowcast.issued}"
    members = len(nowcast.zh)
    dataset = nowcast_dataset(nowcast, _file_attributes(run, config, source, title, members, options, warnings))
    draw = partial(draw_nowcast, nowcast, _title(config, source))
    return Prediction(dataset, source.event, nowcast.issued, warnings, draw)


def _check_options(options: PredictOptions, config: RunConfig) -> None:
    if config.is_placebo:
        what = "a placebo takes ZDR and KDP from other events, so it forecasts no event"
        raise BadInput(what, "arm", "choose a run with arm=dualpol, or score this one: polarcast evaluate RUN")
    if config.is_nowcast and options.frames != (None, None):
        raise BadInput("a nowcast starts from one frame", "--frames", "choose the last input frame with --issued")
    if options.issued is not None and not config.is_nowcast:
        raise BadInput("this run estimates rain, it does not nowcast", "--issued", "give --frames instead")
    check_numbers(members=options.members, seed=options.seed, size=options.size)


def _title(config: RunConfig, source: Input) -> str:
    return f"{config.model['name']}, {config.arm}, on {source.name}, event {source.event:03d}"


def _file_attributes(
    run: RunFolder,
    config: RunConfig,
    source: Input,
    title: str,
    members: int,
    options: PredictOptions,
    warnings: Sequence[str],
) -> dict[str, Attribute]:
    """Return the global attributes of the file, with its provenance."""
    now, before = provenance.describe(source.manifest), provenance.read_provenance(run.provenance_file)
    name, key, step = config.model["name"], digest(config), run.best_step()
    version = now["packages"]["polarcast"]
    return {
        "Conventions": "CF-1.8",
        "title": title,
        "source": f"polarcast {version}: model {name}, arm {config.arm}, run {key[:12]}",
        "history": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {redacted(options.history) or 'polarcast'}",
        "warnings": "\n".join(warnings) or "none",
        "model": name,
        "arm": config.arm,
        "inputs": f"{', '.join(config.variables())} at {', '.join(f'{h:g}' for h in config.data.heights_km)} km",
        "event": source.event,
        "members": members,
        "seed": options.seed,
        "run_config_digest": key,
        "checkpoint_step": "none: not trained in steps" if step is None else step,
        "training_data_digest": before.get("data", {}).get("digest") or _UNKNOWN,
        "training_source_revision": before.get("code", {}).get("commit") or _UNKNOWN,
        "input_data_digest": now["data"]["digest"],
        "source_revision": now["code"].get("commit") or _UNKNOWN,
        "polarcast_version": version,
    }


def _written(out: Path, options: PredictOptions, found: Prediction) -> Written:
    is_estimate = found.issued is None
    values = found["rain_rate" if is_estimate else "zh"]
    return Written(
        output=str(out),
        picture=str(out.with_suffix(".png")) if options.picture else None,
        event=found.event,
        frames=values.shape[1],
        members=values.shape[0],
        seed=options.seed,
        issued=found.issued,
        rain_rate_max=_largest(values) if is_estimate else None,
        zh_max=None if is_estimate else _largest(values),
        warnings=found.warnings,
    )


def _largest(values: Field) -> float | None:
    finite = values[np.isfinite(values)]
    return round(float(finite.max()), 3) if finite.size else None
