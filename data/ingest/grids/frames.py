"""Read the stored frames of a gridded sequence window by window, so that large files need not fit into memory."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, not_installed
from polarcast.data.ingest.claims import HDF5, NETCDF3
from polarcast.data.npz import read_npy_header

Layers = list[npt.NDArray[Any]]
_DATA = "data.npy"
_NETCDF_SUFFIXES, _HEAD_BYTES = (".nc", ".nc4", ".cdf"), 512
_BATCH_BYTES = 256 * 2**20
_AS_STORED: dict[str, Any] = {"mask_and_scale": False, "decode_times": False, "decode_timedelta": False}


class GridFrames(Protocol):
    """Source of frames; picklable, because it is sent to worker processes.

    A layer is one variable at one level. Sources of one variable without levels have one layer, 0.
    """

    def read(self, numbers: Sequence[int], rows: slice, columns: slice, layers: Sequence[int]) -> Iterator[Layers]:
        """Yield a window (y, x) of each layer of each frame in the given order, as stored; columns from the west."""
        ...


@dataclass(frozen=True)
class NpzFrames:
    """Member `data` (t, y, x) of an npz file, decompressed frame by frame.

    Attributes:
        path: File.
        from_east: Whether the first column is the easternmost.
    """

    path: Path
    from_east: bool = False

    def read(self, numbers: Sequence[int], rows: slice, columns: slice, layers: Sequence[int]) -> Iterator[Layers]:
        """Yield a window (y, x) of each frame in the given order, as stored; columns from the west."""
        for (values,) in self._frames(numbers):
            yield [(values[:, ::-1] if self.from_east else values)[rows, columns]]

    def _frames(self, numbers: Sequence[int]) -> Iterator[Layers]:
        with zipfile.ZipFile(self.path) as content, content.open(_DATA) as stream:
            shape, in_fortran_order, dtype = read_npy_header(stream)
            if in_fortran_order:
                yield from self._from_whole(numbers)
                return
            start, size = stream.tell(), prod(shape[1:]) * dtype.itemsize
            for number in numbers:
                stream.seek(start + number * size)
                yield [np.frombuffer(stream.read(size), dtype).reshape(shape[1:])]

    def _from_whole(self, numbers: Sequence[int]) -> Iterator[Layers]:
        """Read the whole array, because frames are not contiguous in Fortran order."""
        with np.load(self.path, allow_pickle=False) as content:
            values = content["data"]
        yield from ([values[number]] for number in numbers)


class FileLayer(NamedTuple):
    """A variable of a file, at one position along its axis of levels, if it has one."""

    variable: str
    level: int = 0


@dataclass(frozen=True)
class XarrayFrames:
    """Variables of a NetCDF file or a Zarr folder, as stored.

    Attributes:
        path: File or folder.
        layers: Variable and level of each layer.
        dims: Names of the time, level, y and x axes, None for absent ones; any others have length 1.
        from_east: Whether the first column is the easternmost.
    """

    path: Path
    layers: tuple[FileLayer, ...]
    dims: tuple[str | None, str | None, str, str]
    from_east: bool = False

    def read(self, numbers: Sequence[int], rows: slice, columns: slice, layers: Sequence[int]) -> Iterator[Layers]:
        """Yield a window (y, x) of each layer of each frame in the given order, as stored; columns from the west."""
        with open_dataset(self.path) as content:
            arrays = [self._array(content, self.layers[layer], rows, columns) for layer in layers]
            batch = max(1, _BATCH_BYTES // max(1, 8 * sum(prod(a.shape[1:]) for a in arrays)))
            for first in range(0, len(numbers), batch):
                chosen = _indexer(numbers[first : first + batch])
                yield from map(list, zip(*(a[{a.dims[0]: chosen}].values for a in arrays), strict=True))

    def _array(self, content: Any, layer: FileLayer, rows: slice, columns: slice) -> Any:
        """Return the window of a layer, (time, y, x), not yet read."""
        time, level, y, x = self.dims
        array = content[layer.variable]
        if level in array.dims:
            array = array.isel({level: layer.level})
        array = array.isel({d: 0 for d in array.dims if d not in (time, y, x)})
        if time is None:
            time = "time of the file"
            array = array.expand_dims(time)
        array = array.transpose(time, y, x)
        if self.from_east:
            array = array.isel({x: slice(None, None, -1)})
        return array.isel({y: rows, x: columns})


def npz_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and type of the member `data` of an npz file without reading its values."""
    with zipfile.ZipFile(path) as content, content.open(_DATA) as stream:
        shape, _, dtype = read_npy_header(stream)
        return shape, dtype


@contextmanager
def open_dataset(path: Path) -> Iterator[Any]:
    """Open a NetCDF file or Zarr folder lazily as an `xarray.Dataset`, with its values and times as stored.

    Raises:
        BadInput: A required library is not installed.
    """
    options: dict[str, Any] = {"engine": "zarr", "consolidated": False} if path.is_dir() else {}
    try:
        import xarray as xr

        if options:
            import zarr  # noqa: F401  (without it xarray reports an unknown engine)
    except ImportError as error:
        raise not_installed(str(error.name), "ingest", "ingest") from None
    with xr.open_dataset(path, chunks=None, **_AS_STORED, **options) as content:
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
        what = _damage_of(path, error) or f"can't be read as a {kind} ({_shortened(error)})"
        raise BadInput(what, path, "copy it again from its source") from None


def _damage_of(path: Path, error: Exception) -> str:
    """Return in plain words what is wrong with a file that a library failed to read; empty if it is not known."""
    text = str(error).lower()
    if not path.is_file():
        return "a Zarr folder without a group: it is empty or incomplete" if _is_no_group(path, error) else ""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    if not head:
        return "the file is empty"
    if head.lstrip()[:1] == b"<" and b"<html" in head.lower() + b" ":
        return "a web page and no data"
    if "truncated" in text or "unexpected end" in text or "bad local file header" in text:
        return "damaged: the file is cut short"
    if path.suffix == ".npz" and head[:2] != b"PK":
        return "not an npz file: it does not begin as one"
    if path.suffix == ".npz" and "zip" in text:
        return "damaged: the npz is cut short or changed"
    if path.suffix in _NETCDF_SUFFIXES and not head.startswith((HDF5, *NETCDF3)):
        return "not a netCDF file: it does not begin as one"
    return "damaged: no library can open it" if "io backends" in text else ""


def _is_no_group(path: Path, error: Exception) -> bool:
    return path.is_dir() and (isinstance(error, FileNotFoundError) or "group" in type(error).__name__.lower())


def _shortened(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def _indexer(numbers: Sequence[int]) -> slice | list[int]:
    """Return a slice for consecutive numbers, because stores read slices fastest."""
    first, last = int(numbers[0]), int(numbers[-1])
    plain = [int(n) for n in numbers]
    return slice(first, last + 1) if plain == list(range(first, last + 1)) else plain
