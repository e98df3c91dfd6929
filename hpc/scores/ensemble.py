"""Ensemble scores: CRPS, quantile score, spread and skill, ranks, Brier score, ROC and economic value.

Sums of errors take fields without NaN. Where pixels are missing, `ScoredFields.filled` holds 0 in forecast and
observation, which adds nothing to them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polarcast.hpc.scores.arrays import as_arrays, on_cpu, scored_type
from polarcast.hpc.scores.classes import pool_values
from polarcast.hpc.scores.ratios import Array, quotient

CRPS_PARTS = ("pixels", "sum_abs_error", "sum_abs_difference")
QUANTILE_PARTS = ("pixels", "sum_loss")
SPREAD_PARTS = ("pixels", "sum_variance", "sum_sq_error")


def sort_members(ensemble: Tensor) -> Tensor:
    """Return the members of each pixel in ascending order, (n, m, y, x)."""
    if not on_cpu(ensemble):
        return ensemble.sort(1).values
    from polarcast.hpc.scores import pixel_kernels

    [values] = as_arrays(ensemble)
    ordered = np.empty_like(values)
    pixel_kernels.sort_members(values, ordered)
    return torch.from_numpy(ordered)


def crps_sums(ordered: Tensor, observed: Tensor, thresholds: Sequence[float] = (-float("inf"),)) -> Tensor:
    """Accumulate the terms of the fair CRPS of each field.

    A finite threshold weights the score by chaining: all values are clamped to at least the threshold.

    Args:
        ordered: Ensemble of m members, as from `sort_members`, (n, m, y, x).
        observed: Observed fields in the same units, (n, y, x).
        thresholds: Thresholds in the same units; −∞ for the unweighted score.

    Returns:
        (n, threshold, CRPS_PARTS) float64.

    References:
        Ferro (2014); Allen, Ginsbourger & Ziegel (2023).
    """
    if on_cpu(ordered, observed):
        return _crps_by_kernel(ordered, observed, thresholds)
    members, values, truth = ordered.shape[1], ordered.double(), observed.double()
    # Σ over pairs of |xᵢ − xⱼ| of ordered members = Σᵢ (2i − m − 1) xᵢ
    weights = 2 * torch.arange(1, members + 1, device=ordered.device, dtype=torch.float64) - members - 1
    parts = []
    for threshold in thresholds:
        x, y = values.clamp(min=threshold), truth.clamp(min=threshold)
        error = (x - y[:, None]).abs().mean(1).sum((-2, -1))
        difference = torch.einsum("nmyx,m->n", x, weights) / max(1, members * (members - 1))
        parts.append(torch.stack([torch.full_like(error, y.shape[1:].numel()), error, difference], -1))
    return torch.stack(parts, 1)


def _crps_by_kernel(ordered: Tensor, observed: Tensor, thresholds: Sequence[float]) -> Tensor:
    from polarcast.hpc.scores.pixel_kernels import crps_terms

    members, lowest = ordered.shape[1], np.array(thresholds, np.float64)
    sums = torch.zeros(len(ordered), len(lowest), len(CRPS_PARTS), dtype=torch.float64)
    terms = sums[..., 1:].numpy()
    crps_terms(*as_arrays(ordered, observed), lowest, terms)
    sums[..., 0] = observed.shape[1:].numel()
    sums[..., 1] /= members
    sums[..., 2] /= max(1, members * (members - 1))
    return sums


def fair_crps(sums: Array) -> Array:
    """Compute the fair continuous ranked probability score (CRPS).

    CRPS = E|X − y| − ½ E|X − X'|, with pairs of different members only. Its expected value is that of an infinite
    ensemble. For one member it equals the mean absolute error.

    Args:
        sums: Sums of `crps_sums`, (…, CRPS_PARTS).

    Returns:
        CRPS in the unit of the fields, (…).

    References:
        Ferro (2014).
    """
    pixels, error, difference = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return quotient(error - difference, pixels)


def pooled_crps_sums(ensemble: Tensor, observed: Tensor, pools: Sequence[int]) -> Tensor:
    """Accumulate the terms of the fair CRPS of neighborhoods.

    Members and observation are averaged, or their maximum is taken, over the blocks of `classes.pool_values`; every
    block with an observation counts once.

    Args:
        ensemble: Ensemble of m members, (n, m, y, x). NaN, in observation and members alike, is left out.
        observed: Observed fields in the same units, (n, y, x).
        pools: Side lengths of the blocks in pixels.

    Returns:
        (n, pooling, pool, CRPS_PARTS) float64: averages first, then maxima.

    References:
        Ravuri et al. (2021), CRPS of average-pooled and max-pooled forecasts.
    """
    by_pool = []
    for side in pools:
        blocks = zip(pool_values(ensemble.flatten(0, 1), side), pool_values(observed, side), strict=True)
        by_pool.append(torch.stack([_crps_of_blocks(of.unflatten(0, ensemble.shape[:2]), o) for of, o in blocks], 1))
    return torch.stack(by_pool, 2)


def _crps_of_blocks(ensemble: Tensor, observed: Tensor) -> Tensor:
    valid = ~observed.isnan()
    sums = crps_sums(sort_members(ensemble.where(valid[:, None], 0)), observed.where(valid, 0))[:, 0]
    sums[:, 0] = valid.sum((1, 2))
    return sums


def quantile_sums(ordered: Tensor, observed: Tensor, levels: Sequence[float]) -> Tensor:
    """Accumulate the quantile score (pinball loss) of the ensemble's quantiles.

    The loss of the quantile q at level τ is (y − q) τ where y ≥ q, and (q − y)(1 − τ) elsewhere. Quantiles are
    interpolated linearly between the ordered members, as by `numpy.quantile`.

    Args:
        ordered: Ensemble of m ≥ 2 members, as from `sort_members`, (n, m, y, x).
        observed: Observed fields in the same units, (n, y, x).
        levels: Levels τ of the quantiles, within (0, 1).

    Returns:
        (n, level, QUANTILE_PARTS) float64.

    References:
        Koenker & Bassett (1978); Gneiting (2011).
    """
    sums = torch.zeros(len(ordered), len(levels), len(QUANTILE_PARTS), dtype=torch.float64, device=ordered.device)
    sums[..., 0] = observed.shape[1:].numel()
    if on_cpu(ordered, observed):
        from polarcast.hpc.scores.pixel_kernels import quantile_terms

        quantile_terms(*as_arrays(ordered, observed), np.array(levels, np.float64), sums[..., 1].numpy())
        return sums
    values, truth, last = ordered.double(), observed.double(), ordered.shape[1] - 1
    for k, level in enumerate(levels):
        below = min(int(level * last), last - 1)
        low, high = values[:, below], values[:, below + 1]
        error = truth - (low + (level * last - below) * (high - low))
        sums[:, k, 1] = torch.maximum(level * error, (level - 1) * error).sum((1, 2))
    return sums


def quantile_score(sums: Array) -> Array:
    """Compute the mean quantile score in the unit of the fields, (…), from sums of `quantile_sums`."""
    pixels, loss = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return quotient(loss, pixels)


def spread_sums(ensemble: Tensor, observed: Tensor) -> Tensor:
    """Accumulate the ensemble variance and the squared error of the ensemble mean of each field.

    Args:
        ensemble: Ensemble of m ≥ 2 members, (n, m, y, x).
        observed: Observed fields in the same units, (n, y, x).

    Returns:
        (n, SPREAD_PARTS) float64.
    """
    if on_cpu(ensemble, observed):
        return _spread_by_kernel(ensemble, observed)
    x = ensemble.double()
    error = (x.mean(1) - observed.double()).square().sum((-2, -1))
    variance = x.var(1, correction=1).sum((-2, -1))
    return torch.stack([torch.full_like(error, observed.shape[1:].numel()), variance, error], -1)


def _spread_by_kernel(ensemble: Tensor, observed: Tensor) -> Tensor:
    from polarcast.hpc.scores.pixel_kernels import spread_terms

    sums = torch.zeros(len(ensemble), len(SPREAD_PARTS), dtype=torch.float64)
    spread_terms(*as_arrays(ensemble, observed), sums[:, 1:].numpy())
    sums[:, 0] = observed.shape[1:].numel()
    return sums


def spread_skill(sums: Array, members: int) -> Array:
    """Compute the ratio of ensemble spread to the RMSE of the ensemble mean.

    spread / skill = √((m + 1)/m · Σ variance / Σ error²), 1 if members and truth are exchangeable.

    Args:
        sums: Sums of `spread_sums`, (…, SPREAD_PARTS).
        members: Ensemble size m.

    Returns:
        Dimensionless ratio, (…).

    References:
        Fortin et al. (2014).
    """
    _, variance, error = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return np.sqrt((members + 1) / members * quotient(variance, error))


def rank_counts(ensemble: Tensor, observed: Tensor) -> Tensor:
    """Count the ranks of the observation among the members of each field (rank histogram).

    Ties are split evenly between all possible ranks; otherwise dry pixels would all count at one end. Pixels that are
    NaN in the observation are excluded.

    Args:
        ensemble: Ensemble of m members, (n, m, y, x).
        observed: Observed fields in the same units, (n, y, x).

    Returns:
        (n, m + 1) float64.
    """
    if on_cpu(ensemble, observed):
        return _ranks_by_kernel(ensemble, observed)
    members, truth = ensemble.shape[1], observed[:, None]
    below = (ensemble < truth).sum(1).flatten(1)
    equal = (ensemble == truth).sum(1).flatten(1)
    share = (~truth.isnan()).flatten(1) / (equal + 1).double()
    # Each pixel adds its share to ranks below … below + equal, as a step up and a step down before the cumsum.
    steps = torch.zeros(len(ensemble), members + 2, dtype=torch.float64, device=ensemble.device)
    steps.scatter_add_(1, below, share)
    steps.scatter_add_(1, below + equal + 1, -share)
    return steps.cumsum(1)[:, :-1]


def _ranks_by_kernel(ensemble: Tensor, observed: Tensor) -> Tensor:
    from polarcast.hpc.scores.pixel_kernels import count_ranks

    counts = torch.zeros(len(ensemble), ensemble.shape[1] + 1, dtype=torch.float64)
    count_ranks(*as_arrays(ensemble, observed), counts.numpy())
    return counts


def probability_counts(ensemble: Tensor, observed: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Count pixels and observed events by forecast probability.

    The forecast probability k/m is the share of members at or above the threshold. Pixels that are NaN in the
    observation are excluded.

    Args:
        ensemble: Ensemble of m members, (n, m, y, x).
        observed: Observed fields in the same units, (n, y, x).
        thresholds: Event thresholds in the same units.

    Returns:
        Pixels and events, (n, threshold, m + 1, 2) int64.
    """
    if on_cpu(ensemble, observed):
        return _probabilities_by_kernel(ensemble, observed, thresholds)
    wanted = scored_type(ensemble, observed)
    ensemble, observed = ensemble.to(wanted), observed.to(wanted)
    members, counts, valid = ensemble.shape[1], [], (~observed.isnan()).flatten(1).long()
    for threshold in thresholds:
        forecast = (ensemble >= threshold).sum(1).flatten(1)
        event = (observed >= threshold).flatten(1).long()
        size, device = (len(forecast), members + 1), forecast.device
        pixels, events = (torch.zeros(size, dtype=torch.int64, device=device) for _ in range(2))
        pixels.scatter_add_(1, forecast, valid)
        events.scatter_add_(1, forecast, event)
        counts.append(torch.stack([pixels, events], -1))
    return torch.stack(counts, 1)


