"""Atomic writes of small files, reads, and folder locks.

A process killed at any time leaves either the old file or the new one, never a partial one.
"""

import errno
import fcntl
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput

_LOCK = ".lock"
SMALL_BYTES = 2**26
"""Size limit of the small files of runs, archives and shards."""
_TRIES = 100
_SECONDS_BETWEEN_TRIES = 0.02
"""Attempts to lock a folder that other processes remove meanwhile."""


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Replace a file atomically: yield a new, empty file next to it, sync it to disk, then rename it.

    The new file is removed on failure. Its name is random, and a link that others put there is not followed.

    Args:
        path: File to replace.
        mode: Permissions of the new file, before the umask.
    """
    partial = _partial(path)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode))
    try:
        yield partial
        sync_file(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a folder atomically: yield a new one next to it, sync its files to disk, then rename it.

    The new folder is removed on failure. Its name is random, and starts with a dot.

    Args:
        path: Folder to make; there may be an empty one.

    Raises:
        BadInput: there is a folder with content, or something else.
    """
    place = Path(os.path.realpath(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(place)
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            sync_file(file)
        sync_folder(partial)
        try:
            os.rename(partial, place)
        except (FileExistsError, NotADirectoryError) as error:
            raise BadInput(f"can't be made ({error.strerror})", path, "choose another folder") from None
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            raise BadInput("exists and is not empty", path, "choose another folder") from None
        sync_folder(place.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def write_bytes(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Replace a file atomically; its content is synced to disk first. See `replacing` for the mode."""
    with replacing(path, mode) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace a text file atomically."""
    write_bytes(path, content.encode())


def write_private(path: Path, content: str) -> None:
    """Replace a text file atomically by one that only this user can read (0600): it may hold secrets."""
    write_bytes(path, content.encode(), 0o600)


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def checked_output(path: Path, is_folder: bool = False) -> Path:
    """Return a path that can be written to, before the work whose result goes there.

    The nearest parent that exists must be a folder that this user may write to; missing parents are made later.

    Args:
        path: File or folder to write.
        is_folder: Whether it is a folder.

    Raises:
        BadInput: it can't be written; the message says why.
    """
    try:
        for name in (path,) if is_folder or not path.name else (path, _partial(path)):
            with suppress(FileNotFoundError, NotADirectoryError):
                name.stat()
        if is_folder and path.exists() and not path.is_dir():
            raise BadInput("is not a folder", path, "choose another path")
        if not is_folder and path.is_dir():
            raise BadInput("is a folder", path, "give the path of a file")
        if not is_folder and path.exists() and not path.is_file():
            raise BadInput("is a device, pipe or socket", path, "give the path of a file")
        candidates = (path, *path.absolute().parents) if is_folder else path.absolute().parents
        there = next(folder for folder in candidates if folder.exists())
        if not there.is_dir():
            raise BadInput(f"{there} is not a folder", path, "choose another path")
        if not os.access(there, os.W_OK | os.X_OK):
            raise BadInput(f"{there} is not writable", path, "choose another path")
    except (OSError, ValueError) as error:  # such as a name that is too long, a loop of links, or a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"can't be written ({reason})", ascii(str(path))[1:-1], "choose another path") from None
    return path


def private_folder(path: Path) -> Path:
    """Make a folder that only this user can enter, or check that an existing one is: for places that all users share.

    Raises:
        BadInput: another user made it, it is a link, or other users may write to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise BadInput(
            "belongs to another user, or others may write to it", path, "remove it, or choose another folder"
        )
    return path


def sync_file(path: Path) -> None:
    """Sync a file's content to disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(path: Path) -> None:
    """Make a rename inside a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; return {} if the file is missing or damaged."""
    try:
        return dict(json.loads(read_limited(path).decode()))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


@contextmanager
def sole_writer(folder: Path, writes: bool = True, patience: float = 0.5) -> Iterator[None]:
    """Hold a folder's lock if this process writes there; the kernel releases it when the process ends.

    The folder is made if it is missing. It is removed again, with its new parents, if nothing was written into it. A
    new lock file does not outlive an error.

    Args:
        folder: Folder to write into.
        writes: Whether this process writes there.
        patience: Time in seconds to wait for the lock: `has_writer` holds it for a moment.

    Raises:
        BadInput: Another process holds the lock.
    """
    if not writes:
        yield
        return
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    is_new = not (folder / _LOCK).exists()
    handle = _locked(folder, patience)
    try:
        yield
    except BaseException:
        if is_new:
            (folder / _LOCK).unlink(missing_ok=True)
        raise
    finally:
        _remove_unused(folder, missing)
        os.close(handle)


def has_writer(folder: Path) -> bool:
    """Whether a process holds the lock of a folder."""
    try:
        with sole_writer(folder, patience=0):
            return False
    except BadInput:
        return True


def _locked(folder: Path, patience: float) -> int:
    """Return the open lock file of a folder. Raises BadInput if another process holds the lock for longer."""
    deadline = time.monotonic() + patience
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):  # removed by the process that worked here before
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            if not _is_locked_until(handle, deadline):
                os.close(handle)
                raise BadInput("another process is working here", folder, "wait for it, or stop it first")
            if _is_at(handle, folder / _LOCK):
                return handle
            os.close(handle)
    raise BadInput("can't be made", folder, "choose another folder")


def _is_locked_until(handle: int, deadline: float) -> bool:
    """Lock an open file; return whether that succeeds before a time of the monotonic clock."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_SECONDS_BETWEEN_TRIES)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _remove_unused(folder: Path, missing: list[Path]) -> None:
    """Remove the lock file of a folder that holds nothing else, and those of the `missing` folders that are empty."""
    with suppress(OSError):
        if all(path.name == _LOCK for path in folder.iterdir()):
            (folder / _LOCK).unlink(missing_ok=True)
            for path in missing:
                path.rmdir()


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read it. A pipe or a device, which could wait or go on for ever, is refused.

    Raises:
        OSError: the file can't be opened, or is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(handle, "rb")


def read_limited(path: Path, most: int = SMALL_BYTES) -> bytes:
    """Read a regular file of at most `most` bytes.

    Raises:
        OSError: the file can't be read, is not a regular file, or is larger.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"larger than {most} bytes", str(path))
        return stream.read(size + 1)
