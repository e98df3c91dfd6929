"""Find codes for missing data that a file does not declare, inside the bounds of what radars measure.

A code is one exact value that many gates have, apart from the distribution of all others. A file that does not declare
its code of −99 would otherwise be read with a KDP of −99°/km, or a phase that jumps at the edge of every echo.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.floating]
USUAL = (-99.0, -99.9, -99.99, -99.999, -98.0, -90.0, 99.0, 99.9, 99.99,
         -999.0, -999.9, -999.99, -900.0, -1000.0, 999.0, 999.9, 999.99, 1000.0, -9999.0, 9999.0, -32768.0)  # fmt: skip
"""Codes that programs write for missing data. Most of the last ones are beyond the bounds of every field."""
_FEWEST = 10
"""Fewer gates may have one value by chance."""
_SHARE = 0.005
"""Least share of a code that is not a usual one."""
_OVER_NEIGHBOURS = 20.0
"""A code is so many times as frequent as a value near it: a phase of −99° is one of 1024 equal ones."""
_OTHERS = 10
"""Least number of different other values: a measured field, and not one of a few constants."""
_ROUNDING = 5e-3


@dataclass(frozen=True)
class _Kind:
    """What is known of the values of a field.

    Attributes:
        measured: Values that radars measure; a usual code in between is none.
        gap: Distance of a code from all other values.
        low, high: A code that is not a usual one is at most `low`, or at least `high`.
    """

    measured: tuple[float, float]
    gap: float
    low: float
    high: float


_KINDS = {
    "zh": _Kind((-50.0, 80.0), 10.0, -50.0, 80.0),
    "zdr": _Kind((-12.0, 15.0), 3.0, -9.0, 12.0),
    "kdp": _Kind((-30.0, 40.0), 10.0, -20.0, 40.0),
    "phidp": _Kind((0.0, 540.0), 15.0, 0.0, 720.0),
    "rhohv": _Kind((0.0, 1.1), 0.1, -0.1, 1.2),
    "rain": _Kind((0.0, 90.0), 50.0, -1.0, 150.0),
}


def undeclared_code(values: Real, name: str) -> float | None:
    """Return a value that is a code for missing data; None if there is none.

    Call it again without that value for a second code. Compare values with the code exactly, in their own type.

    Args:
        values: Of any shape, in dBZ, dB, degrees/km, degrees or mm/h; NaN or ±inf where missing.
        name: zh, zdr, kdp, phidp, rhohv or rain.
    """
    finite, kind = values[np.isfinite(values)], _KINDS[name]
    if finite.size < _FEWEST:
        return None
    least, most = float(finite.min()), float(finite.max())
    for usual in USUAL:
        if least - _ROUNDING <= usual <= most + _ROUNDING and not kind.measured[0] <= usual <= kind.measured[1]:
            code = _value_near(finite, usual)
            if code is not None and _is_repeated(finite, code, kind):
                return code
    for end in (least, most):
        if (end <= kind.low or end >= kind.high) and _is_apart(finite, end, kind.gap):
            return end
    return None


def without_codes(values: Real, name: str) -> tuple[Real, dict[float, int]]:
    """Return the values with NaN in place of codes, and the number of each code; see `undeclared_code`."""
    counts: dict[float, int] = {}
    while (code := undeclared_code(values, name)) is not None:
        is_code = values == values.dtype.type(code)
        counts[code] = int(is_code.sum())
        values = np.where(is_code, values.dtype.type(np.nan), values)
    return values, counts


def _value_near(finite: Real, usual: float) -> float | None:
    """Return the most central of the values that are a usual code within rounding, as packing leaves it."""
    near = np.sort(finite[np.abs(finite - usual) < _ROUNDING])
    return float(near[len(near) // 2]) if len(near) else None


def _is_repeated(finite: Real, code: float, kind: _Kind) -> bool:
    """Whether many values are the code, and far fewer each value near it."""
    is_code = finite == code
    count = int(is_code.sum())
    if count < _FEWEST:
        return False
    near = finite[(np.abs(finite - code) <= kind.gap) & ~is_code]
    return not near.size or bool(count >= _OVER_NEIGHBOURS * near.size / len(np.unique(near)))


def _is_apart(finite: Real, code: float, gap: float) -> bool:
    """Whether a good share of the values are the code, and no other is near it."""
    is_code = finite == code
    others = finite[~is_code]
    if is_code.sum() < max(_FEWEST, _SHARE * finite.size) or not others.size:
        return False
    is_alone = bool(np.abs(others - code).min() >= gap)
    return is_alone and len(np.unique(others[: 10 * _FEWEST * _OTHERS])) >= _OTHERS
