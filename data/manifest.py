"""`manifest.json`: everything a reader needs to know about a folder of shards, without opening one."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.splits import Splits

FORMAT = "polarcast-shards/2"
NAME = "manifest.json"
COLUMNS = ("event", "frame", "radar_offset", "rain_offset", "strong_pixels")


@dataclass(frozen=True)
class Shard:
    """One tar of whole events: its file name, size, SHA-256, and a row of `COLUMNS` for each frame.

    Offsets are bytes from the start of the tar to the first value of the frame's array, −1 where there is no rain grid.
    Strong pixels are those of `selection.strong_pixels`.
    """

    name: str
    bytes: int
    sha256: str
    samples: tuple[tuple[int, int, int, int, int], ...] = field(repr=False)


@dataclass(frozen=True)
class Manifest:
    """The shards of one archive: grid, splits by event, train-only statistics, and where it all came from."""

    folder: Path
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    shape: tuple[int, int]
    spacing_km: float
    time_step_minutes: float
    units: dict[str, str]
    splits: Splits
    shards: tuple[Shard, ...]
    statistics: dict[str, Any]
    selection: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def has_rain(self) -> bool:
        """Whether the frames come with a rain rate."""
        return "rain_rate" in self.units

    def table(self) -> npt.NDArray[np.int64]:
        """All frames in order of shard: rows (shard, *COLUMNS)."""
        rows = [(i, *sample) for i, shard in enumerate(self.shards) for sample in shard.samples]
        return np.array(rows, dtype=np.int64).reshape(-1, 1 + len(COLUMNS))

    def digest(self) -> str:
        """SHA-256 of what the shards hold and how they are split; where they lie does not count."""
        content = {
            "splits": self.splits,
            "shards": [s.sha256 for s in self.shards],
            "min_strong_pixels": self.selection["min_strong_pixels"],
            "format": FORMAT,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The manifest as written to disk."""
        content = {k: v for k, v in self.__dict__.items() if k not in ("folder", "shards")}
        shards = [s.__dict__ for s in self.shards]
        return json.dumps({"format": FORMAT, **content, "sample_columns": COLUMNS, "shards": shards})


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder of shards.

    Raises:
        BadInput: there is none, it is damaged, or it is of another format version.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise BadInput(f"no {NAME}", folder, "make shards with: polarcast data shard ARCHIVE OUT")
    try:
        content = json.loads(path.read_text())
        found = content.pop("format")
        if found != FORMAT:
            raise BadInput(f"format {found!r}, this version reads {FORMAT!r}", path, "shard the archive again")
        content.pop("sample_columns")
        return _from_json(Path(folder), content)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"damaged manifest ({error})", path, "shard the archive again") from None


def _from_json(folder: Path, content: dict[str, Any]) -> Manifest:
    shards = tuple(Shard(**{**s, "samples": tuple(map(tuple, s["samples"]))}) for s in content.pop("shards"))
    for key in ("variables", "heights_km", "shape"):
        content[key] = tuple(content[key])
    content["splits"] = {name: tuple(events) for name, events in content["splits"].items()}
    return Manifest(folder=folder, shards=shards, **content)
