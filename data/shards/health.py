"""Are a folder's shards what the manifest says? Found out once, and remembered until a file changes."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.files import write_text
from polarcast.data.shards.manifest import Manifest, Shard

_ADVICE = "copy it again, or shard the archive again"


class BadShard(BadInput):
    """A shard that can't be read, or is not what the manifest says."""

    def __init__(self, shard: int, what: str, where: object) -> None:
        super().__init__(what, where, _ADVICE)
        self.shard = shard


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def problem_of(path: Path, shard: Shard, sums: bool) -> str | None:
    """What is wrong with a shard's file, None if nothing: its size and, if asked, its SHA-256."""
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            return f"{size} bytes, the manifest says {shard.bytes}"
        if sums and file_sha256(path) != shard.sha256:
            return "its SHA-256 differs from the manifest's"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None


def bad_shards(
    manifest: Manifest, chosen: Iterable[int], *, sums: bool, on_shard: Callable[[int], None] | None = None
) -> dict[int, str]:
    """Problems of some shards by their number.

    Args:
        manifest: What they should be; its shards lie in a folder of this machine.
        chosen: Numbers of the shards to look at.
        sums: Whether SHA-256 is computed; a file that was found right is not read again until it changes.
        on_shard: Called with the number of shards done.
    """
    known = Remembered()
    found: dict[int, str] = {}
    for done, index in enumerate(chosen, 1):
        path, shard = manifest.folder / manifest.shards[index].name, manifest.shards[index]
        unknown = sums and not known.is_right(path, shard)
        problem = problem_of(path, shard, unknown)
        if problem:
            found[index] = problem
        elif unknown:
            known.add(path, shard)
        if on_shard:
            on_shard(done)
    known.save()
    return found


class Remembered:
    """Files whose SHA-256 was found right, by path, size and time of change; kept in the user's cache."""

    def __init__(self) -> None:
        """What earlier runs have found."""
        self._file = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polarcast" / "right.json"
        self._old, self._new = self._load(), dict[str, list[object]]()

    def is_right(self, path: Path, shard: Shard) -> bool:
        """Whether this very file was found to have the shard's SHA-256."""
        return path.is_file() and self._old.get(str(path.resolve())) == _mark(path, shard)

    def add(self, path: Path, shard: Shard) -> None:
        """Remember a file that is right."""
        self._new[str(path.resolve())] = _mark(path, shard)

    def save(self) -> None:
        """Write what is new; a cache that can't be written is no reason to stop."""
        if not self._new:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps({**self._load(), **self._new}))
        except OSError:
            pass

    def _load(self) -> dict[str, list[object]]:
        try:
            return dict(json.loads(self._file.read_text()))
        except (OSError, ValueError):
            return {}


def _mark(path: Path, shard: Shard) -> list[object]:
    status = path.stat()
    return [shard.sha256, status.st_size, status.st_mtime_ns, status.st_ino]
