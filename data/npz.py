"""Compare the sizes that the members of an npz file claim with its own size before they are read into memory."""

import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.files import open_regular

MOST_RATIO = 1100
"""Largest ratio of values to stored bytes, slightly above the largest of deflate."""
CLAIM_FIX = "use it only if you trust its source; copy it again, or cut it into smaller files"
_ANY_RATIO_BYTES = 2**20


def check_claim(name: str, claimed: int, stored: int, path: Path, accepted: int) -> None:
    """Raise BadInput if `claimed` bytes are more than `accepted`, and implausibly many for `stored` bytes."""
    if claimed > max(accepted, MOST_RATIO * stored):
        size = f"{claimed / 1e9:.3g} GB" if claimed < 1e300 else "more than 1e291 GB"
        raise BadInput(f"{name} claims {size} in {stored / 1e6:.3g} MB of the file", path, CLAIM_FIX)


def check_npz(path: Path) -> None:
    """Check each member's shape against its size, and that against its compressed size.

    Raises:
        BadInput: a member claims implausibly much data, or holds pickled objects.
        OSError: the file can't be opened, or is not a regular file.
        BadZipFile: it is not an npz file.
    """
    size = path.stat().st_size
    with open_regular(path) as file, zipfile.ZipFile(file) as content:
        for member in content.infolist():
            name = ascii(member.filename)[1:-1]
            check_claim(name, member.file_size, min(member.compress_size, size), path, _ANY_RATIO_BYTES)
            if not name.endswith(".npy"):
                continue
            with content.open(member) as stream:
                shape, _, dtype = read_npy_header(stream)
            if dtype.hasobject:
                raise BadInput(f"{name} holds pickled objects, which can run programs", path, "save it as numbers")
            if prod(shape) * dtype.itemsize > member.file_size:
                raise BadInput(f"{name} claims the shape {shape}, but has {member.file_size} bytes", path, CLAIM_FIX)


def read_npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran order and dtype of an npy stream; leave it at the first value."""
    if np.lib.format.read_magic(stream) == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)
