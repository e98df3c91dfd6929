"""Transparent decompression of input files."""

import bz2
import gzip
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput

_GZIP, _BZIP2, _ZIP = b"\x1f\x8b", b"BZ", b"PK"
_ENCRYPTED = 1
# NotImplementedError: a zip with a compression method that Python does not support.
_DECOMPRESSION_ERRORS = (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Provide a path to the file's uncompressed content; gzip, bzip2 and zip of one file go to a temporary folder.

    Raises:
        BadInput: The file does not exist, its compression is damaged, or a zip has more than one file.
    """
    if not path.is_file():
        raise BadInput("no such file", path, "give radar volumes or gridded sequences")
    kind = _magic(path)
    if kind not in (_GZIP, _BZIP2, _ZIP):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="polarcast-") as folder:
        plain = Path(folder) / path.name
        try:
            with _content(path, kind) as packed, plain.open("wb") as out:
                shutil.copyfileobj(packed, out)
        except _DECOMPRESSION_ERRORS as error:
            raise BadInput(f"the compression is damaged ({error})", path, "copy it again from its source") from None
        yield plain


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
