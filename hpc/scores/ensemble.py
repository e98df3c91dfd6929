"""Ensembles: how far their members are from the truth and from each other, and what their probabilities are worth."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polarcast.hpc.scores.ratios import Array, quotient

CRPS_PARTS = ("pixels", "sum_abs_error", "sum_abs_difference")
SPREAD_PARTS = ("pixels", "sum_variance", "sum_sq_error")


def crps_sums(ensemble: Tensor, observed: Tensor, thresholds: Sequence[float] = (-float("inf"),)) -> Tensor:
    """Sums for the fair CRPS of each field, (n, threshold, CRPS_PARTS) float64.

    Above a threshold only what happens there counts: values below are raised to it (threshold-weighted by chaining;
    Allen, Ginsbourger & Ziegel 2023).

    Args:
        ensemble: (n, m, y, x), m members.
        observed: (n, y, x).
        thresholds: −∞ for the plain score.
    """
    members = ensemble.shape[1]
    ordered, truth = ensemble.double().sort(1).values, observed.double()
    # Σ over pairs of |xᵢ − xⱼ| of ordered members = Σᵢ (2i − m − 1) xᵢ
    weights = 2 * torch.arange(1, members + 1, device=ensemble.device, dtype=torch.float64) - members - 1
    parts = []
    for threshold in thresholds:
        x, y = ordered.clamp(min=threshold), truth.clamp(min=threshold)
        error = (x - y[:, None]).abs().mean(1).sum((-2, -1))
        difference = torch.einsum("nmyx,m->n", x, weights) / max(1, members * (members - 1))
        parts.append(torch.stack([torch.full_like(error, y[0].numel()), error, difference], -1))
    return torch.stack(parts, 1)


def fair_crps(sums: Array) -> Array:
    """E|X − y| − ½ E|X − X'| with the pairs of different members only (Ferro 2014): as if there were infinitely many.

    Of one member it is the mean absolute error.
    """
    pixels, error, difference = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return quotient(error - difference, pixels)


def spread_sums(ensemble: Tensor, observed: Tensor) -> Tensor:
    """Sums for spread and skill of each field, (n, SPREAD_PARTS) float64; ensemble (n, m, y, x), m ≥ 2."""
    x = ensemble.double()
    error = (x.mean(1) - observed.double()).square().sum((-2, -1))
    variance = x.var(1, correction=1).sum((-2, -1))
    return torch.stack([torch.full_like(error, observed[0].numel()), variance, error], -1)


def spread_skill(sums: Array, members: int) -> Array:
    """Spread over error of the mean, √((m + 1)/m · Σvariance / Σerror²): 1 where members and truth are exchangeable
    (Fortin et al. 2014)."""
    _, variance, error = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    return np.sqrt((members + 1) / members * quotient(variance, error))


def rank_counts(ensemble: Tensor, observed: Tensor) -> Tensor:
    """How often the truth has each rank among the members, (n, m + 1) float64; ties are shared out evenly among the
    ranks they could have, which dry pixels would otherwise put at the end."""
    members, truth = ensemble.shape[1], observed[:, None]
    below = (ensemble < truth).sum(1).flatten(1)
    equal = (ensemble == truth).sum(1).flatten(1)
    share = 1.0 / (equal + 1).double()
    # Each pixel adds its share to ranks below … below + equal: a step up, and a step down after.
    steps = torch.zeros(len(ensemble), members + 2, dtype=torch.float64, device=ensemble.device)
    steps.scatter_add_(1, below, share)
    steps.scatter_add_(1, below + equal + 1, -share)
    return steps.cumsum(1)[:, :-1]


def probability_counts(ensemble: Tensor, observed: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Pixels by forecast probability, and events among them: (n, threshold, m + 1, 2) int64.

    The probability is the share of members with a value of at least the threshold: k of m.
    """
    members, counts = ensemble.shape[1], []
    for threshold in thresholds:
        said = (ensemble >= threshold).sum(1).flatten(1)
        seen = (observed >= threshold).flatten(1).long()
        pixels, events = (torch.zeros(len(said), members + 1, dtype=torch.int64, device=said.device) for _ in range(2))
        pixels.scatter_add_(1, said, torch.ones_like(said))
        events.scatter_add_(1, said, seen)
        counts.append(torch.stack([pixels, events], -1))
    return torch.stack(counts, 1)


def brier(counts: Array) -> dict[str, Array]:
    """Brier score of counts (…, m + 1, 2), and its parts: score = reliability − resolution + uncertainty (Murphy 1973).

    Exact, for there is a bin for each probability that can be.
    """
    n, o = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    p = np.arange(n.shape[-1]) / (n.shape[-1] - 1)
    whole = n.sum(-1)
    rate = np.nan_to_num(quotient(o, n))
    climate = quotient(o.sum(-1), whole)[..., None]
    return {
        "brier": quotient((o * (1 - p) ** 2 + (n - o) * p**2).sum(-1), whole),
        "reliability": quotient((n * (p - rate) ** 2).sum(-1), whole),
        "resolution": quotient((n * (rate - climate) ** 2).sum(-1), whole),
        "uncertainty": (climate * (1 - climate))[..., 0],
    }


def roc(counts: Array) -> tuple[Array, Array]:
    """False alarm rate and hit rate, (…, m + 2), of acting at ever lower probabilities: from (0, 0) to (1, 1)."""
    n, o = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    rates = []
    for part in (n - o, o):
        reached = np.cumsum(part[..., ::-1], -1)
        rates.append(np.concatenate([np.zeros_like(reached[..., :1]), quotient(reached, reached[..., -1:])], -1))
    return rates[0], rates[1]


def roc_area(counts: Array) -> Array:
    """Area below the ROC curve: 1 perfect, ½ no better than chance."""
    false_alarm, hit = roc(counts)
    return np.asarray(np.trapezoid(hit, false_alarm, axis=-1))


def economic_value(counts: Array, cost_loss: Array) -> Array:
    """Relative economic value (Richardson 2000) at each cost–loss ratio (r,), for users who act at the probability that
    suits them best: (…, r); 1 perfect, 0 as good as climatology."""
    false_alarm, hit = roc(counts)
    n, o = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    climate = quotient(o.sum(-1), n.sum(-1))[..., None, None]
    a, h, f = np.asarray(cost_loss)[:, None], hit[..., None, :], false_alarm[..., None, :]
    above = np.minimum(a, climate) - f * a * (1 - climate) + h * climate * (1 - a) - climate
    return quotient(above, np.minimum(a, climate) - climate * a).max(-1)
