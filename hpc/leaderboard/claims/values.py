"""Recognise forecasts whose values are on another scale or in another unit, and missing values.

The quantiles of the forecast are compared with those of the observation. A scale is named only if it makes them agree
from light to heavy echo, so that forecasts which are merely too low, too high or blurred are not named.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.hpc.leaderboard.claims.geometry import best_correlation
from polarcast.hpc.leaderboard.claims.signs import Change, ClaimSample, Fields, Sign, unchanged

Quantiles = npt.NDArray[np.floating[Any]]
_SHARES_OF_ECHO = (0.7, 0.5, 0.3, 0.15, 0.07, 0.03, 0.01)
"""The upper shares of the observed echo pixels whose quantiles are compared."""
_LEAST_ECHO_PIXELS = 50
_VAST = 1e9
"""No field has such values, not even linear reflectivity."""
_LEAST_CORRELATION = 0.2
_DECIBEL, _RATIO = 5.0, 1.6
"""Largest misfit of any quantile: in dB, and as a factor of rain rates."""
_TOPS_DBZ, _TOPS_MM_H = (50.0, 110.0), (15.0, 400.0)
"""Plausible upper ends of a scale."""
_EDGE = 0.02
"""A smallest value so near to −1, with no echo at it, is the lower end of a scale from −1 to 1."""
_MARSHALL_PALMER = (200.0, 1.6)


@dataclass(frozen=True)
class ValueFacts:
    """Values of the forecasts of the first lead time at observed pixels, and their quantiles beside the observed ones.

    Attributes:
        values: Finite values.
        forecast: Quantiles of the values, (q,).
        observed: Quantiles of the observation, the last input frame, or rain by a published law, (q,).
        step_minutes: Time between frames.
    """

    values: Fields
    forecast: Quantiles
    observed: Quantiles
    step_minutes: float

    @property
    def low(self) -> float:
        """Smallest value."""
        return float(self.values.min())

    @property
    def high(self) -> float:
        """Largest value."""
        return float(self.values.max())

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers, more than a few different ones."""
        return bool((self.values == np.round(self.values)).all()) and len(np.unique(self.values[:100_000])) > 8

    @property
    def factor(self) -> float:
        """Median factor of the observed quantiles to those of the forecast; NaN unless all of them are positive."""
        if (self.forecast <= 0).any():
            return float("nan")
        return float(np.median(self.observed / self.forecast))


@dataclass(frozen=True)
class _Scale:
    """A scale of values: what it is called, how to mend it, and the function back to dBZ or mm/h."""

    name: str
    title: str
    fix: str
    back: Change


Guess = Callable[[ValueFacts], Iterator[_Scale]]


def find_missing(sample: ClaimSample) -> Sign | None:
    """Return the sign that values are missing or stand for "no value"; None if all are numbers of a field.

    NaN, infinite, 10^30 and −9999 stand for no value. Many values of −33 to −10 dBZ stand for no echo, which is 0.
    """
    known = ~np.isnan(sample.observed)
    values = sample.forecast[known]
    absent = _is_absent(values)
    share = absent.mean() if len(values) else 0.0
    if share > 0:
        kinds = ", ".join(dict.fromkeys(f"{value:g}" for value in values[absent][:1000].tolist()))
        return Sign(
            "missing-values", "missing values in the forecast",
            f"{kinds[:60]} at {share:.2%} of the observed pixels",
            "give a value for each pixel; pixels without one are left out of scores, or count as zero elsewhere",
            lambda fields: np.where(_is_absent(fields), 0, fields),
        )  # fmt: skip
    lowest = float(values.min()) if len(values) else 0.0
    floor = (values == lowest).mean() if len(values) else 0.0
    if sample.is_nowcast and lowest <= -10 and floor > 0.02:
        return Sign(
            "no-echo-value", "no echo is not 0 dBZ",
            f"{lowest:g} dBZ at {floor:.0%} of the observed pixels, where the observation has 0 without echo",
            "write 0 where there is no echo: RMSE, MAE and correlation depend on it, scores of thresholds do not",
            lambda fields: np.maximum(fields, 0),
        )  # fmt: skip
    return None


def _is_absent(values: Fields) -> npt.NDArray[np.bool_]:
    return ~np.isfinite(values) | (abs(np.nan_to_num(values)) > _VAST) | (values <= -90)


