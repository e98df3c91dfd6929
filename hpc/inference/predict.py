"""A trained run on one event → rain rates, or the frames to come, in a netCDF file with a picture beside it."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import SPACING_KM, TIME_STEP_MINUTES
from polarcast.data.errors import BadInput
from polarcast.data.files import write_bytes
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, set_up_torch
from polarcast.hpc.inference.cf_dataset import to_dataset
from polarcast.hpc.inference.grid import Field
from polarcast.hpc.inference.inputs import Input, OnProgress, open_input
from polarcast.hpc.inference.netcdf import Attribute, Dataset, write_netcdf
from polarcast.hpc.inference.nowcast import nowcast_dataset, nowcast_event
from polarcast.hpc.inference.plot import draw_forecasts, draw_nowcast
from polarcast.hpc.inference.qpe import Range, forecast_event
from polarcast.hpc.runs import provenance
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.models.forecaster import Forecaster

_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes:
        event: Which event of the input, where it has several.
        members: Ensemble size; that of the run's evaluation by default.
        seed: Of a generative model's random numbers.
        frames: Which frames, of an estimate.
        issued: The last frame that a nowcast sees; the newest by default.
        size: Pixels of 1 km a side to which a radar volume is gridded.
        picture: Whether to draw one.
    """

    event: int | None = None
    members: int | None = None
    seed: int = 0
    frames: Range = (None, None)
    issued: int | None = None
    size: int = 256
    picture: bool = True


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        output: The netCDF file.
        picture: The PNG, None where none was wanted.
        event: Number of the event.
        frames: Forecast frames.
        members: Members that the model gave.
        seed: Of its random numbers.
        issued: The last frame that a nowcast has seen, None for an estimate.
        rain_rate_max: Largest rain rate in mm/h of any member, None where none is finite, and for a nowcast.
        zh_max: The same of a nowcast's reflectivity in dBZ.
        warnings: What was unusual, a line each.
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
        """For `--json`."""
        return asdict(self)


def predict(run: RunFolder, path: Path, out: Path, asked: Asked, tell: OnProgress | None = None) -> Written:
    """Forecast one event with a trained run; write `out`, and beside it a picture with the suffix .png.

    Args:
        run: A finished run: of an estimator, for rain rate of every frame; of a nowcast, for zh after one of them.
        path: What to forecast; see `open_input`.
        out: The netCDF file to write; what is there is replaced, in one step.
        asked: Which part of it, and how.
        tell: Called with (what, done, total).

    Raises:
        BadInput: the run is not trained; the input is unusable or lacks what the run reads. Nothing is written then.
    """
    config = run.config()
    _check(out, asked, config)
    model = load_model(run, World())
    set_up_torch(config.train.threads, World())
    with open_input(path, config, asked.event, asked.size, tell) as given:
        make = _nowcast if config.is_nowcast else _estimate
        dataset, drawn, written = make(run, config, model, given, out, asked, tell)
    out.parent.mkdir(parents=True, exist_ok=True)
    # The netCDF file comes last: where it is, all is there.
    if drawn:
        write_bytes(out.with_suffix(".png"), drawn)
    write_netcdf(out, dataset)
    return written


_Made = tuple[Dataset, bytes | None, Written]


def _estimate(
    run: RunFolder, config: RunConfig, model: Forecaster, given: Input, out: Path, asked: Asked, tell: OnProgress | None
) -> _Made:
    forecasts = forecast_event(config, model, given, asked.frames, asked.members, asked.seed, tell)
    warnings = (*_unlike_training(run, config, given.manifest), *forecasts.warnings)
    forecasts = replace(forecasts, warnings=warnings)
    title = f"Rain rate estimated from radar fields: {_title(config, given)}"
    members = len(forecasts.rain_rate)
    dataset = to_dataset(forecasts, _story(run, config, given, title, members, asked.seed, warnings))
    drawn = draw_forecasts(forecasts, _title(config, given)) if asked.picture else None
    written = _written(out, given, asked, len(forecasts.frames), members, warnings)
    return dataset, drawn, replace(written, rain_rate_max=_largest(forecasts.rain_rate))


