"""Separate the error of an estimate from that of the gauge, which is a point and not the mean over a pixel.

Var(estimate − gauge) = Var(estimate − true mean over the pixel) + Var(true mean − gauge), if both errors are
uncorrelated (Ciach & Krajewski 1999, Adv. Water Resour. 22, 585–595). The second term is the variance of the gauges
times a factor that follows from the spatial correlation of rain (`data.gauges.correlation`). A bias of all gauges, such
as wind loss, is no part of it: it is the same for gauge and correlation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import numpy as np

from polarcast.data.gauges.correlation import Correlation, area_point_factor, factors
from polarcast.data.gauges.gauge import Real
from polarcast.data.gauges.places import distances_km
from polarcast.hpc.evaluation.gauges.pairs import MODES, PIXEL, Pairs
from polarcast.hpc.evaluation.gauges.patches import Mask, Numbers
from polarcast.hpc.evaluation.gauges.two_way import NONE, Crossed, crossed_interval
from polarcast.hpc.scores.ratios import Array, logarithm, quotient
from polarcast.hpc.scores.stats.bootstrap import LEVEL, Interval

FEWEST_PAIRS, FEWEST_COMMON = 10, 20
"""Pairs of gauges, and common intervals of each, that a correlation is estimated from."""
NEAR_PIXELS = 5.0
"""Distance of the nearest pair of gauges, in pixels, beyond which the correlation within a pixel is a guess."""
_KM, _SHAPES = np.geomspace(0.5, 300.0, 25), np.linspace(0.3, 2.0, 9)
_REFINED, _HALVINGS = np.linspace(-1, 1, 5), 5
_LEAST_NUGGET = 0.01


@dataclass(frozen=True)
class ReferenceError:
    """Error of an estimate at the pixel, with and without that of the gauges.

    Attributes:
        rmse: Root mean square of estimate − gauge in mm.
        of_estimate: Root mean square of estimate − true mean over the pixel in mm, with its interval; NaN if it can't
            be estimated.
        of_gauge: Root mean square of true mean − gauge in mm; NaN likewise.
        correlation: Correlation of rain that it rests on.
        source: Where the correlation is from.
        over: Groups that the interval is over.
        why_not: Why it is not estimated; empty if it is.
    """

    rmse: float
    of_estimate: Interval
    of_gauge: float = math.nan
    correlation: Correlation | None = None
    source: str = ""
    over: str = NONE
    why_not: str = ""


@dataclass(frozen=True)
class _Fitted:
    """Variance factors with all groups, and without each day and each station; see `_factors`."""

    whole: float
    without_day: Real
    without_station: Real
    correlation: Correlation
    source: str


def separate(
    pairs: Pairs,
    estimators: Sequence[str],
    spacing_km: float,
    given: Correlation | None = None,
    draws: int | None = None,
) -> dict[str, ReferenceError]:
    """Separate the error of each estimator at the pixel from that of the gauges.

    The interval is that of `two_way`, made on the logarithm as for other errors. If the correlation is estimated, it is
    widened by what refits without each day and each station add to the variance (a jackknife).

    Args:
        pairs: Pairs of one length of interval.
        estimators: Names; the mean over the seeds of the squared error counts.
        spacing_km: Side of a pixel.
        given: Correlation, if it is known; None to estimate it from the gauges.
        draws: Number of resamples; `two_way.DRAWS` by default.
    """
    groups = Crossed.of(pairs)
    fitted = _fitted(pairs, groups, spacing_km, given)
    out = {}
    for name in estimators:
        square = np.square(pairs.estimates[name][:, MODES.index(PIXEL)] - pairs.gauge)
        rmse = math.sqrt(float(square.mean()))
        if isinstance(fitted, str):
            out[name] = ReferenceError(rmse, Interval(math.nan), why_not=fitted)
        else:
            out[name] = _separated(pairs.gauge, square, groups, fitted, rmse, draws)
    return out


def _separated(
    gauge: Real, square: Real, groups: Crossed, fitted: _Fitted, rmse: float, draws: int | None
) -> ReferenceError:
    """Separate the mean of squared errors by seed and pair, (k, p)."""
    of_gauge = math.sqrt(max(0.0, fitted.whole * float(gauge.var())))
    found = float(square.mean()) - of_gauge**2
    told = partial(ReferenceError, rmse, of_gauge=of_gauge, correlation=fitted.correlation, source=fitted.source)
    if found <= 0:
        why = f"the gauges' error, {of_gauge:.3g} mm, is not below the RMSE against gauges, {rmse:.3g} mm"
        return told(of_estimate=Interval(math.nan), why_not=why)
    terms = np.stack(np.broadcast_arrays(np.ones_like(gauge), gauge, gauge**2, square), -1)
    made = crossed_interval([terms], partial(_log_of_root, fitted.whole), groups, draws)
    value, error = math.sqrt(found), made.interval.error
    if not math.isfinite(error):
        return told(of_estimate=Interval(value), over=made.over)
    added = _added_variance(gauge, square.mean(0), groups, fitted) / (2 * found) ** 2
    error = math.hypot(error, math.sqrt(added))
    half = min(NormalDist().inv_cdf((1 + LEVEL) / 2) * error, 50.0)
    return told(of_estimate=Interval(value, value * math.exp(-half), value * math.exp(half), error), over=made.over)


def _log_of_root(factor: float, sums: Array) -> Array:
    """Return the logarithm of the root mean square error of an estimate, from sums of 1, g, g² and (r − g)²."""
    n, g, gg, square = (sums[..., i] for i in range(4))
    return logarithm(quotient(square, n) - factor * (quotient(gg, n) - quotient(g, n) ** 2)) / 2


def _added_variance(gauge: Real, square: Real, groups: Crossed, fitted: _Fitted) -> float:
    """Return how much the variance of the mean square grows because the correlation is estimated."""
    grown = 0.0
    for index, factor in ((groups.day, fitted.without_day), (groups.station, fitted.without_station)):
        if len(factor) > 1:
            fixed = np.full(len(factor), fitted.whole)
            grown += max(0.0, *np.diff([_jackknife(gauge, square, index, f) for f in (fixed, factor)]).tolist())
    return grown


def _jackknife(gauge: Real, square: Real, index: Numbers, factor: Real) -> float:
    """Return the variance of the mean square over groups, each left out once, with the factors without them."""
    n, sums = np.bincount(index), [np.bincount(index, values) for values in (square, gauge, gauge**2)]
    left = len(gauge) - n
    mean_square, mean, mean_of_square = ((values.sum() - values) / left for values in sums)
    without = mean_square - factor * (mean_of_square - mean**2)
    g = len(n)
    return float((g - 1) / g * np.square(without - without.mean()).sum())


def _fitted(pairs: Pairs, groups: Crossed, spacing_km: float, given: Correlation | None) -> _Fitted | str:
    """Return the factors, or why there are none."""
    days, stations = groups.counts
    if given is not None:
        factor = area_point_factor(given, spacing_km)
        return _Fitted(factor, np.full(days, factor), np.full(stations, factor), given, "given")
    present = np.unique(pairs.station)
    apart = distances_km(*pairs.places[present].T)
    upper = np.triu_indices(len(present), 1)
    distance = apart[upper]
    sums = _pair_sums(pairs, groups, len(present))
    common, rho = _correlations(sums.sum(0)[None], upper)
    usable = (common[0] >= FEWEST_COMMON) & np.isfinite(rho[0]) & (distance > 0)
    if (number := int(usable.sum())) < FEWEST_PAIRS:
        return f"{number} pairs of gauges have {FEWEST_COMMON} common intervals, {FEWEST_PAIRS} are needed"
    if (nearest := float(distance[usable].min())) > NEAR_PIXELS * spacing_km:
        return f"the nearest gauges are {nearest:.1f} km apart, for pixels of {spacing_km:g} km"
    without = _correlations(sums.sum(0) - sums, upper)
    weights = np.concatenate([common, without[0], np.repeat(common, stations, 0)])[:, usable]
    values = np.concatenate([rho, without[1], np.repeat(rho, stations, 0)])[:, usable]
    for station in range(stations):
        has = (upper[0] == station) | (upper[1] == station)
        weights[1 + days + station, has[usable]] = 0
    km, shape, nugget = fit_correlations(values, weights / (distance[usable] + spacing_km) ** 2, distance[usable])
    all_factors = factors(km, shape, spacing_km, nugget)
    best = Correlation(float(km[0]), float(shape[0]), float(nugget[0]))
    source = f"{number} pairs of gauges, {nearest:.1f} km and more apart"
    return _Fitted(float(all_factors[0]), all_factors[1 : 1 + days], all_factors[1 + days :], best, source)


def _pair_sums(pairs: Pairs, groups: Crossed, stations: int) -> Real:
    """Return sums over the common intervals of two gauges by day, (days, 6, stations, stations).

    They are: number, first, second, first², second², first × second.
    """
    ends, time = np.unique(pairs.ends, return_inverse=True)
    day_of_time = np.zeros(len(ends), np.int64)
    day_of_time[time] = groups.day
    amounts, known = np.zeros((stations, len(ends))), np.zeros((stations, len(ends)))
    amounts[groups.station, time], known[groups.station, time] = pairs.gauge, 1.0
    out = np.empty((groups.counts[0], 6, stations, stations))
    for day in range(len(out)):
        g, m = amounts[:, day_of_time == day], known[:, day_of_time == day]
        first, squares = g @ m.T, g**2 @ m.T
        out[day] = np.stack([m @ m.T, first, first.T, squares, squares.T, g @ g.T])
    return out


def _correlations(sums: Real, upper: tuple[Numbers, Numbers]) -> tuple[Real, Real]:
    """Return the number of common intervals and the correlation of each pair, (b, pairs) each."""
    n, a, b, aa, bb, ab = (sums[:, i][:, upper[0], upper[1]] for i in range(6))
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = (aa / n - (a / n) ** 2) * (bb / n - (b / n) ** 2)
        rho = np.where(spread > 0, (ab / n - a * b / n**2) / np.sqrt(np.where(spread > 0, spread, 1)), np.nan)
    return n, rho


def fit_correlations(rho: Real, weights: Real, km: Real) -> tuple[Real, Real, Real]:
    """Fit c0 exp(−(d / d0)^s0) to correlations by weighted least squares, for several samples at once.

    The best d0 and s0 are found on a grid, which is refined around the best point of each sample; c0 follows from them.

    Args:
        rho: Correlations, (b, pairs); NaN counts with weight 0.
        weights: Weights, (b, pairs).
        km: Distances, (pairs,).

    Returns:
        d0, s0 and c0, (b,) each.
    """
    known: Mask = np.isfinite(rho)
    values, weight = np.where(known, rho, 0.0), np.where(known, weights, 0.0)
    scale, shape = (axis.ravel()[None] for axis in np.meshgrid(np.log(_KM), _SHAPES, indexing="ij"))
    steps = float(np.log(_KM[1] / _KM[0])), float(_SHAPES[1] - _SHAPES[0])
    best = _best(values, weight, km, scale, shape)
    dx, dy = (axis.ravel() for axis in np.meshgrid(_REFINED, _REFINED, indexing="ij"))
    for halving in range(_HALVINGS):
        wide = np.clip(best[0][:, None] + steps[0] / 2**halving * dx, np.log(_KM[0]), np.log(_KM[-1]))
        steep = np.clip(best[1][:, None] + steps[1] / 2**halving * dy, _SHAPES[0], _SHAPES[-1])
        best = _best(values, weight, km, wide, steep)
    return np.exp(best[0]), best[1], best[2]


def _best(values: Real, weight: Real, km: Real, scale: Real, shape: Real) -> tuple[Real, Real, Real]:
    """Return the best of some ln d0 and s0, (b or 1, k), and its c0, (b,) each."""
    basis = np.exp(-((km / np.exp(scale)[..., None]) ** shape[..., None]))  # (b or 1, k, pairs)
    along = (basis @ (weight * values)[..., None])[..., 0]
    squares = (basis**2 @ weight[..., None])[..., 0]
    nugget = np.clip(along / np.maximum(squares, 1e-300), _LEAST_NUGGET, 1.0)
    at = (nugget**2 * squares - 2 * nugget * along).argmin(1)
    rows = np.arange(len(at))
    scales, shapes = (np.broadcast_to(axis, nugget.shape) for axis in (scale, shape))
    return scales[rows, at], shapes[rows, at], nugget[rows, at]
