"""Test fields for scores: rain-like fields and edge cases with undefined scores."""

import torch
from torch import Tensor

SIZE = 32


def rain(seed: int, frames: int = 4, size: int = SIZE) -> Tensor:
    """Return smooth patches of rain among dry pixels in mm/h, (n, y, x) float32."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(frames, 1, size // 4, size // 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")[:, 0]
    return (20 * smooth).clamp(min=0)


def one_pixel(frames: int = 4, size: int = SIZE) -> Tensor:
    field = torch.zeros(frames, size, size)
    field[:, size // 3, size // 2] = 37.0
    return field


def missing(field: Tensor, seed: int = 9) -> Tensor:
    """Replace a tenth of the pixels with NaN."""
    gone = torch.rand(field.shape, generator=torch.Generator().manual_seed(seed)) < 0.1
    return torch.where(gone, torch.nan, field)


PAIRS = {
    "rain": (rain(1), rain(2)),
    "the same": (rain(1), rain(1)),
    "a little off": (rain(1), rain(1).roll(2, -1) * 1.1),
    "all dry": (torch.zeros(4, SIZE, SIZE), torch.zeros(4, SIZE, SIZE)),
    "false alarm": (rain(1), torch.zeros(4, SIZE, SIZE)),
    "missed": (torch.zeros(4, SIZE, SIZE), rain(2)),
    "all rain": (rain(1) + 60, rain(2) + 60),
    "one pixel": (one_pixel(), rain(2)),
    "missing values": (rain(1), missing(rain(2))),
}
"""Pairs of forecast and observation by name."""
