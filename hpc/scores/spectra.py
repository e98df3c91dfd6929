"""Measures of blur: power spectra and histograms of values."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from polarcast.hpc.scores.arrays import on_cpu
from polarcast.hpc.scores.classes import classify, joint_counts
from polarcast.hpc.scores.ratios import Array, quotient

_ROUNDING = 1e-28
"""Power at a wavenumber, as a share of all power of a field, up to which it is rounding of the transform in float64."""


def spectrum(field: Tensor) -> Tensor:
    """Compute the radially averaged power spectral density of square fields, as pysteps does.

    Args:
        field: Square fields, (n, s, s).

    Returns:
        Power at the integer wavenumbers 0 … s // 2 − 1 in squared units of the field, (n, s // 2) float64. Power that
        is rounding of the transform is 0: a constant field has power at wavenumber 0 only.

    Raises:
        ValueError: the fields are not square.

    References:
        Ruzanski & Chandrasekar (2011).
    """
    size = field.shape[-1]
    if field.shape[-2] != size:
        raise ValueError(f"expected square fields, got {tuple(field.shape[-2:])}")
    if on_cpu(field):
        return _by_kernel(field)
    power = torch.fft.fftshift(torch.fft.fft2(field.double()), dim=(-2, -1)).abs().square() / size**2
    ring = _rings(size, field.device)
    sums = torch.zeros(len(field), int(ring.max()) + 1, dtype=torch.float64, device=field.device)
    sums.index_add_(1, ring, power.flatten(1))
    power = sums / torch.bincount(ring)
    return power.where(power > _ROUNDING * sums.sum(1, keepdim=True), 0)[:, : size // 2]


def _by_kernel(field: Tensor) -> Tensor:
    """Compute the spectrum from the half of the coefficients that is not redundant for a real field."""
    from polarcast.hpc.scores.pixel_kernels import ring_sums

    size = field.shape[-1]
    rings, weights, counts = _half_rings(size)
    sums = np.zeros((len(field), len(counts)))
    # The last digits of torch.fft depend on the number of fields and threads.
    ring_sums(np.fft.rfft2(field.double().numpy()), rings, weights, sums)
    is_rounding = sums <= _ROUNDING * sums.sum(1, keepdims=True) * counts
    return torch.from_numpy(np.where(is_rounding, 0, sums / (counts * size**2))[:, : size // 2])


@cache
def _half_rings(size: int) -> tuple[Array, Array, Array]:
    """Return the ring of each coefficient of `rfft2` (y, x), the weight of each column (x,) and the size of each ring.

    A column of weight 2 stands for its mirror image, too.
    """
    full = _rings(size).view(size, size)
    middle = size // 2
    # rfft2 orders rows from wavenumber 0; its columns are the wavenumbers 0 … size // 2, −size // 2 if it is even.
    rings = torch.fft.ifftshift(full)[:, : middle + 1]
    weights = np.full(middle + 1, 2.0)
    weights[0] = 1
    if size % 2 == 0:
        weights[-1] = 1
    return rings.to(torch.int32).numpy().copy(), weights, torch.bincount(full.flatten()).double().numpy()


def _rings(size: int, device: torch.device | None = None) -> Tensor:
    """Return the integer wavenumber of each Fourier coefficient of a square field, (size²,) int64."""
    # fftshift moves wavenumber 0 to index size // 2.
    axis = torch.arange(size, device=device, dtype=torch.float64) - size // 2
    return (axis[:, None].square() + axis[None].square()).sqrt().round().long().flatten()


def spectrum_ratio(forecast: Array, observed: Array) -> Array:
    """Compute the ratio of forecast to observed power at each wavenumber; below 1 where detail is lost.

    Args:
        forecast: Summed forecast power, (…, k).
        observed: Summed observed power, (…, k).

    Returns:
        Ratio, (…, k).
    """
    return quotient(forecast, observed)


@cache
def ring_sizes(size: int, bounds: tuple[int, ...]) -> Array:
    """Return the mean number of Fourier coefficients per wavenumber of each band, (band,).

    Args:
        size: Side length of the square field in pixels.
        bounds: First wavenumber of each band; the last band ends at size // 2.
    """
    coefficients = torch.bincount(_rings(size))[: size // 2].double().numpy()
    sizes = np.array([coefficients[low:high].mean() for low, high in pairwise([*bounds, size // 2])])
    sizes.setflags(write=False)  # cached: a bootstrap shares them between thousands of calls
    return sizes


def lost_variance(forecast: Array, observed: Array, sizes: Array) -> Array:
    """Compute the share of the observed variance that a forecast lacks.

    1 − Σ n_k P_f(k) / Σ n_k P_o(k) over all bands but the first, which holds the mean.

    Args:
        forecast: Summed forecast spectra by band, (…, band).
        observed: Summed observed spectra by band, (…, band).
        sizes: Coefficients n_k per wavenumber of each band, (band,). A spectrum is averaged over each ring, and larger
            rings hold more of the variance.

    Returns:
        Share, (…): 0 if no variance is lost, negative if the forecast varies more.
    """
    return 1 - quotient(forecast[..., 1:] @ sizes[1:], observed[..., 1:] @ sizes[1:])


def histogram(field: Tensor, edges: Sequence[float]) -> Tensor:
    """Count the pixels of each field by bin; the first and last bins are open, and NaN is in none.

    Args:
        field: Fields, (n, y, x).
        edges: Bin edges in the unit of the field, ascending; a bin includes its lower edge.

    Returns:
        Counts, (n, len(edges) + 1) int64.
    """
    return marginal_histograms(joint_classes(field, field, edges))[0]


def joint_histogram(forecast: Tensor, observed: Tensor, edges: Sequence[float]) -> Tensor:
    """Count the pixels of each field by the bins of forecast and observed value.

    Pixels that are NaN in either field are excluded.

    Args:
        forecast: Forecast fields, (n, y, x).
        observed: Observed fields in the same units, (n, y, x).
        edges: Bin edges, as in `histogram`.

    Returns:
        Counts, (n, forecast bin, observed bin) int64.
    """
    return joint_classes(forecast, observed, edges)[:, 1:, 1:]


def joint_classes(forecast: Tensor, observed: Tensor, edges: Sequence[float]) -> Tensor:
    """Count pixels as `joint_histogram`, with NaN as class 0 before the bins: (n, class, class) int64."""
    classes = [classify(field, edges) for field in ((forecast,) if forecast is observed else (forecast, observed))]
    return joint_counts(classes[0], classes[-1], len(edges) + 2)


def marginal_histograms(joint: Tensor) -> tuple[Tensor, Tensor]:
    """Return the histograms of forecast and observation, (n, bin) each, from the counts of `joint_classes`."""
    return joint.sum(2)[:, 1:], joint.sum(1)[:, 1:]


def overlap(one: Array, other: Array) -> Array:
    """Compute the overlap Σ min(p, q) of two normalized histograms; 1 for equal distributions.

    Args:
        one: Counts, (…, b).
        other: Counts, (…, b).

    Returns:
        Overlap, (…).

    References:
        Perkins et al. (2007).
    """
    shares = [quotient(h, h.sum(-1, keepdims=True)) for h in (np.asarray(one, float), np.asarray(other, float))]
    return np.minimum(*shares).sum(-1)
