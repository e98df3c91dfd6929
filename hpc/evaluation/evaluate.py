"""Score a trained run on a split, and save example forecasts for figures."""

from collections.abc import Callable, Collection, Iterator

import numpy as np
import numpy.typing as npt
import torch

from polarcast.data.batch import Batch
from polarcast.data.files import checked_output, replacing
from polarcast.data.loading.prefetch import prefetch
from polarcast.data.loading.reader import Reader
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.distributed.preflight import on_every_rank
from polarcast.hpc.distributed.process_group import gather, join
from polarcast.hpc.distributed.world import World, device_of, set_up_torch
from polarcast.hpc.evaluation.scorers import scored
from polarcast.hpc.runs.build import build_reader, scoring_batch
from polarcast.hpc.runs.folder import Output, RunFolder
from polarcast.hpc.runs.intact import require_intact
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.scores.echo_change import by_change, change_of
from polarcast.hpc.scores.protocol import Protocol, nowcast_protocol
from polarcast.hpc.scores.records import Records, write_records
from polarcast.hpc.scores.sums import FAMILIES, score_fields
from polarcast.models.forecaster import Forecaster

CASE_QUANTILES = (0.99, 0.9, 0.75, 0.5)
"""Quantiles of the events' highest intensity at which cases for figures are selected, from observations only."""
_WORKERS = 2

OnFrames = Callable[[int, int], None]
Forecast = Callable[[Batch], torch.Tensor]
Sums = dict[str, npt.NDArray[np.float64]]


def evaluate(
    run: RunFolder,
    manifest: Manifest,
    output: Output,
    split: str = "test",
    on_frames: OnFrames | None = None,
    world: World | None = None,
) -> Records:
    """Score a trained run on a split of intact shards, and write the records and the cases, both or neither.

    Every window is scored once. Batches do not depend on the number of ranks, so neither do the scores.

    Args:
        run: A finished run.
        manifest: Shards to score on; may differ from the training shards.
        output: Files to write.
        split: Name of the split.
        on_frames: Callback on each rank, called with (windows done, total windows) of that rank.
        world: This process's rank and world size, single-process by default; rank 0 writes.

    Returns:
        Score records of all events, on every rank.

    Raises:
        BadInput: the run is not trained, the shards lack variables that it reads or are damaged, or the output can't be
            written.
    """
    world = world or World()
    config, model = run.config(), load_model(run, world)
    join(world)
    on_every_rank(lambda: _check_output(output), world)
    set_up_torch(config.train.threads, world)
    reader = build_reader(config, manifest, split, observed=True)
    require_intact(reader, config.data, world)
    records = score(lambda batch: model.forecast(batch, config.evaluate.members), reader, world, on_frames)
    if world.is_first:
        _write(output, records, _cases(model, reader))
    return records


def _check_output(output: Output) -> None:
    for path in (output.scores, output.cases):
        checked_output(path)


def _write(output: Output, records: Records, cases: dict[str, npt.NDArray[np.generic]]) -> None:
    """Write scores and cases. An error or a kill leaves the old ones or the new ones, never one file of each."""
    for path in (output.scores, output.cases):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output.cases) as partial_cases, replacing(output.scores) as partial_scores:
        with partial_cases.open("wb") as stream:
            np.savez(stream, **cases)  # type: ignore[arg-type]
        write_records(partial_scores, records)
        output.cases.unlink(missing_ok=True)


