"""The file of a bundle: a zip of uncompressed members whose bytes follow from their names and contents alone.

Nothing is compressed, so that a small file holds little, and other versions of zlib give the same bytes. A reader
accepts only what the writer would have written: there is no place for links, comments, or bytes between members.
"""

import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from polarcast.data.errors import BadInput, shown
from polarcast.data.files import read_limited, write_bytes
from polarcast.data.names import problem_of_name

MOST_BYTES = 2**30
MOST_MEMBERS = 20_000
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION, _UNIX, _UTF8 = 20, 3, 0x800
_TIME, _DATE = 0, 1 << 5 | 1  # 1 January 1980, the first day of zip files
_MODE = 0o100644 << 16
_HEAD = struct.Struct("<4sHHHHHIIIHH")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_TAIL = struct.Struct("<4sHHHHIIH")
_FIX = "get the file again from whoever made it; files that were packed anew are no bundles"


def write_members(path: Path, members: Mapping[str, bytes]) -> None:
    """Write members in the order given, completely or not at all.

    Raises:
        BadInput: there are too many members, or they are too large.
    """
    write_bytes(path, _packed(members, path))


def read_members(path: Path, most_of: Callable[[str], int]) -> dict[str, bytes]:
    """Read the members of a bundle, in their order.

    Args:
        path: The file.
        most_of: Function of a name that returns the largest size of such a member; 0 if there is none.

    Raises:
        BadInput: the file can't be read, is too large, or is not as `write_members` writes it; a member is too large,
            or its name is unsafe, unknown, or that of another member on some file systems.
    """
    try:
        content = read_limited(path, MOST_BYTES)
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", path, "give the file of a bundle") from None
    members: dict[str, bytes] = {}
    known: set[str] = set()
    for name, start, stop in _walk(content, path):
        _check_name(name, known, most_of, path)
        if stop - start > most_of(name):
            raise BadInput(f"{shown(name)} has {stop - start} bytes; the most are {most_of(name)}", path, _FIX)
        members[name] = content[start:stop]
    if content != _packed(members, path):
        raise BadInput("is damaged, or was changed: its members are not those that its end lists", path, _FIX)
    return members


def _packed(members: Mapping[str, bytes], where: Path) -> bytes:
    """Return the bytes of a zip file with these members."""
    if len(members) > MOST_MEMBERS:
        raise BadInput(
            f"would have {len(members)} members; the most are {MOST_MEMBERS}", where, "bundle a smaller suite"
        )
    if sum(map(len, members.values())) + 1000 * len(members) > MOST_BYTES:
        raise BadInput(f"would be larger than {MOST_BYTES} bytes", where, "bundle a smaller suite")
    parts, directory, position = list[bytes](), list[bytes](), 0
    for name, content in members.items():
        raw = name.encode()
        flags = 0 if name.isascii() else _UTF8
        common = (flags, 0, _TIME, _DATE, zlib.crc32(content), len(content), len(content), len(raw), 0)
        head = _HEAD.pack(_LOCAL, _VERSION, *common) + raw
        made_by = _UNIX << 8 | _VERSION
        directory.append(_ENTRY.pack(_CENTRAL, made_by, _VERSION, *common, 0, 0, 0, _MODE, position) + raw)
        parts += [head, content]
        position += len(head) + len(content)
    size, count = sum(map(len, directory)), len(directory)
    return b"".join([*parts, *directory, _TAIL.pack(_END, 0, 0, count, count, size, position, 0)])


def _walk(content: bytes, where: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and stop of each member, up to the list of them at the end of the file."""
    position = count = 0
    while content[position : position + 4] == _LOCAL:
        start = position + _HEAD.size
        if start > len(content):
            raise _cut_off(where)
        _, _, _, method, _, _, _, size, unpacked, length, extra = _HEAD.unpack_from(content, position)
        try:
            name = content[start : start + length].decode()
        except UnicodeDecodeError:
            raise BadInput("holds a name that is not UTF-8", where, _FIX) from None
        if method or size != unpacked or extra:
            what = "is compressed" if method else "has other sizes or fields than members of bundles"
            raise BadInput(f"{shown(name)} {what}", where, _FIX)
        position = start + length + size
        if position > len(content):
            raise _cut_off(where)
        count += 1
        if count > MOST_MEMBERS:
            raise BadInput(f"has more than {MOST_MEMBERS} members", where, _FIX)
        yield name, position - size, position
    if not count:
        raise BadInput("is not a bundle", where, "give a file that polarcast bench bundle wrote")


def _cut_off(where: Path) -> BadInput:
    return BadInput("is cut off, or its members claim more bytes than it has", where, _FIX)


def _check_name(name: str, known: set[str], most_of: Callable[[str], int], where: Path) -> None:
    """Raise BadInput for a name that is unsafe, repeated or unknown; add it to the known ones."""
    if problem := next(filter(None, map(problem_of_name, name.split("/"))), ""):
        raise BadInput(f"{shown(name)}: a part of a name {problem}", where, _FIX)
    if not most_of(name):
        raise BadInput(f"{shown(name)} is no file of a bundle", where, _FIX)
    folded = unicodedata.normalize("NFC", name).casefold()
    if folded in known:
        raise BadInput(f"{shown(name)} is there twice, or differs in the case of letters only", where, _FIX)
    known.add(folded)
