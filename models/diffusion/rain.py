"""Rain transforms of diffusion models, and scores of generated rain."""

import torch
from torch import Tensor, nn

from polarcast.data.errors import BadInput
from polarcast.data.scaling import RAIN_TRANSFORMS, scale_rain, unscale_rain
from polarcast.models.common.rain import MOST_MMH

_MIN_MMH = 0.1
"""Rain threshold in mm/h."""
_RATE_SCALE_MMH = 10.0


class RainSpace(nn.Module):
    """Conversion between rain rate in mm/h and transformed rain, both (b, c, y, x)."""

    def __init__(self, transform: str) -> None:
        """Raise BadInput for an unknown transform."""
        super().__init__()
        if transform not in RAIN_TRANSFORMS:
            fix = f"choose from: {', '.join(RAIN_TRANSFORMS)}"
            raise BadInput(f"unknown rain transform {transform!r}", "model.rain_transform", fix)
        self.transform = transform

    def forward(self, rain_rate: Tensor) -> Tensor:
        """Transform rain rate in mm/h."""
        return scale_rain(rain_rate, self.transform)

    def rain_rate(self, transformed: Tensor) -> Tensor:
        """Return rain rate in mm/h, limited to 0–300."""
        _, high = self.limits(transformed)
        return unscale_rain(transformed.clamp(max=high), self.transform)

    def limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transformed values of 0 and `MOST_MMH`."""
        low, high = self(like.new_tensor([0.0, MOST_MMH]))
        return low, high


def rain_weight(rain_rate: Tensor, share: float) -> Tensor:
    """Return the pixel weight 1 + share · R / (10 mm/h), constant above 100 mm/h."""
    return 1 + share * (rain_rate / _RATE_SCALE_MMH).clamp(max=10.0)


def fair_crps(members: Tensor, observed: Tensor) -> Tensor:
    """Return the fair continuous ranked probability score (Ferro 2014), a mean over pixels and windows.

    mean_i |x_i − y| − Σ_ij |x_i − x_j| / (2 m (m − 1)); its expectation does not depend on the ensemble size m.

    Args:
        members: Ensemble, (b, m, ...), m ≥ 2.
        observed: Observation, (b, ...).
    """
    m = members.shape[1]
    error = (members - observed[:, None]).abs().mean()
    spread = (members[:, :, None] - members[:, None]).abs().sum((1, 2)).mean() / (m * (m - 1))
    return error - spread / 2


def score_of_members(members: Tensor, observed: Tensor, space: RainSpace) -> Tensor:
    """Return the fair CRPS of transformed rain plus that of R / (10 mm/h).

    Both are proper scores, so neither rewards blur or wrong spread. The first is sensitive to light rain, the second
    to heavy rain.

    Args:
        members: Ensemble, (b, m, t, y, x) in mm/h.
        observed: Observation, (b, t, y, x) in mm/h.
        space: Transform of the rain.
    """
    return fair_crps(space(members), space(observed)) + fair_crps(members, observed) / _RATE_SCALE_MMH


def collapse_alarm(members: Tensor, observed: Tensor) -> str | None:
    """Return a warning if the generated rain has collapsed, else None.

    Args:
        members: Ensemble, (b, m, t, y, x) in mm/h.
        observed: Observation, (b, t, y, x) in mm/h; a forecast of zero is correct if it does not rain.
    """
    if not torch.isfinite(members).all():
        return "generated rain is not finite"
    if (members < _MIN_MMH).all() and (observed >= _MIN_MMH).any():
        return "generated rain is zero everywhere"
    saturated = float((members >= 0.99 * MOST_MMH).float().mean())
    if saturated > 0.05:
        return f"{100 * saturated:.0f}% of the generated pixels reach the limit of {MOST_MMH:g} mm/h"
    if members.shape[1] > 1 and (members == members[:, :1]).all() and (members > 0).any():
        return "all members of the generated ensemble are equal"
    return None
