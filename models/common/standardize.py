"""Standardization of fields to zero mean and unit variance, as diffusion processes assume."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Standard(nn.Module):
    """Channel-wise standardization x' = (x − mean) / std; mean and std of the training fields are buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 1, mean: float = 0.0, std: float = 1.0) -> None:
        """Initialize all channels with one mean and std, which apply until `fit` is called."""
        super().__init__()
        self.register_buffer("mean", torch.full((channels, 1, 1), mean))
        self.register_buffer("std", torch.full((channels, 1, 1), std))

    def fit(self, fields: Iterable[Tensor]) -> None:
        """Fit mean and std over all pixels of fields (b, c, y, x); a constant channel gets std 1."""
        mean, std = moments(fields)
        self.mean.copy_(mean[:, None, None])
        self.std.copy_(torch.where(std > 0, std, 1)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Standardize fields (b, c, y, x)."""
        return (x - self.mean) / self.std

    def restore(self, x: Tensor) -> Tensor:
        """Invert `forward`."""
        return x * self.std + self.mean


def moments(fields: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, both (c,) float64, over all pixels of fields (b, c, y, x).

    Raises:
        ValueError: `fields` is empty.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for part in fields:
        values = part.detach().cpu().double().transpose(0, 1).flatten(1)
        # Chan et al. (1983): merging by means avoids cancellation.
        n, shift = values.shape[1], values.mean(1) - mean
        squares = squares + (values - values.mean(1, keepdim=True)).square().sum(1) + shift**2 * count * n / (count + n)
        mean = mean + shift * n / (count + n)
        count += n
    if not count:
        raise ValueError("no batches to compute statistics from")
    return mean, torch.sqrt(squares / count)
