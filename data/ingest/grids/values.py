"""Decode stored values of gridded sequences to dBZ, dB, deg/km and mm/h; what no radar measures is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput, shown
from polarcast.data.ingest import codes
from polarcast.data.ingest.cf_values import decoded, equals_code, is_undetected
from polarcast.data.ingest.event import Field
from polarcast.data.ingest.grids.settings import MISSING, GridSettings
from polarcast.data.ingest.grids.tiles import NO_ECHO
from polarcast.data.ingest.grids.units import RAIN, quantity_of
from polarcast.data.ingest.volumes.units import BOUNDS as POLAR_BOUNDS
from polarcast.data.ingest.volumes.units import convert_of

_NO_DATA, _IS_NO_ECHO = MISSING
BOUNDS = {**{name: POLAR_BOUNDS[name] for name in ("zh", "zdr", "kdp")}, RAIN: (0.0, 1000.0)}
"""Least and largest value of each variable; what lies beyond is a code for missing data that the file does not declare.
The largest rain of a minute on record is 31 mm, 1,870 mm/h; of five minutes and a pixel of 1 km, less than 1000."""
_ROUNDING = 0.01
"""Negative rain in mm/h that is a rounding error of packing, and none."""
_LARGE_SHARE, _NEAR, _MOST_NEAR = 0.05, 0.1, 0.1
_HARDLY_RAIN = {"zh": 70.0, RAIN: 200.0}
"""Values above fill no twentieth of a frame: hail of 70 dBZ is a few kilometres wide."""


@dataclass(frozen=True)
class Decoding:
    """How the stored values of a variable are read.

    Attributes:
        variable: zh, zdr, kdp or rain_rate.
        attributes: CF attributes: packing, codes for missing data, valid range.
        units: Units as in the file, or as given.
        factor: Factor to mm/h of rain.
        no_echo: Stored codes of pixels that were observed and have no echo, besides those of the attributes.
        missing: What missing values mean, `no-data` or `no-echo`.
    """

    variable: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    units: str = ""
    factor: float = 1.0
    no_echo: tuple[Any, ...] = ()
    missing: str = _NO_DATA

    def decode(self, stored: npt.NDArray[Any]) -> tuple[Field, int]:
        """Return the values, and how many were no measurement: beyond `BOUNDS`, or an undeclared code of ZDR or KDP.

        NaN is no data; −inf dBZ and 0 mm/h are no echo.
        """
        least, most = BOUNDS[self.variable]
        values = self._in_archive_units(decoded(stored, self.attributes))
        found: dict[float, int] = {}
        if self.variable in ("zdr", "kdp"):
            values, found = codes.without_codes(values, self.variable)
        if self.variable == RAIN:
            values = np.where((values < 0) & (values > -_ROUNDING), 0.0, values)
        if self.variable in ("zh", RAIN):
            values = self._with_no_echo(values, stored)
        with np.errstate(invalid="ignore"):
            is_low = (values < least) & ~((self.variable == "zh") & np.isneginf(values))
            beyond = is_low | (values > most)
            is_missing = np.isnan(values) | is_low
        values = np.where(beyond, np.nan, values)
        if self.missing == _IS_NO_ECHO and self.variable in ("zh", RAIN):
            values = np.where(is_missing, self._nothing, values)
        return values.astype(np.float32), int(beyond.sum()) + sum(found.values())

    @property
    def _nothing(self) -> float:
        return 0.0 if self.variable == RAIN else float(NO_ECHO)

    def _in_archive_units(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values * self.factor if self.variable == RAIN else convert_of(self.variable, self.units)(values)

    def _with_no_echo(self, values: npt.NDArray[Any], stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        for code in self.no_echo:
            values = np.where(equals_code(stored, code), self._nothing, values)
        return np.where(is_undetected(stored, self.attributes), self._nothing, values)


def decoding_of(
    variable: str,
    units: str,
    attributes: Mapping[str, Any],
    settings: GridSettings,
    path: Path,
    *,
    named_rain: bool = False,
    no_echo: tuple[Any, ...] = (),
) -> tuple[Decoding, str]:
    """Return how a variable is read, and its units: those of the file, or of the settings.

    Args:
        variable: zh, zdr, kdp or rain_rate; empty for zh or rain_rate by the units.
        units: Units in the file.
        attributes: CF attributes of the variable.
        settings: Overrides of units and packing.
        path: File for error messages.
        named_rain: Whether the variable has a name of rain.
        no_echo: Stored codes of pixels without echo.

    Raises:
        BadInput: The units are missing or unknown.
    """
    changed, is_main = dict(attributes), variable not in ("zdr", "kdp")
    if settings.nodata is not None:
        changed["missing_value"] = settings.nodata
    if is_main:
        units = settings.units or units
        given = {"scale_factor": settings.scale, "add_offset": settings.offset}
        changed.update({name: value for name, value in given.items() if value is not None})
    factor = 1.0
    if variable in ("zh", "zdr", "kdp"):
        convert_of(variable, units, path)
    else:
        quantity, factor = quantity_of(units, path, named_rain=named_rain)
        if variable and quantity != variable:
            raise BadInput(f"rain in units {shown(units)}", path, "give the units: --units mm/h")
        variable = quantity
    return Decoding(variable, changed, units, factor, no_echo, settings.missing), units


def undeclared_code(stored: npt.NDArray[Any], decoding: Decoding) -> float | None:
    """Return the stored code that looks like missing data and is not declared as such; None if there is none.

    It is the largest value, fills more than 5% of the frame, and few pixels have the values just below it. It is also
    one of the last codes of its type (255 of a byte), or more than rain can be over such an area. Or it is a strong
    echo or rain that `codes.undeclared_code` knows; low reflectivity is no echo, and codes of ZDR and KDP are no data.

    Args:
        stored: (y, x) of a whole frame.
        decoding: How it is read.
    """
    values, _ = decoding.decode(stored)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    top, bottom = float(finite.max()), float(finite.min())
    is_top = values == np.float32(top)
    share = is_top.mean()
    near = ((values < top) & (values > top - _NEAR * (top - bottom))).mean()
    code = stored[is_top][0]
    is_last = stored.dtype.kind in "iu" and int(code) >= np.iinfo(stored.dtype).max - 2
    is_unlike_rain = top >= _HARDLY_RAIN.get(decoding.variable, np.inf)
    if share > _LARGE_SHARE and near <= _MOST_NEAR * share and (is_last or is_unlike_rain):
        return float(code)
    known = {"zh": "zh", RAIN: "rain"}.get(decoding.variable)
    found = codes.undeclared_code(finite[finite > 0], known) if known else None
    return None if found is None else float(stored[values == np.float32(found)][0])
