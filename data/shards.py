"""Archive → WebDataset tars of whole events, one sample a frame, uncompressed so that a reader can map them."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from polarcast.data import archive as nju
from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.manifest import NAME, Manifest, Shard
from polarcast.data.selection import Selection, strong_pixels
from polarcast.data.splits import Splits, assign, default_rule
from polarcast.data.statistics import EventSums, summarize

DEFAULT_SHARD_MB = 256
_BLOCK = 512
_HALF_MAX = float(np.finfo(np.float16).max)


def write_shards(
    archive: Archive,
    out: Path,
    *,
    split: str | None = None,
    seed: int = 0,
    shard_mb: int = DEFAULT_SHARD_MB,
    selection: Selection | None = None,
    on_event: Callable[[int], None] | None = None,
) -> Manifest:
    """Write an archive as shards with a manifest. The folder appears whole or not at all.

    Args:
        archive: What to read.
        out: Folder to create; it must not hold shards yet.
        split: A rule of `splits.assign`; `splits.default_rule` by default.
        seed: Seed of the split.
        shard_mb: Size at which the next event opens a new shard.
        selection: Which frames and windows; all by default.
        on_event: Called with the number of events done.

    Raises:
        BadInput: unusable input files or split; `out` exists already.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise BadInput("the folder exists and is not empty", out, "give a new folder, or remove it first")
    selection = selection or Selection()
    selection.check(archive.heights_km)
    splits = assign(list(archive.frames), split or default_rule(list(archive.frames)), seed)
    shape = nju.read_field(archive.first_file(*_first(archive))).shape
    partial = out.with_name(f".partial_{out.name}")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
    partial.mkdir(parents=True)
    try:
        written = _Written()
        groups = plan(archive, shape, shard_mb)
        for index, events in enumerate(groups):
            _write_shard(archive, partial / f"shard-{index:06d}.tar", events, shape, selection, written)
            if on_event:
                on_event(sum(map(len, groups[: index + 1])))
        manifest = _manifest(archive, out, splits, shape, selection, written)
        (partial / NAME).write_text(manifest.to_json())
        _publish(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def plan(archive: Archive, shape: tuple[int, ...], shard_mb: int) -> list[list[int]]:
    """Group events into shards: a new shard begins once the one before has reached `shard_mb`."""
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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class _Written:
    """What has been learned of the shards while they were written."""

    shards: list[Shard] = field(default_factory=list)
    sums: dict[int, EventSums] = field(default_factory=dict)
    removed: dict[int, list[int]] = field(default_factory=dict)


def _manifest(
    archive: Archive, out: Path, splits: Splits, shape: tuple[int, ...], selection: Selection, written: _Written
) -> Manifest:
    packed = {event for shard in written.shards for event, *_ in shard.samples}
    if not packed:
        raise BadInput("no frame is left", archive.root, "every frame has a field that is all zero: leave out --clean")
    kept = {name: tuple(e for e in events if e in packed) for name, events in splits.items()}
    has = (*archive.variables, *(("rain_rate",) if archive.has_rain else ()))
    return Manifest(
        folder=out,
        variables=archive.variables,
        heights_km=archive.heights_km,
        shape=(shape[0], shape[1]),
        spacing_km=archive.spacing_km,
        time_step_minutes=archive.time_step_minutes,
        units={name: nju.UNITS[name] for name in has},
        splits=kept,
        shards=tuple(written.shards),
        statistics=summarize([written.sums[e] for e in kept["train"]], archive.variables, archive.heights_km),
        selection=selection.as_record(written.removed),
        provenance=archive.provenance(),
    )


def _first(archive: Archive) -> tuple[int, int]:
    event, frames = next(iter(archive.frames.items()))
    if not frames:
        raise BadInput("the event has no frames", archive.first_file(event, 0).parent, "remove the empty folder")
    return event, frames[0]


def _write_shard(
    archive: Archive, path: Path, events: Sequence[int], shape: tuple[int, ...], selection: Selection, written: _Written
) -> None:
    rows, step_minutes = [], archive.time_step_minutes
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for event in events:
            sums = EventSums.empty(archive.variables, archive.heights_km)
            for frame in archive.frames[event]:
                radar, rain = _read_checked(archive, event, frame, shape)
                if not selection.keeps(radar):
                    written.removed.setdefault(event, []).append(frame)
                    continue
                sums += EventSums.of(radar, rain)
                offsets = _add_sample(tar, event, frame, radar, rain, step_minutes)
                rows.append((event, frame, *offsets, strong_pixels(radar, archive.heights_km)))
            written.sums[event] = sums
    if rows:
        written.shards.append(Shard(path.name, path.stat().st_size, file_sha256(path), tuple(rows)))
    else:
        path.unlink()


def _read_checked(
    archive: Archive, event: int, frame: int, shape: tuple[int, ...]
) -> tuple[nju.Field, nju.Field | None]:
    radar = archive.read_radar(event, frame)
    _check_packable(radar, archive.radar_file(archive.variables[0], archive.heights_km[0], event, frame), shape)
    if not archive.has_rain:
        return radar, None
    rain = archive.read_rain(event, frame)
    _check_packable(rain, archive.rain_file(event, frame), shape)
    if rain.min() < 0:
        raise BadInput(f"rain rate of {rain.min():.3g} mm/h", archive.rain_file(event, frame), "rain can't be negative")
    return radar, rain


def _check_packable(values: nju.Field, path: Path, shape: tuple[int, ...]) -> None:
    if np.abs(values).max() > _HALF_MAX:
        raise BadInput(f"a value of {np.abs(values).max():.3g}", path, "no such value is physical: mend the file")
    if values.shape[-2:] != tuple(shape):
        raise BadInput(
            f"shape {values.shape[-2:]}, but the archive's first frame has {tuple(shape)}",
            path,
            "all frames of an archive share one grid",
        )


def _add_sample(
    tar: tarfile.TarFile, event: int, frame: int, radar: nju.Field, rain: nju.Field | None, step_minutes: float
) -> tuple[int, int]:
    """Append one sample; returns the offsets of the first radar value and the first rain value in the tar."""
    key = f"{event:03d}-{frame:03d}"
    radar_at = _add_member(tar, f"{key}.radar.npy", _npy(radar))
    rain_at = -1 if rain is None else _add_member(tar, f"{key}.rain.npy", _npy(rain))
    flags = {"no_echo": not radar[0].any(), "no_rain": rain is not None and not rain.any()}
    note = {"event": event, "frame": frame, "time_step_minutes": step_minutes, "flags": flags}
    _add_member(tar, f"{key}.json", json.dumps(note).encode())
    return radar_at, rain_at


def _npy(values: nju.Field) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values.astype(np.float16))
    return buffer.getvalue()


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    data_at = tar.offset + _BLOCK
    tar.addfile(info, io.BytesIO(content))
    # npy version 1: magic (6), version (2), header length (2), header
    header = 10 + int.from_bytes(content[8:10], "little") if name.endswith(".npy") else 0
    return data_at + header


def _publish(partial: Path, out: Path) -> None:
    _sync(partial.iterdir())
    if out.exists():
        out.rmdir()
    os.replace(partial, out)


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