def _probabilities_by_kernel(ensemble: Tensor, observed: Tensor, thresholds: Sequence[float]) -> Tensor:
    from polarcast.hpc.scores.pixel_kernels import count_probabilities

    counts = torch.zeros(len(ensemble), len(thresholds), ensemble.shape[1] + 1, 2, dtype=torch.int64)
    forecasts, observations = as_arrays(ensemble, observed)
    count_probabilities(forecasts, observations, np.array(thresholds, forecasts.dtype), counts.numpy())
    counts[..., 0] += counts[..., 1]  # counted without and with an event
    return counts


def brier(counts: Array) -> dict[str, Array]:
    """Compute the Brier score and its decomposition.

    BS = 1/N Σ (p − o)² = reliability − resolution + uncertainty. The decomposition is exact, with one bin for each
    possible probability.

    Args:
        counts: Counts of `probability_counts`, (…, m + 1, 2).

    Returns:
        `brier`, `reliability`, `resolution` and `uncertainty`, (…) each.

    References:
        Murphy (1973).
    """
    n, o = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    p = np.arange(n.shape[-1]) / (n.shape[-1] - 1)
    total = n.sum(-1)
    rate = np.nan_to_num(quotient(o, n))
    climate = quotient(o.sum(-1), total)[..., None]
    return {
        "brier": quotient((o * (1 - p) ** 2 + (n - o) * p**2).sum(-1), total),
        "reliability": quotient((n * (p - rate) ** 2).sum(-1), total),
        "resolution": quotient((n * (rate - climate) ** 2).sum(-1), total),
        "uncertainty": (climate * (1 - climate))[..., 0],
    }


