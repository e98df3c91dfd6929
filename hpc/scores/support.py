"""Support of scores: the number of pixels that a value rests on, and the reason why a value is undefined.

Sums have the shape (…, *uses, columns) that a metric takes.
"""

from collections.abc import Callable, Iterator

import numpy as np

from polarcast.hpc.scores import continuous
from polarcast.hpc.scores.ratios import Array

_COUNTS = ("contingency", "pooled", "multi_event", "by_change", "paper_csi")
_NEED_RAIN = ("paper_mre", "paper_rbias", "ne", "nb", "kge")
_NEED_VARIANCE = ("cc", "explained_variance", "kge", "msess")
_NEED_FORECAST_VARIANCE = ("cc", "kge")
_EMPTY = "nothing observed"

Checks = Iterator[tuple[bool, str]]
"""Conditions under which a value is undefined, with the reason; the first one that holds is given."""


def pixels(family: str, sums: Array, uses: int = 0) -> Array:
    """Return the number of pixels that a score rests on, (…).

    - Contingency tables and probabilities: pixels (or blocks) of observed events.
    - Moments: scored pixels of the class.
    - CRPS, spread, ranks, quantiles and histograms: scored pixels (or blocks).
    - SSIM: windows of which every pixel is observed.
    - NaN for fractions, spectra and SAL, whose sums do not count pixels.

    Args:
        family: Name of the family.
        sums: Its sums, (…, *uses, columns).
        uses: Number of axes that the metric uses.
    """
    if family in _COUNTS:
        return sums[..., 0] + sums[..., 1]
    if family in ("probability", "histogram"):
        return sums[..., 1].sum(-1)
    if family == "ranks":
        return sums[..., 0].sum(-1)
    if family in ("fractions", "spectrum", "sal"):
        return np.full(sums.shape[: sums.ndim - 1 - uses], np.nan)
    return sums[..., 0]


def reason(name: str, family: str, sums: Array, event: str, within: str) -> str:
    """Return why a score of pooled sums is undefined, in a few words.

    Args:
        name: Name of the metric.
        family: Name of its family.
        sums: Pooled sums, (*uses, columns).
        event: Threshold of an event in words, such as `≥ 50 mm/h`.
        within: Subset of the pixels in words, such as `pixel of the class`; empty for all.
    """
    checks = _CHECKS.get(family, _no_pixels)
    found = (why for undefined, why in checks(name, sums, event) if undefined)
    why = next(found, "undefined")
    return f"no {within}" if why == _EMPTY and within else why


def _no_pixels(name: str, sums: Array, event: str) -> Checks:
    yield not sums[..., 0].sum(), _EMPTY
    yield name == "spread_skill", "the ensemble mean has no error"


def _by_moments(name: str, sums: Array, event: str) -> Checks:
    n, observed, forecast, _, _, observed_squares, forecast_squares, _ = sums
    yield n == 0, _EMPTY
    yield name in _NEED_RAIN and observed <= 0, "the observations do not add up to more than 0"
    if name in _NEED_VARIANCE:
        yield bool(continuous.is_constant(n, observed, observed_squares)), "the observation is constant"
    if name in _NEED_FORECAST_VARIANCE:
        yield bool(continuous.is_constant(n, forecast, forecast_squares)), "the forecast is constant"


def _by_counts(name: str, sums: Array, event: str) -> Checks:
    hits, misses, false_alarms, correct_negatives = sums
    observed, forecast = hits + misses == 0, hits + false_alarms == 0
    yield not sums.sum(), _EMPTY
    yield observed and forecast and name in ("csi", "paper_csi", "ets", "hss"), f"no event {event}".rstrip()
    yield observed and name in ("pod", "bias", "hk", "sedi"), f"no observed event {event}".rstrip()
    yield forecast and name in ("far", "sedi"), f"no forecast event {event}".rstrip()
    yield false_alarms + correct_negatives == 0, f"every pixel is an observed event {event}".rstrip()
    yield name == "sedi", "a hit rate or false alarm rate of 0 or 1"


def _by_fractions(name: str, sums: Array, event: str) -> Checks:
    yield True, f"no event {event}"


def _by_structure(name: str, sums: Array, event: str) -> Checks:
    yield True, {"sal_l": "rain in forecast and observation in no field"}.get(name, "no rain")


def _by_power(name: str, sums: Array, event: str) -> Checks:
    yield not sums[..., 1].sum(), _EMPTY if name != "power" else "the observation has no power at this scale"
    yield True, "the observation is constant"


def _by_histogram(name: str, sums: Array, event: str) -> Checks:
    yield True, _EMPTY


def _by_probability(name: str, sums: Array, event: str) -> Checks:
    pixels, events = sums.sum(0)
    yield pixels == 0, _EMPTY
    yield events == 0, f"no observed event {event}"
    yield events == pixels, f"every pixel is an observed event {event}"


_CHECKS: dict[str, Callable[[str, Array, str], Checks]] = {
    "continuous": _by_moments,
    **dict.fromkeys(_COUNTS, _by_counts),
    "fractions": _by_fractions,
    "sal": _by_structure,
    "spectrum": _by_power,
    "histogram": _by_histogram,
    "probability": _by_probability,
}
