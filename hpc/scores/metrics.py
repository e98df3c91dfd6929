"""Metrics as functions of score records; undefined values are NaN."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from polarcast.hpc.scores import continuous, ensemble, fss, spectra
from polarcast.hpc.scores.categorical import categorical
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.ratios import Array, quotient
from polarcast.hpc.scores.sal import PARTS as SAL_PARTS

Compute = Callable[[Array, Protocol], Array]


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        label: Name in tables.
        unit: Unit; `{unit}` is replaced by the unit of forecast and observation.
        perfect: Value of a perfect forecast.
        families: Families of sums it can be computed from; the given coordinates select one.
        of: Function of sums (…, *uses, columns) and a protocol that returns values (…).
        uses: Axes of the family that it needs in full; all other axes are indexed or summed over.
        limits: Lowest and highest possible value; confidence intervals are clipped to them.
    """

    label: str
    unit: str
    perfect: float
    families: tuple[str, ...]
    of: Compute
    uses: tuple[str, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)


def _continuous(name: str, factor: float = 1.0) -> Compute:
    return lambda s, _: factor * continuous.continuous(name, s)


def _paper_mre(s: Array, protocol: Protocol) -> Array:
    """Compute MRE = mean|y − ŷ| / Σy, which is RBIAS divided by the pixels of a sample.

    The ratio is exactly 10 × 256 × 256 in the source paper's table 5.1.
    """
    return continuous.continuous("ne", s) / (protocol.pixels * len(protocol.lead_time))


def _categorical(name: str) -> Compute:
    return lambda s, _: categorical(name, s)


def _sal(total: str, frames: str) -> Compute:
    numerator, denominator = SAL_PARTS.index(total), SAL_PARTS.index(frames)
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
_SHARE, _SKILL, _ERROR = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)
_COUNT_METRICS = {
    "csi": ("CSI", 1.0, _SHARE), "pod": ("POD", 1.0, _SHARE), "far": ("FAR", 0.0, _SHARE),
    "pofd": ("POFD", 0.0, _SHARE), "hk": ("HK", 1.0, _SKILL), "hss": ("HSS", 1.0, _SKILL),
    "ets": ("ETS", 1.0, (-1 / 3, 1.0)), "bias": ("bias", 1.0, _ERROR), "sedi": ("SEDI", 1.0, _SKILL),
}  # fmt: skip
_class_metric = partial(Metric, families=("continuous",))
_probability_metric = partial(Metric, families=("probability",), uses=("probability",))

METRICS: dict[str, Metric] = {
    "paper_mse": _class_metric("MSE", "({unit})²", 0, of=_continuous("mse"), limits=_ERROR),
    "paper_mre": _class_metric("MRE", "1", 0, of=_paper_mre, limits=_ERROR),
    "paper_rbias": _class_metric("RBIAS", "1", 0, of=_continuous("ne"), limits=_ERROR),
    "paper_csi": Metric("CSI", "1", 1, ("paper_csi",), _categorical("csi"), limits=_SHARE),
    "rmse": _class_metric("RMSE", "{unit}", 0, of=_continuous("rmse"), limits=_ERROR),
    "mae": _class_metric("MAE", "{unit}", 0, of=_continuous("mae"), limits=_ERROR),
    "ne": _class_metric("NE", "%", 0, of=_continuous("ne", 100), limits=_ERROR),
    "nb": _class_metric("NB", "%", 0, of=_continuous("nb", 100)),
    "cc": _class_metric("CC", "1", 1, of=_continuous("cc"), limits=_SKILL),
    "explained_variance": _class_metric("EV", "1", 1, of=_continuous("explained_variance"), limits=(-math.inf, 1.0)),
    **{name: Metric(label, "1", perfect, _COUNT_FAMILIES, _categorical(name), limits=limits)
       for name, (label, perfect, limits) in _COUNT_METRICS.items()},
    "fss": Metric("FSS", "1", 1, ("fractions",), lambda s, _: fss.fss(s), limits=_SHARE),
    "sal_s": Metric("|S|", "1", 0, ("sal",), _sal("sum_abs_s", "frames_s"), limits=_ERROR),
    "sal_a": Metric("|A|", "1", 0, ("sal",), _sal("sum_abs_a", "frames_a"), limits=_ERROR),
    "sal_l": Metric("L", "1", 0, ("sal",), _sal("sum_l", "frames_l"), limits=_ERROR),
    "lost_variance": Metric("lost variance", "1", 0, ("spectrum",), _lost_variance, ("wavenumber",)),
    "power": Metric(
        "power ratio", "1", 1, ("spectrum",), lambda s, _: spectra.spectrum_ratio(s[..., 0], s[..., 1])
    ),
    "overlap": Metric(
        "overlap", "1", 1, ("histogram",), lambda s, _: spectra.overlap(s[..., 0], s[..., 1]), ("bin",)
    ),
    "crps": Metric("CRPS", "{unit}", 0, ("crps", "threshold_crps"), lambda s, _: ensemble.fair_crps(s)),
    "spread_skill": Metric("spread/skill", "1", 1, ("spread",), lambda s, p: ensemble.spread_skill(s, p.members)),
    "rank_distance": Metric("rank distance", "1", 0, ("ranks",), _rank_distance, ("rank",)),
    "brier": _probability_metric("Brier", "1", 0, of=_brier("brier")),
    "reliability": _probability_metric("reliability", "1", 0, of=_brier("reliability")),
    "resolution": _probability_metric("resolution", "1", 1, of=_brier("resolution")),
    "roc_area": _probability_metric("ROC area", "1", 1, of=lambda s, _: ensemble.roc_area(s)),
    "value": _probability_metric("value", "1", 1, of=_value),
}  # fmt: skip
"""All metrics by name; the functions in this package document formulas and sources."""
