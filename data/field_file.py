"""Files of one field of an archive: npy of float32 (y, x)."""

import io
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.files import read_limited

Field = npt.NDArray[np.float32]
_MAX_BYTES = 2**32


def read_field(path: Path) -> Field:
    """Read one (y, x) field as float32.

    Raises:
        BadInput: The file is missing, unreadable or truncated, or its array is not two-dimensional or not finite.
    """
    try:
        values = _load(path)
    except FileNotFoundError:
        raise BadInput("no such file", path, "copy the event again: it is incomplete") from None
    except (ValueError, EOFError, OSError, OverflowError, MemoryError) as error:
        raise BadInput(f"not a readable npy file ({error})", path, "copy it again from its source") from None
    if values.ndim != 2:
        raise BadInput(f"expected a (y, x) field, got shape {values.shape}", path, "write one frame per file")
    if values.dtype.kind not in "fiub":
        raise BadInput(f"expected numbers, got {values.dtype}", path, "write float32")
    with np.errstate(over="ignore"):
        field = np.asarray(values, dtype=np.float32)
    if not np.isfinite(field).all():
        share = 100 * (1 - np.isfinite(field).mean())
        raise BadInput(f"{share:.1f}% of the values are not finite", path, "use 0 as the fill value")
    return field


def _load(path: Path) -> npt.NDArray[Any]:
    """Load an npy file; unlike `np.load`, parse each distinct header only once.

    All files of an archive share one header, and parsing it would dominate the read time.
    """
    content = read_limited(path, _MAX_BYTES)
    length = 10 + int.from_bytes(content[8:10], "little")
    if content[:8] != b"\x93NUMPY\x01\x00":
        return np.load(io.BytesIO(content), allow_pickle=False)  # type: ignore[no-any-return]
    shape, fortran_order, dtype = _header(content[8:length])
    values = np.frombuffer(content, dtype, math.prod(shape), length)
    return values.reshape(shape, order="F" if fortran_order else "C")


@lru_cache
def _header(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(text))
    if dtype.hasobject:
        raise ValueError("a pickled object")
    return shape, fortran_order, dtype


def npy_bytes(values: Field) -> bytes:
    """Return a field as npy of float32; `np.save` to a file loses the error number of a full disk."""
    content = io.BytesIO()
    np.save(content, values.astype(np.float32))
    return content.getvalue()
