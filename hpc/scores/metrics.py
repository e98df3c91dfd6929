"""Metrics as functions of score records; undefined values are NaN."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from polarcast.hpc.scores import continuous, ensemble, fss, similarity, spectra
from polarcast.hpc.scores.categorical import categorical
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.ratios import Array, quotient
from polarcast.hpc.scores.sal import PARTS as SAL_PARTS

Compute = Callable[[Array, Protocol], Array]
Scale = Literal["ratio", "distance", "difference"]
Direction = Literal["lower", "higher", "target", "none"]
GAIN_AXIS = "window"
"""Axis along which a score of a gain is compared with its smallest coordinate."""


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        label: Name in tables.
        unit: Unit; `{unit}` is replaced by the unit of forecast and observation.
        perfect: Value of a perfect forecast, or the limit of what one can reach where that depends on the observation;
            NaN if no value is better than others.
        families: Families of sums it can be computed from; the given coordinates select one.
        of: Function of sums (…, *uses, columns) and a protocol that returns values (…).
        uses: Axes of the family that it needs in full; all other axes are indexed or summed over.
        limits: Lowest and highest possible value; confidence intervals are clipped to them.
        scale: Scale on which two forecasts are compared: `ratio` of non-negative errors that are summed, `distance`
            from a perfect value inside the limits, or `difference`.
        same_as: Name of the score that it is a monotone function of on the ratio scale, so that a test of one is a test
            of both; empty otherwise.
        is_multiple: Whether it is a multiple of `same_as`, so that a test of one is a test of both on any scale.
        gain_of: Name of the score whose gain over the smallest window it is; empty otherwise. Its sums are those of the
            window and of the smallest window, (…, 2, columns).
    """

    label: str
    unit: str
    perfect: float
    families: tuple[str, ...]
    of: Compute
    uses: tuple[str, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)
    scale: Scale = "difference"
    same_as: str = ""
    is_multiple: bool = False
    gain_of: str = ""

    @property
    def direction(self) -> Direction:
        """Which values are better: `lower`, `higher`, those near the `target`, which is `perfect`, or `none`."""
        if math.isnan(self.perfect):
            return "none"
        if self.scale == "distance":
            return "target"
        return "lower" if self.perfect == 0 else "higher"


def _continuous(name: str, factor: float = 1.0) -> Compute:
    return lambda s, _: factor * continuous.continuous(name, s)


def _paper_mre(s: Array, protocol: Protocol) -> Array:
    """Compute MRE = mean|y − ŷ| / Σy of the source paper, with mean and sum over the pixels of one sample.

    A mean over a sum depends on how many pixels the sum has, and the paper does not say which:

    - one sample, all lead times of a field: RBIAS / pixels. This is used, because RBIAS / MRE is exactly 10 × 256 × 256
      in the paper's tables 5.1 and 6.1.
    - all samples of the test split: smaller by the number of samples, so that it is not a property of the forecast.
    - mean over mean: RBIAS itself. The values of the paper's tables 7.1 and 8.1 (MRE 0.25 to 0.58) have this size, but
      stand beside an RBIAS of 0.01 to 0.10; they are consistent with NE and the absolute value of NB.

    The number of pixels is that of the field, missing ones included: MRE stays a fixed multiple of RBIAS.
    """
    return continuous.continuous("ne", s) / (protocol.pixels * len(protocol.lead_time))


def _categorical(name: str) -> Compute:
    return lambda s, _: categorical(name, s)


def _gain(name: str) -> Compute:
    return lambda s, _: categorical(name, s[..., 0, :]) - categorical(name, s[..., 1, :])


def _sal(total: str, frames: str) -> Compute:
    return _column_ratio(SAL_PARTS.index(total), SAL_PARTS.index(frames))


def _column_ratio(numerator: int, denominator: int) -> Compute:
    return lambda s, _: quotient(s[..., numerator], s[..., denominator])


def _brier(part: str) -> Compute:
    return lambda s, _: ensemble.brier(s)[part]


def _value(s: Array, _: Protocol) -> Array:
    """Compute the highest relative economic value, reached where the cost–loss ratio equals the base rate."""
    false_alarm, hit = ensemble.roc(s)
    return np.max(hit - false_alarm, -1)


def _lost_variance(s: Array, protocol: Protocol) -> Array:
    sizes = spectra.ring_sizes(protocol.shape[-1], tuple(int(k) for k in protocol.axis("wavenumber")))
    return spectra.lost_variance(s[..., 0], s[..., 1], sizes)


def _rank_distance(s: Array, protocol: Protocol) -> Array:
    """Compute ½ Σ|share − 1/(m + 1)|: the share of cases in a wrong rank (Delle Monache et al. 2006)."""
    shares = quotient(s[..., 0], s[..., 0].sum(-1, keepdims=True))
    return abs(shares - 1 / (protocol.members + 1)).sum(-1) / 2


_COUNT_FAMILIES = ("contingency", "pooled", "multi_event", "by_change")
_SHARE, _SKILL, _ERROR, _BELOW_ONE = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (-math.inf, 1.0)
_COUNT_METRICS = {
    "csi": ("CSI", 1.0, _SHARE), "pod": ("POD", 1.0, _SHARE), "far": ("FAR", 0.0, _SHARE),
    "pofd": ("POFD", 0.0, _SHARE), "hk": ("HK", 1.0, _SKILL), "hss": ("HSS", 1.0, _SKILL),
    "ets": ("ETS", 1.0, (-1 / 3, 1.0)), "bias": ("bias", 1.0, _ERROR), "sedi": ("SEDI", 1.0, _SKILL),
}  # fmt: skip
_class_metric = partial(Metric, families=("continuous",))
_class_error = partial(_class_metric, perfect=0, limits=_ERROR, scale="ratio")
_probability_metric = partial(Metric, families=("probability",), uses=("probability",))

