"""Indexing of third-party shards: make a manifest for a folder of stock WebDataset tars."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from polarcast.data import archive as nju
from polarcast.data.errors import BadInput
from polarcast.data.files import write_text
from polarcast.data.groups import Groups, read_table
from polarcast.data.names import checked_name
from polarcast.data.observed import level_bytes, unpack
from polarcast.data.selection import Selection, intensity_ppm, strong_pixels
from polarcast.data.shards.health import file_sha256
from polarcast.data.shards.manifest import NAME, Manifest, Shard
from polarcast.data.shards.source import ShardSource
from polarcast.data.shards.tar_walk import TarMember, read_array, walk
from polarcast.data.splits import Splits, assign, default_rule, note_of
from polarcast.data.statistics import EventSums, Tally, summarize

_RADAR, _RAIN, _OBSERVED, _NOTE = "radar.npy", "rain.npy", "observed.npy", "json"
_KEY = re.compile(r"(\d+)-(\d+)$")
_MEMBERS = "name members KEY.radar.npy, KEY.rain.npy, KEY.json; KEY is EVENT-FRAME, or the json has event and frame"


@dataclass(frozen=True)
class ShardLayout:
    """Metadata that the tars do not contain: variables, heights, pixel spacing and time step."""

    variables: tuple[str, ...] = nju.VARIABLES
    heights_km: tuple[float, ...] = nju.HEIGHTS_KM
    spacing_km: float = 1.0
    time_step_minutes: float = 6.0


@dataclass(frozen=True)
class _Sample:
    event: int
    frame: int
    radar_offset: int
    rain_offset: int
    observed_offset: int
    shape: tuple[int, int]


def adopt(
    folder: Path,
    grid: ShardLayout,
    *,
    split: str | None = None,
    seed: int = 0,
    group_by: Path | None = None,
    on_shard: Callable[[int], None] | None = None,
) -> Manifest:
    """Read all tars of a folder and write a manifest for them; the tars are not changed.

    Args:
        folder: Folder with the tars.
        grid: Variables along v, heights along z, pixel spacing and time step.
        split: Rule of `splits.assign`; `splits.default_rule` by default.
        seed: Seed of the split.
        group_by: CSV table with the columns event and group; by default every event is its own group.
        on_shard: Called with the number of tars done.

    Raises:
        BadInput: There is no tar, or a manifest already; a tar is damaged or unsafe, or has an unsafe name; or an array
            is not float16 (variable, height, y, x), or the table does not give each event a group.
    """
    paths = sorted(p for p in folder.glob("*.tar") if not p.name.startswith("."))
    if not paths:
        raise BadInput("no tar found", folder, "give the folder that contains the WebDataset shards")
    for path in paths:
        checked_name(path.name, folder)
    if (folder / NAME).exists():
        raise BadInput(f"{NAME} already exists", folder, "delete it first to index the shards again")
    rows: list[list[int]] = []
    tallies: dict[int, Tally] = {}
    shapes: set[tuple[int, int]] = set()
    for index, path in enumerate(paths):
        for sample in _samples(path, grid):
            shapes.add(sample.shape)
            tally = tallies.setdefault(sample.event, Tally(len(grid.variables), len(grid.heights_km)))
            rows.append([index, *_row(path, sample, grid, tally)])
        if on_shard:
            on_shard(index + 1)
    _check(folder, rows, shapes)
    sums = {event: tally.sums() for event, tally in sorted(tallies.items())}
    names = {} if group_by is None else read_table(group_by, list(sums))
    splits = assign(list(sums), split or default_rule(list(sums), names), seed, names)
    manifest = _manifest(folder, grid, paths, rows, shapes.pop(), sums, splits, note_of(split, splits))
    if group_by is not None:
        manifest = replace(manifest, groups=Groups(names).stored(sums))
    write_text(folder / NAME, manifest.to_json())
    return manifest


def _manifest(
    folder: Path,
    grid: ShardLayout,
    paths: Sequence[Path],
    rows: list[list[int]],
    shape: tuple[int, int],
    sums: dict[int, EventSums],
    splits: Splits,
    note: str,
) -> Manifest:
    rain = ("rain_rate",) if rows[0][4] >= 0 else ()
    return Manifest(
        source=ShardSource(str(folder)),
        variables=grid.variables,
        heights_km=grid.heights_km,
        shape=shape,
        spacing_km=grid.spacing_km,
        time_step_minutes=grid.time_step_minutes,
        units={name: nju.UNITS[name] for name in (*grid.variables, *rain)},
        splits=splits,
        shards=tuple(Shard(p.name, p.stat().st_size, file_sha256(p)) for p in paths),
        samples=np.array(rows, dtype=np.int64),
        statistics=summarize([sums[e] for e in splits["train"]], grid.variables, grid.heights_km),
        selection=Selection().as_record({}),
        provenance={"adopted": str(folder), **({"split": note} if note else {})},
    )


def _check(folder: Path, rows: list[list[int]], shapes: set[tuple[int, int]]) -> None:
    if not rows:
        raise BadInput("no sample found", folder, _MEMBERS)
    if len(shapes) > 1:
        raise BadInput(f"frames of {len(shapes)} sizes: {sorted(shapes)}", folder, "regrid all frames to one grid")
    if len({row[4] < 0 for row in rows}) > 1:
        raise BadInput("only some frames have a rain rate", folder, "write it for all frames, or for none")
    known: set[tuple[int, int]] = set()
    for _, event, frame, *_ in rows:
        if (event, frame) in known:
            raise BadInput(f"duplicate frame {frame} of event {event}", folder, "give each event its own number")
        known.add((event, frame))


def _samples(path: Path, grid: ShardLayout) -> list[_Sample]:
    """Read the samples of one tar."""
    by_key: dict[str, dict[str, TarMember]] = {}
    for member in walk(path):
        folder, base = str(PurePosixPath(member.name).parent), PurePosixPath(member.name).name
        key, _, ending = base.partition(".")
        by_key.setdefault(f"{folder}/{key}", {})[ending.lower()] = member
    with path.open("rb") as stream:
        return [_sample(stream, path, key, members, grid) for key, members in by_key.items()]


def _sample(stream: BinaryIO, path: Path, key: str, members: dict[str, TarMember], grid: ShardLayout) -> _Sample:
    name = key.removeprefix("./")
    if _RADAR not in members:
        raise BadInput(f"sample {name} has no {_RADAR}", path, _MEMBERS)
    radar = read_array(stream, members[_RADAR], path)
    fields = (len(grid.variables), len(grid.heights_km))
    if radar.dtype != "<f2" or len(radar.shape) != 4 or radar.shape[:2] != fields or radar.offset % 2:
        found = f"{name}.{_RADAR} is {radar.dtype} {radar.shape}"
        raise BadInput(
            f"{found}, expected <f2 {(*fields, 'y', 'x')}", path, "write float16, or set --variables and --heights"
        )
    shape = (radar.shape[2], radar.shape[3])
    rain = read_array(stream, members[_RAIN], path) if _RAIN in members else None
    if rain and ((rain.dtype, rain.shape) != ("<f2", shape) or rain.offset % 2):
        raise BadInput(
            f"{name}.{_RAIN} is {rain.dtype} {rain.shape}, expected <f2 {shape}",
            path,
            "write float16 on the radar's grid",
        )
    event, frame = _numbers(stream, path, name, members.get(_NOTE))
    observed = _observed_offset(stream, path, name, members, (len(grid.heights_km) + bool(rain), shape))
    return _Sample(event, frame, radar.offset, rain.offset if rain else -1, observed, shape)


def _observed_offset(
    stream: BinaryIO, path: Path, name: str, members: dict[str, TarMember], grid: tuple[int, tuple[int, int]]
) -> int:
    """Return the offset of the masks of observed pixels, −1 without. Raises BadInput if they do not fit the grid."""
    if _OBSERVED not in members:
        return -1
    levels, (y, x) = grid
    masks, expected = read_array(stream, members[_OBSERVED], path), (levels, level_bytes(y * x))
    if (masks.dtype, masks.shape) != ("|u1", expected) or masks.offset % 2:
        found = f"{name}.{_OBSERVED} is {masks.dtype} {masks.shape}, expected |u1 {expected}"
        raise BadInput(found, path, "write packed bits of each height and, with rain, of the ground")
    return masks.offset


def _numbers(stream: BinaryIO, path: Path, name: str, note: TarMember | None) -> tuple[int, int]:
    """Event and frame numbers, from the JSON member if it has them, otherwise from the key."""
    if note and note.size <= 2**20:
        stream.seek(note.offset)
        try:
            content = json.loads(stream.read(note.size))
            if "event" in content and "frame" in content:
                return int(content["event"]), int(content["frame"])
        except (ValueError, TypeError):
            raise BadInput(f"{name}.{_NOTE} is not a JSON object", path, _MEMBERS) from None
    if not (match := _KEY.search(name)):
        raise BadInput(f"sample {name} has no event and frame number", path, _MEMBERS)
    return int(match[1]), int(match[2])


def _row(path: Path, sample: _Sample, grid: ShardLayout, tally: Tally) -> list[int]:
    """Make the row of `COLUMNS` for a frame, and add its values to the tally of its event."""
    y, x = sample.shape
    shape = (len(grid.variables), len(grid.heights_km), y, x)
    radar = np.fromfile(path, np.float16, int(np.prod(shape)), offset=sample.radar_offset).reshape(shape)
    rain = None
    if sample.rain_offset >= 0:
        rain = np.fromfile(path, np.float16, y * x, offset=sample.rain_offset).reshape(y, x)
    if not (np.isfinite(radar).all() and (rain is None or (np.isfinite(rain).all() and rain.min() >= 0))):
        frame = f"frame {sample.frame} of event {sample.event}"
        raise BadInput(f"{frame} is not finite, or its rain is negative", path, "fix it at its source")
    tally.add(radar, rain, None if rain is None else _ground(path, sample, len(grid.heights_km)))
    strong, intensity = strong_pixels(radar, grid.heights_km), intensity_ppm(radar, rain)
    offsets = (sample.radar_offset, sample.rain_offset)
    return [sample.event, sample.frame, *offsets, strong, intensity, sample.observed_offset]


def _ground(path: Path, sample: _Sample, heights: int) -> npt.NDArray[np.bool_] | None:
    """Return where rain was observed, (y, x); None without masks."""
    if sample.observed_offset < 0:
        return None
    length = level_bytes(sample.shape[0] * sample.shape[1])
    bits = np.fromfile(path, np.uint8, length, offset=sample.observed_offset + heights * length)
    return unpack(bits, sample.shape)
