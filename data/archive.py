"""Archives in the published NJU-CPOL layout: one npy file per event, frame, variable and height.

Layout: ``{dBZ,ZDR,KDP}/{1.0km,3.0km,7.0km}/data_dir_NNN/frame_MMM.npy`` and
``NJU_CPOL_kdpRain/data_dir_NNN/frame_MMM.npy``, each float32 (y, x), with fill value 0 for no echo. The radar folders
are either siblings of the rain folder or inside ``NJU_CPOL_update2308``, as in the original download.

Reflectivity is required. ZDR, KDP, the rain grid and any height are optional. Archives written by polarcast also have
metadata that the published layout lacks: ``archive.json`` for the archive and ``events/data_dir_NNN.json`` per event.

Fill value 0 does not tell no echo from no observation. ``observed/data_dir_NNN.npz`` holds the observed pixels of an
event: the different masks as packed bits (k, levels, bytes), and the number of each frame's mask (t,). Levels are the
heights and, in an archive with rain, the ground (`observed.ObservedPixels`). An event without this file, as all of a
published archive, counts as observed everywhere.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.field_file import Field, npy_bytes, read_field
from polarcast.data.notes import number_of, read_archive_note, read_event_note, write_event_note
from polarcast.data.observed import Mask, ObservedPixels, read_observed

VARIABLES = ("zh", "zdr", "kdp")
HEIGHTS_KM = (1.0, 3.0, 7.0)
UNITS = {"zh": "dBZ", "zdr": "dB", "kdp": "deg/km", "rain_rate": "mm/h"}
TIME_STEP_MINUTES = 6.0
SPACING_KM = 1.0
NOT_RECORDED = "not recorded"
"""Generator reported for an archive without an `archive.json`, such as the published one."""

_FOLDERS = {"zh": "dBZ", "zdr": "ZDR", "kdp": "KDP"}
_RADAR = "NJU_CPOL_update2308"
_RAIN = "NJU_CPOL_kdpRain"
_OBSERVED = "observed"
_EVENT = re.compile(r"data_dir_(\d+)")
_HEIGHT = re.compile(r"(\d+(?:\.\d+)?)km")
_FRAME = re.compile(r"frame_(\d+)\.npy")


@dataclass(frozen=True)
class Archive:
    """File locations, variables, heights and frames by event of one archive."""

    root: Path
    radar_root: Path
    rain_root: Path | None
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    frames: dict[int, tuple[int, ...]] = field(repr=False)

    @property
    def has_rain(self) -> bool:
        """Whether the archive has a rain grid."""
        return self.rain_root is not None

    def radar_file(self, variable: str, height_km: float, event: int, frame: int) -> Path:
        """Path of one radar field."""
        return self.radar_root / _FOLDERS[variable] / f"{height_km}km" / _frame_path(event, frame)

    def rain_file(self, event: int, frame: int) -> Path:
        """Path of one rain-rate field. Raises BadInput if the archive has no rain grid."""
        if self.rain_root is None:
            raise BadInput(f"no {_RAIN} folder in or next to it", self.root, "add the rain grid: QPE needs it")
        return self.rain_root / _frame_path(event, frame)

    def first_file(self, event: int, frame: int) -> Path:
        """Path of the file whose presence defines the frame: rain if available, otherwise zh."""
        if self.has_rain:
            return self.rain_file(event, frame)
        return self.radar_file("zh", self.heights_km[-1], event, frame)

    def read_radar(self, event: int, frame: int) -> Field:
        """Read all radar fields of one frame, (v, z, y, x) in dBZ, dB and deg/km.

        Raises:
            BadInput: A file is missing, truncated, or not finite, or its shape differs from the others.
        """
        fields = [[read_field(self.radar_file(v, z, event, frame)) for z in self.heights_km] for v in self.variables]
        shapes = {f.shape for row in fields for f in row}
        if len(shapes) != 1:
            raise BadInput(
                f"fields of one frame differ in shape: {sorted(shapes)}",
                f"event {event:03d} frame {frame:03d}",
                "regrid the event so that all variables and heights share one grid",
            )
        return np.array(fields, dtype=np.float32)

    def read_rain(self, event: int, frame: int) -> Field:
        """Read the rain rate of one frame, (y, x) in mm/h. Raises BadInput if it is missing or unreadable."""
        return read_field(self.rain_file(event, frame))

    def observed_file(self, event: int) -> Path:
        """Path of the masks of one event; the file is absent if the event counts as observed everywhere."""
        root = self.root.parent if self.root.name == _RADAR else self.root
        return root / _OBSERVED / f"data_dir_{event:03d}.npz"

    def read_observed(self, event: int, shape: tuple[int, ...]) -> ObservedPixels | None:
        """Read the observed pixels of one event at the archive's heights and, with rain, on the ground.

        Args:
            event: Event number.
            shape: Shape of the event's fields, (y, x).

        Returns:
            None if the event has no masks: all of its pixels count as observed.

        Raises:
            BadInput: The file is damaged, has another shape, or lacks a height, the ground or a frame.
        """
        path = self.observed_file(event)
        found = read_observed(path)
        if found is None:
            return None
        try:
            found = found.select(self.heights_km, self.has_rain)
        except ValueError as error:
            raise BadInput(f"no mask of observed pixels at {error}", path, "make the event again") from None
        if found.shape != tuple(shape):
            what = f"masks of {found.shape} pixels, but the fields have {tuple(shape)}"
            raise BadInput(what, path, "make the event again")
        if 1 < len(found.frames) <= max(self.frames[event], default=0):
            what = f"masks of {len(found.frames)} frames, the event has frame {max(self.frames[event])}"
            raise BadInput(what, path, "make the event again")
        return found

    def fingerprint(self) -> str:
        """Hash that changes when a frame is added, removed or replaced. Raises BadInput if a file is unreadable."""
        files = [self.first_file(event, frame) for event, frames in self.frames.items() for frame in frames]
        files += [path for path in map(self.observed_file, self.frames) if path.exists()]
        try:
            stamps = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        except OSError as error:
            raise BadInput(f"can't be read ({error.strerror})", error.filename, "copy the event again") from None
        content = (str(self.root.resolve()), self.variables, self.heights_km, stamps)
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]

    def provenance(self) -> dict[str, Any]:
        """Origin of the archive: its path, plus the content of `archive.json` if present."""
        origin = read_archive_note(self.root) or {"generator": NOT_RECORDED}
        return {"root": str(self.root.resolve()), **origin}

    @property
    def time_step_minutes(self) -> float:
        """Time between frames in minutes."""
        return number_of(read_archive_note(self.root), "time_step_min", TIME_STEP_MINUTES, self.root)

    @property
    def spacing_km(self) -> float:
        """Pixel spacing in km."""
        return number_of(read_archive_note(self.root), "spacing_km", SPACING_KM, self.root)

    def event_note(self, event: int) -> dict[str, Any]:
        """Metadata of one event; empty for a published archive."""
        return read_event_note(self.root, event)

    def select(self, variables: Sequence[str] | None = None, heights_km: Sequence[float] | None = None) -> "Archive":
        """Restrict the archive to some variables and heights.

        Raises:
            BadInput: The archive lacks one of them.
        """
        chosen_variables = tuple(variables or self.variables)
        self._check_choice("variable", chosen_variables, _variables_of(self.radar_root))
        heights = _heights_of(self.radar_root, chosen_variables)
        chosen_heights = tuple(heights_km or heights)
        self._check_choice("height", chosen_heights, heights)
        return replace(self, variables=chosen_variables, heights_km=chosen_heights)

    def _check_choice(self, what: str, requested: Sequence[object], available: Sequence[object]) -> None:
        choices = ", ".join(map(str, available)) or "none common to these variables"
        if missing := [r for r in requested if r not in available]:
            raise BadInput(f"the archive has no {what} {missing[0]}", self.root, f"choose from: {choices}")
        if len(set(requested)) < len(requested):
            raise BadInput(f"a {what} is repeated", ", ".join(map(str, requested)), f"choose from: {choices}")


def open_archive(root: Path) -> Archive:
    """Find the variables, heights, events and frames below `root`.

    Heights are those common to all variables. Use `Archive.select` for fewer variables at more heights.

    Raises:
        BadInput: The folder does not exist, has no reflectivity in the published layout, or its metadata are damaged.
    """
    root = Path(root)
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "no such folder"
        raise BadInput(problem, root, "give the folder that contains dBZ/, ZDR/, KDP/ and the rain grid")
    radar_root = root / _RADAR if (root / _RADAR).is_dir() else root
    rain_root = next((p for p in (root / _RAIN, root.parent / _RAIN) if p.is_dir()), None)
    variables = _variables_of(radar_root)
    if "zh" not in variables:
        raise BadInput("not an NJU-CPOL archive: it has no dBZ folder", root, "docs/guides/njucpol.md has the layout")
    heights = _heights_of(radar_root, variables)
    if not heights:
        raise BadInput("no height is common to all variables", root, "add folders 1.0km, 3.0km, 7.0km to each variable")
    index = rain_root or radar_root / _FOLDERS["zh"] / f"{heights[-1]}km"
    frames = {e: _list_frames(index / f"data_dir_{e:03d}") for e in sorted(_list_events(index))}
    if not frames:
        raise BadInput("the archive has no events", root, "add data_dir_NNN/frame_MMM.npy to each folder")
    for key, default in (("time_step_min", TIME_STEP_MINUTES), ("spacing_km", SPACING_KM)):
        number_of(read_archive_note(root), key, default, root)
    return Archive(root, radar_root, rain_root, variables, heights, frames)


def write_event(
    root: Path,
    event: int,
    radar: Field,
    rain: Field | None,
    *,
    variables: Sequence[str] = VARIABLES,
    heights_km: Sequence[float] = HEIGHTS_KM,
    note: dict[str, Any] | None = None,
    observed: Mask | None = None,
) -> None:
    """Write one event into the archive at `root`; an interrupted write leaves no event that looks complete.

    Args:
        root: Archive folder, created if needed.
        event: Event number NNN.
        radar: (t, v, z, y, x) in dBZ, dB, deg/km; fill value 0.
        rain: (t, y, x) in mm/h, or None.
        variables: Names along v, including zh.
        heights_km: Heights along z, ascending.
        note: Metadata of the event; written last, so its presence marks a complete event.
        observed: Observed pixels, (t or 1, levels, y, x); levels are the heights and, with rain, the ground. None for
            an event that counts as observed everywhere.

    Raises:
        ValueError: The masks have other levels, frames or pixels.
    """
    masks = None if observed is None else ObservedPixels.of(observed, heights_km, rain is not None)
    if masks and (len(masks.frames) not in (1, len(radar)) or masks.shape != radar.shape[-2:]):
        raise ValueError(f"masks of {len(masks.frames)} frames of {masks.shape} for fields of shape {radar.shape}")
    partial = root / f".partial_{event:03d}"
    shutil.rmtree(partial, ignore_errors=True)
    targets = _fields_in_order(radar, rain, variables, heights_km)
    for folder, fields in targets.items():
        staged = partial / folder
        staged.mkdir(parents=True)
        for frame, values in enumerate(fields):
            (staged / f"frame_{frame:03d}.npy").write_bytes(npy_bytes(values))
    if masks is not None:
        (partial / _OBSERVED).write_bytes(masks.to_bytes())
    finals = {folder: root / folder / f"data_dir_{event:03d}" for folder in targets}
    for final in reversed(finals.values()):  # first the folder that events are listed from
        shutil.rmtree(final, ignore_errors=True)
    _place_observed(partial / _OBSERVED, root / _OBSERVED / f"data_dir_{event:03d}.npz")
    for folder, final in finals.items():
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial / folder, final)
    if note is not None:
        write_event_note(root, event, note)
    shutil.rmtree(partial)


def _place_observed(staged: Path, final: Path) -> None:
    """Move the masks of an event to their place, or remove those of an earlier event without masks."""
    if not staged.exists():
        final.unlink(missing_ok=True)
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(staged, final)


def has_fields(root: Path) -> bool:
    """Whether a folder has any folder of an archive's fields."""
    return any((root / name).exists() for name in (_RADAR, _RAIN, *_FOLDERS.values()))