METRICS: dict[str, Metric] = {
    # Shares of the field that has an observation, and of the observed pixels that have a forecast.
    "observed_share": Metric("observed", "1", 1, ("observed",), _column_ratio(1, 0), limits=_SHARE),
    "scored_share": Metric("scored", "1", 1, ("observed",), _column_ratio(2, 1), limits=_SHARE),
    "paper_mse": _class_error("MSE", "({unit})²", of=_continuous("mse")),
    "paper_mre": _class_error("MRE", "1", of=_paper_mre, same_as="paper_rbias", is_multiple=True),
    "paper_rbias": _class_error("RBIAS", "1", of=_continuous("ne")),
    "paper_csi": Metric("CSI", "1", 1, ("paper_csi",), _categorical("csi"), limits=_SHARE),
    "rmse": _class_error("RMSE", "{unit}", of=_continuous("rmse"), same_as="paper_mse"),
    "mae": _class_error("MAE", "{unit}", of=_continuous("mae")),
    "ne": _class_error("NE", "%", of=_continuous("ne", 100), same_as="paper_rbias", is_multiple=True),
    "nb": _class_metric("NB", "%", 0, of=_continuous("nb", 100), scale="distance"),
    "cc": _class_metric("CC", "1", 1, of=_continuous("cc"), limits=_SKILL),
    "explained_variance": _class_metric("EV", "1", 1, of=_continuous("explained_variance"), limits=_BELOW_ONE),
    "msess": _class_metric("MSESS", "1", 1, of=_continuous("msess"), limits=_BELOW_ONE),
    "kge": _class_metric("KGE", "1", 1, of=_continuous("kge"), limits=_BELOW_ONE),
    **{name: Metric(label, "1", perfect, _COUNT_FAMILIES, _categorical(name), limits=limits,
                    scale="distance" if name == "bias" else "difference")
       for name, (label, perfect, limits) in _COUNT_METRICS.items()},
    # What a window adds. No value is best: it is large for near misses, and small for hits in place and for no events.
    **{f"{name}_gain": Metric(f"{_COUNT_METRICS[name][0]} gain", "1", math.nan, ("multi_event",), _gain(name),
                              limits=limits, gain_of=name)
       for name, limits in (("pod", _SHARE), ("pofd", _SHARE), ("hk", _SKILL))},
    "fss": Metric("FSS", "1", 1, ("fractions",), lambda s, _: fss.fss(s), limits=_SHARE),
    "sal_s": Metric("|S|", "1", 0, ("sal",), _sal("sum_abs_s", "frames_s"), limits=(0.0, 2.0)),
    "sal_a": Metric("|A|", "1", 0, ("sal",), _sal("sum_abs_a", "frames_a"), limits=(0.0, 2.0)),
    "sal_l": Metric("L", "1", 0, ("sal",), _sal("sum_l", "frames_l"), limits=(0.0, 2.0)),
    "lost_variance": Metric(
        "lost variance", "1", 0, ("spectrum",), _lost_variance, ("wavenumber",), _BELOW_ONE, "distance"
    ),
    "power": Metric(
        "power ratio", "1", 1, ("spectrum",), lambda s, _: spectra.spectrum_ratio(s[..., 0], s[..., 1]),
        limits=_ERROR, scale="distance",
    ),
    "overlap": Metric(
        "overlap", "1", 1, ("histogram",), lambda s, _: spectra.overlap(s[..., 0], s[..., 1]), ("bin",), _SHARE
    ),
    "crps": Metric(
        "CRPS", "{unit}", 0, ("crps", "threshold_crps", "pooled_crps"), lambda s, _: ensemble.fair_crps(s),
        limits=_ERROR, scale="ratio",
    ),
    "quantile_score": Metric(
        "QS", "{unit}", 0, ("quantiles",), lambda s, _: ensemble.quantile_score(s), limits=_ERROR, scale="ratio"
    ),
    "ssim": Metric("SSIM", "1", 1, ("similarity",), lambda s, _: similarity.ssim(s), limits=_SKILL),
    "spread_skill": Metric(
        "spread/skill", "1", 1, ("spread",), lambda s, p: ensemble.spread_skill(s, p.members), limits=_ERROR,
        scale="distance",
    ),
    "rank_distance": Metric("rank distance", "1", 0, ("ranks",), _rank_distance, ("rank",), _SHARE),
    "brier": _probability_metric("Brier", "1", 0, of=_brier("brier"), limits=_SHARE, scale="ratio"),
    "brier_skill": _probability_metric("BSS", "1", 1, of=lambda s, _: ensemble.brier_skill(s), limits=_BELOW_ONE),
    "reliability": _probability_metric("reliability", "1", 0, of=_brier("reliability"), limits=_SHARE),
    # A variance of frequencies: at most s (1 − s) of the observed frequency s, so never above 0.25.
    "resolution": _probability_metric("resolution", "1", 0.25, of=_brier("resolution"), limits=(0.0, 0.25)),
    "roc_area": _probability_metric("ROC area", "1", 1, of=lambda s, _: ensemble.roc_area(s), limits=_SHARE),
    "value": _probability_metric("value", "1", 1, of=_value, limits=_SHARE),
}  # fmt: skip
"""All metrics by name; the functions in this package document formulas and sources."""
