"""Writing of an archive as WebDataset tars of whole events, with a manifest; parallel, resumable and atomic."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from polarcast.data import archive as nju
from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.field_file import read_field
from polarcast.data.files import checked_output, sole_writer, sync_file, write_text
from polarcast.data.groups import Groups, groups_of
from polarcast.data.selection import Selection
from polarcast.data.shards.manifest import NAME, Manifest
from polarcast.data.shards.pack import Packed, ShardJob, pack_shard
from polarcast.data.shards.source import ShardSource
from polarcast.data.splits import Splits, assign, default_rule, note_of
from polarcast.data.statistics import summarize
from polarcast.data.workers import run_all

DEFAULT_SHARD_MB = 64
_PLAN, _LOCK = "plan.json", ".lock"


def write_shards(
    archive: Archive,
    out: Path,
    *,
    split: str | None = None,
    seed: int = 0,
    shard_mb: int = DEFAULT_SHARD_MB,
    selection: Selection | None = None,
    group_by: str | None = None,
    workers: int = 1,
    on_event: Callable[[int], None] | None = None,
) -> Manifest:
    """Write an archive as shards with a manifest. The folder is created atomically, by one process at a time.

    A killed run leaves its finished shards in a hidden folder next to `out`; the same call reuses them.

    Args:
        archive: Archive to read.
        out: Folder to create; it must not exist or be empty.
        split: Rule of `splits.assign`; `splits.default_rule` by default.
        seed: Seed of the split.
        shard_mb: Size in MB at which the next event starts a new shard.
        selection: Selection of frames and windows; all by default.
        group_by: Rule or table of `groups.groups_of`: events that the splits keep together, by source and day by
            default.
        workers: Number of processes; the bytes written do not depend on it.
        on_event: Called with the number of events done.

    Raises:
        BadInput: The input files or the split are invalid, `out` is not empty or can't be written, or another process
            writes there.
    """
    out = checked_output(Path(out), is_folder=True)
    _check_new(out)
    selection = selection or Selection()
    selection.check(archive.heights_km)
    groups = groups_of(archive, group_by)
    events = list(archive.frames)
    splits = assign(events, split or default_rule(events, groups.names), seed, groups.names)
    shape = read_field(archive.first_file(*_first(archive))).shape
    batches = plan(archive, shape, shard_mb)
    counted = frozenset(splits["train"])
    partial = out.with_name(f".partial_{out.name}")
    jobs = [
        ShardJob(archive, partial / f"shard-{index:06d}.tar", tuple(events), shape, selection, counted)
        for index, events in enumerate(batches)
    ]
    with sole_writer(partial):
        _check_new(out)  # another process may have finished it before the lock was free
        _claim(partial, [archive.fingerprint(), batches, sorted(counted)], selection)
        try:
            packed = _pack(jobs, workers, on_event)
            manifest = _manifest(archive, out, splits, groups, shape, selection, packed, note_of(split, splits))
            (partial / NAME).write_text(manifest.to_json(), encoding="utf-8")
            _publish(partial, out, {shard.name for shard in manifest.shards})
        except BadInput:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return manifest


def _check_new(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        raise BadInput("the folder exists and is not empty", out, "give a new folder, or delete it first")


def _claim(partial: Path, work: list[object], selection: Selection) -> None:
    """Prepare the working folder, which this process has locked: keep what a killed run with the same plan wrote."""
    _check_own(partial)
    requested = json.dumps([work, selection.as_record({})])
    note = partial / _PLAN
    if not note.exists() or note.read_text("utf-8") != requested:
        for path in partial.iterdir():
            if path.name != _LOCK:
                path.unlink()
        write_text(note, requested)


def _check_own(partial: Path) -> None:
    """Raise BadInput if another user made the folder, who could put links to other files into it."""
    with TemporaryFile(dir=partial) as mine:
        is_own = os.fstat(mine.fileno()).st_uid == partial.lstat().st_uid
    if partial.is_symlink() or not is_own:
        raise BadInput("belongs to another user, or is a link", partial, "remove it, or choose another folder")


def _pack(jobs: Sequence[ShardJob], workers: int, on_event: Callable[[int], None] | None) -> list[Packed]:
    """Write all shards and return them in order; the first failure stops the work."""
    packed: dict[int, Packed] = {}
    done = 0
    for index, outcome in run_all(pack_shard, jobs, workers, isolated=False):
        if isinstance(outcome, BadInput):
            raise outcome
        packed[index] = outcome
        done += len(jobs[index].events)
        if on_event:
            on_event(done)
    return [packed[index] for index in sorted(packed)]


def plan(archive: Archive, shape: tuple[int, ...], shard_mb: int) -> list[list[int]]:
    """Group events into shards; a new shard starts once the previous one has reached `shard_mb`."""
    fields = len(archive.variables) * len(archive.heights_km) + archive.has_rain
    frame_bytes = 2 * fields * int(np.prod(shape))
    starts, size = [0], 0
    events = list(archive.frames)
    for index, event in enumerate(events):
        if size and size >= shard_mb * 1e6:
            starts.append(index)
            size = 0
        size += len(archive.frames[event]) * frame_bytes
    return [events[a:b] for a, b in pairwise([*starts, len(events)])]


def _manifest(
    archive: Archive,
    out: Path,
    splits: Splits,
    groups: Groups,
    shape: tuple[int, ...],
    selection: Selection,
    packed: Sequence[Packed],
    note: str,
) -> Manifest:
    written = [(p.shard, p.rows) for p in packed if p.shard]
    rows = [[index, *row] for index, (_, shard_rows) in enumerate(written) for row in shard_rows]
    events = {event for _, event, *_ in rows}
    if not events:
        raise BadInput("no frame is left: each has a field that is all zero", archive.root, "omit --clean")
    kept = {name: tuple(e for e in members if e in events) for name, members in splits.items()}
    sums = {event: s for p in packed for event, s in p.sums.items()}
    removed = {event: frames for p in packed for event, frames in p.removed.items()}
    quantities = (*archive.variables, *(("rain_rate",) if archive.has_rain else ()))
    return Manifest(
        source=ShardSource(str(out)),
        variables=archive.variables,
        heights_km=archive.heights_km,
        shape=(shape[0], shape[1]),
        spacing_km=archive.spacing_km,
        time_step_minutes=archive.time_step_minutes,
        units={name: nju.UNITS[name] for name in quantities},
        splits=kept,
        shards=tuple(shard for shard, _ in written),
        samples=np.array(rows, dtype=np.int64),
        statistics=summarize([sums[e] for e in kept["train"]], archive.variables, archive.heights_km),
        selection=selection.as_record(removed),
        provenance={**archive.provenance(), "groups": groups.record, **({"split": note} if note else {})},
        groups=groups.stored(events),
        origins={event: origin for event, origin in groups.origins.items() if event in events},
    )


def _first(archive: Archive) -> tuple[int, int]:
    event, frames = next(iter(archive.frames.items()))
    if not frames:
        raise BadInput("the event has no frames", archive.first_file(event, 0).parent, "delete the empty folder")
    return event, frames[0]


def _publish(partial: Path, out: Path, shards: set[str]) -> None:
    for path in partial.iterdir():
        if path.name not in shards and path.name not in (NAME, _LOCK):
            path.unlink()
    sync_file(partial / NAME)
    if out.exists():
        out.rmdir()
    os.replace(partial, out)
    (out / _LOCK).unlink(missing_ok=True)  # only now: until then, it keeps other processes out of the working folder
