"""Read the stored frames of a gridded sequence window by window, so that large files need not fit into memory."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.npz import read_npy_header

Values = npt.NDArray[Any]
_DATA = "data.npy"
_BATCH_BYTES = 256 * 2**20


class GridFrames(Protocol):
    """Source of frames; picklable, because it is sent to worker processes."""

    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> Iterator[Values]:
        """Yield a window (y, x) of each frame in the given order, as stored."""
        ...


@dataclass(frozen=True)
class NpzFrames:
    """Member `data` (t, y, x) of an npz file, decompressed frame by frame."""

    path: Path

    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> Iterator[Values]:
        """Yield a window (y, x) of each frame in the given order, as stored."""
        with zipfile.ZipFile(self.path) as content, content.open(_DATA) as stream:
            shape, in_fortran_order, dtype = read_npy_header(stream)
            if in_fortran_order:
                yield from self._from_whole(numbers, rows, columns)
                return
            start, size = stream.tell(), prod(shape[1:]) * dtype.itemsize
            for number in numbers:
                stream.seek(start + number * size)
                yield np.frombuffer(stream.read(size), dtype).reshape(shape[1:])[rows, columns]

    def _from_whole(self, numbers: Sequence[int], rows: slice, columns: slice) -> Iterator[Values]:
        """Read the whole array, because frames are not contiguous in Fortran order."""
        with np.load(self.path, allow_pickle=False) as content:
            values = content["data"]
        yield from (values[number, rows, columns] for number in numbers)


@dataclass(frozen=True)
class XarrayFrames:
    """Variable of a NetCDF file or a Zarr folder; xarray undoes its packing.

    Attributes:
        path: File or folder.
        variable: Name of the variable.
        dims: Names of the time, y and x axes; any others have length 1.
        from_east: Whether the first column is the easternmost.
    """

    path: Path
    variable: str
    dims: tuple[str, str, str]
    from_east: bool = False

    def read(self, numbers: Sequence[int], rows: slice, columns: slice) -> Iterator[Values]:
        """Yield a window (y, x) of each frame in the given order; NaN where missing, columns from the west."""
        with open_dataset(self.path) as content:
            array = content[self.variable]
            array = array.squeeze([d for d in array.dims if d not in self.dims]).transpose(*self.dims)
            if self.from_east:
                array = array.isel({self.dims[2]: slice(None, None, -1)})
            array = array.isel({self.dims[1]: rows, self.dims[2]: columns})
            batch = max(1, _BATCH_BYTES // max(1, 8 * prod(array.shape[1:])))
            for first in range(0, len(numbers), batch):
                yield from array.isel({self.dims[0]: _indexer(numbers[first : first + batch])}).values


def npz_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the member `data` of an npz file without reading its values."""
    with zipfile.ZipFile(path) as content, content.open(_DATA) as stream:
        return read_npy_header(stream)[0]


@contextmanager
def open_dataset(path: Path) -> Iterator[Any]:
    """Open a NetCDF file or Zarr folder lazily as an `xarray.Dataset`.

    Raises:
        BadInput: A required library is not installed.
    """
    options: dict[str, Any] = {"engine": "zarr", "consolidated": False} if path.is_dir() else {}
    try:
        import xarray as xr

        if options:
            import zarr  # noqa: F401  (without it xarray reports an unknown engine)
    except ImportError as error:
        raise BadInput(f"{error.name} is not installed", "ingest", "pip install 'polarcast[ingest]'") from None
    with xr.open_dataset(path, chunks=None, **options) as content:
        yield content


@contextmanager
def read_errors_as_bad_input(path: Path, kind: str = "gridded sequence") -> Iterator[None]:
    """Convert any exception to BadInput, because a damaged file can raise anything in a library."""
    try:
        yield
    except BadInput:
        raise
    except MemoryError:
        raise BadInput("needs more memory than there is", path, "cut it into smaller files") from None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise BadInput(f"can't be read as a {kind} ({reason})", path, "copy it again from its source") from None


def _indexer(numbers: Sequence[int]) -> slice | list[int]:
    """Return a slice for consecutive numbers, because stores read slices fastest."""
    first, last = int(numbers[0]), int(numbers[-1])
    plain = [int(n) for n in numbers]
    return slice(first, last + 1) if plain == list(range(first, last + 1)) else plain
