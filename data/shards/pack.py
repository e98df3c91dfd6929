"""Packing of whole events into one shard: an uncompressed tar that readers can map, plus its rows and statistics."""

import hashlib
import json
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.field_file import read_field
from polarcast.data.files import write_text
from polarcast.data.observed import Bits, unpack
from polarcast.data.selection import Selection, intensity_ppm, is_zero, strong_pixels
from polarcast.data.shards.half import Halver
from polarcast.data.shards.manifest import Shard
from polarcast.data.statistics import EventSums, Tally

_BLOCK, _RECORD = 512, 10240
_HALF_MAX = float(np.finfo(np.float16).max)

Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class ShardJob:
    """Events to pack into one shard, and the file to write."""

    archive: Archive
    path: Path
    events: tuple[int, ...]
    shape: tuple[int, ...]
    selection: Selection
    counted: frozenset[int]
    """Events to compute statistics for: the training events."""


@dataclass(frozen=True)
class Packed:
    """A written shard (None if it has no frames), its rows, the sums of its events, and the removed frames."""

    shard: Shard | None
    rows: list[list[int]]
    sums: dict[int, EventSums]
    removed: dict[int, list[int]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Serialize; the text is kept next to the tar until all shards are written."""
        sums = {event: s.to_lists() for event, s in self.sums.items()}
        shard = self.shard and self.shard.__dict__
        return json.dumps({"shard": shard, "rows": self.rows, "sums": sums, "removed": self.removed})

    @classmethod
    def from_json(cls, text: str) -> "Packed":
        """Invert `to_json`."""
        content = json.loads(text)
        shard = content["shard"] and Shard(**content["shard"])
        sums = {int(event): EventSums.from_lists(s) for event, s in content["sums"].items()}
        return cls(shard, content["rows"], sums, {int(event): frames for event, frames in content["removed"].items()})


def pack_shard(job: ShardJob) -> Packed:
    """Write one shard, or load the result if an interrupted run has already written it.

    Raises:
        BadInput: A field is unreadable, of the wrong shape, or unphysical.
    """
    note = job.path.with_suffix(".json")
    if note.exists():
        return Packed.from_json(note.read_text("utf-8"))
    packed = _write(job)
    write_text(note, packed.to_json())
    return packed


class _Tar:
    """Tar (USTAR) writer that hashes bytes as they are written, so that nothing is read back."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.sha256, self.size = stream, hashlib.sha256(), 0

    def add(self, name: str, *content: bytes | memoryview) -> int:
        """Append a member; return the offset of its content."""
        info = tarfile.TarInfo(name)
        info.size = sum(len(part) for part in content)
        self._put(info.tobuf(tarfile.USTAR_FORMAT))
        start = self.size
        for part in content:
            self._put(part)
        self._put(bytes(-info.size % _BLOCK))
        return start

    def finish(self) -> None:
        """Write two empty blocks, and zeros up to a whole record, as tar does."""
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
    job.path.unlink(missing_ok=True)  # a worker of a killed run may still have the old one open
    with job.path.open("wb") as stream:
        tar = _Tar(stream)
        for event in job.events:
            tally = Tally(len(job.archive.variables), len(job.archive.heights_km))
            observed = job.archive.read_observed(event, job.shape)
            for frame in job.archive.frames[event]:
                radar, rain = frames.read(event, frame)
                if not job.selection.keeps(radar):
                    removed.setdefault(event, []).append(frame)
                    continue
                bits = None if observed is None else observed.frame(frame)
                *offsets, masks_at = _add_sample(tar, event, frame, radar, rain, bits, job.archive.time_step_minutes)
                strong = strong_pixels(radar, job.archive.heights_km)
                rows.append([event, frame, *offsets, strong, intensity_ppm(radar, rain), masks_at])
                if event in job.counted:
                    tally.add(radar, rain, None if bits is None or rain is None else unpack(bits[-1], rain.shape))
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
    """Reads an archive's frames in half precision, so that statistics describe the stored values."""

    def __init__(self, job: ShardJob) -> None:
        """Allocate buffers, which are reused for each frame."""
        self._archive, self._shape = job.archive, tuple(job.shape)
        levels = (len(job.archive.variables), len(job.archive.heights_km))
        self._radar = np.empty((*levels, *self._shape), np.float16)
        self._rain = np.empty(self._shape, np.float16)
        self._halve = Halver(self._rain.size)

    def read(self, event: int, frame: int) -> tuple[Halves, Halves | None]:
        """Read radar (v, z, y, x) and rain (y, x) of one frame; valid until the next call. Raises BadInput."""
        archive = self._archive
        for levels, variable in zip(self._radar, archive.variables, strict=True):
            for out, height in zip(levels, archive.heights_km, strict=True):
                self._fill(out, archive.radar_file(variable, height, event, frame))
        if not archive.has_rain:
            return self._radar, None
        path = archive.rain_file(event, frame)
        if (least := self._fill(self._rain, path)) < 0:
            raise BadInput(f"negative rain rate of {least:.3g} mm/h", path, "fix the file")
        return self._radar, self._rain

    def _fill(self, out: Halves, path: Path) -> float:
        """Read one field into `out`; return its minimum."""
        values = np.ascontiguousarray(read_field(path))
        if values.shape != self._shape:
            raise BadInput(
                f"shape {values.shape}, but the archive's first frame has {self._shape}",
                path,
                "regrid all frames to one grid",
            )
        least, largest = float(values.min()), float(values.max())
        if max(largest, -least) > _HALF_MAX:
            raise BadInput(f"unphysical value of magnitude {max(largest, -least):.3g}", path, "fix the file")
        self._halve(values, out)
        return least


def _add_sample(
    tar: _Tar, event: int, frame: int, radar: Halves, rain: Halves | None, observed: Bits | None, step_minutes: float
) -> tuple[int, int, int]:
    """Append one sample; return the offsets of its first radar value, rain value and byte of the masks in the tar."""
    key = f"{event:03d}-{frame:03d}"
    radar_at = _add_field(tar, f"{key}.radar.npy", radar)
    rain_at = -1 if rain is None else _add_field(tar, f"{key}.rain.npy", rain)
    masks_at = -1 if observed is None else _add_field(tar, f"{key}.observed.npy", observed)
    flags = {"no_echo": is_zero(radar[0]), "no_rain": rain is not None and is_zero(rain)}
    note = {"event": event, "frame": frame, "time_step_minutes": step_minutes, "flags": flags}
    tar.add(f"{key}.json", json.dumps(note).encode())
    return radar_at, rain_at, masks_at


def _add_field(tar: _Tar, name: str, values: Halves | Bits) -> int:
    """Append a contiguous field as npy; return the offset of its first value."""
    header = _npy_header(values.shape, values.dtype.str)
    return tar.add(name, header, values.data.cast("B")) + len(header)


def _npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Header of an npy file (version 1) in C order, 64-byte aligned, as numpy writes it."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    length = -(-(10 + len(text) + 1) // 64) * 64 - 10
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"
