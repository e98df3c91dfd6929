"""Do these storms behave like weather? Measurements on radar archives, and the ranges accepted of synthetic
ones.

All functions take plain arrays: `zh`, `zdr`, `kdp` at one height as (t, y, x) with fill 0, and `rain` (t, y,
x) in mm/h.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

Real = npt.NDArray[np.floating]

FRAME_MIN = 6.0
LOWEST_DBZ = 5.0
SCALES_KM = (8.0, 16.0, 32.0, 64.0)

_EDGE = 1.1
_LAGS = 15


@dataclass(frozen=True)
class Row:
    """One line of the acceptance table."""

    test: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the value lies in the accepted range; an undefined value does not."""
        return bool(self.low <= self.value <= self.high)

    def as_record(self) -> dict[str, object]:
        """{test, value, low, high, pass}."""
        return {
            "test": self.test,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "pass": self.passed,
        }


def median_at(zh: Real, other: Real, dbz: float, half_width: float = 1.0) -> float:
    """Median of zdr or kdp where zh lies within `half_width` of `dbz`; NaN without such pixels."""
    chosen = other[(zh != 0) & (np.abs(zh - dbz) < half_width)]
    return float(np.median(chosen)) if len(chosen) else float("nan")


def wet_fraction(zh: Real) -> float:
    """Share of the observed pixels that show an echo above 5 dBZ; observed is what ever shows one, or its
    circle.
    """
    size = zh.shape[-1]
    y, x = np.mgrid[:size, :size] - size // 2
    circle = np.hypot(y, x) <= 145 / 256 * size
    return float((zh[:, circle] > LOWEST_DBZ).mean())


def spectrum(zh: Real) -> tuple[Real, Real]:
    """Isotropic power density of max(zh, 5 dBZ), averaged over frames: wavenumbers (cycles per km) and
    density.
    """
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
    return sums[filled] / count[filled], total[filled] / count[filled]


def spectral_slope(k: Real, power: Real, shortest_km: float, longest_km: float) -> float:
    """Exponent of the power law through a spectrum between two wavelengths."""
    chosen = (k >= 1 / longest_km) & (k <= 1 / shortest_km)
    return float(np.polyfit(np.log(k[chosen]), np.log(power[chosen]), 1)[0])


def motion(zh: Real) -> tuple[float, float]:
    """Mean displacement (y, x) per frame in pixels, from the peak of the cross-correlation of consecutive
    frames.
    """
    size = zh.shape[-1]
    taper = np.outer(np.hanning(size), np.hanning(size))
    spectra = fft.rfft2((np.maximum(zh, LOWEST_DBZ) - LOWEST_DBZ) * taper)
    cross = (spectra[1:] * spectra[:-1].conj()).sum(axis=0)
    correlation = fft.irfft2(cross, s=(size, size))
    peak = np.unravel_index(correlation.argmax(), correlation.shape)
    parts = []
    for axis, p in enumerate(peak):
        line = np.moveaxis(correlation, axis, 0)[:, peak[1 - axis]]
        left, middle, right = line[p - 1], line[p], line[(p + 1) % size]
        bend = left - 2 * middle + right
        offset = 0.5 * (left - right) / bend if bend < 0 else 0.0
        parts.append((float(p + offset) + size / 2) % size - size / 2)
    return parts[0], parts[1]


def band_pass(field: Real, scale_km: float) -> Real:
    """The part of `field` (t, y, x) with wavelengths around `scale_km`, one octave wide (log-normal
    filter).
    """
    size = field.shape[-1]
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    response = np.exp(-0.5 * (np.log(np.maximum(k, 1e-9) * scale_km) / (0.35 * np.log(2))) ** 2)
    return np.asarray(fft.irfft2(fft.rfft2(field) * response, s=field.shape[-2:]))


def lagged_products(band: Real, drift: tuple[float, float]) -> Real:
    """Sums over the inner circle that make up the correlation along the motion: (lags, 3) of ab, aa, bb."""
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
    """The part of the picture that a displacement by `shift` moves within the picture, at its end."""
    rows, columns = (slice(max(s, 0), n + min(s, 0)) for s, n in zip(shift, field.shape[-2:], strict=True))
    return field[..., rows, columns]


def lifetime(sums: Real) -> float:
    """Time in min at which a correlation, given as summed products (lags, 3), falls to 1/e.

    Beyond the last lag, extrapolated by the exponential through the second half of the lags.
    """
    used = sums[:, 1] > 0
    ab, aa, bb = sums[used].T
    r = ab / np.sqrt(aa * bb)
    below = np.flatnonzero(r < np.exp(-1))
    if len(below):
        i = below[0]
        return float(FRAME_MIN * (i - 1 + (r[i - 1] - np.exp(-1)) / (r[i - 1] - r[i])))
    half = len(r) // 2
    slope, level = np.polyfit(FRAME_MIN * np.arange(half, len(r)), np.log(r[half:]), 1)
    return float((-1 - level) / slope) if slope < 0 else float("inf")


def lifetimes(events: Iterable[Real], scales_km: Sequence[float] = SCALES_KM) -> dict[float, float]:
    """Lagrangian 1/e lifetime in min of max(zh, 5 dBZ) at each scale, from the pooled correlations of all
    events.
    """
    sums = {s: np.zeros((_LAGS + 1, 3)) for s in scales_km}
    for zh in events:
        drift = motion(zh)
        for s in scales_km:
            sums[s] += lagged_products(band_pass(np.maximum(zh, LOWEST_DBZ), s), drift)
    return {s: lifetime(v) for s, v in sums.items()}


def power_law(scales: Iterable[float], values: Iterable[float]) -> tuple[float, float]:
    """Exponent of a power law, and the largest relative deviation from it."""
    x, y = np.log(list(scales)), np.log(list(values))
    slope, level = np.polyfit(x, y, 1)
    return float(slope), float(np.abs(np.expm1(y - slope * x - level)).max())


def fit_z_r(zh: Real, rain: Real, above: float = 1.0) -> tuple[float, float]:
    """a and b of Z = a R^b (mm^6 m^-3, mm/h) by least squares of dBZ on ln R where rain exceeds `above`."""
    wet = (rain > above) & (zh != 0)
    b, intercept = np.polyfit(10 * np.log10(rain[wet]), zh[wet], 1)
    return float(10 ** (intercept / 10)), float(b)


def heavy_share(rain: Real, above: float = 10.0) -> float:
    """Share of the rain volume that falls at more than `above` mm/h."""
    return float(rain[rain > above].sum(dtype=np.float64) / rain.sum(dtype=np.float64))


def normalised_error(estimate: Real, rain: Real) -> float:
    """Sum of absolute errors over sum of rain (NE)."""
    return float(np.abs(estimate - rain).sum(dtype=np.float64) / rain.sum(dtype=np.float64))


def published_estimates(zh: Real, zdr: Real, kdp: Real) -> dict[str, Real]:
    """R(Z) = Z = 300 R^1.4 (WSR-88D); R(K) of Bringi et al. 2011; R(K, ZDR) of Bringi & Chandrasekar 2001;
    mm/h.
    """
    k = np.maximum(kdp, 0)
    return {
        "R(Z)": (10 ** (zh / 10) / 300) ** (1 / 1.4),
        "R(K)": 24.68 * k**0.81,
        "R(K,ZDR)": 37.9 * k**0.89 * 10 ** (-0.072 * zdr),
    }