def brier_skill(counts: Array) -> Array:
    """Compute the Brier skill score 1 − BS / uncertainty, against the observed frequency of the same pixels.

    Args:
        counts: Counts of `probability_counts`, (…, m + 1, 2).

    Returns:
        At most 1, (…); NaN if there are no events, or only events.
    """
    parts = brier(counts)
    return 1 - quotient(parts["brier"], parts["uncertainty"])


def roc(counts: Array) -> tuple[Array, Array]:
    """Compute the receiver operating characteristic (ROC) curve.

    Args:
        counts: Counts of `probability_counts`, (…, m + 1, 2).

    Returns:
        False alarm rate and hit rate, (…, m + 2) each, by descending probability threshold: from (0, 0) to (1, 1).
    """
    n, o = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    rates = []
    for part in (n - o, o):
        reached = np.cumsum(part[..., ::-1], -1)
        rates.append(np.concatenate([np.zeros_like(reached[..., :1]), quotient(reached, reached[..., -1:])], -1))
    return rates[0], rates[1]


def roc_area(counts: Array) -> Array:
    """Compute the area under the ROC curve: 1 for a perfect forecast, ½ without skill.

    Args:
        counts: Counts of `probability_counts`, (…, m + 1, 2).

    Returns:
        Area, (…).
    """
    false_alarm, hit = roc(counts)
    return np.asarray(np.trapezoid(hit, false_alarm, axis=-1))


def economic_value(counts: Array, cost_loss: Array) -> Array:
    """Compute the relative economic value at the best probability threshold for each cost–loss ratio.

    V = (min(α, s) − F α (1 − s) + H s (1 − α) − s) / (min(α, s) − s α).
    α is the cost–loss ratio, s the base rate, F the false alarm rate and H the hit rate. V is 1 for a perfect forecast
    and 0 for one as good as climatology.

    Args:
        counts: Counts of `probability_counts`, (…, m + 1, 2).
        cost_loss: Cost–loss ratios, (r,).

    Returns:
        Value, (…, r).

    References:
        Richardson (2000).
    """
    false_alarm, hit = roc(counts)
    n, o = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    climate = quotient(o.sum(-1), n.sum(-1))[..., None, None]
    a, h, f = np.asarray(cost_loss)[:, None], hit[..., None, :], false_alarm[..., None, :]
    saved = np.minimum(a, climate) - f * a * (1 - climate) + h * climate * (1 - a) - climate
    return quotient(saved, np.minimum(a, climate) - climate * a).max(-1)
