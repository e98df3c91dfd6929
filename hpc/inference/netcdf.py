"""Write labelled arrays to a netCDF file (64-bit offset) with scipy, without a netCDF library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, replacing

FILL = np.float32(9.969209968386869e36)
"""Fill value of missing data: the netCDF default for floats."""
MAX_BYTES = 2**31 - 4
"""Largest size of one variable that scipy can write."""
_BIG_ENDIAN = {"f": ">f4", "d": ">f8", "i": ">i4"}

Attribute = str | int | float | np.float32
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Variable:
    """An array of float32, float64 or int32 values, with its dimension names in order and its attributes."""

    dimensions: tuple[str, ...]
    values: Array
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """Content of a file: variables by name, and global attributes."""

    variables: Mapping[str, Variable]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def lengths(self) -> dict[str, int]:
        """Return dimension → length, in order of first use.

        Raises:
            ValueError: a variable has more or fewer dimensions than names, or two variables differ in a length.
        """
        lengths: dict[str, int] = {}
        for name, variable in self.variables.items():
            for dimension, length in zip(variable.dimensions, variable.values.shape, strict=True):
                if lengths.setdefault(dimension, length) != length:
                    raise ValueError(
                        f"{name}: {dimension} has length {length}, but {lengths[dimension]} in another variable"
                    )
        return lengths


def write_netcdf(path: Path, dataset: Dataset) -> None:
    """Write a dataset to a file atomically.

    Raises:
        BadInput: a variable exceeds the size limit of the format.
    """
    with replacing(path) as partial:
        fill_netcdf(partial, dataset)


def fill_netcdf(path: Path, dataset: Dataset) -> None:
    """Write a dataset to a file in place, for callers that rename it afterwards. Raises as `write_netcdf` does."""
    from scipy.io import netcdf_file

    for name, variable in dataset.variables.items():
        check_size(name, variable.values.nbytes)
    with netcdf_file(path, "w", version=2) as file:
        for dimension, length in dataset.lengths().items():
            file.createDimension(dimension, length)
        for name, variable in dataset.variables.items():
            kind = _BIG_ENDIAN[variable.values.dtype.char]
            target = file.createVariable(name, kind, variable.dimensions)
            target[()] = variable.values
            _describe(target, variable.attributes)
        _describe(file, dataset.attributes)


def checked_netcdf(path: Path) -> Path:
    """Return the path of an output file. Raises BadInput if its name does not end in .nc, or it can't be written."""
    if path.suffix != ".nc":
        raise BadInput("the output name must end in .nc", path, "rename it, for example to rain.nc")
    return checked_output(path)


def check_size(name: str, size: int) -> None:
    """Raise BadInput if a variable of `size` bytes exceeds the size limit of the format."""
    if size > MAX_BYTES:
        raise BadInput(
            f"{name} needs {size / 2**30:.1f} GiB, but a netCDF variable is limited to 2 GiB",
            "output",
            "request fewer --members, or split the event with --frames",
        )


def _describe(target: Any, attributes: Mapping[str, Attribute]) -> None:
    for name, value in attributes.items():
        if hasattr(target, name):
            raise ValueError(f"{name} would overwrite an attribute of the scipy object")
        # scipy writes str as Latin-1 and Python floats in single precision.
        if isinstance(value, str):
            setattr(target, name, value.encode(errors="backslashreplace") or b" ")
        else:
            setattr(target, name, np.float64(value) if isinstance(value, float) else value)
