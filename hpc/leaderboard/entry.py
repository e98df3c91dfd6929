"""Leaderboard entries: a run's configuration, scores, cost and provenance."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json
from polarcast.data.shards.health import file_sha256
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.scores.records import Records, read_records

VERIFIED_FILE = "verified.json"
_SKIPPED = ("checkpoints", "ray", "archive", "shards")
_NEEDED = {
    "source revision": ("code", "commit"), "hash of uncommitted changes": ("code", "diff_sha256"),
    "data manifest": ("data", "digest"), "packages": ("packages",), "python": ("python",), "machine": ("machine",),
}  # fmt: skip
"""Keys of a complete provenance; an empty hash means no uncommitted changes."""


@dataclass(frozen=True)
class Entry:
    """One scored run."""

    path: Path

    @cached_property
    def config(self) -> RunConfig:
        """Configuration of the run."""
        return RunFolder(self.path).config()

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the run; empty if unknown."""
        return read_provenance(RunFolder(self.path).provenance_file)

    @cached_property
    def records(self) -> Records:
        """Score records of its test events."""
        return read_records(RunFolder(self.path).output.scores)

    @cached_property
    def card(self) -> dict[str, Any]:
        """Content of its model card; empty without one."""
        return read_json(self.path / "card.json")

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.name

    @property
    def data(self) -> str:
        """Digest of the manifest that it was trained and tested on; empty if unknown."""
        return str(self.provenance.get("data", {}).get("digest", ""))

    @property
    def missing(self) -> list[str]:
        """Parts of its provenance that are missing to reproduce it."""
        return [part for part, keys in _NEEDED.items() if _lookup(self.provenance, keys) is None]

    @cached_property
    def standing(self) -> str:
        """`verified` or `unverified` for an external run, empty for a local one."""
        result = read_json(self.path / VERIFIED_FILE)
        if not result:
            return ""
        same = result.get("scores_sha256") == file_sha256(RunFolder(self.path).output.scores)
        return "verified" if result.get("verified") and same else "unverified"

    @property
    def hours(self) -> float | None:
        """Process-hours of its training steps, from its log; None for a model that is not trained in steps."""
        records = [record for record in RunFolder(self.path).records() if record["event"] in ("start", "step")]
        spent, size, last = 0.0, 1, 0
        for record in records:
            if record["event"] == "start":
                size, last = record["world_size"], record["step"]
            else:
                spent += record["seconds"] * (record["step"] - last) * size
                last = record["step"]
        return spent / 3600 if any(record["event"] == "step" for record in records) else None

    @property
    def kilowatt_hours(self) -> float | None:
        """Energy measured by the devices during training and validation in kWh; None without measurements."""
        joules = [record["joules"] for record in RunFolder(self.path).records() if "joules" in record]
        return sum(joules) / 3.6e6 if joules else None


def find_entries(folders: Sequence[Path]) -> list[Entry]:
    """Find all scored runs in folders, at any depth, each once.

    Raises:
        BadInput: a folder is missing, or no folder contains a scored run.
    """
    if absent := [folder for folder in folders if not folder.is_dir()]:
        raise BadInput("no such folder", absent[0], "give folders of runs, such as runs/")
    found = {path.resolve() for folder in folders for path in _runs_in(folder)}
    if not found:
        raise BadInput("no scored run", folders[0], "score one: polarcast evaluate RUN")
    return [Entry(path) for path in sorted(found)]


def _runs_in(folder: Path) -> Iterator[Path]:
    if (folder / "config.yaml").is_file():
        if RunFolder(folder).output.scores.is_file():
            yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in _SKIPPED and not path.is_symlink():
            yield from _runs_in(path)


def _lookup(tree: Mapping[str, Any], keys: Sequence[str]) -> Any:
    found: Any = tree
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return None if found == "" and keys[-1] != "diff_sha256" else found
