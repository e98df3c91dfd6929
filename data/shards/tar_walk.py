"""The members of a tar, read header by header; whatever a shard has no use for is refused, not followed."""

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
"""Bytes of an extended header; a longer one is a trap."""
_LONGEST_NPY_HEADER = 4096
_NOTES = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME}
_FIX = "make the shards again, from a source you trust"


@dataclass(frozen=True)
class TarMember:
    """A regular file in a tar: its name, where its content begins, and its length in bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Array:
    """An npy member: where its values begin, and what they are."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


def walk(path: Path) -> Iterator[TarMember]:
    """All regular files of an uncompressed tar, in order.

    Raises:
        BadInput: it is no tar, is cut short or damaged, or has a member that is absolute, leads out of its folder,
            is a link or device, or claims to be larger than the file.
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
    """The header of an npy member. Raises BadInput when it is none, is pickled, or does not fill the member."""
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
        begins = 8 + width + length
        if begins + dtype.itemsize * int(np.prod(shape, dtype=object)) != member.size:
            raise ValueError(f"{member.size} bytes do not hold {shape} {dtype}")
    except (ValueError, SyntaxError, KeyError, TypeError, IndexError, MemoryError, RecursionError) as error:
        raise BadInput(f"{member.name!r} is no array a shard can hold ({error})", path, _FIX) from None
    return Array(member.offset + begins, shape, dtype.str)


def _header(stream: BinaryIO, path: Path, at: int, size: int) -> bytes:
    stream.seek(at)
    header = stream.read(_BLOCK)
    if len(header) < _BLOCK:
        raise BadInput(f"cut short after {size} bytes", path, "copy it again")
    return header


def _parse(header: bytes, path: Path, at: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BadInput(f"no tar header at byte {at} ({error})", path, "shards are plain, uncompressed tars") from None


def _long_name(stream: BinaryIO, info: tarfile.TarInfo, path: Path) -> str | None:
    """The name an extended header gives to the next member, if it gives one."""
    if info.size > _LONGEST_NOTE:
        raise BadInput(f"an extended header of {info.size} bytes", path, _FIX)
    note = stream.read(info.size)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return note.rstrip(b"\0").decode("utf-8", "surrogateescape")
    # Records are "LENGTH KEY=VALUE\n"; times are of no interest, another size or a sparse map would be a trap.
    fields = dict(line.partition(b" ")[2].partition(b"=")[::2] for line in note.split(b"\n") if b"=" in line)
    if b"size" in fields or any(key.startswith(b"GNU.sparse") for key in fields):
        raise BadInput("an extended header changes a member's size", path, _FIX)
    return fields[b"path"].decode("utf-8", "surrogateescape") if b"path" in fields else None


def _safe(name: str, path: Path) -> str:
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name:
        raise BadInput(f"a member is called {name!r}", path, _FIX)
    return name