def find_scale(sample: ClaimSample, oriented: Change = unchanged) -> Sign | None:
    """Return the sign of another scale or unit; None if the quantiles fit as given, or no known scale makes them fit.

    Args:
        sample: Forecasts and observations.
        oriented: Function that puts the axes right, for the pattern; quantiles do not depend on it.
    """
    references = _references(sample)
    is_nowcast = sample.is_nowcast
    if not references or min(_misfit(f.forecast, f.observed, is_nowcast) for f in references) <= 1:
        return None
    if best_correlation(sample, oriented) < _LEAST_CORRELATION:
        return None
    found: list[tuple[float, _Scale, ValueFacts]] = []
    for facts in references:
        for scale in (scale for guess in (_OF_ZH if is_nowcast else _OF_RAIN) for scale in guess(facts)):
            back = scale.back(facts.forecast.astype(np.float32)).astype(np.float64)
            found.append((_misfit(back, facts.observed, is_nowcast), scale, facts))
    if not found:
        return None
    misfit, scale, facts = min(found, key=lambda one: one[0])
    if not misfit <= 1:
        return None
    unit = sample.unit
    shown = scale.back(facts.forecast[[1, -1]].astype(np.float32))
    evidence = (
        f"values from {facts.low:.4g} to {facts.high:.4g}; where the observation has {facts.observed[1]:.3g} and "
        f"{facts.observed[-1]:.3g} {unit}, quantiles of the forecast are {facts.forecast[1]:.3g} and "
        f"{facts.forecast[-1]:.3g}, rescaled {shown[0]:.3g} and {shown[1]:.3g} {unit}"
    )
    return Sign(scale.name, scale.title, evidence, scale.fix, scale.back)


def _references(sample: ClaimSample) -> list[ValueFacts]:
    """Return quantiles of the first lead time beside those of the observation, and of what it was made from.

    That is the last input frame, or rain by a published law. Both may differ from the observation; a forecast that is
    near to one of them has the right unit. Empty with too little echo, or for a forecast without variation.
    """
    forecast, observed = sample.forecast[:, 0], sample.observed[:, 0]
    known = ~np.isnan(observed) & np.isfinite(forecast)
    values = forecast[known]
    if not len(values) or values.min() == values.max():
        return []
    references = [observed, sample.cue if sample.is_nowcast else _marshall_palmer(sample.cue)]
    found = (_facts(values, one[known], sample) for one in references)
    return [facts for facts in found if facts]


def _facts(values: Fields, truth: Fields, sample: ClaimSample) -> ValueFacts | None:
    truth = np.nan_to_num(truth)  # of an input, other pixels may be missing
    echo = int((truth >= sample.echo_level).sum())
    if echo < _LEAST_ECHO_PIXELS:
        return None
    levels = 1 - np.array(_SHARES_OF_ECHO) * echo / len(truth)
    return ValueFacts(values, np.quantile(values, levels), np.quantile(truth, levels), sample.step_minutes)


def _marshall_palmer(zh: Fields) -> Fields:
    """Return the rain rate in mm/h of zh in dBZ, 0 without echo."""
    a, b = _MARSHALL_PALMER
    found: Fields = np.where(zh > 0, (10 ** (np.minimum(zh, 90) / 10) / a) ** (1 / b), 0).astype(np.float32)
    return found


def _misfit(forecast: Quantiles, observed: Quantiles, is_nowcast: bool) -> float:
    """Return the largest misfit of the quantiles, 1 at the limit of what counts as agreement."""
    if is_nowcast:
        return float(np.max(abs(forecast - observed)) / _DECIBEL)
    ratio = np.log(np.maximum(forecast, 1e-6) / np.maximum(observed, 1e-6))
    return float(np.max(abs(ratio)) / np.log(_RATIO))


def _within(value: float, limits: tuple[float, float]) -> bool:
    return bool(limits[0] <= value <= limits[1])


def _unit_interval(facts: ValueFacts, tops: tuple[float, float], unit: str) -> Iterator[_Scale]:
    if facts.low >= -0.2 and facts.high <= 1.3 and _within(facts.factor, tops):
        top = np.float32(facts.factor)
        yield _Scale("scale-0-1", f"values of 0 to 1 in place of {unit}",
                     f"multiply by the upper end of the scale, about {top:.0f} {unit}", lambda f: f * top)  # fmt: skip


def _bytes(facts: ValueFacts, tops: tuple[float, float], unit: str, is_certain: bool) -> Iterator[_Scale]:
    top = 255 * facts.factor
    if is_certain and facts.low >= -1 and facts.high <= 256 and _within(top, tops):
        factor = np.float32(facts.factor)
        yield _Scale("scale-0-255", f"pixel values of 0 to 255 in place of {unit}",
                     f"multiply by {top:.0f}/255, where {top:.0f} {unit} is about the upper end of the scale",
                     lambda f: f * factor)  # fmt: skip


def _zh_of_0_to_1(facts: ValueFacts) -> Iterator[_Scale]:
    yield from _unit_interval(facts, _TOPS_DBZ, "dBZ")


def _zh_of_0_to_255(facts: ValueFacts) -> Iterator[_Scale]:
    yield from _bytes(facts, _TOPS_DBZ, "dBZ", facts.high > 85)


def _zh_of_symmetric(facts: ValueFacts) -> Iterator[_Scale]:
    if not (abs(facts.low + 1) < _EDGE and facts.high <= 1.3):
        return
    top = float(np.median(facts.observed / np.maximum((facts.forecast + 1) / 2, 1e-6)))
    if _within(top, _TOPS_DBZ):
        yield _Scale("scale-minus-1-1", "values of −1 to 1 in place of dBZ",
                     f"add 1, and multiply by half the upper end of the scale, about {top:.0f} dBZ",
                     lambda f: (f + 1) * np.float32(top / 2))  # fmt: skip


