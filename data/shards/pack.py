"""One shard: whole events → an uncompressed tar that a reader can map, with what was learned on the way."""

import hashlib
import json
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import Archive, read_field
from polarcast.data.errors import BadInput
from polarcast.data.files import write_text
from polarcast.data.selection import Selection, intensity_ppm, is_zero, strong_pixels
from polarcast.data.shards.half import Halver
from polarcast.data.shards.manifest import Shard
from polarcast.data.statistics import EventSums, Tally

_BLOCK, _RECORD = 512, 10240
_HALF_MAX = float(np.finfo(np.float16).max)

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class ShardJob:
    """Which events to pack, and into which file."""

    archive: Archive
    path: Path
    events: tuple[int, ...]
    shape: tuple[int, ...]
    selection: Selection
    counted: frozenset[int]
    """Events whose statistics are wanted: those to train on."""


@dataclass(frozen=True)
class Packed:
    """A written shard (None where no frame was left for it), its rows, its events' sums, and frames left out."""

    shard: Shard | None
    rows: list[list[int]]
    sums: dict[int, EventSums]
    removed: dict[int, list[int]] = field(default_factory=dict)

    def to_json(self) -> str:
        """As kept beside the tar until the whole folder is done."""
        sums = {event: s.to_lists() for event, s in self.sums.items()}
        shard = self.shard and self.shard.__dict__
        return json.dumps({"shard": shard, "rows": self.rows, "sums": sums, "removed": self.removed})

    @classmethod
    def from_json(cls, text: str) -> "Packed":
        """The inverse of `to_json`."""
        content = json.loads(text)
        shard = content["shard"] and Shard(**content["shard"])
        sums = {int(event): EventSums.from_lists(s) for event, s in content["sums"].items()}
        return cls(shard, content["rows"], sums, {int(event): frames for event, frames in content["removed"].items()})


def pack_shard(job: ShardJob) -> Packed:
    """Write one shard, unless a stopped run has.

    Raises:
        BadInput: an unreadable, misshapen or unphysical field.
    """
    note = job.path.with_suffix(".json")
    if note.exists():
        return Packed.from_json(note.read_text())
    packed = _write(job)
    write_text(note, packed.to_json())
    return packed


class _Tar:
    """Appends members to a tar (USTAR) and sums its bytes as they go by: nothing is read back."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.sha256, self.size = stream, hashlib.sha256(), 0

    def add(self, name: str, *content: bytes | memoryview) -> int:
        """Append a member; returns where its content begins."""
        info = tarfile.TarInfo(name)
        info.size = sum(len(part) for part in content)
        self._put(info.tobuf(tarfile.USTAR_FORMAT))
        begins = self.size
        for part in content:
            self._put(part)
        self._put(bytes(-info.size % _BLOCK))
        return begins

    def finish(self) -> None:
        """Two empty blocks, and zeros up to a whole record, as tar does."""
        self._put(bytes(2 * _BLOCK))
        self._put(bytes(-self.size % _RECORD))

    def _put(self, part: bytes | memoryview) -> None:
        self._stream.write(part)
        self.sha256.update(part)
        self.size += len(part)


def _write(job: ShardJob) -> Packed:
    rows: list[list[int]] = []
    sums: dict[int, EventSums] = {}
    removed: dict[int, list[int]] = {}
    frames = _Frames(job)
    with job.path.open("wb") as stream:
        tar = _Tar(stream)
        for event in job.events:
            tally = Tally(len(job.archive.variables), len(job.archive.heights_km))
            for frame in job.archive.frames[event]:
                radar, rain = frames.read(event, frame)
                if not job.selection.keeps(radar):
                    removed.setdefault(event, []).append(frame)
                    continue
                offsets = _add_sample(tar, event, frame, radar, rain, job.archive.time_step_minutes)
                strong = strong_pixels(radar, job.archive.heights_km)
                rows.append([event, frame, *offsets, strong, intensity_ppm(radar, rain)])
                if event in job.counted:
                    tally.add(radar, rain)
            if event in job.counted:
                sums[event] = tally.sums()
        tar.finish()
        stream.flush()
        os.fsync(stream.fileno())
    if not rows:
        job.path.unlink()
        return Packed(None, [], sums, removed)
    return Packed(Shard(job.path.name, tar.size, tar.sha256.hexdigest()), rows, sums, removed)


class _Frames:
    """Reads an archive's frames in half precision: whatever is told of them later is told of these values."""

    def __init__(self, job: ShardJob) -> None:
        """Buffers are used again for each frame."""
        self._archive, self._shape = job.archive, tuple(job.shape)
        levels = (len(job.archive.variables), len(job.archive.heights_km))
        self._radar = np.empty((*levels, *self._shape), np.float16)
        self._rain = np.empty(self._shape, np.float16)
        self._halve = Halver(self._rain.size)

    def read(self, event: int, frame: int) -> tuple[Halves, Halves | None]:
        """Radar (v, z, y, x) and rain (y, x) of one frame, until the next is read. Raises BadInput."""
        archive = self._archive
        for of_variable, variable in zip(self._radar, archive.variables, strict=True):
            for out, height in zip(of_variable, archive.heights_km, strict=True):
                self._fill(out, archive.radar_file(variable, height, event, frame))
        if not archive.has_rain:
            return self._radar, None
        path = archive.rain_file(event, frame)
        if (least := self._fill(self._rain, path)) < 0:
            raise BadInput(f"rain rate of {least:.3g} mm/h", path, "rain can't be negative")
        return self._radar, self._rain

    def _fill(self, out: Halves, path: Path) -> float:
        """Read one field; returns its least value."""
        values = np.ascontiguousarray(read_field(path))
        if values.shape != self._shape:
            raise BadInput(
                f"shape {values.shape}, but the archive's first frame has {self._shape}",
                path,
                "all frames of an archive share one grid",
            )
        least, largest = float(values.min()), float(values.max())
        if max(largest, -least) > _HALF_MAX:
            raise BadInput(f"a value of {max(largest, -least):.3g}", path, "no such value is physical: mend the file")
        self._halve(values, out)
        return least


def _add_sample(
    tar: _Tar, event: int, frame: int, radar: Halves, rain: Halves | None, step_minutes: float
) -> tuple[int, int]:
    """Append one sample; returns the offsets of the first radar value and the first rain value in the tar."""
    key = f"{event:03d}-{frame:03d}"
    radar_at = _add_field(tar, f"{key}.radar.npy", radar)
    rain_at = -1 if rain is None else _add_field(tar, f"{key}.rain.npy", rain)
    flags = {"no_echo": is_zero(radar[0]), "no_rain": rain is not None and is_zero(rain)}
    note = {"event": event, "frame": frame, "time_step_minutes": step_minutes, "flags": flags}
    tar.add(f"{key}.json", json.dumps(note).encode())
    return radar_at, rain_at


def _add_field(tar: _Tar, name: str, values: Halves) -> int:
    """Append a field as npy; returns where its first value is."""
    header = _npy_header(values.shape)
    return tar.add(name, header, values.data.cast("B")) + len(header)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """Header of an npy file (version 1) of float16 in C order: 64-byte aligned, as numpy writes it."""
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}"
    length = -(-(10 + len(text) + 1) // 64) * 64 - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"
