"""A forecast of one event as labelled arrays: in memory, as xarray, or as a file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polarcast.data.arguments import path_of
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, write_bytes
from polarcast.hpc.inference.netcdf import FILL, Array, Dataset, write_netcdf

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(Mapping[str, Array]):
    """A forecast of one event: arrays by name, with dimensions, coordinates and attributes after CF 1.8.

    An estimate holds `rain_rate` (member, time, y, x) in mm/h, a nowcast `zh` (member, time, height, y, x) in dBZ;
    ensembles also hold their mean. Missing values are NaN.

    Example:
        >>> forecast = run.predict("/data/NJU-CPOL", event=12, members=8)
        >>> forecast["rain_rate"].shape, forecast.dims("rain_rate")
        >>> forecast.to_xarray().rain_rate.mean("member")

    Attributes:
        dataset: All variables, and the attributes of the file.
        event: Number of the event.
        issued: Last input frame of a nowcast; None for an estimate.
        warnings: Warnings about input and forecast, one line each.
        draw: Draws the figure, and returns it as PNG.
    """

    dataset: Dataset
    event: int
    issued: int | None
    warnings: tuple[str, ...]
    draw: Callable[[], bytes]

    def __getitem__(self, name: str) -> Array:
        """Return a variable or coordinate as an array. Raises KeyError for an unknown name."""
        values = self.dataset.variables[name].values
        return np.where(values == FILL, np.nan, values) if values.dtype.kind == "f" else values

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __iter__(self) -> Iterator[str]:
        return iter(self.dataset.variables)

    def __len__(self) -> int:
        return len(self.dataset.variables)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {self[name].shape}" for name in self if self[name].ndim > 2)
        return f"Prediction(event {self.event}: {shapes})"

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the names of a variable's dimensions. Raises KeyError for an unknown name."""
        return self.dataset.variables[name].dimensions

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes of the whole forecast: model, arm, seed, digests of run and data, warnings."""
        return self.dataset.attributes

    def to_xarray(self) -> "xarray.Dataset":
        """Return the forecast as xarray, as `xarray.open_dataset` reads the file of `to_netcdf`.

        Raises:
            BadInput: xarray is not installed.
        """
        try:
            import xarray as xr
        except ImportError:
            raise BadInput("xarray is not installed", "to_xarray", "install it: pip install xarray") from None
        variables = {name: (v.dimensions, v.values, dict(v.attributes)) for name, v in self.dataset.variables.items()}
        return xr.decode_cf(xr.Dataset(variables, attrs=dict(self.attrs)))

    def to_netcdf(self, path: str | Path) -> None:
        """Write a CF 1.8 netCDF file, as `polarcast predict` does; an existing file is replaced in one step.

        Raises:
            BadInput: a variable is larger than the format holds, or the path can't be written.
        """
        write_netcdf(_prepared(path), self.dataset)

    def to_png(self, path: str | Path) -> None:
        """Draw the forecast into a PNG file; an existing file is replaced in one step.

        Raises:
            BadInput: the path can't be written.
        """
        write_bytes(_prepared(path), self.draw())


def _prepared(path: str | Path) -> Path:
    """Return the path of an output whose folder exists. Raises BadInput if it can't be written."""
    output = checked_output(path_of(path, "path"))
    output.parent.mkdir(parents=True, exist_ok=True)
    return output
