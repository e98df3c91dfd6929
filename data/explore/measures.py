"""Measure radar archives, and compare them with the ranges accepted for synthetic ones.

`summarise` reduces an event to an `EventSummary`, and `accept` reduces the summaries to rows of a table, so that
archives of any size are processed in little memory. Real archives can be measured too. The ranges are those expected
for warm-season rain at C band.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from polarcast.data.archive import HEIGHTS_KM, VARIABLES
from polarcast.data.explore.content import ArchiveContent
from polarcast.data.explore.scales import (
    LOWEST_DBZ,
    SCALES_KM,
    correlation_sums,
    lifetime,
    power_law,
    spectral_slope,
    spectrum,
)

Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

ZDR_RANGES = {20: (0.2, 0.5), 35: (0.7, 1.1), 40: (0.9, 1.4), 45: (1.3, 2.1), 50: (1.9, 3.0)}
"""Accepted median ZDR (dB) by ZH (dBZ)."""
KDP_RANGES = {35: (0.1, 0.2), 45: (0.9, 1.5), 53: (3.0, 5.5)}
"""Accepted median KDP (deg/km) by ZH (dBZ)."""

SMALLEST_FOR_SCALES = 128
"""Minimum km along each side for meaningful spectra and lifetimes at 64 km."""
_WHOLE = ArchiveContent(VARIABLES, HEIGHTS_KM, has_rain=True)

_KEPT = 20_000


@dataclass(frozen=True)
class AcceptanceRow:
    """One line of the acceptance table."""

    test: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the value is in the accepted range; False for an undefined value."""
        return bool(self.low <= self.value <= self.high)

    def as_record(self) -> dict[str, object]:
        """Return the record {test, value, low, high, pass}."""
        return {"test": self.test, "value": self.value, "low": self.low, "high": self.high, "pass": self.passed}


@dataclass(frozen=True)
class EventSummary:
    """Data of one event for the acceptance table."""

    content: ArchiveContent
    size: int
    """Pixels along each side."""
    zdr_at: dict[int, Real]
    """Sample of ZDR (dB) at 3 km around each ZH of `ZDR_RANGES`; empty without ZDR."""
    kdp_at: dict[int, Real]
    """Sample of KDP (deg/km) at 3 km around each ZH of `KDP_RANGES`; empty without KDP."""
    ice: dict[str, Real]
    """Samples of means over 5 × 5 pixels of ZDR (dB) and KDP (deg/km) at 7 km, if there."""
    rainy: Real | None
    """(n, 2) sample of zh at the lowest height and rain (mm/h), where rain exceeds 1 mm/h."""
    rain_volume: tuple[float, float] | None
    """Sums of all rain, and of rain above 10 mm/h."""
    wet_fraction: float
    spectrum: tuple[Real, Real]
    """Wavenumbers (cycles per km) and power density of ZH at 3 km."""
    correlations: dict[float, Real] = field(repr=False)
    """Summed products along the motion at each scale, see `scales.lagged_products`."""


@dataclass(frozen=True)
class Truth:
    """Noise-free truth of a synthetic archive, one entry per sampled pixel."""

    ln_dm: Real
    """ln of the mass-weighted mean drop diameter in mm."""
    rain: Real
    """Rain rate in mm/h."""
    zh: Real
    zdr: Real
    kdp: Real


def join_truth(parts: Sequence[Truth]) -> Truth:
    """Concatenate the samples of several events."""
    return Truth(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Truth)))


