"""Rain rates as a diffusion sees them, and how rain that was made of noise is judged."""

import torch
from torch import Tensor, nn

from polarcast.data.errors import BadInput
from polarcast.data.scaling import RAIN_TRANSFORMS, scale_rain, unscale_rain
from polarcast.models.common.rain import MOST_MMH

_LEAST_MMH = 0.1
"""Less than this is no rain."""
_RATE_SCALE_MMH = 10.0


class RainSpace(nn.Module):
    """mm/h ↔ transformed rain, (b, c, y, x) both."""

    def __init__(self, transform: str) -> None:
        """Raises BadInput for an unknown transform."""
        super().__init__()
        if transform not in RAIN_TRANSFORMS:
            fix = f"use one of: {', '.join(RAIN_TRANSFORMS)}"
            raise BadInput(f"unknown rain transform {transform!r}", "model.rain_transform", fix)
        self.transform = transform

    def forward(self, rain_rate: Tensor) -> Tensor:
        """mm/h → transformed."""
        return scale_rain(rain_rate, self.transform)

    def rain_rate(self, transformed: Tensor) -> Tensor:
        """Transformed → mm/h, from 0 to 300."""
        _, most = self.limits(transformed)
        return unscale_rain(transformed.clamp(max=most), self.transform)

    def limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """No rain and the most rain, transformed."""
        least, most = self(like.new_tensor([0.0, MOST_MMH]))
        return least, most


def rain_weight(rain_rate: Tensor, share: float) -> Tensor:
    """1 + share · R / (10 mm/h) for each pixel, up to 100 mm/h."""
    return 1 + share * (rain_rate / _RATE_SCALE_MMH).clamp(max=10.0)


def fair_crps(members: Tensor, observed: Tensor) -> Tensor:
    """Mean fair continuous ranked probability score (Ferro 2014) over pixels and windows.

    mean_i |x_i − y| − Σ_ij |x_i − x_j| / (2 m (m − 1)): its expectation does not depend on the number of members.

    Args:
        members: (b, m, ...), m ≥ 2.
        observed: (b, ...).
    """
    m = members.shape[1]
    error = (members - observed[:, None]).abs().mean()
    apart = (members[:, :, None] - members[:, None]).abs().sum((1, 2)).mean() / (m * (m - 1))
    return error - apart / 2


def score_of_members(members: Tensor, observed: Tensor, space: RainSpace) -> Tensor:
    """What generated rain is judged by: fair CRPS of transformed rain, plus that of R / (10 mm/h).

    Both are proper, so none rewards blur or false spread; the first feels light rain, the second heavy rain.

    Args:
        members: (b, m, t, y, x) in mm/h.
        observed: (b, t, y, x) in mm/h.
    """
    return fair_crps(space(members), space(observed)) + fair_crps(members, observed) / _RATE_SCALE_MMH


def collapse_alarm(members: Tensor, observed: Tensor) -> str | None:
    """Whether generated rain has collapsed: a message, or None.

    Args:
        members: (b, m, t, y, x) in mm/h.
        observed: (b, t, y, x) in mm/h; where it does not rain, a forecast of zero is right.
    """
    if not torch.isfinite(members).all():
        return "generated rain is not finite"
    if (members < _LEAST_MMH).all() and (observed >= _LEAST_MMH).any():
        return "generated rain is zero everywhere"
    saturated = float((members >= 0.99 * MOST_MMH).float().mean())
    if saturated > 0.05:
        return f"{100 * saturated:.0f}% of the generated pixels are at the limit of {MOST_MMH:g} mm/h"
    if members.shape[1] > 1 and (members == members[:, :1]).all() and (members > 0).any():
        return "all members of the generated ensemble are the same"
    return None