def _zh_standardized(facts: ValueFacts) -> Iterator[_Scale]:
    """Standardized with a mean and a standard deviation of dBZ: no echo becomes a value below 0."""
    if not (-4 < facts.low < -0.05 and facts.high < 12) or (abs(facts.low + 1) < _EDGE and facts.high <= 1.3):
        return
    slope, offset = np.polyfit(facts.forecast, facts.observed, 1)
    is_plausible = 3 < slope < 40 and 0 < offset < 40 and abs(slope * facts.low + offset) < 6
    if is_plausible:
        yield _Scale("standardized", "standardized values in place of dBZ",
                     f"multiply by the standard deviation, about {slope:.1f} dBZ, and add the mean, about {offset:.1f}",
                     lambda f: f * np.float32(slope) + np.float32(offset))  # fmt: skip


def _zh_linear(facts: ValueFacts) -> Iterator[_Scale]:
    if facts.low >= 0 and facts.high > 110:
        yield _Scale("linear-z", "linear reflectivity in mm⁶/m³ in place of dBZ",
                     "take 10 · log10 of it, and 0 where that is negative", _decibel)  # fmt: skip


def _zh_of_bytes_with_offset(facts: ValueFacts) -> Iterator[_Scale]:
    for name, slope, offset in (("2 · (dBZ + 32)", 0.5, -32.0), ("255 · (dBZ + 10) / 70", 70 / 255, -10.0)):
        if facts.low >= 0 and facts.high <= 256 and abs(slope * facts.low + offset) < 3:
            yield _Scale("scale-0-255", "pixel values of 0 to 255 in place of dBZ", f"undo {name}",
                         lambda f, s=slope, o=offset: f * np.float32(s) + np.float32(o))  # type: ignore[misc]  # fmt: skip


def _zh_of_rain(facts: ValueFacts) -> Iterator[_Scale]:
    if facts.low >= 0:
        a, b = _MARSHALL_PALMER
        yield _Scale("rain-for-zh", "rain rates in mm/h in place of dBZ",
                     "give zh in dBZ, or score them as rain; the evidence uses Z = 200 R^1.6",
                     lambda f: np.where(f > 0, _decibel(a * np.maximum(f, 1e-6) ** b), 0))  # fmt: skip


def _decibel(z: Fields) -> Fields:
    found: Fields = np.maximum(10 * np.log10(np.maximum(z, 1.0)), 0).astype(np.float32)
    return found


def _rain_of_0_to_1(facts: ValueFacts) -> Iterator[_Scale]:
    if not _is_depth(facts):
        yield from _unit_interval(facts, _TOPS_MM_H, "mm/h")


def _rain_of_0_to_255(facts: ValueFacts) -> Iterator[_Scale]:
    # Rain may be overestimated by half; without whole numbers, the two can't be told apart.
    yield from _bytes(facts, _TOPS_MM_H, "mm/h", facts.is_whole and 0.1 < facts.factor < 0.55)


def _is_depth(facts: ValueFacts) -> bool:
    steps = 60 / facts.step_minutes
    return steps >= 3 and abs(np.log(facts.factor / steps)) < 0.3


def _rain_depth(facts: ValueFacts) -> Iterator[_Scale]:
    if _is_depth(facts):
        steps = np.float32(60 / facts.step_minutes)
        yield _Scale("depth-per-step", f"rain of a time step, mm in {facts.step_minutes:g} min, in place of mm/h",
                     f"multiply by {steps:g}", lambda f: f * steps)  # fmt: skip


def _rain_of_zh(facts: ValueFacts) -> Iterator[_Scale]:
    if facts.high <= 90:
        yield _Scale("zh-for-rain", "reflectivity in dBZ in place of mm/h",
                     "convert it with a Z–R law; the evidence uses Z = 200 R^1.6", _marshall_palmer)  # fmt: skip


def _rain_logarithm(facts: ValueFacts) -> Iterator[_Scale]:
    for name, inverse, most in (("ln(1 + R)", np.expm1, 7.0), ("log10(1 + R)", lambda f: 10**f - 1, 3.0)):
        if facts.low >= -0.2 and facts.high <= most:
            yield _Scale("logarithm", f"{name} in place of R in mm/h", f"undo {name}",
                         lambda f, g=inverse, m=most: g(np.minimum(f, m)))  # type: ignore[misc]  # fmt: skip


_OF_ZH: tuple[Guess, ...] = (
    _zh_of_0_to_1, _zh_of_0_to_255, _zh_of_symmetric, _zh_standardized, _zh_linear, _zh_of_bytes_with_offset,
    _zh_of_rain,
)  # fmt: skip
_OF_RAIN: tuple[Guess, ...] = (_rain_depth, _rain_of_0_to_1, _rain_of_0_to_255, _rain_of_zh, _rain_logarithm)
