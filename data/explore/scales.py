"""Spatial spectra, motion, and Lagrangian lifetimes by scale.

All functions take `zh` at one height as (t, y, x) in dBZ with fill value 0. Pixels are of 1 km and frames 6 min apart,
unless said otherwise.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

Real = npt.NDArray[np.floating]

FRAME_MIN = 6.0
LOWEST_DBZ = 5.0
SCALES_KM = (8.0, 16.0, 32.0, 64.0)

_LAGS = 15


def spectrum(zh: Real, spacing_km: float = 1.0) -> tuple[Real, Real]:
    """Return wavenumbers (cycles per km) and isotropic power density of max(zh, 5 dBZ), averaged over frames."""
    size = zh.shape[-1]
    field = np.maximum(zh, LOWEST_DBZ)
    window = np.outer(np.hanning(size), np.hanning(size))
    anomaly = (field - (field * window).sum((-2, -1), keepdims=True) / window.sum()) * window
    power = (np.abs(fft.rfft2(anomaly)) ** 2).mean(axis=0)
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    edges = np.geomspace(1.5 / size, 0.5, 24)
    ring = np.digitize(k.ravel(), edges)
    count = np.bincount(ring, minlength=len(edges) + 1)[1:-1]
    total = np.bincount(ring, power.ravel(), minlength=len(edges) + 1)[1:-1]
    sums = np.bincount(ring, k.ravel(), minlength=len(edges) + 1)[1:-1]
    filled = count > 0
    return sums[filled] / count[filled] / spacing_km, total[filled] / count[filled]


def spectral_slope(k: Real, power: Real, shortest_km: float, longest_km: float) -> float:
    """Fit the exponent of a power law to a spectrum between two wavelengths; NaN for fewer than two points."""
    chosen = (k >= 1 / longest_km) & (k <= 1 / shortest_km) & (power > 0)
    if chosen.sum() < 2:
        return float("nan")
    return float(np.polyfit(np.log(k[chosen]), np.log(power[chosen]), 1)[0])


def motion(zh: Real) -> tuple[float, float]:
    """Estimate the mean displacement (y, x) per frame in pixels by cross-correlation of consecutive frames.

    The displacement is limited to a quarter of the width. The correlation is divided by the autocorrelation of the
    taper, which is biased to zero motion.
    """
    size, reach = zh.shape[-1], zh.shape[-1] // 4
    taper = np.outer(np.hanning(size), np.hanning(size))
    echo = np.maximum(zh, LOWEST_DBZ)
    spectra = fft.rfft2((echo - (echo * taper).sum() / taper.sum() / len(zh)) * taper)
    cross = (spectra[1:] * spectra[:-1].conj()).sum(axis=0)
    own = np.abs(fft.rfft2(taper)) ** 2
    correlation = fft.irfft2(cross, s=(size, size)) / fft.irfft2(own, s=(size, size))
    window = np.roll(correlation, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    row, column = np.unravel_index(window[1:-1, 1:-1].argmax(), (2 * reach - 1, 2 * reach - 1))
    y = _vertex(window[row : row + 3, column + 1])
    x = _vertex(window[row + 1, column : column + 3])
    return float(row + 1 - reach + y), float(column + 1 - reach + x)


def _vertex(three: Real) -> float:
    """Return the offset from the middle point of the vertex of a parabola through three points."""
    bend = three[0] - 2 * three[1] + three[2]
    return float(0.5 * (three[0] - three[2]) / bend) if bend < 0 else 0.0


def band_pass(field: Real, scale_km: float) -> Real:
    """Filter `field` (t, y, x) to wavelengths around `scale_km`, one octave wide (log-normal filter)."""
    size = field.shape[-1]
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    response = np.exp(-0.5 * (np.log(np.maximum(k, 1e-9) * scale_km) / (0.35 * np.log(2))) ** 2)
    return np.asarray(fft.irfft2(fft.rfft2(field) * response, s=field.shape[-2:]))


def lagged_products(band: Real, drift: tuple[float, float]) -> Real:
    """Return sums of products over the inner circle for the correlation along the motion: (lags, 3) of ab, aa, bb."""
    size = band.shape[-1]
    y, x = np.mgrid[:size, :size] - size // 2
    inner = np.hypot(y, x) < 0.42 * size
    sums = np.zeros((_LAGS + 1, 3))
    for lag in range(min(_LAGS, len(band) - 1) + 1):
        shift = tuple(round(d * lag) for d in drift)
        if max(map(abs, shift)) >= size // 2:
            break
        now, then = _overlap(band, shift), _overlap(band, (-shift[0], -shift[1]))
        both = _overlap(inner, shift) & _overlap(inner, (-shift[0], -shift[1]))
        a, b = then[: len(band) - lag][:, both], now[lag:][:, both]
        sums[lag] = (a * b).sum(), (a * a).sum(), (b * b).sum()
    return sums


def _overlap(field: npt.NDArray[Any], shift: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return the part of the field that a displacement by `shift` reaches from within the field."""
    rows, columns = (slice(max(s, 0), n + min(s, 0)) for s, n in zip(shift, field.shape[-2:], strict=True))
    return field[..., rows, columns]


def lifetime(sums: Real, step_minutes: float = FRAME_MIN) -> float:
    """Return the time in min at which a correlation, given as summed products (lags, 3), falls to 1/e.

    Beyond the last lag it is extrapolated by an exponential fit to the second half of the lags. NaN for too few lags.
    """
    used = (sums[:, 1] > 0) & (sums[:, 2] > 0)
    ab, aa, bb = sums[used].T
    r = ab / np.sqrt(aa * bb)
    below = np.flatnonzero(r < np.exp(-1))
    if len(below):
        i = below[0]
        return float(step_minutes * (i - 1 + (r[i - 1] - np.exp(-1)) / (r[i - 1] - r[i])))
    half = len(r) // 2
    if len(r) - half < 2:
        return float("nan")
    slope, level = np.polyfit(step_minutes * np.arange(half, len(r)), np.log(r[half:]), 1)
    return float((-1 - level) / slope) if slope < 0 else float("inf")


def correlation_sums(zh: Real, scales_km: Sequence[float] = SCALES_KM, spacing_km: float = 1.0) -> dict[float, Real]:
    """Return `lagged_products` of max(zh, 5 dBZ) of one event along its motion, at each scale."""
    drift = motion(zh)
    echo = np.maximum(zh, LOWEST_DBZ)
    return {s: lagged_products(band_pass(echo, s / spacing_km), drift) for s in scales_km}


def lifetimes(events: Iterable[Real], scales_km: Sequence[float] = SCALES_KM) -> dict[float, float]:
    """Return Lagrangian 1/e lifetimes in min of max(zh, 5 dBZ) by scale, from the pooled correlations of all events."""
    each = [correlation_sums(zh, scales_km) for zh in events]
    return {s: lifetime(sum((e[s] for e in each), np.zeros((_LAGS + 1, 3)))) for s in scales_km}


def power_law(scales: Iterable[float], values: Iterable[float]) -> tuple[float, float]:
    """Fit a power law; return its exponent and the largest relative deviation from it."""
    x, y = np.log(list(scales)), np.log(list(values))
    slope, level = np.polyfit(x, y, 1)
    return float(slope), float(np.abs(np.expm1(y - slope * x - level)).max())