def _nowcast(
    run: RunFolder, config: RunConfig, model: Forecaster, given: Input, out: Path, asked: Asked, tell: OnProgress | None
) -> _Made:
    nowcast = nowcast_event(config, model, given, asked.issued, asked.members, asked.seed, tell)
    warnings = (*_unlike_training(run, config, given.manifest), *nowcast.warnings)
    title = f"Reflectivity forecast from radar fields: {_title(config, given)}, after frame {nowcast.issued}"
    members, frames = nowcast.zh.shape[:2]
    dataset = nowcast_dataset(nowcast, _story(run, config, given, title, members, asked.seed, warnings))
    drawn = draw_nowcast(nowcast, _title(config, given)) if asked.picture else None
    written = _written(out, given, asked, frames, members, warnings)
    return dataset, drawn, replace(written, issued=nowcast.issued, zh_max=_largest(nowcast.zh))


def _check(out: Path, asked: Asked, config: RunConfig) -> None:
    if config.is_nowcast and asked.frames != (None, None):
        raise BadInput("a nowcast is made after one frame", "--frames", "name the last one that it sees with --issued")
    if asked.issued is not None and not config.is_nowcast:
        raise BadInput("this run estimates, frame by frame", "--issued", "choose frames with --frames")
    if out.suffix != ".nc":
        raise BadInput("the output's name must end in .nc", out, "for example rain.nc")
    if out.is_dir():
        raise BadInput("is a folder", out, "give the name of a file that is to be written")
    if next(p for p in out.absolute().parents if p.exists()).is_file():
        raise BadInput("lies below a file", out, "give another folder")
    for name, value, least in (("members", asked.members, 1), ("seed", asked.seed, 0), ("size", asked.size, 1)):
        if value is not None and value < least:
            raise BadInput(f"{value} is too small", f"--{name}", f"give {least} or more")


def _unlike_training(run: RunFolder, config: RunConfig, manifest: Manifest) -> list[str]:
    """Where the input's grid is not the one that the run was trained on, as far as that is recorded."""
    trained = provenance.read_provenance(run.provenance_file).get("data", {}).get("archive", {})
    if not trained or "adopted" in trained:
        return []
    spacing, step = trained.get("spacing_km", SPACING_KM), trained.get("time_step_min", TIME_STEP_MINUTES)
    lines = []
    if manifest.spacing_km != spacing:
        lines.append(f"pixels of {manifest.spacing_km:g} km; the run was trained on {spacing:g} km")
    if (config.data.context or config.is_nowcast) and manifest.time_step_minutes != step:
        lines.append(f"frames every {manifest.time_step_minutes:g} min; the run was trained on {step:g} min")
    return lines


def _title(config: RunConfig, given: Input) -> str:
    return f"{config.model['name']}, {config.arm}, on {given.name}, event {given.event:03d}"


def _story(
    run: RunFolder, config: RunConfig, given: Input, title: str, members: int, seed: int, warnings: Sequence[str]
) -> dict[str, Attribute]:
    """Attributes of the whole file: how it came about."""
    now, before = provenance.describe(given.manifest), provenance.read_provenance(run.provenance_file)
    name, key, step = config.model["name"], digest(config), run.best_step()
    version = now["packages"]["polarcast"]
    return {
        "Conventions": "CF-1.8",
        "title": title,
        "source": f"polarcast {version}: model {name}, arm {config.arm}, run {key[:12]}",
        "history": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} polarcast {shlex.join(sys.argv[1:])}",
        "warnings": "\n".join(warnings) or "none",
        "model": name,
        "arm": config.arm,
        "inputs": f"{', '.join(config.variables())} at {', '.join(f'{h:g}' for h in config.data.heights_km)} km",
        "event": given.event,
        "members": members,
        "seed": seed,
        "run_config_digest": key,
        "checkpoint_step": "none: not trained in steps" if step is None else step,
        "training_data_digest": before.get("data", {}).get("digest") or _UNKNOWN,
        "training_source_revision": before.get("code", {}).get("commit") or _UNKNOWN,
        "input_data_digest": now["data"]["digest"],
        "source_revision": now["code"].get("commit") or _UNKNOWN,
        "polarcast_version": version,
    }


def _written(out: Path, given: Input, asked: Asked, frames: int, members: int, warnings: tuple[str, ...]) -> Written:
    return Written(
        output=str(out),
        picture=str(out.with_suffix(".png")) if asked.picture else None,
        event=given.event,
        frames=frames,
        members=members,
        seed=asked.seed,
        issued=None,
        rain_rate_max=None,
        zh_max=None,
        warnings=warnings,
    )


def _largest(values: Field) -> float | None:
    finite = values[np.isfinite(values)]
    return round(float(finite.max()), 3) if finite.size else None
