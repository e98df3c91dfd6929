"""The NJU-CPOL archive as published: one npy file per event, frame, variable and height.

Layout: ``{dBZ,ZDR,KDP}/{1.0km,3.0km,7.0km}/data_dir_NNN/frame_MMM.npy`` and
``NJU_CPOL_kdpRain/data_dir_NNN/frame_MMM.npy``, each float32 (y, x), fill value 0 for no echo. The radar folders may
lie in a folder ``NJU_CPOL_update2308`` beside the rain, as in the original download, or next to the rain folder itself.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput

VARIABLES = ("zh", "zdr", "kdp")
HEIGHTS_KM = (1.0, 3.0, 7.0)
UNITS = {"zh": "dBZ", "zdr": "dB", "kdp": "deg/km", "rain_rate": "mm/h"}
TIME_STEP_MINUTES = 6.0
SPACING_KM = 1.0

_FOLDERS = {"zh": "dBZ", "zdr": "ZDR", "kdp": "KDP"}
_RADAR = "NJU_CPOL_update2308"
_RAIN = "NJU_CPOL_kdpRain"
_EVENT = re.compile(r"data_dir_(\d+)")
_FRAME = re.compile(r"frame_(\d+)\.npy")

Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Archive:
    """Where an archive's files are, which variables and heights it has, and the frames of each event."""

    root: Path
    radar_root: Path
    rain_root: Path
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    frames: dict[int, tuple[int, ...]] = field(repr=False)

    def radar_file(self, variable: str, height_km: float, event: int, frame: int) -> Path:
        """Path of one radar field."""
        return self.radar_root / _FOLDERS[variable] / f"{height_km}km" / _frame_path(event, frame)

    def rain_file(self, event: int, frame: int) -> Path:
        """Path of one rain-rate field."""
        return self.rain_root / _frame_path(event, frame)

    def read_radar(self, event: int, frame: int) -> Field:
        """All radar fields of one frame, (v, z, y, x) in dBZ, dB and deg/km.

        Raises:
            BadInput: a file is missing, truncated, of another shape, or full of NaN.
        """
        fields = [[read_field(self.radar_file(v, z, event, frame)) for z in self.heights_km] for v in self.variables]
        shapes = {f.shape for row in fields for f in row}
        if len(shapes) != 1:
            raise BadInput(
                f"fields of one frame differ in shape: {sorted(shapes)}",
                f"event {event:03d} frame {frame:03d}",
                "re-grid the event so that all variables and heights share one grid",
            )
        return np.array(fields, dtype=np.float32)

    def read_rain(self, event: int, frame: int) -> Field:
        """Rain rate of one frame, (y, x) in mm/h. Raises BadInput as `read_radar` does."""
        return read_field(self.rain_file(event, frame))

    def provenance(self) -> dict[str, Any]:
        """What is known of the archive's origin: its own `archive.json` where it has one."""
        note = self.root / "archive.json"
        origin = json.loads(note.read_text()) if note.exists() else {"generator": "not recorded"}
        return {"root": str(self.root.resolve()), **origin}


def open_archive(root: Path) -> Archive:
    """Find the variables, heights, events and frames below `root`.

    Raises:
        BadInput: the folder does not exist, or holds no reflectivity or no rain in the published layout.
    """
    root = Path(root)
    if not root.is_dir():
        raise BadInput("no such folder", root, "give the folder that holds dBZ/, ZDR/, KDP/ and the rain grid")
    radar_root = root / _RADAR if (root / _RADAR).is_dir() else root
    rain_root = next((p for p in (root / _RAIN, root.parent / _RAIN) if p.is_dir()), None)
    if not (radar_root / _FOLDERS["zh"]).is_dir():
        raise BadInput("not an NJU-CPOL archive: it has no dBZ folder", root, "see the README for the layout")
    if rain_root is None:
        raise BadInput(f"no {_RAIN} folder in or beside it", root, "rain-rate estimation needs the rain grid")
    variables = tuple(v for v in VARIABLES if (radar_root / _FOLDERS[v]).is_dir())
    heights = tuple(z for z in HEIGHTS_KM if all((radar_root / _FOLDERS[v] / f"{z}km").is_dir() for v in variables))
    frames = {e: _list_frames(rain_root / f"data_dir_{e:03d}") for e in sorted(_list_events(rain_root))}
    if not frames or not heights:
        raise BadInput("the archive has no events", root, "expected data_dir_NNN/frame_MMM.npy in each folder")
    return Archive(root, radar_root, rain_root, variables, heights, frames)


def read_field(path: Path) -> Field:
    """One (y, x) field as float32.

    Raises:
        BadInput: missing, unreadable or truncated file; not two-dimensional; or not finite.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise BadInput("no such file", path, "the event is incomplete: copy it again") from None
    except (ValueError, EOFError, OSError) as error:
        raise BadInput(f"not a readable npy file ({error})", path, "copy it again from its source") from None
    if values.ndim != 2:
        raise BadInput(f"expected a (y, x) field, got shape {values.shape}", path, "write one frame per file")
    if not np.isfinite(values).all():
        share = 100 * (1 - np.isfinite(values).mean())
        raise BadInput(f"{share:.1f}% of the values are not finite", path, "use 0 as the fill value")
    return np.asarray(values, dtype=np.float32)


def write_event(root: Path, event: int, radar: Field, rain: Field) -> None:
    """Write one event into the tree below `root`; a killed write leaves no event that looks complete.

    Args:
        root: The archive's folder, created where needed.
        event: Its number NNN.
        radar: (t, v, z, y, x) in dBZ, dB, deg/km; v as `VARIABLES`, z as `HEIGHTS_KM`; fill value 0.
        rain: (t, y, x) in mm/h.
    """
    partial = root / f".partial_{event:03d}"
    shutil.rmtree(partial, ignore_errors=True)
    targets = {_radar_folder(v, z): radar[:, i, j] for i, v in enumerate(VARIABLES) for j, z in enumerate(HEIGHTS_KM)}
    # Rain goes last: `complete_events` and `open_archive` know an event by its rain folder.
    targets[Path(_RAIN)] = rain
    for folder, fields in targets.items():
        staged = partial / folder
        staged.mkdir(parents=True)
        for frame, values in enumerate(fields):
            np.save(staged / f"frame_{frame:03d}.npy", values.astype(np.float32))
    for folder in targets:
        final = root / folder / f"data_dir_{event:03d}"
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial / folder, final)
    shutil.rmtree(partial)


def complete_events(root: Path) -> set[int]:
    """Numbers of the events that were written to the end."""
    return _list_events(Path(root) / _RAIN)


def _radar_folder(variable: str, height_km: float) -> Path:
    return Path(_RADAR) / _FOLDERS[variable] / f"{height_km}km"


def _frame_path(event: int, frame: int) -> Path:
    return Path(f"data_dir_{event:03d}") / f"frame_{frame:03d}.npy"


def _list_events(folder: Path) -> set[int]:
    names = (_EVENT.fullmatch(p.name) for p in folder.iterdir()) if folder.is_dir() else ()
    return {int(m[1]) for m in names if m}


def _list_frames(folder: Path) -> tuple[int, ...]:
    return tuple(sorted(int(m[1]) for m in map(_FRAME.fullmatch, os.listdir(folder)) if m))
