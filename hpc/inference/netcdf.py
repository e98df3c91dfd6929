"""Labelled arrays → a netCDF file (64-bit offset), through scipy alone: no netCDF library is needed to write one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.files import replacing

FILL = np.float32(9.969209968386869e36)
"""What stands for a missing value: netCDF's own default of floats."""
MOST_BYTES = 2**31 - 4
"""Of one variable, as scipy writes it."""
_BIG_ENDIAN = {"f": ">f4", "d": ">f8", "i": ">i4"}

Attribute = str | int | float | np.float32
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Variable:
    """One array: names of its dimensions in order, float32, float64 or int32 values, and attributes."""

    dimensions: tuple[str, ...]
    values: Array
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """What goes into one file: variables by name, and the attributes of the whole."""

    variables: Mapping[str, Variable]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def lengths(self) -> dict[str, int]:
        """Dimension → length, in the order of their first use.

        Raises:
            ValueError: values have another number of dimensions than is named, or two variables disagree on a length.
        """
        found: dict[str, int] = {}
        for name, variable in self.variables.items():
            for dimension, length in zip(variable.dimensions, variable.values.shape, strict=True):
                if found.setdefault(dimension, length) != length:
                    raise ValueError(f"{name}: {dimension} is {length} long, elsewhere {found[dimension]}")
        return found


def write_netcdf(path: Path, dataset: Dataset) -> None:
    """Write a file in one step: it is there whole, or not at all.

    Raises:
        BadInput: a variable is larger than the format holds.
    """
    from scipy.io import netcdf_file

    for name, variable in dataset.variables.items():
        check_size(name, variable.values.nbytes)
    with replacing(path) as partial, netcdf_file(partial, "w", version=2) as file:
        for dimension, length in dataset.lengths().items():
            file.createDimension(dimension, length)
        for name, variable in dataset.variables.items():
            kind = _BIG_ENDIAN[variable.values.dtype.char]
            there = file.createVariable(name, kind, variable.dimensions)
            there[()] = variable.values
            _describe(there, variable.attributes)
        _describe(file, dataset.attributes)


def check_size(name: str, size: int) -> None:
    """Raises BadInput for a variable of more bytes than the format holds."""
    if size > MOST_BYTES:
        raise BadInput(
            f"{size / 2**30:.1f} GiB of {name}, a netCDF file holds 2 GiB of one variable",
            "output",
            "ask for fewer --members, or write the event in parts with --frames",
        )


def _describe(target: Any, attributes: Mapping[str, Attribute]) -> None:
    for name, value in attributes.items():
        if hasattr(target, name):
            raise ValueError(f"{name} is an attribute of scipy's own, which would be overwritten")
        # scipy would write text as Latin-1 and shorten floats to single precision.
        if isinstance(value, str):
            setattr(target, name, value.encode() or b" ")
        else:
            setattr(target, name, np.float64(value) if isinstance(value, float) else value)
