"""Views: transforms of scaled radar fields, for the members of bagging (source paper §6.2) and as further channels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.scaling import constants
from polarcast.models.common.settings import setting

View = Callable[[Tensor], Tensor]
"""Transform of scaled radar (b, t, v, z, y, x) that keeps its shape."""
_KNOTS = ((0.0, 0.0), (0.3, 0.15), (0.7, 0.85), (1.0, 1.0))
"""Knots (f, g) of the stretch: contrast increases between scaled values 0.3 and 0.7 and decreases outside."""
_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def raw(radar: Tensor) -> Tensor:
    """Return the fields unchanged."""
    return radar


def edges(radar: Tensor) -> Tensor:
    """Return the mean of the two directional Sobel responses (eq. 6.6), with replicated edge pixels."""
    along_x = constants([weight for row in _SOBEL for weight in row], radar).view(3, 3)
    # The mean of the two convolutions is the convolution with the mean of the two kernels.
    kernel = ((along_x + along_x.T) / 2)[None, None]
    fields = F.pad(radar.flatten(0, -3)[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(fields, kernel).view_as(radar)


def stretch(radar: Tensor) -> Tensor:
    """Apply the piecewise linear stretch through `_KNOTS` (eq. 6.7), extrapolated beyond 0 and 1.

    The printed equation is discontinuous at the knots; this version is continuous, as in figure 6.6 of the paper.
    """
    lines = [(g - slope * f, slope) for (f, g), slope in zip(_KNOTS[:-1], _slopes(), strict=True)]
    inner_knots = constants([f for f, _ in _KNOTS[1:-1]], radar)
    piece = torch.bucketize(radar.contiguous(), inner_knots)
    offset, slope = (constants(values, radar)[piece] for values in zip(*lines, strict=True))
    return offset + slope * radar


def _slopes() -> list[float]:
    return [(g1 - g0) / (f1 - f0) for (f0, g0), (f1, g1) in pairwise(_KNOTS)]


def along_y(radar: Tensor) -> Tensor:
    """Return the derivative along y per pixel: central differences, one-sided at the border."""
    return _derivative(radar, -2)


def along_x(radar: Tensor) -> Tensor:
    """Return the derivative along x per pixel: central differences, one-sided at the border."""
    return _derivative(radar, -1)


def _derivative(radar: Tensor, axis: int) -> Tensor:
    last = radar.shape[axis] - 1
    inner = (radar.narrow(axis, 2, last - 1) - radar.narrow(axis, 0, last - 1)) / 2
    first, end = (radar.narrow(axis, at + 1, 1) - radar.narrow(axis, at, 1) for at in (0, last - 1))
    return torch.cat([first, inner, end], axis)


VIEWS: dict[str, View] = {"raw": raw, "edges": edges, "stretch": stretch}
FEATURES: dict[str, tuple[View, ...]] = {"edges": (edges,), "gradients": (along_y, along_x), "stretch": (stretch,)}
"""Views that each feature adds to the fields."""


@dataclass
class FeaturesConfig:
    """Setting of the QPE networks that can read views of the fields beside the fields themselves."""

    features: list[str] = setting([], choices=tuple(FEATURES), distinct=True)
    """Views of each radar field as further channels: edges (Sobel), gradients (along y and x), stretch."""


def views_per_field(config: FeaturesConfig) -> int:
    """Return the number of channels of each radar field, the field itself included."""
    return 1 + len(_views(config.features))


def with_features(radar: Tensor, config: FeaturesConfig) -> Tensor:
    """Return scaled radar (b, t, v, z, y, x) and its views, (b, views · t, v, z, y, x), the fields themselves first."""
    views = _views(config.features)
    return torch.cat([radar, *(view(radar) for view in views)], 1) if views else radar


def _views(features: Sequence[str]) -> list[View]:
    return [view for name in features for view in FEATURES[name]]
