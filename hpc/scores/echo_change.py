"""Classify echo change (growth, decay, initiation), which extrapolation cannot forecast."""

import torch
from torch import Tensor

CHANGES = ("decays", "steady", "grows", "initiates")
ECHO_DBZ = 30.0
_FACTOR = 1.25
_LEAST_SHARE = 1e-3
"""Share of pixels below which a field counts as free of echo."""


def change_of(before: Tensor, observed: Tensor) -> Tensor:
    """Classify the change of the echo area at or above 30 dBZ.

    Echo grows if its area is at least 1.25 times the earlier area, and decays if it is at most the earlier area / 1.25.
    It initiates if the earlier area was below a thousandth of the pixels. Fields without echo at both times are steady.
    Pixels that are NaN at either time do not count.

    Args:
        before: zh of the last input frame in dBZ, (n, y, x).
        observed: Observed zh of the forecast frame in dBZ, (n, y, x).

    Returns:
        Index into CHANGES, (n,).
    """
    valid = ~(before.isnan() | observed.isnan())
    pixels = valid.sum((-2, -1)).clamp(min=1)
    earlier, later = (((field >= ECHO_DBZ) & valid).sum((-2, -1)).double() / pixels for field in (before, observed))
    change = torch.full(earlier.shape, CHANGES.index("steady"), device=earlier.device)
    change[later * _FACTOR <= earlier] = CHANGES.index("decays")
    change[later >= earlier * _FACTOR] = CHANGES.index("grows")
    change[(earlier < _LEAST_SHARE) & (later >= _LEAST_SHARE)] = CHANGES.index("initiates")
    change[(earlier < _LEAST_SHARE) & (later < _LEAST_SHARE)] = CHANGES.index("steady")
    return change


def by_change(sums: Tensor, change: Tensor) -> Tensor:
    """Spread the sums of each field (n, …) over a change axis: (n, change, …), zero for all other changes."""
    out = sums.new_zeros(len(sums), len(CHANGES), *sums.shape[1:])
    out[torch.arange(len(sums), device=sums.device), change] = sums
    return out
