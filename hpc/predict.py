"""A trained run on one event → rain rates in a netCDF file, with a picture beside it."""

import shlex
import sys
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import SPACING_KM, TIME_STEP_MINUTES
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc import provenance
from polarcast.hpc.build import load_model
from polarcast.hpc.config import RunConfig
from polarcast.hpc.files import write_bytes
from polarcast.hpc.netcdf import Attribute, write_netcdf
from polarcast.hpc.predict_dataset import Forecasts, to_dataset
from polarcast.hpc.predict_event import Range, forecast_event
from polarcast.hpc.predict_input import Input, OnProgress, open_input
from polarcast.hpc.predict_picture import draw_forecasts
from polarcast.hpc.run_folder import RunFolder
from polarcast.hpc.world import World, set_threads

_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes:
        event: Which event of the input, where it has several.
        members: Ensemble size; that of the run's evaluation by default.
        seed: Of a generative model's random numbers.
        frames: Which frames.
        size: Pixels of 1 km a side to which a radar volume is gridded.
        picture: Whether to draw one.
    """

    event: int | None = None
    members: int | None = None
    seed: int = 0
    frames: Range = (None, None)
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
        rain_rate_max: Largest rain rate in mm/h of any member, None where none is finite.
        warnings: What was unusual, a line each.
    """

    output: str
    picture: str | None
    event: int
    frames: int
    members: int
    seed: int
    rain_rate_max: float | None
    warnings: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def predict(run: RunFolder, path: Path, out: Path, asked: Asked, tell: OnProgress | None = None) -> Written:
    """Forecast one event with a trained run; write `out`, and beside it a picture with the suffix .png.

    Args:
        run: A finished run.
        path: What to forecast; see `open_input`.
        out: The netCDF file to write; what is there is replaced, in one step.
        asked: Which part of it, and how.
        tell: Called with (what, done, total).

    Raises:
        BadInput: the run is not trained; the input is unusable or lacks what the run reads. Nothing is written then.
    """
    _check(out, asked)
    config, model = run.config(), load_model(run, World())
    if config.is_nowcast:
        raise BadInput(
            "this run makes nowcasts, of which no files are written yet", run.path, "use: polarcast evaluate"
        )
    set_threads(config.train.threads, World())
    with open_input(path, config, asked.event, asked.size, tell) as given:
        forecasts = forecast_event(config, model, given, asked.frames, asked.members, asked.seed, tell)
        odd = _unlike_training(run, config, given.manifest)
        forecasts = replace(forecasts, warnings=(*odd, *forecasts.warnings))
        dataset = to_dataset(forecasts, _story(run, config, given, forecasts, asked.seed))
    drawn = draw_forecasts(forecasts, _title(config, given)) if asked.picture else None
    out.parent.mkdir(parents=True, exist_ok=True)
    # The netCDF file comes last: where it is, all is there.
    if drawn:
        write_bytes(out.with_suffix(".png"), drawn)
    write_netcdf(out, dataset)
    return _written(out, given, forecasts, asked)


def _check(out: Path, asked: Asked) -> None:
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
    if config.data.context and manifest.time_step_minutes != step:
        lines.append(f"frames every {manifest.time_step_minutes:g} min; the run was trained on {step:g} min")
    return lines


def _title(config: RunConfig, given: Input) -> str:
    return f"{config.model['name']}, {config.arm}, on {given.name}, event {given.event:03d}"


def _story(run: RunFolder, config: RunConfig, given: Input, forecasts: Forecasts, seed: int) -> dict[str, Attribute]:
    """Attributes of the whole file: how it came about."""
    now, before = provenance.describe(given.manifest), provenance.read_provenance(run.provenance_file)
    name, digest, step = config.model["name"], config.digest(), run.best_step()
    version = now["packages"]["polarcast"]
    return {
        "Conventions": "CF-1.8",
        "title": f"Rain rate estimated from radar fields: {_title(config, given)}",
        "source": f"polarcast {version}: model {name}, arm {config.arm}, run {digest[:12]}",
        "history": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} polarcast {shlex.join(sys.argv[1:])}",
        "warnings": "\n".join(forecasts.warnings) or "none",
        "model": name,
        "arm": config.arm,
        "inputs": f"{', '.join(config.variables())} at {', '.join(f'{h:g}' for h in config.data.heights_km)} km",
        "event": given.event,
        "members": len(forecasts.rain_rate),
        "seed": seed,
        "run_config_digest": digest,
        "checkpoint_step": "none: not trained in steps" if step is None else step,
        "training_data_digest": before.get("data", {}).get("digest") or _UNKNOWN,
        "training_source_revision": before.get("code", {}).get("commit") or _UNKNOWN,
        "input_data_digest": now["data"]["digest"],
        "source_revision": now["code"].get("commit") or _UNKNOWN,
        "polarcast_version": version,
    }


def _written(out: Path, given: Input, forecasts: Forecasts, asked: Asked) -> Written:
    finite = forecasts.rain_rate[np.isfinite(forecasts.rain_rate)]
    return Written(
        output=str(out),
        picture=str(out.with_suffix(".png")) if asked.picture else None,
        event=given.event,
        frames=len(forecasts.frames),
        members=len(forecasts.rain_rate),
        seed=asked.seed,
        rain_rate_max=round(float(finite.max()), 3) if finite.size else None,
        warnings=forecasts.warnings,
    )
