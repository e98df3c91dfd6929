"""Scores of fields, each a function of forecast and observation.

Every function takes numpy arrays or torch tensors of shape (…, y, x), any number of leading dimensions, and pools over
all of them: sums are added up first and the score is computed last, as everywhere in the suite. With `keep_dims` some
leading dimensions are kept. A number of a wrong type, such as a threshold of None, raises BadInput.

Undefined is NaN: CSI without an event in forecast or observation, or CC of a constant field, for example.

Missing pixels are left out: those that are NaN or masked in the observation, the forecast or any of its members. They
act like the outside of the field: there are no events, and values are in no block or window. Windows around them do not
count (FSS, windowed scores), nor do windows that hold one (SSIM) and blocks that hold nothing else (pooled CRPS).

Events are values at or above the threshold. Thresholds are in the unit of the fields, windows in pixels.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polarcast.data.arguments import one_of, real, whole
from polarcast.hpc.scores.protocol import POOLINGS, Protocol
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.ratios import quotient
from polarcast.hpc.scores.similarity import WINDOW
from polarcast.hpc.scores.sums import score_fields

Field = npt.NDArray[Any] | Tensor
"""Fields (…, y, x)."""
Keep = int | Sequence[int]
"""Leading dimensions that are kept."""
Value = float | npt.NDArray[np.float64]
"""A score; an array of the kept dimensions where some are kept."""

__all__ = [
    "bias", "brier", "brier_skill", "cc", "crps", "csi", "ets", "explained_variance", "far", "fss", "hk", "hk_gain",
    "hss", "kge", "mae", "mse", "msess", "nb", "ne", "pod", "pod_gain", "pofd", "pofd_gain", "quantile_score", "rbias",
    "rmse", "roc_area", "sal", "sedi", "skill", "spread_skill", "ssim",
]  # fmt: skip


def mse(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return the mean squared error, Σ(f − o)² / n, in the squared unit of the fields.

    Args:
        forecast: Forecast fields, (…, y, x).
        observed: Observed fields of the same shape and unit.
        keep_dims: Leading dimensions that are not pooled over.

    Raises:
        ValueError: the shapes differ, or have fewer than two dimensions.
    """
    return _deterministic("paper_mse", forecast, observed, keep_dims)


