"""Staging of shards on a node-local disk: one process per node copies and verifies them.

Other users may share the disk. The copy lies in a folder that only this user can enter, and no link is followed.
"""

import errno
import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.files import private_folder, write_private
from polarcast.data.names import checked_name
from polarcast.data.shards.fetch import Fetch, Patience, open_own
from polarcast.data.shards.health import BadShard
from polarcast.data.shards.manifest import NAME, Manifest, Shard
from polarcast.data.shards.source import ShardSource

_log = logging.getLogger("polarcast")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def stage(manifest: Manifest, root: Path, patience: Patience | None = None) -> Manifest:
    """Copy the shards below `root`, once per node, and return the manifest of the copy.

    The other processes of the node wait for the one that copies. After an interruption, shards that are already staged
    are kept. If the disk is too small, or another user made the folder, the source is used directly. A shard that
    differs from the manifest is not staged, so readers treat it as missing.

    Args:
        manifest: Manifest of the source shards.
        root: Folder on the node's disk, created if needed.
        patience: Retries and timeouts for the source.

    Returns:
        Manifest of the staged copy, or `manifest` itself if the disk is too small or unusable.

    Raises:
        BadInput: A shard's name is a path.
    """
    for shard in manifest.shards:
        checked_name(shard.name, manifest.source.shown)
    folder = root / f"polarcast-{os.geteuid()}-{manifest.digest()[:16]}"
    try:
        private_folder(folder)
        with _locked(folder):
            if not _is_own_file(folder / NAME):
                _fill(manifest, folder, patience or Patience())
    except (OSError, BadInput) as error:
        _log.warning("polarcast: %s: reading the shards from %s", _reason(root, error), manifest.source.shown)
        return manifest
    return replace(manifest, source=ShardSource(str(folder)))


def _reason(root: Path, error: OSError | BadInput) -> str:
    if isinstance(error, BadInput):
        return f"{error.where} {error.what}"
    return f"{root} is full" if error.errno in _NO_ROOM else f"{root} can't be used ({error.strerror})"


def _fill(manifest: Manifest, folder: Path, patience: Patience) -> None:
    """Copy missing shards, then write the manifest, which marks the copy as complete."""
    _make_room(manifest, folder)
    for index, shard in enumerate(manifest.shards):
        if not _is_staged(folder, shard):
            try:
                _copy(manifest, index, folder, patience)
            except BadShard as error:
                _log.warning("polarcast: %s is not staged", error)
    write_private(folder / NAME, manifest.to_json())


def _is_own_file(path: Path) -> bool:
    """Whether a path is a file, not a link, of this user."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _is_staged(folder: Path, shard: Shard) -> bool:
    path = folder / shard.name
    return _is_own_file(path) and path.lstat().st_size == shard.bytes


def _make_room(manifest: Manifest, folder: Path) -> None:
    """Raise OSError if the copy does not fit on the disk, and delete a partial copy."""
    missing = sum(s.bytes for s in manifest.shards if not _is_staged(folder, s))
    if missing > shutil.disk_usage(folder).free:
        _empty(folder, manifest.shards)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _copy(manifest: Manifest, index: int, folder: Path, patience: Patience) -> None:
    name = manifest.shards[index].name
    staged = folder / _partial(name)
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
    """Delete the copies of the shards; nothing else is in this user's private folder under their names."""
    for shard in shards:
        for path in (folder / shard.name, folder / _partial(shard.name)):
            path.unlink(missing_ok=True)


def _partial(name: str) -> str:
    """Return the name of an unfinished copy, which is not that of the lock."""
    return f".{name}.part"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the process ends."""
    with os.fdopen(open_own(folder / ".lock", os.O_RDWR), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
