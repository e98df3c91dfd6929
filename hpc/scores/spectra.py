"""Is it as rough as weather: spectra of variance and histograms of values, which tell blur as a number."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from polarcast.hpc.scores.ratios import Array, quotient


def spectrum(field: Tensor) -> Tensor:
    """Radially averaged power spectral density of each square field (n, s, s): (n, s // 2) float64.

    By whole wavenumbers 0 … s/2 − 1 around the centre, as pysteps has it (Ruzanski & Chandrasekar 2011).

    Raises:
        ValueError: the fields are not square.
    """
    size = field.shape[-1]
    if field.shape[-2] != size:
        raise ValueError(f"the spectrum of a field needs it square, got {tuple(field.shape[-2:])}")
    power = torch.fft.fftshift(torch.fft.fft2(field.double()), dim=(-2, -1)).abs().square() / size**2
    ring = _rings(size, field.device)
    sums = torch.zeros(len(field), int(ring.max()) + 1, dtype=torch.float64, device=field.device)
    sums.index_add_(1, ring, power.flatten(1))
    return (sums / torch.bincount(ring))[:, : size // 2]


def _rings(size: int, device: torch.device | None = None) -> Tensor:
    """Whole wavenumber of each coefficient of a square field, (size²,) int64."""
    # The centre is where fftshift puts wavenumber 0.
    axis = torch.arange(size, device=device, dtype=torch.float64) - size // 2
    return (axis[:, None].square() + axis[None].square()).sqrt().round().long().flatten()


def spectrum_ratio(forecast: Array, observed: Array) -> Array:
    """Power of forecast over that of observation at each wavenumber, of sums (…, k): below 1 where detail was lost."""
    return quotient(forecast, observed)


@cache
def ring_sizes(size: int, bounds: tuple[int, ...]) -> Array:
    """Coefficients around a ring of each band of wavenumbers, on average over the band: (band,).

    Args:
        size: Pixels along a side of the field.
        bounds: The first wavenumber of each band; the last one ends where a row's spectrum does.
    """
    held = torch.bincount(_rings(size))[: size // 2].double().numpy()
    sizes = np.array([held[low:high].mean() for low, high in pairwise([*bounds, size // 2])])
    sizes.setflags(write=False)  # a bootstrap asks for them thousands of times: they are shared
    return sizes


def lost_variance(forecast: Array, observed: Array, held: Array) -> Array:
    """Share of the observed variance at all scales but the mean that a forecast lacks.

    Args:
        forecast: Sums of its spectra in bands, the mean first, (…, band).
        observed: As many.
        held: Coefficients around a ring of each band, (band,): a spectrum is a mean around each ring, of which larger
            ones hold more of the variance.

    Returns:
        (…): 0 where nothing is lost, below 0 where the forecast varies more.
    """
    return 1 - quotient(forecast[..., 1:] @ held[1:], observed[..., 1:] @ held[1:])


def histogram(field: Tensor, edges: Sequence[float]) -> Tensor:
    """Pixels of each field (n, y, x) between edges, (n, len(edges) + 1) int64: below the first, …, from the last on."""
    bounds = torch.tensor(edges, dtype=field.dtype, device=field.device)
    bins = torch.bucketize(field.flatten(1).contiguous(), bounds, right=True)
    counts = torch.zeros(len(field), len(edges) + 1, dtype=torch.int64, device=field.device)
    return counts.scatter_add_(1, bins, torch.ones_like(bins))


def joint_histogram(forecast: Tensor, observed: Tensor, edges: Sequence[float]) -> Tensor:
    """Pixels of each field (n, y, x) by the bins of both values, (n, forecast, observed) int64; bins as of `histogram`.

    Pixels that lack either are left out.
    """
    bounds, bins = torch.tensor(edges, dtype=forecast.dtype, device=forecast.device), len(edges) + 1
    said, seen = (torch.bucketize(f.flatten(1).contiguous(), bounds, right=True) for f in (forecast, observed))
    both = (~(forecast.isnan() | observed.isnan())).flatten(1).long()
    counts = torch.zeros(len(forecast), bins * bins, dtype=torch.int64, device=forecast.device)
    return counts.scatter_add_(1, said * bins + seen, both).unflatten(1, (bins, bins))


def overlap(one: Array, other: Array) -> Array:
    """Common area of two histograms (…, b), each of area 1: 1 for the same distribution (Perkins et al. 2007)."""
    shares = [quotient(h, h.sum(-1, keepdims=True)) for h in (np.asarray(one, float), np.asarray(other, float))]
    return np.minimum(*shares).sum(-1)