def complete_events(root: Path) -> set[int]:
    """Numbers of the completely written events, for archives whose events all have rain."""
    return _list_events(Path(root) / _RAIN)


def _fields_in_order(
    radar: Field, rain: Field | None, variables: Sequence[str], heights_km: Sequence[float]
) -> dict[Path, Field]:
    """Map each folder to its fields (t, y, x); the folder that `open_archive` lists events from comes last."""
    order = [(i, j) for i in range(len(variables)) for j in range(len(heights_km))]
    order.sort(key=lambda ij: variables[ij[0]] == "zh")
    fields = {_radar_folder(variables[i], heights_km[j]): radar[:, i, j] for i, j in order}
    return fields if rain is None else {**fields, Path(_RAIN): rain}


def _radar_folder(variable: str, height_km: float) -> Path:
    return Path(_RADAR) / _FOLDERS[variable] / f"{height_km}km"


def _frame_path(event: int, frame: int) -> Path:
    return Path(f"data_dir_{event:03d}") / f"frame_{frame:03d}.npy"


def _variables_of(radar_root: Path) -> tuple[str, ...]:
    return tuple(v for v in VARIABLES if (radar_root / _FOLDERS[v]).is_dir())


def _heights_of(radar_root: Path, variables: Sequence[str]) -> tuple[float, ...]:
    """Heights common to all of the variables, ascending."""
    sets = [
        {float(m[1]) for m in map(_HEIGHT.fullmatch, os.listdir(radar_root / _FOLDERS[v])) if m}
        for v in variables
        if (radar_root / _FOLDERS[v]).is_dir()
    ]
    return tuple(sorted(set.intersection(*sets))) if sets else ()


def _list_events(folder: Path) -> set[int]:
    folders = folder.iterdir() if folder.is_dir() else ()
    return {int(m[1]) for p in folders if (m := _EVENT.fullmatch(p.name)) and p.is_dir()}


def _list_frames(folder: Path) -> tuple[int, ...]:
    return tuple(sorted(int(m[1]) for m in map(_FRAME.fullmatch, os.listdir(folder)) if m))
