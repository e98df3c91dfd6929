"""Fields brought to zero mean and unit variance, as a diffusion process assumes them."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Standard(nn.Module):
    """x' = (x − mean) / std for each channel, with mean and std of training fields, kept as buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 1, mean: float = 0.0, std: float = 1.0) -> None:
        """Begin with a guess, for models that are never fitted."""
        super().__init__()
        self.register_buffer("mean", torch.full((channels, 1, 1), mean))
        self.register_buffer("std", torch.full((channels, 1, 1), std))

    def fit(self, fields: Iterable[Tensor]) -> None:
        """Mean and standard deviation over all pixels of fields (b, c, y, x); a constant channel keeps std 1."""
        mean, std = moments(fields)
        self.mean.copy_(mean[:, None, None])
        self.std.copy_(torch.where(std > 0, std, 1)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, y, x) → standardised."""
        return (x - self.mean) / self.std

    def restore(self, x: Tensor) -> Tensor:
        """Inverse of `forward`."""
        return x * self.std + self.mean


def moments(fields: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel (c,) over all pixels of all fields (b, c, y, x), in float64.

    Raises:
        ValueError: there are none.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for part in fields:
        values = part.detach().cpu().double().transpose(0, 1).flatten(1)
        # Chan et al. (1983): parts are merged by their means, so that nothing cancels.
        n, shift = values.shape[1], values.mean(1) - mean
        squares = squares + (values - values.mean(1, keepdim=True)).square().sum(1) + shift**2 * count * n / (count + n)
        mean = mean + shift * n / (count + n)
        count += n
    if not count:
        raise ValueError("no batches to learn statistics from")
    return mean, torch.sqrt(squares / count)
