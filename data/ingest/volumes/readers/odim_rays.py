"""Angles, ranges and times of the rays of an ODIM sweep, in all the ways in which the model gives them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.odim import attributes_of, clock, number_of, text_of

Angles = npt.NDArray[np.float64]
_EARLIEST_S = 3.2e8
"""1980: earlier times of rays are counted from the start of the scan, or not set."""
_NOT_PPI = (
    "RHI", "ELEV", "XSEC", "VP", "RAY", "CAPPI", "PCAPPI", "ETOP", "EBASE", "MAX", "VIL", "SURF", "COMP", "VSP", "HSP",
    "QUAL",
)  # fmt: skip
"""Products (ODIM 2.4, table 15) that are no sweep in azimuth."""
_STEEP_SWEEP_DEG = 5.0
"""No sweep in azimuth changes its elevation so much."""
_BIRDBATH_DEG = 85.0
_FARTHEST_START_KM, _LEAST_START_M = 20.0, 100.0
_LEAST_SPACING_M = 10.0


def azimuths_of(angles: Mapping[str, Any], rays: int) -> npt.NDArray[np.float32]:
    """Return the azimuth of the centre of each ray, by the most exact of the ways in which the file gives them.

    Start and stop angles give the middle of the arc between them, whichever way the antenna turns. Otherwise rays are
    even, from `how/astart` (ODIM 2.2, table 8), from `where/startaz` to `stopaz`, or from north.

    Args:
        angles: Attributes of `where` and `how`.
        rays: Number of rays.

    Raises:
        BadInput: There are angles of the rays in a form that is not known.
    """
    starts, stops = (_per_ray(angles.get(name), rays) for name in ("startazA", "stopazA"))
    if starts is None and "azangles" in angles:
        starts, stops = _pairs(text_of(angles["azangles"]), rays)
    if starts is not None:
        arcs = _arcs_to_next(starts) if stops is None else _arc(starts, stops)
        return np.mod(starts + arcs / 2, 360).astype(np.float32)
    if unread := next((name for name in ("startazA", "stopazA", "azangles") if name in angles), None):
        raise BadInput(f"angles of the rays in a form that is not known (how/{unread})", fix="write one for each ray")
    first, turn = number_of(angles, "astart"), 360.0
    if first is None:
        start, stop = (number_of(angles, name) for name in ("startaz", "stopaz"))
        first = start if start is not None and stop is not None else 0.0
        turn = (stop - first) % 360 or 360.0 if start is not None and stop is not None else turn
    return np.mod(first + (np.arange(rays) + 0.5) * turn / rays, 360).astype(np.float32)


def _pairs(text: str, rays: int) -> tuple[Angles | None, Angles | None]:
    """Return start and stop angles of `0:1,1:2,…` (ODIM 2.0), (a,) each; None if there is not one pair for each ray."""
    pairs = [pair.partition(":")[::2] for pair in text.split(",") if pair.strip()]
    starts, stops = (_per_ray(",".join(pair[side] for pair in pairs), rays) for side in (0, 1))
    return (None, None) if starts is None or stops is None else (starts, stops)


def _arc(starts: Angles, stops: Angles) -> Angles:
    """Return the shortest arc from starts to stops in degrees, −180 to 180."""
    return (stops - starts + 180) % 360 - 180


def _arcs_to_next(starts: Angles) -> Angles:
    """Return the arc (a,) from the start of each ray to that of the next one; the usual one where rays are missing."""
    arcs = _arc(starts, np.roll(starts, -1))
    known = np.sort(np.mod(starts[np.isfinite(starts)], 360))
    if len(known) < 2:
        return np.zeros_like(starts)
    size, turned = float(np.median(np.diff(known))), float(np.nanmedian(arcs))
    usual = -size if -1.5 * size <= turned < 0 else size
    return np.where(np.abs(arcs - usual) <= size / 2, arcs, usual)


def elevations_of(where: Mapping[str, Any], how: Mapping[str, Any], rays: int) -> npt.NDArray[np.float32]:
    """Return the elevation (a,) of each ray in degrees; NaN if the file has none."""
    starts, stops = (_per_ray(how.get(name), rays) for name in ("startelA", "stopelA"))
    each = (starts + stops) / 2 if starts is not None and stops is not None else _per_ray(how.get("elangles"), rays)
    fixed = number_of(where, "elangle")
    fixed = np.nan if fixed is None else fixed
    return np.full(rays, fixed, np.float32) if each is None else np.where(np.isfinite(each), each, fixed).astype("f4")


def _per_ray(values: Any, rays: int) -> Angles | None:
    """Return an attribute with one number a ray, or a text of numbers with commas; None if it has another form."""
    array = np.ravel(np.asarray("" if values is None else values))
    if array.dtype.kind not in "fiu":
        texts = text_of(values).rstrip(",").split(",") if len(array) == 1 else [text_of(value) for value in array]
        try:
            array = np.array([float(text) for text in texts])
        except ValueError:
            return None
    return array.astype(np.float64) if len(array) == rays else None


def ranges_of(file: Any, where: Mapping[str, Any], gates: int) -> npt.NDArray[np.float32]:
    """Return the centres of the gates (r,) in metres; NaN if the file does not tell their spacing.

    `rstart` is in km, and in m since ODIM 2.4. Some programs write m in older files: more than 100 can't be km.

    Raises:
        BadInput: The unit of `rstart` or `rscale` is not clear.
    """
    version = text_of(file.attrs.get("Conventions")) + text_of(attributes_of(file, "what").get("version"))
    start, spacing = number_of(where, "rstart") or 0.0, number_of(where, "rscale")
    if spacing is None or not np.isfinite([start, spacing]).all():
        return np.full(gates, np.nan, np.float32)
    if spacing < _LEAST_SPACING_M:
        raise BadInput(f"gates {spacing:g} m apart (where/rscale)", fix="write their spacing in metres")
    if not ("2_4" in version or "2.4" in version or start >= _LEAST_START_M):
        if start > _FARTHEST_START_KM:
            raise BadInput(f"gates from {start:g} km or m on (where/rstart)", fix="write km up to ODIM 2.3, m in 2.4")
        start *= 1000
    return (start + (np.arange(gates) + 0.5) * spacing).astype(np.float32)


def times_of(file: Any, what: Mapping[str, Any], how: Mapping[str, Any], rays: int) -> npt.NDArray[np.datetime64]:
    """Return the time (a,) of each ray: of the rays if the file has it, else of the scan, else of the file."""
    starts, stops = (_per_ray(how.get(name), rays) for name in ("startazT", "stopazT"))
    if starts is not None:
        middle = starts if stops is None else (starts + stops) / 2
        known = np.isfinite(middle) & (middle > _EARLIEST_S) & (middle < 1e11)
        out = np.full(rays, np.datetime64("NaT"), "datetime64[ms]")
        out[known] = np.rint(middle[known] * 1000).astype(np.int64).astype("datetime64[ms]")
        if known.any():
            return out
    root = attributes_of(file, "what")
    at = clock(what.get("startdate"), what.get("starttime"))
    return np.full(rays, clock(root.get("date"), root.get("time")) if np.isnat(at) else at)


def mode_of(
    what: Mapping[str, Any], where: Mapping[str, Any], how: Mapping[str, Any], elevation: npt.NDArray[np.float32]
) -> str:
    """Return the scan mode: as the product, the scan or its azimuth tells it, or as the elevations (a,) do."""
    product, scan = text_of(what.get("product")).upper(), text_of(how.get("scan_mode")).lower()
    if product in _NOT_PPI:
        return "rhi" if product == "ELEV" else product.lower()
    if "rhi" in scan or "az_angle" in where or "azangle" in where or _spread(elevation) > _STEEP_SWEEP_DEG:
        return "rhi"
    known = elevation[np.isfinite(elevation)]
    return "vertical_pointing" if len(known) and np.median(known) > _BIRDBATH_DEG else "azimuth_surveillance"


def _spread(elevation: npt.NDArray[np.float32]) -> float:
    """Return how far the elevations of most rays lie apart; the antenna may move at either end of a sweep."""
    known = elevation[np.isfinite(elevation)]
    low, high = np.quantile(known, (0.1, 0.9)) if len(known) else (0.0, 0.0)
    return float(high - low)
