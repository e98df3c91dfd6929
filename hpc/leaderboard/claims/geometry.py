"""Recognise exchanged or flipped axes, and heights in another order."""

import math
from collections.abc import Iterator
from itertools import permutations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from polarcast.hpc.leaderboard.claims.signs import Change, ClaimSample, Fields, Sign, squared_error, unchanged

_LEAST_CORRELATION, _LEAST_GAIN, _LEAST_SHARE = 0.35, 0.15, 0.8
"""Rank correlation after the change, its gain, and the share of windows with a gain, on observation and input alike."""
_FEW, _LEAST_OF_FEW, _GAIN_OF_FEW = 3, 0.55, 0.3
"""Below so many windows, chance is larger, and more is asked for."""
_MOST_HEIGHTS, _MOST_RATIO, _MOST_PRODUCT = 5, 0.9, 0.5
"""Ratio of the squared error in another order to that in the given one, to observation and input; and their product."""

ORIENTATIONS: dict[str, tuple[str, str, Change]] = {
    "transposed": ("axes y and x transposed", "exchange the last two axes", lambda f: f.swapaxes(-1, -2)),
    "flipped-y": ("flipped in y", "reverse the axis y: row 0 is that of the shards", lambda f: f[..., ::-1, :]),
    "flipped-x": ("flipped in x", "reverse the axis x", lambda f: f[..., ::-1]),
    "rotated-180": ("flipped in y and x", "reverse the axes y and x", lambda f: f[..., ::-1, ::-1]),
    "rotated-90": ("turned by 90°", "exchange the last two axes, then reverse y",
                   lambda f: f.swapaxes(-1, -2)[..., ::-1, :]),
    "rotated-270": ("turned by 270°", "exchange the last two axes, then reverse x",
                    lambda f: f.swapaxes(-1, -2)[..., ::-1]),
    "antitransposed": ("axes transposed and both flipped", "reverse y and x, then exchange them",
                       lambda f: f[..., ::-1, ::-1].swapaxes(-1, -2)),
}  # fmt: skip
"""Name → what it is called, how to mend it, and the function that does."""


def find_orientation(sample: ClaimSample) -> Sign | None:
    """Return the sign that the fields lie otherwise than those of the shards; None if they do not.

    Ranks are compared, so that the scale of the values plays no part. The change must bring the forecast closer to what
    is observed and to what it was made from: one of them may fit by chance, where a storm happens to move so.
    """
    forecast, observed, cue = sample.forecast[:, 0, 0], sample.observed[:, 0, 0], sample.cue[:, 0]
    chosen = [n for n in range(len(forecast)) if _has_pattern(forecast[n]) and sample.echo[n, 0, 0].mean() > 0.005]
    if not chosen:
        return None
    ranks = _ranks(np.nan_to_num(forecast[chosen], nan=0, posinf=0, neginf=0))
    targets = [_masked_ranks(fields[chosen]) for fields in (observed, cue)]
    given = np.array([_correlations(ranks, target) for target in targets])  # (2, n)
    best: tuple[float, str, npt.NDArray[np.float64]] = (-1.0, "", given)
    for name, (_, _, change) in ORIENTATIONS.items():
        if (moved := change(ranks)).shape == ranks.shape:
            found = np.array([_correlations(moved, target) for target in targets])
            best = max(best, (float(found.mean()), name, found), key=lambda one: one[0])
    _, name, found = best
    if not name or not _is_clear(given, found):
        return None
    title, fix, change = ORIENTATIONS[name]
    evidence = (
        f"rank correlation with the observation {given[0].mean():.2f} as given, {found[0].mean():.2f} if undone; "
        f"with the {'last input frame' if sample.is_nowcast else 'reflectivity'} {given[1].mean():.2f}, "
        f"{found[1].mean():.2f} ({len(chosen)} windows)"
    )
    return Sign(name, title, evidence, fix, lambda fields: np.ascontiguousarray(change(fields)))


