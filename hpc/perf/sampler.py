"""Skill of a trained diffusion by sampler and number of network evaluations."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import Reader
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import score
from polarcast.hpc.perf.measure import Measured, PerfRow, machine
from polarcast.hpc.runs.build import build_reader, stored_shards
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records
from polarcast.models.diffusion.generative import Generative
from polarcast.models.diffusion.samplers import Sampler

REFERENCE = Sampler("ddim", 100)
SETTINGS = (
    *(Sampler("ddim", n) for n in (4, 8, 10, 20, 50)),
    *(Sampler("dpm", n) for n in (4, 6, 8, 10, 20)),
    *(Sampler("heun", n) for n in (3, 5, 10)),
)
_ENOUGH, _FEW = 0.02, 10
_SPLIT = "validation"


@dataclass(frozen=True)
class _Found:
    name: str
    evaluations: int
    crps: float
    rmse: float
    seconds: float


def measure_sampler(
    run: RunFolder, members: int, windows: int, on_setting: Callable[[int], None] | None = None
) -> Measured:
    """Score a run's ensembles on validation windows with every sampler, and with 100 steps of DDIM.

    Args:
        run: Run of a trained diffusion model.
        members: Ensemble size.
        windows: Number of windows, spread evenly over the split.
        on_setting: Called with the number of settings done.

    Raises:
        BadInput: the run is not trained, or its model draws no samples.
    """
    config, model = run.config(), load_model(run, World())
    if not isinstance(model, Generative):
        raise BadInput(f"{config.model['name']} draws no samples", run.path, "give a run of a diffusion model")
    manifest = stored_shards(run)
    reader = build_reader(config, manifest, _SPLIT, observed=True)
    chosen = np.unique(np.linspace(0, len(reader) - 1, min(windows, len(reader))).round().astype(int))
    subset = Reader(
        manifest, replace(reader.windows, starts=reader.windows.starts[chosen]), reader.fields, reader.frames
    )
    found = []
    for number, setting in enumerate((REFERENCE, *SETTINGS), start=1):
        found.append(_measure(model, setting, members, subset))
        if on_setting:
            on_setting(number)
    return _as_measured(found, str(Path(run.path)), members, len(chosen))


def _measure(model: Generative, sampler: Sampler, members: int, reader: Reader) -> _Found:
    usual = model.denoising.sampler
    model.denoising.sampler = sampler
    try:
        evaluations, started = model.evaluations, time.perf_counter()
        records = score(lambda batch: model.forecast(batch, members), reader, World())
        seconds = (time.perf_counter() - started) / (len(reader) * members)
    finally:
        model.denoising.sampler = usual
    crps, rmse = (_pooled(records, name) for name in ("crps", "rmse"))
    return _Found(f"{sampler.name}, {sampler.steps} steps", evaluations, crps, rmse, seconds)


def _pooled(records: Records, name: str) -> float:
    wanted = parse_score(name)
    return float(wanted.of(wanted.sums(records).sum(0), records.protocol))


def _as_measured(found: Sequence[_Found], run: str, members: int, windows: int) -> Measured:
    reference, *others = found
    rows = [_row(f.name, "CRPS", f.crps, f) for f in found]
    rows += [_row(f.name, "RMSE of the mean", f.rmse, f) for f in found]
    ratios = {f"CRPS, {f.name} / {reference.name}": f.crps / reference.crps for f in others}
    enough = [f for f in others if f.evaluations <= _FEW and f.crps <= (1 + _ENOUGH) * reference.crps]
    best = min(enough, key=lambda f: (f.evaluations, f.crps), default=None)
    cheapest = f"{best.name} ({best.evaluations} evaluations)" if best else "none"
    notes = {
        "run": f"{run}, {members} members, {windows} {_SPLIT} windows",
        f"within {_ENOUGH:.0%} of {reference.name} with at most {_FEW} evaluations": cheapest,
    }
    return Measured("sampler", machine(), rows, ratios, notes)


def _row(name: str, what: str, value: float, found: _Found) -> PerfRow:
    each = f"mm/h, {found.evaluations} evaluations, {1000 * found.seconds:.0f} ms a member"
    return PerfRow(f"{what}, {name}", value, each, value, value)