def thin(values: Real, kept: int = _KEPT) -> Real:
    """Return about `kept` evenly spaced entries along the first axis."""
    return values[:: max(1, len(values) // kept)]


def near(zh: Real, other: Real, dbz: float, half_width: float = 1.0) -> Real:
    """Return values of zdr or kdp where zh is within `half_width` of `dbz`."""
    return other[(zh != 0) & (np.abs(zh - dbz) < half_width)]


def local_mean(values: Real, zh: Real, pixels: int = 5) -> Real:
    """Average fields (t, y, x) over squares filled with echo, to reduce noise; returns (n,)."""
    size = (1, pixels, pixels)
    full = uniform_filter((zh != 0).astype(np.float32), size) > 0.999
    return np.asarray(uniform_filter(values, size)[full])


def wet_fraction(zh: Real, observed: Mask | None = None) -> float:
    """Return the share of the observed pixels with echo above 5 dBZ, over all frames.

    Args:
        zh: (t, y, x) in dBZ.
        observed: Observed pixels, (t, y, x); those within 145/256 of the size around the centre by default.
    """
    if observed is not None:
        return float((zh[observed] > LOWEST_DBZ).mean()) if observed.any() else float("nan")
    return float((zh[:, coverage_circle(zh.shape[-1])] > LOWEST_DBZ).mean())


def coverage_circle(size: int) -> Mask:
    """Return the pixels (y, x) within 145/256 of the size around the centre: those observed if no mask tells."""
    y, x = np.mgrid[:size, :size] - size // 2
    return np.asarray(np.hypot(y, x) <= 145 / 256 * size)


def summarise(
    radar: Real, rain: Real | None, observed: Mask | None = None, content: ArchiveContent = _WHOLE
) -> EventSummary:
    """Summarize one event.

    Args:
        radar: (t, v, z, y, x) in dBZ, dB, deg/km.
        rain: (t, y, x) in mm/h, if there.
        observed: Observed pixels at the level `content.storm`, (t, y, x), if known.
        content: Variables along v and heights along z.
    """
    at = {name: radar[:, v, content.storm] for v, name in enumerate(content.variables)}
    zh = at["zh"]
    return EventSummary(
        content=content,
        size=radar.shape[-1],
        zdr_at={d: thin(near(zh, at["zdr"], d)) for d in ZDR_RANGES} if "zdr" in at else {},
        kdp_at={d: thin(near(zh, at["kdp"], d)) for d in KDP_RANGES} if "kdp" in at else {},
        ice=_ice_means(radar, content),
        rainy=None if rain is None or content.ground is None else _rainy(radar[:, 0, content.ground], rain),
        rain_volume=None if rain is None else _rain_volume(rain),
        wet_fraction=wet_fraction(zh, observed),
        spectrum=spectrum(zh, content.spacing_km),
        correlations=correlation_sums(zh, spacing_km=content.spacing_km),
    )


def _ice_means(radar: Real, content: ArchiveContent) -> dict[str, Real]:
    if content.ice is None:
        return {}
    zh = radar[:, 0, content.ice]
    fields = {name: radar[:, v, content.ice] for v, name in enumerate(content.variables) if v}
    return {name: thin(local_mean(field, zh)) for name, field in fields.items()}


def _rainy(zh: Real, rain: Real) -> Real:
    wet = (rain > 1) & (zh != 0)
    return thin(np.stack([zh[wet], rain[wet]], axis=1))


def _rain_volume(rain: Real) -> tuple[float, float]:
    return float(rain.sum(dtype=np.float64)), float(rain[rain > 10].sum(dtype=np.float64))


def accept(events: Sequence[EventSummary], truth: Truth | None = None) -> list[AcceptanceRow]:
    """Return the acceptance table of an archive.

    Args:
        events: Summaries of the events; fields of less than 128 pixels have no rows on scales.
        truth: Noise-free truth of a synthetic archive; without it the rows that require it are omitted.

    Returns:
        Rows of what all events have: those that need absent variables, heights or rain are omitted.
    """
    large = events[0].size * events[0].content.spacing_km >= SMALLEST_FOR_SCALES
    rows = _polarimetric_rows(events) + _rain_rows(events) + (_scale_rows(events) if large else [])
    return rows + (_truth_rows(truth) if truth else [])


def _median(parts: Sequence[Real]) -> float:
    return _quantile(parts, 0.5)


def _quantile(parts: Sequence[Real], share: float) -> float:
    """Return a quantile of all parts; NaN if they are empty."""
    values = np.concatenate(parts)
    return float(np.quantile(values, share)) if len(values) else float("nan")


def _polarimetric_rows(events: Sequence[EventSummary]) -> list[AcceptanceRow]:
    zdr = [
        AcceptanceRow(f"median ZDR at {d} dBZ (dB)", _median([e.zdr_at[d] for e in events]), *limits)
        for d, limits in ZDR_RANGES.items()
        if events[0].zdr_at
    ]
    kdp = [
        AcceptanceRow(f"median KDP at {d} dBZ (deg/km)", _median([e.kdp_at[d] for e in events]), *limits)
        for d, limits in KDP_RANGES.items()
        if events[0].kdp_at
    ]
    ice = [
        AcceptanceRow(
            f"7 km {name.upper()}, {100 * share:.0f}% quantile of 5 km means ({unit})",
            _quantile([e.ice[name] for e in events], share), 0.0, 0.5,
        )
        for name, share, unit in (("zdr", 0.05, "dB"), ("zdr", 0.95, "dB"), ("kdp", 0.95, "deg/km"))
        if name in events[0].ice
    ]  # fmt: skip
    return [*zdr, *kdp, *ice]


def _rain_rows(events: Sequence[EventSummary]) -> list[AcceptanceRow]:
    rows = []
    if rainy := [e.rainy for e in events if e.rainy is not None]:
        a, b = fit_z_r(*np.concatenate(rainy).T)
        rows.append(AcceptanceRow("a of Z = a R^b, R > 1 mm/h", a, 200, 350))
        rows.append(AcceptanceRow("b of Z = a R^b, R > 1 mm/h", b, 1.25, 1.6))
    if volumes := [e.rain_volume for e in events if e.rain_volume is not None]:
        total, heavy = np.sum(volumes, axis=0)
        share = float(heavy / total) if total else float("nan")
        rows.append(AcceptanceRow("share of rain volume above 10 mm/h", share, 0.4, 0.6))
    wet = [e.wet_fraction for e in events]
    return [
        *rows,
        AcceptanceRow("wet fraction of the driest event", min(wet), 0.05, 0.5),
        AcceptanceRow("wet fraction of the wettest event", max(wet), 0.05, 0.5),
    ]


def _scale_rows(events: Sequence[EventSummary]) -> list[AcceptanceRow]:
    k, step = events[0].spectrum[0], events[0].content.step_minutes
    power = np.mean([e.spectrum[1] for e in events], axis=0)
    lives = {s: lifetime(np.sum([e.correlations[s] for e in events], axis=0), step) for s in SCALES_KM}
    exponent, misfit = power_law(lives.keys(), lives.values())
    return [
        AcceptanceRow("spectral slope of dBZ, 20-100 km", spectral_slope(k, power, 20, 100), -3.0, -2.4),
        AcceptanceRow("spectral slope of dBZ, 5-20 km", spectral_slope(k, power, 5, 20), -3.0, -2.4),
        AcceptanceRow("Lagrangian lifetime at 32 km (min)", lives[32.0], 30, 60),
        AcceptanceRow("lifetime against scale, exponent", exponent, 0.5, 1.5),
        AcceptanceRow("lifetime against scale, largest misfit of the power law", misfit, 0, 0.2),
    ]


def _truth_rows(truth: Truth) -> list[AcceptanceRow]:
    spread = size_spread(truth.ln_dm, truth.rain)
    wet = truth.rain > 1
    estimates = published_estimates(truth.zh[wet], truth.zdr[wet], truth.kdp[wet])
    z, k, both = (normalised_error(e, truth.rain[wet]) for e in estimates.values())
    return [
        AcceptanceRow("smallest sd of ln Dm at given R, 1-60 mm/h", min(spread, default=np.nan), 0.16, 0.24),
        AcceptanceRow("largest sd of ln Dm at given R, 1-60 mm/h", max(spread, default=np.nan), 0.16, 0.24),
        AcceptanceRow("noise-free NE, R(Z) less R(K)", z - k, 0, 1),
        AcceptanceRow("noise-free NE, R(K) less R(K, ZDR)", k - both, 0, 1),
    ]


def size_spread(ln_dm: Real, rain: Real) -> list[float]:
    """Return the standard deviation of ln Dm in classes of rain rate from 1 to 60 mm/h with 200 pixels or more."""
    edges = np.geomspace(1, 60, 7)
    classes = (ln_dm[(rain >= low) & (rain < high)] for low, high in pairwise(edges))
    return [float(values.std()) for values in classes if len(values) >= 200]


def fit_z_r(zh: Real, rain: Real) -> tuple[float, float]:
    """Fit a and b of Z = a R^b (mm^6 m^-3, mm/h) by least squares of dBZ on log R; NaN for fewer than two pixels."""
    if len(rain) < 2:
        return float("nan"), float("nan")
    b, intercept = np.polyfit(10 * np.log10(rain), zh, 1)
    return float(10 ** (intercept / 10)), float(b)


def normalised_error(estimate: Real, rain: Real) -> float:
    """Return the sum of absolute errors divided by the sum of rain (NE)."""
    return float(np.abs(estimate - rain).sum(dtype=np.float64) / rain.sum(dtype=np.float64))


def published_estimates(zh: Real, zdr: Real, kdp: Real) -> dict[str, Real]:
    """Return published rain estimates in mm/h.

    R(Z) inverts Z = 300 R^1.4 (WSR-88D); R(K) is from Bringi et al. 2011; R(K, ZDR) from Bringi & Chandrasekar 2001.
    """
    k = np.maximum(kdp, 0)
    return {
        "R(Z)": (10 ** (zh / 10) / 300) ** (1 / 1.4),
        "R(K)": 24.68 * k**0.81,
        "R(K,ZDR)": 37.9 * k**0.89 * 10 ** (-0.072 * zdr),
    }