def _is_clear(given: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> bool:
    gain = found - given
    is_few = given.shape[1] < _FEW
    least, least_gain = (_LEAST_OF_FEW, _GAIN_OF_FEW) if is_few else (_LEAST_CORRELATION, _LEAST_GAIN)
    is_better = found.mean(1).min() >= least and gain.mean(1).min() >= least_gain
    return bool(is_better and (gain.mean(0) > 0).mean() >= _LEAST_SHARE)


def best_correlation(sample: ClaimSample, change: Change = unchanged) -> float:
    """Return the mean rank correlation of the first lead time with the observation; 0 where nothing varies."""
    forecast, observed = change(sample.forecast)[:, 0, 0], sample.observed[:, 0, 0]
    chosen = [n for n in range(len(forecast)) if _has_pattern(forecast[n]) and sample.echo[n, 0, 0].any()]
    if not chosen:
        return 0.0
    ranks = _ranks(np.nan_to_num(forecast[chosen], nan=0, posinf=0, neginf=0))
    return float(_correlations(ranks, _masked_ranks(observed[chosen])).mean())


def _has_pattern(field: Fields) -> bool:
    return bool(np.nanstd(np.where(np.isfinite(field), field, np.nan)) > 0) if np.isfinite(field).any() else False


def _ranks(fields: Fields) -> npt.NDArray[np.float64]:
    ranks: npt.NDArray[np.float64] = rankdata(fields.reshape(len(fields), -1), axis=1).reshape(fields.shape)
    return ranks


def _masked_ranks(fields: Fields) -> npt.NDArray[np.float64]:
    """Return ranks of each field (n, y, x), NaN where it is NaN."""
    return np.where(np.isnan(fields), np.nan, _ranks(np.nan_to_num(fields, nan=0)))


def _correlations(first: Fields, second: Fields) -> npt.NDArray[np.float64]:
    """Correlate each pair of fields (n, y, x) where the second is known, (n,); 0 where one does not vary."""
    known = ~np.isnan(second)
    one, two = (np.where(known, field, np.nan).reshape(len(field), -1) for field in (first, second))
    one, two = (field - np.nanmean(field, 1, keepdims=True) for field in (one, two))
    size = np.sqrt(np.nansum(one**2, 1) * np.nansum(two**2, 1))
    product = np.nansum(one * two, 1)
    return np.divide(product, size, out=np.zeros_like(product), where=size > 0)


def find_heights(sample: ClaimSample) -> Sign | None:
    """Return the sign that the heights are in another order; None if they are not, or there is one.

    The order must fit the observation and the last input frame much better than the given one.
    """
    levels = sample.forecast.shape[2]
    if not 2 <= levels <= _MOST_HEIGHTS:
        return None
    ratios = {order: _ratios(sample, order) for order in _orders(levels)}
    order = min(ratios, key=lambda one: math.prod(ratios[one]))
    if not (max(ratios[order]) < _MOST_RATIO and math.prod(ratios[order]) < _MOST_PRODUCT):
        return None
    evidence = (
        f"with z in the order {', '.join(str(1 + z) for z in order)} of the given one, the squared error falls to "
        f"{ratios[order][0]:.0%}, the difference from the last input frame to {ratios[order][1]:.0%}"
    )
    take = list(order)
    return Sign(
        "heights-reordered", "heights in another order", evidence,
        "sort the axis z by height, as the shards or --heights list them", lambda fields: fields[..., take, :, :],
    )  # fmt: skip


def _orders(levels: int) -> Iterator[tuple[int, ...]]:
    return (order for order in permutations(range(levels)) if order != tuple(range(levels)))


def _ratios(sample: ClaimSample, order: tuple[int, ...]) -> tuple[float, float]:
    """Return the squared error of another order over that of the given one, to observation and last input frame."""
    first, found = sample.forecast[:, 0], []
    for target in (sample.observed[:, 0], sample.cue):
        given, other = (np.nanmean(squared_error(fields, target)) for fields in (first, first[:, list(order)]))
        found.append(float(other / given) if given > 0 else np.inf)
    return found[0], found[1]
