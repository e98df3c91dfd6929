"""Staging of shards on a node-local disk: one process per node copies and verifies them."""

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

    The other processes of the node wait for the one that copies. After an interruption, shards that are already staged
    are kept. If the disk is too small, the source is used directly. A shard that differs from the manifest is not
    staged, so readers treat it as missing.

    Args:
        manifest: Manifest of the source shards.
        root: Folder on the node's disk, created if needed.
        patience: Retries and timeouts for the source.

    Returns:
        Manifest of the staged copy, or `manifest` itself if the disk is too small or unusable.
    """
    folder = root / f"polarcast-{manifest.digest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if not (folder / NAME).is_file():
                _fill(manifest, folder, patience or Patience())
    except OSError as error:
        reason = "is full" if error.errno in _NO_ROOM else f"can't be used ({error.strerror})"
        _log.warning("polarcast: %s %s: reading the shards from %s", root, reason, manifest.source.location)
        return manifest
    return replace(manifest, source=ShardSource(str(folder)))


def _fill(manifest: Manifest, folder: Path, patience: Patience) -> None:
    """Copy missing shards, then write the manifest, which marks the copy as complete."""
    _make_room(manifest, folder)
    for index, shard in enumerate(manifest.shards):
        if not (folder / shard.name).is_file():
            try:
                _copy(manifest, index, folder, patience)
            except BadShard as error:
                _log.warning("polarcast: %s is not staged", error)
    write_text(folder / NAME, manifest.to_json())


def _make_room(manifest: Manifest, folder: Path) -> None:
    """Raise OSError if the copy does not fit on the disk, and delete a partial copy."""
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
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the process ends."""
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
