"""Comparison of an archive with a synthetic preset, using the same measurements."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from polarcast.data.archive import Archive
from polarcast.data.explore.figures import draw_beside
from polarcast.data.explore.measures import local_mean, near, wet_fraction
from polarcast.data.explore.scales import (
    FRAME_MIN,
    SCALES_KM,
    correlation_sums,
    lifetime,
    motion,
    spectral_slope,
    spectrum,
)
from polarcast.data.synth.generate import find_preset, generate_event

Real = npt.NDArray[np.floating]


def roughness(zh: Real, other: Real, dbz: float, half_width: float = 1.5) -> float:
    """Standard deviation of zdr or kdp about its 5 km mean where zh is near `dbz`; mostly noise.

    Args:
        zh: Reflectivity, (t, y, x), dBZ.
        other: zdr or kdp, (t, y, x).
        dbz: Reflectivity at which to measure.
        half_width: Tolerance around `dbz`.

    Returns:
        The standard deviation over pixels whose 5 km square is full of echo; NaN if there are none.
    """
    full = uniform_filter((zh != 0).astype(np.float32), (1, 5, 5)) > 0.999
    chosen = full & (np.abs(zh - dbz) < half_width)
    deviation = (other - uniform_filter(other, (1, 5, 5)))[chosen]
    return float(deviation.std()) if len(deviation) else float("nan")


def describe(radar: Real) -> dict[str, float]:
    """Compute statistics of one event (t, v=3, z=3, y, x) in dBZ, dB, deg/km, keyed by name and unit."""
    zh, zdr, kdp = radar[:, :, 1].swapaxes(0, 1)
    return {
        **_echo(zh),
        **{f"median ZDR at {d} dBZ (dB)": _median(near(zh, zdr, d)) for d in (20, 30, 35, 40)},
        **{f"median KDP at {d} dBZ (deg/km)": _median(near(zh, kdp, d)) for d in (30, 35, 40)},
        **{f"roughness of ZDR at {d} dBZ (dB)": roughness(zh, zdr, d) for d in (20, 30, 38)},
        **{f"roughness of KDP at {d} dBZ (deg/km)": roughness(zh, kdp, d) for d in (20, 30, 38)},
        **_ice(radar[:, :, 2]),
        **_scales(zh),
    }


def _echo(zh: Real) -> dict[str, float]:
    echo = zh[zh != 0]
    median, high = np.quantile(echo, [0.5, 0.95]) if echo.size else (np.nan, np.nan)
    return {
        "wet fraction": wet_fraction(zh),
        "median ZH of echo (dBZ)": float(median),
        "95% quantile of ZH of echo (dBZ)": float(high),
        "share of picture at 35 dBZ and more": float((zh >= 35).mean()),
    }


def _ice(radar: Real) -> dict[str, float]:
    """Statistics at 7 km, (t, v=3, y, x)."""
    zh, zdr, kdp = radar.swapaxes(0, 1)
    return {
        "7 km median ZH of echo (dBZ)": _median(zh[zh != 0]),
        "7 km median ZDR, 5 km means (dB)": _median(local_mean(zdr, zh)),
        "7 km median KDP, 5 km means (deg/km)": _median(local_mean(kdp, zh)),
    }


def _scales(zh: Real) -> dict[str, float]:
    k, power = spectrum(zh)
    sums = correlation_sums(zh)
    return {
        "speed of motion (m/s)": float(np.hypot(*motion(zh))) * 1000 / (60 * FRAME_MIN),
        "spectral slope, 20-100 km": spectral_slope(k, power, 20, 100),
        "spectral slope, 5-20 km": spectral_slope(k, power, 5, 20),
        **{f"lifetime at {s:.0f} km (min)": lifetime(sums[s]) for s in SCALES_KM},
    }


def _median(values: Real) -> float:
    return float(np.median(values)) if len(values) else float("nan")


@dataclass(frozen=True)
class Beside:
    """One quantity, measured on an archive and on synthetic events."""

    quantity: str
    """Name and unit."""
    archive: float
    """Mean over the archive's events."""
    median: float
    """Median over the synthetic events."""
    least: float
    """Minimum over the synthetic events."""
    greatest: float
    """Maximum over the synthetic events."""


def compare(archive: Iterable[Real], synthetic: Iterable[Real]) -> list[Beside]:
    """Compare the statistics of archive events with those of synthetic events, radar (t, v=3, z=3, y, x) each."""
    reference, generated = [describe(r) for r in archive], [describe(r) for r in synthetic]
    return [
        Beside(name, _mean([d[name] for d in reference]), *_median_and_range([d[name] for d in generated]))
        for name in reference[0]
    ]


def beside_preset(archive: Archive, preset: str, events: int = 8, figure: Path | None = None) -> list[Beside]:
    """Compare an archive's first events with synthetic events of the same size and length.

    Args:
        archive: Archive with zh, zdr and kdp at 1, 3 and 7 km.
        preset: Name of a world in `PRESETS`.
        events: Maximum number of events of each.
        figure: PNG file for a figure with one frame of each.

    Raises:
        BadInput: Unknown preset, or unreadable frames.
    """
    world = find_preset(preset)
    numbers = list(archive.frames)[:events]
    reference = [np.stack([archive.read_radar(e, f) for f in archive.frames[e]]) for e in numbers]
    size, length = reference[0].shape[-1], min(len(radar) for radar in reference)
    generated = [generate_event(world, 0, e, size, length).radar for e in range(events)]
    if figure:
        draw_beside(figure, {"archive": reference[0][length // 2], preset: generated[0][length // 2]})
    return compare(reference, generated)


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    defined = [v for v in values if not np.isnan(v)]
    return float(np.mean(defined)) if defined else np.nan


def _median_and_range(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, minimum and maximum of the finite values; NaN if there are none."""
    defined = np.array([v for v in values if np.isfinite(v)])
    if not len(defined):
        return np.nan, np.nan, np.nan
    return float(np.median(defined)), float(defined.min()), float(defined.max())