def rmse(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return the root of the mean squared error, in the unit of the fields. Arguments as for `mse`."""
    return _deterministic("rmse", forecast, observed, keep_dims)


def mae(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return the mean absolute error, Σ|f − o| / n, in the unit of the fields. Arguments as for `mse`."""
    return _deterministic("mae", forecast, observed, keep_dims)


def rbias(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return RBIAS of the source paper, Σ|f − o| / Σo, dimensionless; NaN where Σo is 0. Arguments as for `mse`."""
    return _deterministic("paper_rbias", forecast, observed, keep_dims)


def ne(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return the normalized error, 100 Σ|f − o| / Σo in percent. Arguments as for `mse`."""
    return _deterministic("ne", forecast, observed, keep_dims)


def nb(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return the normalized bias, 100 Σ(f − o) / Σo in percent. Arguments as for `mse`."""
    return _deterministic("nb", forecast, observed, keep_dims)


def cc(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return Pearson's correlation coefficient over all pixels, −1 to 1; NaN if a field is constant.

    Arguments as for `mse`.
    """
    return _deterministic("cc", forecast, observed, keep_dims)


def explained_variance(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return 1 − var(f − o) / var(o), at most 1; NaN if the observation is constant. Arguments as for `mse`."""
    return _deterministic("explained_variance", forecast, observed, keep_dims)


def msess(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return 1 − MSE / var(o), the skill of the MSE against the observed mean, at most 1 (Murphy 1988).

    It is the Nash–Sutcliffe efficiency of all pixels that are pooled over; NaN if the observation is constant. For
    skill against another forecast, see `skill`. Arguments as for `mse`.
    """
    return _deterministic("msess", forecast, observed, keep_dims)


def kge(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> Value:
    """Return the Kling–Gupta efficiency, at most 1 (Gupta et al. 2009).

    1 − √((r − 1)² + (α − 1)² + (β − 1)²) of correlation r, ratio of standard deviations α and ratio of means β. NaN if
    a field is constant, or the observed mean not positive. Arguments as for `mse`.
    """
    return _deterministic("kge", forecast, observed, keep_dims)


def skill(score: Value, reference: Value, perfect: float = 0.0) -> Value:
    """Return the skill of a forecast against a reference, (score − reference) / (perfect − reference).

    1 is perfect, 0 no better than the reference. Of two CRPS it is the CRPSS, of two MSE the MSESS. Score both on the
    same pixels: where either forecast is missing, set both to NaN.

    Args:
        score: Score of the forecast.
        reference: Score of the reference on the same fields, such as climatology or persistence.
        perfect: Score of a perfect forecast.

    Returns:
        Skill; NaN where the reference is perfect or a score undefined.

    References:
        Jolliffe & Stephenson (2012), equation 1.2.
    """
    ours, theirs = np.asarray(score, np.float64), np.asarray(reference, np.float64)
    gained = quotient(ours - theirs, perfect - theirs)
    return gained if gained.ndim else float(gained)


def ssim(forecast: Field, observed: Field, data_range: float, *, keep_dims: Keep = ()) -> Value:
    """Return the mean structural similarity, at most 1, with a Gaussian window of 11 pixels (Wang et al. 2004).

    Args:
        forecast: Forecast fields of at least 11 × 11 pixels, (…, y, x).
        observed: Observed fields of the same shape and unit.
        data_range: Range of the values in the unit of the fields, such as 70 dBZ: a convention, not that of the fields.
        keep_dims: Leading dimensions that are not pooled over.

    Raises:
        ValueError: the shapes differ, the fields are too small, or the range is not positive.
    """
    return _deterministic("ssim", forecast, observed, keep_dims, {"data_range": data_range})


def csi(forecast: Field, observed: Field, threshold: float, *, window: int = 1, keep_dims: Keep = ()) -> Value:
    """Return the critical success index, hits / (hits + false alarms + misses), 0 to 1.

    Args:
        forecast: Forecast fields, (…, y, x).
        observed: Observed fields of the same shape and unit.
        threshold: Events are values at or above it, in the unit of the fields.
        window: Side of the square windows, in pixels and odd, in which events are matched by the source paper's fuzzy
            view (its table 8.2); 1 for pixel by pixel.
        keep_dims: Leading dimensions that are not pooled over.

    Raises:
        ValueError: the shapes differ, or the window is even or larger than the fields.
    """
    return _categorical("csi", forecast, observed, threshold, window, keep_dims)


def pod(forecast: Field, observed: Field, threshold: float, *, window: int = 1, keep_dims: Keep = ()) -> Value:
    """Return the probability of detection, hits / (hits + misses), 0 to 1. Arguments as for `csi`."""
    return _categorical("pod", forecast, observed, threshold, window, keep_dims)


def far(forecast: Field, observed: Field, threshold: float, *, window: int = 1, keep_dims: Keep = ()) -> Value:
    """Return the false alarm ratio, false alarms / (hits + false alarms), 0 to 1. Arguments as for `csi`."""
    return _categorical("far", forecast, observed, threshold, window, keep_dims)


def pofd(forecast: Field, observed: Field, threshold: float, *, window: int = 1, keep_dims: Keep = ()) -> Value:
    """Return the probability of false detection, false alarms / non-events, 0 to 1. Arguments as for `csi`."""
    return _categorical("pofd", forecast, observed, threshold, window, keep_dims)


def hk(forecast: Field, observed: Field, threshold: float, *, window: int = 1, keep_dims: Keep = ()) -> Value:
    """Return the Hanssen–Kuipers discriminant, POD − POFD, −1 to 1. Arguments as for `csi`."""
    return _categorical("hk", forecast, observed, threshold, window, keep_dims)


def hk_gain(forecast: Field, observed: Field, threshold: float, window: int, *, keep_dims: Keep = ()) -> Value:
    """Return what a window adds to HK, HK(window) − HK(1 pixel), −1 to 1.

    By it the source paper reads its table 8.2: a forecast with its events a few pixels off gains by a window, one with
    each event in place does not. No value is best, because a forecast without events gains nothing, too. Arguments as
    for `csi`.
    """
    return _gain("hk", forecast, observed, threshold, window, keep_dims)


def pod_gain(forecast: Field, observed: Field, threshold: float, window: int, *, keep_dims: Keep = ()) -> Value:
    """Return what a window adds to POD, 0 to 1. Arguments as for `csi`."""
    return _gain("pod", forecast, observed, threshold, window, keep_dims)


def pofd_gain(forecast: Field, observed: Field, threshold: float, window: int, *, keep_dims: Keep = ()) -> Value:
    """Return what a window adds to POFD, 0 to 1. Arguments as for `csi`."""
    return _gain("pofd", forecast, observed, threshold, window, keep_dims)


def hss(forecast: Field, observed: Field, threshold: float, *, window: int = 1, keep_dims: Keep = ()) -> Value:
    """Return the Heidke skill score, −1 to 1. Arguments as for `csi`."""
    return _categorical("hss", forecast, observed, threshold, window, keep_dims)


def ets(forecast: Field, observed: Field, threshold: float, *, window: int = 1, keep_dims: Keep = ()) -> Value:
    """Return the equitable threat score (Gilbert skill score), −1/3 to 1. Arguments as for `csi`."""
    return _categorical("ets", forecast, observed, threshold, window, keep_dims)


def bias(forecast: Field, observed: Field, threshold: float, *, window: int = 1, keep_dims: Keep = ()) -> Value:
    """Return the frequency bias, forecast events / observed events, 1 if perfect. Arguments as for `csi`."""
    return _categorical("bias", forecast, observed, threshold, window, keep_dims)


def sedi(forecast: Field, observed: Field, threshold: float, *, window: int = 1, keep_dims: Keep = ()) -> Value:
    """Return the symmetric extremal dependence index, −1 to 1 (Ferro & Stephenson 2011). Arguments as for `csi`."""
    return _categorical("sedi", forecast, observed, threshold, window, keep_dims)


def fss(forecast: Field, observed: Field, threshold: float, window: int, *, keep_dims: Keep = ()) -> Value:
    """Return the fractions skill score, 1 − Σ(f − o)² / (Σf² + Σo²) of event fractions, 0 to 1 (Roberts & Lean 2008).

    Args:
        forecast: Forecast fields, (…, y, x).
        observed: Observed fields of the same shape and unit.
        threshold: Events are values at or above it, in the unit of the fields.
        window: Side of the square windows in which fractions are counted, in pixels, odd.
        keep_dims: Leading dimensions that are not pooled over.

    Raises:
        ValueError: the shapes differ, or the window is even or larger than the fields.
    """
    at = {"threshold": threshold, "window": window}
    return _deterministic("fss", forecast, observed, keep_dims, at)


def sal(forecast: Field, observed: Field, *, keep_dims: Keep = ()) -> dict[str, Value]:
    """Return the mean |S|, |A| and L of rain fields in mm/h (Wernli et al. 2008), under the keys s, a and l.

    Arguments as for `mse`. A part is NaN where no field defines it.
    """
    return {part: _deterministic(f"sal_{part}", forecast, observed, keep_dims) for part in ("s", "a", "l")}


def crps(
    forecast: Field,
    observed: Field,
    *,
    member_dim: int,
    pool: int = 1,
    pooling: str = "average",
    keep_dims: Keep = (),
) -> Value:
    """Return the fair continuous ranked probability score, in the unit of the fields (Ferro 2014).

    E|X − o| − ½ E|X − X'| over pairs of different members: as of an ensemble without end. One member gives the MAE.

    Args:
        forecast: Ensemble of fields, (…, y, x) with the members along one of the leading dimensions.
        observed: Observed fields, of the same shape without the members.
        member_dim: Dimension of the members in `forecast`; 1 in what `Forecaster.forecast` returns.
        pool: Side of the blocks in pixels over which members and observation are pooled first; 1 for pixel by pixel.
        pooling: average or maximum of a block, as in Ravuri et al. (2021).
        keep_dims: Leading dimensions of `observed` that are not pooled over.

    Raises:
        ValueError: the shapes do not fit together, or the block is larger than the fields.
    """
    one_of(pooling, "pooling", POOLINGS)
    at = {} if pool == 1 else {"pool": pool, "pooling": POOLINGS.index(pooling)}
    return _ensemble("crps", forecast, observed, member_dim, keep_dims, at)


def quantile_score(
    forecast: Field, observed: Field, quantile: float, *, member_dim: int, keep_dims: Keep = ()
) -> Value:
    """Return the quantile score (pinball loss) of a quantile of the members, in the unit of the fields.

    The mean of (o − q) τ where o ≥ q, and (q − o)(1 − τ) elsewhere; q is interpolated between members as by numpy.

    Args:
        forecast: Ensemble of fields, (…, y, x) with the members along one of the leading dimensions; at least two.
        observed: Observed fields, of the same shape without the members.
        quantile: Level τ of the quantile, between 0 and 1.
        member_dim: Dimension of the members in `forecast`.
        keep_dims: Leading dimensions of `observed` that are not pooled over.

    Raises:
        ValueError: the shapes do not fit together, there is one member only, or the level is not between 0 and 1.
    """
    return _ensemble("quantile_score", forecast, observed, member_dim, keep_dims, {"quantile": quantile})


def spread_skill(forecast: Field, observed: Field, *, member_dim: int, keep_dims: Keep = ()) -> Value:
    """Return spread / RMSE of the mean, corrected by √((m + 1) / m) (Fortin et al. 2014). Arguments as for `crps`."""
    return _ensemble("spread_skill", forecast, observed, member_dim, keep_dims)


def brier(forecast: Field, observed: Field, threshold: float, *, member_dim: int, keep_dims: Keep = ()) -> Value:
    """Return the Brier score of the share of members with an event, 0 to 1.

    Args:
        forecast: Ensemble of fields, (…, y, x) with the members along one of the leading dimensions; at least two.
        observed: Observed fields, of the same shape without the members.
        threshold: Events are values at or above it, in the unit of the fields.
        member_dim: Dimension of the members in `forecast`.
        keep_dims: Leading dimensions of `observed` that are not pooled over.

    Raises:
        ValueError: the shapes do not fit together, or there is one member only.
    """
    return _ensemble("brier", forecast, observed, member_dim, keep_dims, {"threshold": threshold})


def brier_skill(forecast: Field, observed: Field, threshold: float, *, member_dim: int, keep_dims: Keep = ()) -> Value:
    """Return 1 − Brier score / (s (1 − s)) with the observed frequency s of events, at most 1.

    NaN if there are no events, or only events. Arguments as for `brier`.
    """
    return _ensemble("brier_skill", forecast, observed, member_dim, keep_dims, {"threshold": threshold})


def roc_area(forecast: Field, observed: Field, threshold: float, *, member_dim: int, keep_dims: Keep = ()) -> Value:
    """Return the area under the ROC curve of the share of members with an event, 0 to 1. Arguments as for `brier`."""
    return _ensemble("roc_area", forecast, observed, member_dim, keep_dims, {"threshold": threshold})


def _categorical(name: str, forecast: Field, observed: Field, threshold: float, window: int, keep_dims: Keep) -> Value:
    at = {"threshold": threshold} if window == 1 else {"threshold": threshold, "window": window}
    return _deterministic(name, forecast, observed, keep_dims, at)


def _gain(name: str, forecast: Field, observed: Field, threshold: float, window: int, keep_dims: Keep) -> Value:
    wide, narrow = (_categorical(name, forecast, observed, threshold, side, keep_dims) for side in (window, 1))
    return wide - narrow


def _deterministic(
    name: str, forecast: Field, observed: Field, keep_dims: Keep, at: Mapping[str, float] | None = None
) -> Value:
    f, o = _tensor(forecast, "forecast"), _tensor(observed, "observed")
    if f.shape != o.shape:
        raise ValueError(f"forecast and observed must have the same shape, got {tuple(f.shape)} and {tuple(o.shape)}")
    return _score(name, f[..., None, :, :], o, keep_dims, at or {})


def _ensemble(
    name: str,
    forecast: Field,
    observed: Field,
    member_dim: int,
    keep_dims: Keep,
    at: Mapping[str, float] | None = None,
) -> Value:
    f, o = _tensor(forecast, "forecast"), _tensor(observed, "observed")
    member_dim = whole(member_dim, "member_dim")
    if f.ndim < 3 or not -f.ndim <= member_dim < f.ndim or member_dim % f.ndim >= f.ndim - 2:
        raise ValueError(f"member_dim must be a leading dimension of forecast {tuple(f.shape)}, got {member_dim}")
    by_member = f.movedim(member_dim, -3)
    expected = (*by_member.shape[:-3], *by_member.shape[-2:])
    if tuple(o.shape) != expected:
        raise ValueError(f"observed must have the shape of forecast without members, {expected}, got {tuple(o.shape)}")
    members, needed = by_member.shape[-3], 1 if name == "crps" else 2
    if members < needed:
        raise ValueError(f"{name} needs {needed} or more members, got {members}")
    return _score(name, by_member, o, keep_dims, at or {})


def _tensor(field: Field, name: str) -> Tensor:
    if not isinstance(field, Tensor):
        # Masked values are missing; flipped and big-endian arrays are copied into a layout that torch can use.
        values = np.ma.filled(np.ma.asarray(field, dtype=np.float64), np.nan) if np.ma.isMaskedArray(field) else field
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name} must hold real numbers, got {array.dtype}")
        field = torch.from_numpy(array.astype(np.float64 if array.dtype.itemsize == 8 else np.float32, order="C"))
    if field.is_complex():
        raise ValueError(f"{name} must hold real numbers, got {field.dtype}")
    if field.ndim < 2:
        raise ValueError(f"{name} must be (…, y, x), got shape {tuple(field.shape)}")
    tensor = field.detach()
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _score(name: str, forecast: Tensor, observed: Tensor, keep_dims: Keep, at: Mapping[str, float]) -> Value:
    """Score an ensemble (…, m, y, x) of fields (…, y, x), with the sums and formulas of the suite's records."""
    *leading, y, x = observed.shape
    if not math.prod(observed.shape):
        raise ValueError(f"no pixels to score in fields of shape {tuple(observed.shape)}")
    kept = [dim + len(leading) if dim < 0 else dim for dim in _dims(keep_dims)]
    if len(set(kept)) < len(kept) or not set(kept) <= set(range(len(leading))):
        raise ValueError(f"keep_dims must be different ones of {len(leading)} leading dimensions, got {keep_dims}")
    members = forecast.shape[-3]
    at = {axis: real(value, axis) for axis, value in at.items()}
    protocol = _protocol((y, x), members, at)
    score = Score(name, {axis: _coordinate(axis, value) for axis, value in at.items() if axis != "data_range"})
    fields = forecast.reshape(-1, members, y, x), observed.reshape(-1, y, x)
    sums = score_fields(*fields, protocol, [score.family_name])[score.family_name].double().cpu().numpy()
    pooled = tuple(dim for dim in range(len(leading)) if dim not in kept)
    if "pooling" in at:
        sums = sums[:, int(at["pooling"])]
    elif score.family_name == "similarity":
        sums = sums[:, 0]  # of the mean, which a single member is
    # Every other axis of the family but those that the metric uses has one coordinate: nothing is left to choose.
    left = sums.reshape(*leading, -1).sum(pooled)
    values = score.of(np.moveaxis(left, np.argsort(np.argsort(kept)), range(len(kept))), protocol)
    return values if kept else float(values)


def _dims(keep_dims: Keep) -> list[int]:
    """Return the dimensions to keep as a list. Raises BadInput for anything but whole numbers."""
    several = keep_dims if isinstance(keep_dims, Iterable) and not isinstance(keep_dims, str) else [keep_dims]
    return [whole(dim, "keep_dims") for dim in several]


def _coordinate(axis: str, value: float) -> str:
    return POOLINGS[int(value)] if axis == "pooling" else str(value)


def _protocol(shape: tuple[int, int], members: int, at: Mapping[str, float]) -> Protocol:
    window = at.get("window", 1)
    if not math.isfinite(window) or window != int(window) or window % 2 == 0 or not 1 <= window <= min(shape):
        raise ValueError(f"window must be odd and at most {min(shape)} pixels, got {window}")
    threshold = float(at.get("threshold", 0.0))
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be finite, got {threshold}")
    pool, quantile, data_range = at.get("pool", 1), at.get("quantile", 0.5), at.get("data_range", 1.0)
    if pool != int(pool) or not 1 <= pool <= min(shape):
        raise ValueError(f"pool must be a whole number of at most {min(shape)} pixels, got {pool}")
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be between 0 and 1, got {quantile}")
    if "data_range" in at and (not 0 < data_range < math.inf or min(shape) < WINDOW):
        raise ValueError(f"SSIM needs a positive data_range and {WINDOW} × {WINDOW} pixels, got {data_range}, {shape}")
    return Protocol(
        "mm/h", shape, members, threshold=(threshold,), classes=(-math.inf,), window=(int(window),), pool=(int(pool),),
        quantile=(quantile,), data_range=data_range,
    )  # fmt: skip