@torch.no_grad()
def score(
    forecast: Forecast,
    reader: Reader,
    world: World,
    on_frames: OnFrames | None = None,
    size: int | None = None,
    windows: npt.NDArray[np.int64] | None = None,
    only: Collection[str] = FAMILIES,
) -> Records:
    """Score forecasts of the windows of a split on all ranks.

    Args:
        forecast: Function of a batch on this rank's device that returns (b, m, t, y, x) or (b, m, t, z, y, x).
        reader: Reader of the split.
        world: This process's rank and world size.
        on_frames: Callback, called with (windows done, total windows) of this rank.
        size: Windows per batch, by default from the pixels of the shards. The sums do not depend on it.
        windows: Indices of the windows to score, ascending; all by default.
        only: Names of the families of sums to compute.

    Returns:
        Score records of the windows' events, on every rank.
    """
    size = size or scoring_batch(reader.manifest)
    chosen = np.arange(len(reader)) if windows is None else windows
    starts = range(0, len(chosen), size)
    mine = [chosen[start : start + size] for start in starts[world.rank :: world.size]]
    parts: list[Sums] = []
    protocol = None

    def forecasts() -> Iterator[tuple[torch.Tensor, Batch]]:
        nonlocal protocol
        for batch in prefetch(reader.read, mine, _WORKERS):
            batch = batch.to(device_of(world))
            ensemble = forecast(batch)
            protocol = protocol or protocol_of(reader.manifest, ensemble, batch.heights_km)
            yield ensemble, batch

    def add_up(pair: tuple[torch.Tensor, Batch]) -> Sums:
        assert protocol is not None
        return window_sums(*pair, protocol, only)

    # A GPU computes one batch after the other anyway.
    workers = torch.get_num_threads() if device_of(world) == "cpu" else 1
    for part in scored(add_up, forecasts(), max(1, min(workers, len(mine)))):
        parts.append(part)
        if on_frames:
            on_frames(sum(map(len, mine[: len(parts)])), sum(map(len, mine)))
    by_rank = gather((protocol.as_record() if protocol else None, parts), world)
    ordered = [by_rank[i % world.size][1][i // world.size] for i in range(len(starts))]
    # Ranks without a batch have no protocol; rank 0 always has the first batch.
    common = by_rank[0][0]
    assert common is not None, "the split has no windows"
    sums = {name: np.concatenate([part[name] for part in ordered]) for name in ordered[0]}
    events, manifest = reader.events()[chosen], reader.manifest
    groups = {event: manifest.group_of(event) for event in np.unique(events).tolist()}
    return Records.of_windows(Protocol.of_record(common), events, sums, manifest.digest(), groups)


def protocol_of(manifest: Manifest, ensemble: torch.Tensor, heights_km: tuple[float, ...]) -> Protocol:
    """Return the protocol of rain estimates (b, m, t, y, x) in mm/h or nowcasts (b, m, t, z, y, x) in dBZ."""
    _, members, frames, *rest = ensemble.shape
    if len(rest) == 2:
        return Protocol(unit="mm/h", shape=manifest.shape, members=members)
    leads = tuple(manifest.time_step_minutes * (1 + frame) for frame in range(frames))
    return nowcast_protocol(manifest.shape, members, leads, heights_km)


def observed_of(batch: Batch) -> torch.Tensor:
    """Return the observed fields, (b, t, z, y, x): rain rate of the last frame in mm/h, or future zh in dBZ."""
    return batch.rain_rate[:, -1:, None] if batch.target_zh is None else batch.target_zh


def scored_observation(batch: Batch) -> torch.Tensor:
    """Return the fields of `observed_of`, NaN where they were not observed: these pixels count in no score."""
    observed = observed_of(batch)
    return observed if batch.observed is None else observed.masked_fill(~batch.observed, torch.nan)


def _last_zh(batch: Batch) -> torch.Tensor | None:
    """Return zh of the last input frame, (b, z, y, x) in dBZ, NaN where it was not observed; None for QPE."""
    if batch.last_zh is None or batch.last_observed is None:
        return batch.last_zh
    return batch.last_zh.masked_fill(~batch.last_observed, torch.nan)


def window_sums(ensemble: torch.Tensor, batch: Batch, protocol: Protocol, only: Collection[str]) -> Sums:
    """Accumulate the sums of each window, (b, lead time, height, *axes, columns).

    `by_change` is made from the contingency tables, which are therefore among the sums if it is asked for.
    """
    by_height = ensemble if ensemble.ndim == 6 else ensemble[:, :, :, None]
    observed = scored_observation(batch)
    needed = {*only, "contingency"} if "by_change" in only else only
    fields = score_fields(by_height.movedim(1, 3).flatten(0, 2), observed.flatten(0, 2), protocol, needed)
    before = _last_zh(batch)
    if before is not None and "contingency" in fields:
        last = before[:, None].expand_as(observed)
        fields["by_change"] = by_change(fields["contingency"], change_of(last.flatten(0, 2), observed.flatten(0, 2)))
    grid = (len(batch), len(protocol.lead_time), len(protocol.height))
    return {name: sums.double().cpu().numpy().reshape(*grid, *sums.shape[1:]) for name, sums in fields.items()}


@torch.no_grad()
def _cases(model: Forecaster, reader: Reader) -> dict[str, npt.NDArray[np.generic]]:
    """Forecast the windows of `case_windows`: arrays by name, (cases, …)."""
    batch = reader.read(case_windows(reader)).to(device_of(World()))
    with model.sampling_states() as states:
        forecast = model.forecast(batch)[:, 0]
    observed = scored_observation(batch)
    # Each case holds one field (y, x) of an estimate, or (t, z, y, x) of a nowcast.
    arrays = {
        "radar": batch.radar[:, -1],
        "observed": observed[:, 0, 0] if batch.target_zh is None else observed,
        "forecast": forecast[:, 0] if batch.target_zh is None else forecast,
        "event": batch.event,
        "frame": batch.frame,
        **({"process": torch.stack(states)} if states else {}),
    }
    return {name: values.cpu().numpy() for name, values in arrays.items()}


def case_windows(reader: Reader) -> list[int]:
    """Return the wettest window of events from very wet to median; the same for every model."""
    wetness = reader.windows.intensity()
    events = reader.events()
    wettest = [int(np.flatnonzero(events == e)[wetness[events == e].argmax()]) for e in np.unique(events)]
    ordered = sorted(wettest, key=lambda window: wetness[window])
    picked = [ordered[round(q * (len(ordered) - 1))] for q in CASE_QUANTILES]
    return list(dict.fromkeys(picked))
