"""Transparent decompression of input files, within limits of size and of the temporary folder."""

import bz2
import gzip
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput

_GZIP, _BZIP2, _ZIP = b"\x1f\x8b", b"BZ", b"PK"
_ENCRYPTED = 1
# NotImplementedError: a zip with a compression method that Python does not support.
_DECOMPRESSION_ERRORS = (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError)
MOST_BYTES = 4 * 2**30
"""Largest uncompressed volume; real ones have less than 1 GB."""
MOST_RATIO = 200
"""Largest compression ratio of volumes above `ANY_RATIO_BYTES`; that of real ones is below 50."""
ANY_RATIO_BYTES = 256 * 2**20
_BLOCK = 2**20
_FREE_SHARE, _FREE_BYTES = 0.05, 64 * 2**20
_MORE_ROOM = "free some space there, or set TMPDIR to a folder with more"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Provide a path to the file's uncompressed content; gzip, bzip2 and zip of one file go to a temporary folder.

    Raises:
        BadInput: The file does not exist, its compression is damaged, its content is implausibly large or does not fit
            into the temporary folder, or a zip has more than one file.
    """
    if not path.is_file():
        raise BadInput("no such file", path, "give radar volumes or gridded sequences")
    kind = _magic(path)
    if kind not in (_GZIP, _BZIP2, _ZIP):
        yield path
        return
    folder = _temporary_folder(path)
    try:
        plain = folder / path.name
        try:
            _unpack(path, kind, plain)
        except _DECOMPRESSION_ERRORS as error:
            raise BadInput(f"the compression is damaged ({error})", path, "copy it again from its source") from None
        yield plain
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder(path: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="polarcast-"))
    except OSError as error:
        reason = f"{error.strerror} {error.filename or ''}".strip()
        raise BadInput(f"no temporary folder to unpack it can be written to ({reason})", path, _MORE_ROOM) from None


def _unpack(path: Path, kind: bytes, plain: Path) -> None:
    limit = max(ANY_RATIO_BYTES, min(MOST_BYTES, MOST_RATIO * path.stat().st_size))
    written = 0
    with _new_file(plain, path) as out, _content(path, kind) as packed:
        while block := packed.read(_BLOCK):
            written += len(block)
            if written > limit:
                raise BadInput(
                    f"the unpacked content is implausibly large: more than {limit / 1e6:.0f} MB",
                    path,
                    "unpack it first",
                )
            _write(out, block, path, plain.parent)


def _new_file(plain: Path, path: Path) -> FileIO:
    """Open a file without a buffer, so that an error of writing is raised by the write that it concerns."""
    try:
        return plain.open("wb", buffering=0)
    except OSError as error:
        raise _no_room(path, plain.parent, str(error.strerror)) from None


def _write(out: FileIO, block: bytes, path: Path, folder: Path) -> None:
    room = shutil.disk_usage(folder)
    if room.free < len(block) + min(_FREE_BYTES, _FREE_SHARE * room.total):
        raise _no_room(path, folder, f"{room.free / 1e6:.0f} MB are left")
    rest = memoryview(block)
    try:
        while rest:
            rest = rest[out.write(rest) :]
    except OSError as error:
        raise _no_room(path, folder, str(error.strerror)) from None


def _no_room(path: Path, folder: Path, reason: str) -> BadInput:
    return BadInput(f"no room to unpack it in the temporary folder {folder.parent} ({reason})", path, _MORE_ROOM)


def _magic(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(2)
    except OSError as error:
        raise BadInput(f"can't be opened ({error.strerror})", path, "check its permissions") from None


@contextmanager
def _content(path: Path, kind: bytes) -> Iterator[Any]:
    if kind == _ZIP:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            if len(members) != 1:
                raise BadInput(f"the zip has {len(members)} files", path, "unpack it and give the volumes")
            if members[0].flag_bits & _ENCRYPTED:
                raise BadInput("the zip is encrypted", path, "unpack it and give the volume")
            with archive.open(members[0]) as stream:
                yield stream
    else:
        with (gzip.open if kind == _GZIP else bz2.open)(path, "rb") as stream:
            yield stream
