"""Whether echo grows, decays or begins where a nowcast is made: scores apart for what extrapolation can't know."""

import torch
from torch import Tensor

CHANGES = ("decays", "steady", "grows", "initiates")
ECHO_DBZ = 30.0
_FACTOR = 1.25
_LEAST_SHARE = 1e-3
"""Of the pixels with echo: a field with less has none."""


def change_of(before: Tensor, observed: Tensor) -> Tensor:
    """How the area of echo of at least 30 dBZ has changed, (n,) as a place in CHANGES.

    It grows where it is 1.25 times as large, decays where it is 1.25 times smaller, and initiates where there was none
    (less than a thousandth of the pixels). Fields without echo at either time are steady.

    Args:
        before: (n, y, x) zh in dBZ of the last frame seen.
        observed: (n, y, x) of the frame forecast.
    """
    was, now = ((field >= ECHO_DBZ).double().mean((-2, -1)) for field in (before, observed))
    found = torch.full(was.shape, CHANGES.index("steady"), device=was.device)
    found[now * _FACTOR <= was] = CHANGES.index("decays")
    found[now >= was * _FACTOR] = CHANGES.index("grows")
    found[(was < _LEAST_SHARE) & (now >= _LEAST_SHARE)] = CHANGES.index("initiates")
    found[(was < _LEAST_SHARE) & (now < _LEAST_SHARE)] = CHANGES.index("steady")
    return found


def by_change(sums: Tensor, change: Tensor) -> Tensor:
    """Sums of each field (n, …) where they belong, zero elsewhere: (n, change, …)."""
    out = sums.new_zeros(len(sums), len(CHANGES), *sums.shape[1:])
    out[torch.arange(len(sums), device=sums.device), change] = sums
    return out
