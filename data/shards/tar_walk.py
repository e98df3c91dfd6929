"""Safe iteration over the members of a tar; anything that a shard does not need, such as a link, is rejected."""

import ast
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from polarcast.data.errors import BadInput

_BLOCK = 512
_LONGEST_NOTE = 2**16
"""Maximum size of an extended header in bytes; longer ones are rejected as malicious."""
_LONGEST_NPY_HEADER = 4096
_NOTES = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME}
_FIX = "make the shards again, from a source you trust"


@dataclass(frozen=True)
class TarMember:
    """A regular file in a tar: its name, the offset of its content, and its size in bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Array:
    """An npy member: the offset of its values, their shape and dtype."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


def walk(path: Path) -> Iterator[TarMember]:
    """Iterate over the regular files of an uncompressed tar, in order.

    Raises:
        BadInput: The file is not a tar, or is truncated or damaged; or a member has an absolute path, leaves its
            folder, is a link or device, or claims to be larger than the file.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        at, name = 0, None
        while any(header := _header(stream, path, at, size)):
            info = _parse(header, path, at)
            content, after = at + _BLOCK, at + _BLOCK + -(-info.size // _BLOCK) * _BLOCK
            if info.size < 0 or after > size:
                raise BadInput(f"{info.name!r} claims {info.size} bytes, the file has {size}", path, _FIX)
            if info.type in _NOTES:
                name = _long_name(stream, info, path) or name
            else:
                member = TarMember(_safe(name or info.name, path), content, info.size)
                if info.isreg() and not info.sparse:
                    yield member
                elif not info.isdir():
                    raise BadInput(f"{member.name!r} is a link or a device", path, _FIX)
                name = None
            at = after


def read_array(stream: BinaryIO, member: TarMember, path: Path) -> Array:
    """Parse the header of an npy member. Raises BadInput if it is invalid, pickled, or does not match the size."""
    stream.seek(member.offset)
    head = stream.read(min(member.size, _LONGEST_NPY_HEADER))
    try:
        if head[:6] != b"\x93NUMPY":
            raise ValueError("not an npy file")
        width = 2 if head[6] == 1 else 4
        length = int.from_bytes(head[8 : 8 + width], "little")
        described = ast.literal_eval(head[8 + width : 8 + width + length].decode("latin1").strip())
        shape, dtype = tuple(int(n) for n in described["shape"]), np.dtype(described["descr"])
        if dtype.hasobject:
            raise ValueError("a pickled object")
        if described["fortran_order"] and len(shape) > 1:
            raise ValueError("in Fortran order")
        start = 8 + width + length
        if start + dtype.itemsize * int(np.prod(shape, dtype=object)) != member.size:
            raise ValueError(f"{member.size} bytes do not match {shape} {dtype}")
    except (ValueError, SyntaxError, KeyError, TypeError, IndexError, MemoryError, RecursionError) as error:
        raise BadInput(f"{member.name!r} is not a valid array ({error})", path, _FIX) from None
    return Array(member.offset + start, shape, dtype.str)


def _header(stream: BinaryIO, path: Path, at: int, size: int) -> bytes:
    stream.seek(at)
    header = stream.read(_BLOCK)
    if len(header) < _BLOCK:
        raise BadInput(f"truncated after {size} bytes", path, "copy it again")
    return header


def _parse(header: bytes, path: Path, at: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BadInput(f"no tar header at byte {at} ({error})", path, "write plain, uncompressed tars") from None


def _long_name(stream: BinaryIO, info: tarfile.TarInfo, path: Path) -> str | None:
    """Return the name that an extended header gives to the next member, if any."""
    if info.size > _LONGEST_NOTE:
        raise BadInput(f"an extended header of {info.size} bytes", path, _FIX)
    note = stream.read(info.size)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return note.rstrip(b"\0").decode("utf-8", "surrogateescape")
    # Records are "LENGTH KEY=VALUE\n". Times are ignored; a different size or a sparse map could be an attack.
    fields = dict(line.partition(b" ")[2].partition(b"=")[::2] for line in note.split(b"\n") if b"=" in line)
    if b"size" in fields or any(key.startswith(b"GNU.sparse") for key in fields):
        raise BadInput("an extended header changes a member's size", path, _FIX)
    return fields[b"path"].decode("utf-8", "surrogateescape") if b"path" in fields else None


def _safe(name: str, path: Path) -> str:
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name:
        raise BadInput(f"unsafe member name {name!r}", path, _FIX)
    return name
