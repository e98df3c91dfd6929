"""Check content against the ETag of an S3 object.

The ETag of an object that was uploaded in one part is the MD5 of its content. That of N parts is the MD5 of the parts'
MD5s, followed by -N. Nothing tells the size of the parts: those in use by the common programs are tried. See "Checking
object integrity" in Amazon's S3 user guide.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

BY_MD5, BY_PARTS, BY_SIZE = "md5", "md5 of parts", "size"
"""How content was checked, the strictest first."""
_MIB = 2**20
_PART_MIB = (5, 6, 8, 10, 12, 15, 16, 20, 24, 25, 32, 50, 64, 100, 128, 256, 512)
"""Sizes of parts: 8 in boto3 and the AWS command line, 5 in Amazon's SDKs, 15 in s3cmd, …"""
_READ = 2**20


def check_of(path: Path, etag: str, md5: str, is_plain: bool = True) -> str | None:
    """Return how a file could be checked; None if its content is another one.

    Args:
        path: File of the right size.
        etag: Entity tag, without quotation marks.
        md5: MD5 of the file.
        is_plain: Whether the ETag can be an MD5, which encryption by a key of one's own prevents.
    """
    if not is_plain:
        return BY_SIZE
    if re.fullmatch(r"[0-9a-f]{32}", etag):
        return BY_MD5 if etag == md5 else None
    if parts := re.fullmatch(r"[0-9a-f]{32}-([1-9][0-9]{0,4})", etag):
        sizes = part_sizes(path.stat().st_size, int(parts[1]))
        return BY_PARTS if any(etag_of_parts(path, size) == etag for size in sizes) else BY_SIZE
    return BY_SIZE


def part_sizes(size: int, parts: int) -> Iterator[int]:
    """Yield the likely sizes of the parts of an object, in bytes."""
    even = -(-size // parts)
    likely = {mib * _MIB for mib in _PART_MIB} | {-(-even // _MIB) * _MIB, even, 10**6 * -(-even // 10**6)}
    yield from sorted(part for part in likely if part and -(-size // part) == parts)


def etag_of_parts(path: Path, part: int) -> str:
    """Return the ETag of a file that was uploaded in parts of a size in bytes."""
    sums = []
    with path.open("rb") as stream:
        while left := part:
            total = hashlib.md5(usedforsecurity=False)
            while left and (block := stream.read(min(left, _READ))):
                total.update(block)
                left -= len(block)
            if left == part:
                break
            sums.append(total.digest())
    return f"{hashlib.md5(b''.join(sums), usedforsecurity=False).hexdigest()}-{len(sums)}"
