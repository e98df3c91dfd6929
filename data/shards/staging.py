"""Shards on a disk of the node: copied once by whichever process comes first, checked, and marked when complete."""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from polarcast.data.files import write_text
from polarcast.data.shards.fetch import Fetch, Patience
from polarcast.data.shards.health import BadShard
from polarcast.data.shards.manifest import NAME, Manifest, Shard
from polarcast.data.shards.source import ShardSource

_log = logging.getLogger("polarcast")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def stage(manifest: Manifest, root: Path, patience: Patience | None = None) -> Manifest:
    """Copy the shards below `root`, once per node, and return the manifest of the copy.

    Processes of one node wait for the one that copies. A shard that was copied is not copied again, whatever way the
    copying ended. Where the disk is too small the source is used as it is; so is a shard whose bytes are not what the
    manifest says left out of the copy, to be treated as missing.

    Args:
        manifest: Of the shards at their source.
        root: Folder on the node's disk, made if need be.
        patience: With a source that fails now and then.
    """
    folder = root / f"polarcast-{manifest.digest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if not (folder / NAME).is_file():
                _fill(manifest, folder, patience or Patience())
    except OSError as error:
        reason = "is full" if error.errno in _NO_ROOM else f"can't be used ({error.strerror})"
        _log.warning("polarcast: %s %s: the shards are read from %s", root, reason, manifest.source.location)
        return manifest
    return replace(manifest, source=ShardSource(str(folder)))


def _fill(manifest: Manifest, folder: Path, patience: Patience) -> None:
    """Copy what is not there yet; the manifest, last of all, says that all is."""
    _make_room(manifest, folder)
    for index, shard in enumerate(manifest.shards):
        if not (folder / shard.name).is_file():
            try:
                _copy(manifest, index, folder, patience)
            except BadShard as error:
                _log.warning("polarcast: %s is not staged", error)
    write_text(folder / NAME, manifest.to_json())


def _make_room(manifest: Manifest, folder: Path) -> None:
    """Raises OSError at once where the copy can't fit, and removes what there is of it."""
    missing = sum(s.bytes for s in manifest.shards if not (folder / s.name).is_file())
    if missing > shutil.disk_usage(folder).free:
        _empty(folder, manifest.shards)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _copy(manifest: Manifest, index: int, folder: Path, patience: Patience) -> None:
    name = manifest.shards[index].name
    staged = folder / f".{name}"
    try:
        Fetch(manifest, index, patience).save(staged)
        os.replace(staged, folder / name)
    except OSError:
        _empty(folder, manifest.shards)
        raise
    except BadShard:
        staged.unlink(missing_ok=True)
        raise


def _empty(folder: Path, shards: tuple[Shard, ...]) -> None:
    for shard in shards:
        for path in (folder / shard.name, folder / f".{shard.name}"):
            path.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system frees it whatever way the process ends."""
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
