"""Make a run folder of forecasts of other software: its configuration, provenance, scores and standing."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput, nearest, shown
from polarcast.data.files import checked_output, new_folder
from polarcast.data.folder_kind import checked_kind, is_new
from polarcast.data.loading.windows import windows_of
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.samples import EVENT, Table
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import ARMS, PLACEBO, RunConfig
from polarcast.hpc.leaderboard.forecasts import ForecastSet, Window, read_forecasts, scored_forecasts
from polarcast.hpc.leaderboard.verify import write_standing
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import describe, write_provenance
from polarcast.hpc.scores.records import write_records
from polarcast.models.registry import EXTERNAL

_TEST = "test"
_LONGEST_LABEL = 100
_ARMS = tuple(arm for arm in ARMS if arm != PLACEBO)


@dataclass(frozen=True)
class ExternalModel:
    """What its author says of a model of other software.

    Attributes:
        arm: What it read: radar (ZH) or dualpol.
        label: What it is called.
        heights_km: Heights of its nowcasts along z in km; those of the shards by default.
        seen_frames: Input frames of its nowcasts. They must be given: other windows may be the same with others.
    """

    arm: str = "radar"
    label: str | None = None
    heights_km: tuple[float, ...] | None = None
    seen_frames: int | None = None


def add_external(folder: Path, source: Path | Mapping[str, Any], shards: str, model: ExternalModel) -> dict[str, Any]:
    """Score forecasts of all test windows, and make the run folder, completely or not at all.

    Args:
        folder: Folder to make; there may be an empty one.
        source: An .npz file, or arrays by name: event (n,), first frame (n,), and forecast, (n, m, y, x) rain rates in
            mm/h or (n, m, t, z, y, x) zh in dBZ.
        shards: Shards to score on.
        model: What to write into the configuration.

    Returns:
        The record of `verified.json`, with the `task`, the `arm`, and the number of scored `events`.

    Raises:
        BadInput: the folder is not new, the forecasts do not fit the shards, or are not finite.
    """
    if not is_new(folder):
        raise BadInput("exists and is not empty", folder, "choose another folder")
    checked_output(checked_kind(folder, "a run"), is_folder=True)
    if model.arm not in _ARMS:
        fix = f"{nearest(model.arm, _ARMS)} choose from: {', '.join(_ARMS)}"
        raise BadInput(f"unknown arm {shown(model.arm)}", "--arm", fix.strip())
    if model.label and not _is_storable(model.label):
        raise BadInput(f"{shown(model.label)} can't be stored", "--label", "use plain text of at most 100 characters")
    manifest, forecasts = read_manifest(shards), read_forecasts(source)
    config = config_of(forecasts, manifest, shards, model)
    records = scored_forecasts(forecasts, config, manifest)
    provenance = describe(manifest)
    with new_folder(folder) as partial:
        run = RunFolder(partial)
        run.write_config(config)
        write_provenance(run.provenance_file, provenance)
        write_records(run.output.scores, records)
        standing = write_standing(partial)
    found = {**standing, "task": config.task, "arm": config.arm, "events": len(records.events)}
    if forecasts.is_nowcast:
        found |= {"seen_frames": config.data.seen_frames, "lead_minutes": list(records.protocol.lead_time)}
    return found


def _is_storable(label: str) -> bool:
    """Whether a configuration can hold a label: `${` and `???` have a meaning there."""
    try:
        label.encode()
    except UnicodeEncodeError:
        return False
    return len(label) <= _LONGEST_LABEL and "${" not in label and label.strip() != "???"


def config_of(
    forecasts: ForecastSet, manifest: Manifest, shards: str, model: ExternalModel, all_windows: bool = True
) -> RunConfig:
    """Return the configuration: task, lead times and ensemble size follow from the shape of the forecasts.

    Args:
        forecasts: The forecasts.
        manifest: Manifest of the shards.
        shards: Where the shards are.
        model: What is said of the model.
        all_windows: Whether there must be forecasts of all test windows.

    Raises:
        BadInput: the forecasts do not fit the shards or what is said of them.
    """
    of_nowcasts = {"--heights": model.heights_km, "--seen-frames": model.seen_frames}
    if not forecasts.is_nowcast and (odd := [name for name, value in of_nowcasts.items() if value is not None]):
        raise BadInput("belongs to nowcasts, and these forecasts are of rain", odd[0], "remove it")
    data: dict[str, Any] = {"shards": shards, "heights_km": _heights(forecasts, manifest, model.heights_km)}
    if forecasts.is_nowcast and model.seen_frames is None:
        what = f"a nowcast of {forecasts.lead_frames} lead times, whose number of input frames is not given"
        raise BadInput(what, "--seen-frames", "say after how many frames of its window a forecast begins")
    if all_windows and forecasts.is_nowcast and model.seen_frames is not None:
        _check_windows(forecasts, manifest, model.seen_frames)
    if forecasts.is_nowcast:
        data |= {"lead_frames": forecasts.lead_frames, "seen_frames": model.seen_frames}
    return load_config(
        {
            "task": "nowcast" if forecasts.is_nowcast else "qpe",
            "arm": model.arm,
            "data": data,
            "model": {"name": EXTERNAL, "label": model.label, "forecasts_sha256": forecasts.sha256()},
            "evaluate": {"members": forecasts.members},
        }
    )


def _heights(forecasts: ForecastSet, manifest: Manifest, given: tuple[float, ...] | None) -> list[float]:
    """Return the heights in km: those of a nowcast along z, and all that a model of rain may have read."""
    heights = list(manifest.heights_km if given is None else given)
    if forecasts.is_nowcast and forecasts.fields.shape[3] != len(heights):
        of_whom = "the shards have" if given is None else "--heights has"
        what = f"the forecast has {forecasts.fields.shape[3]} along z, {of_whom} {len(heights)}"
        known = ", ".join(map(_km, manifest.heights_km))
        raise BadInput(f"heights: {what}", forecasts.where, f"give theirs with --heights, of {known} km")
    return heights


def _km(height: float) -> str:
    return f"{height:g}"


def _check_windows(forecasts: ForecastSet, manifest: Manifest, seen: int) -> None:
    """Check that the windows of nowcasts are the test windows of so many input frames.

    Others would compare the forecasts with the frames of other times.
    """
    windows, lead = _of_events(forecasts, manifest), forecasts.lead_frames
    possible = list(_sets(manifest, seen, lead))
    if windows in possible:
        return
    if not possible:
        longest = int(max(np.unique(_test_rows(manifest)[:, 1 + EVENT], return_counts=True)[1], default=0))
        what = f"no test event has {lead} lead times after {seen} input frame{'s' * (seen > 1)}"
        raise BadInput(what, forecasts.where, f"give fewer: the longest event has {longest} frames")
    near = min(possible, key=lambda one: len(windows ^ one))
    lacks = near - windows
    event, frame = min(lacks or windows - near)
    what = "no forecast of" if lacks else "no window begins at"
    fix = f"give those of {seen} + {lead} frames: open_shards(…, split='test', frames={seen}, lead_frames={lead})"
    raise BadInput(f"{what} event {event}, frame {frame}", forecasts.where, fix)


def _possible(manifest: Manifest, seen: int, lead: int) -> Iterator[Table]:
    """Yield the test windows of `seen` + `lead` frames that are scored, and all of them, if there are any.

    Each is (windows, 2), ascending: event and first frame.
    """
    unfiltered = replace(manifest, selection={**manifest.selection, "min_strong_pixels": 0})
    for found in (manifest, unfiltered):
        with suppress(BadInput):  # there are none
            windows = windows_of(found, _TEST, seen + lead, lead)
            yield windows.begins(np.arange(len(windows)))


def _sets(manifest: Manifest, seen: int, lead: int) -> Iterator[set[Window]]:
    for windows in _possible(manifest, seen, lead):
        yield {(event, frame) for event, frame in windows.tolist()}


def _of_events(forecasts: ForecastSet, manifest: Manifest) -> set[Window]:
    """Return the windows of test events that have a forecast."""
    events = set(manifest.splits.get(_TEST, ()))
    return {window for window in forecasts.numbers if window[0] in events}


def _test_rows(manifest: Manifest) -> Table:
    return manifest.samples[np.isin(manifest.samples[:, 1 + EVENT], manifest.splits.get(_TEST, ()))]
