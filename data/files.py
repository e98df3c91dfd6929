"""Atomic writes of small files, reads, and folder locks.

A process killed at any time leaves either the old file or the new one, never a partial one.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file atomically: yield a temporary path, sync it to disk, then rename it. Remove it on failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        sync_file(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically; its content is synced to disk first."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace a text file atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1) + "\n")


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
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


@contextmanager
def sole_writer(folder: Path, writes: bool = True) -> Iterator[None]:
    """Hold a folder's lock if this process writes there; the kernel releases it when the process ends.

    Raises:
        BadInput: Another process holds the lock.
    """
    if not writes:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput("another process is working here", folder, "wait for it, or stop it first") from None
        yield
