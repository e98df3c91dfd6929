"""Input views (transforms of the radar fields) for the members of bagging (source paper §6.2)."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.scaling import constants

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


VIEWS: dict[str, View] = {"raw": raw, "edges": edges, "stretch": stretch}
