"""Metrics as functions of score records; what is undefined is NaN, never a guess."""

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

Of = Callable[[Array, Protocol], Array]


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        label: Its name in tables.
        unit: Its unit; {unit} stands for that of forecast and observation.
        perfect: Value of a perfect forecast.
        families: What it can be computed from; which of them is told by the coordinates that are asked for.
        of: (…, *uses, columns) sums and protocol → (…) values.
        uses: The family's axes that it needs whole; of the others coordinates are chosen, or they are summed up.
        limits: Least and greatest value it can have: so far its interval reaches at the most.
    """

    label: str
    unit: str
    perfect: float
    families: tuple[str, ...]
    of: Of
    uses: tuple[str, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)


def _continuous(name: str, factor: float = 1.0) -> Of:
    return lambda s, _: factor * continuous.continuous(name, s)


def _paper_mre(s: Array, protocol: Protocol) -> Array:
    """mean|y − ŷ| / Σy of a sample, so RBIAS over the sample's pixels (in the paper's table 5.1 exactly: their ratio is
    10 × 256 × 256)."""
    return continuous.continuous("ne", s) / (protocol.pixels * len(protocol.lead_time))


def _categorical(name: str) -> Of:
    return lambda s, _: categorical(name, s)


def _sal(total: str, frames: str) -> Of:
    above, below = SAL_PARTS.index(total), SAL_PARTS.index(frames)
    return lambda s, _: quotient(s[..., above], s[..., below])


def _brier(part: str) -> Of:
    return lambda s, _: ensemble.brier(s)[part]


def _value(s: Array, _: Protocol) -> Array:
    """The highest relative economic value over all cost–loss ratios: where the ratio equals the climate's rate."""
    false_alarm, hit = ensemble.roc(s)
    return np.max(hit - false_alarm, -1)


def _lost_variance(s: Array, protocol: Protocol) -> Array:
    held = spectra.ring_sizes(protocol.shape[-1], tuple(int(k) for k in protocol.axis("wavenumber")))
    return spectra.lost_variance(s[..., 0], s[..., 1], held)


def _rank_distance(s: Array, protocol: Protocol) -> Array:
    """Half of Σ|share − 1/(m + 1)|: the share of cases in a wrong rank; 0 for a flat histogram (Delle Monache 2006)."""
    shares = quotient(s[..., 0], s[..., 0].sum(-1, keepdims=True))
    return abs(shares - 1 / (protocol.members + 1)).sum(-1) / 2


_ON_COUNTS = ("contingency", "pooled", "multi_event", "by_change")
_SHARE, _SKILL, _ERROR = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)
_OF_COUNTS = {
    "csi": ("CSI", 1.0, _SHARE), "pod": ("POD", 1.0, _SHARE), "far": ("FAR", 0.0, _SHARE),
    "pofd": ("POFD", 0.0, _SHARE), "hk": ("HK", 1.0, _SKILL), "hss": ("HSS", 1.0, _SKILL),
    "ets": ("ETS", 1.0, (-1 / 3, 1.0)), "bias": ("bias", 1.0, _ERROR), "sedi": ("SEDI", 1.0, _SKILL),
}  # fmt: skip
_OF_CLASSES = partial(Metric, families=("continuous",))
_OF_PROBABILITIES = partial(Metric, families=("probability",), uses=("probability",))

METRICS: dict[str, Metric] = {
    "paper_mse": _OF_CLASSES("MSE", "({unit})²", 0, of=_continuous("mse"), limits=_ERROR),
    "paper_mre": _OF_CLASSES("MRE", "1", 0, of=_paper_mre, limits=_ERROR),
    "paper_rbias": _OF_CLASSES("RBIAS", "1", 0, of=_continuous("ne"), limits=_ERROR),
    "paper_csi": Metric("CSI", "1", 1, ("paper_csi",), _categorical("csi"), limits=_SHARE),
    "rmse": _OF_CLASSES("RMSE", "{unit}", 0, of=_continuous("rmse"), limits=_ERROR),
    "mae": _OF_CLASSES("MAE", "{unit}", 0, of=_continuous("mae"), limits=_ERROR),
    "ne": _OF_CLASSES("NE", "%", 0, of=_continuous("ne", 100), limits=_ERROR),
    "nb": _OF_CLASSES("NB", "%", 0, of=_continuous("nb", 100)),
    "cc": _OF_CLASSES("CC", "1", 1, of=_continuous("cc"), limits=_SKILL),
    "explained_variance": _OF_CLASSES("EV", "1", 1, of=_continuous("explained_variance"), limits=(-math.inf, 1.0)),
    **{name: Metric(label, "1", perfect, _ON_COUNTS, _categorical(name), limits=limits)
       for name, (label, perfect, limits) in _OF_COUNTS.items()},
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
    "brier": _OF_PROBABILITIES("Brier", "1", 0, of=_brier("brier")),
    "reliability": _OF_PROBABILITIES("reliability", "1", 0, of=_brier("reliability")),
    "resolution": _OF_PROBABILITIES("resolution", "1", 1, of=_brier("resolution")),
    "roc_area": _OF_PROBABILITIES("ROC area", "1", 1, of=lambda s, _: ensemble.roc_area(s)),
    "value": _OF_PROBABILITIES("value", "1", 1, of=_value),
}  # fmt: skip
"""Formulas and their sources stand with the functions in this folder."""
