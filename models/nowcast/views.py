"""Views of the radar fields that members of an ensemble see in place of the fields themselves (source paper §6.2)."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

View = Callable[[Tensor], Tensor]
"""Of scaled radar (b, t, v, z, y, x), of the same shape."""
_KNOTS = ((0.0, 0.0), (0.3, 0.15), (0.7, 0.85), (1.0, 1.0))
"""Of the stretch, (f, g): scaled values between 0.3 and 0.7 are pulled apart, those beyond pushed together."""
_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def raw(radar: Tensor) -> Tensor:
    """The fields as they are."""
    return radar


def edges(radar: Tensor) -> Tensor:
    """Mean of the two directional responses of the Sobel operator, eq. 6.6; edge pixels are repeated outwards."""
    along_x = radar.new_tensor(_SOBEL)
    # The mean of the two convolutions is the convolution with the mean of the two kernels.
    kernel = ((along_x + along_x.T) / 2)[None, None]
    fields = F.pad(radar.flatten(0, -3)[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(fields, kernel).view_as(radar)


def stretch(radar: Tensor) -> Tensor:
    """Piecewise linear through `_KNOTS`, eq. 6.7, whose lines go on beyond 0 and 1.

    As printed the equation jumps at its knots; here the lines meet, as the paper's figure 6.6 has it.
    """
    lines = [(g - slope * f, slope) for (f, g), slope in zip(_KNOTS[:-1], _slopes(), strict=True)]
    edges_of = radar.new_tensor([f for f, _ in _KNOTS[1:-1]])
    piece = torch.bucketize(radar.contiguous(), edges_of)
    offset, slope = (radar.new_tensor(values)[piece] for values in zip(*lines, strict=True))
    return offset + slope * radar


def _slopes() -> list[float]:
    return [(g1 - g0) / (f1 - f0) for (f0, g0), (f1, g1) in pairwise(_KNOTS)]


VIEWS: dict[str, View] = {"raw": raw, "edges": edges, "stretch": stretch}
