"""An archive and a synthetic preset, measured alike: `python -m polarcast.data.synth.side_by_side ARCHIVE [PRESET]`."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from polarcast.data.archive import open_archive
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
from polarcast.data.synth.generate import PRESETS, generate_event

Real = npt.NDArray[np.floating]


def roughness(zh: Real, other: Real, dbz: float, half_width: float = 1.5) -> float:
    """Standard deviation of zdr or kdp about its 5 km mean where zh is near `dbz`: mostly noise.

    All fields (t, y, x); only squares full of echo count. NaN without any.
    """
    full = uniform_filter((zh != 0).astype(np.float32), (1, 5, 5)) > 0.999
    chosen = full & (np.abs(zh - dbz) < half_width)
    deviation = (other - uniform_filter(other, (1, 5, 5)))[chosen]
    return float(deviation.std()) if len(deviation) else float("nan")


def describe(radar: Real) -> dict[str, float]:
    """Numbers that characterise one event (t, v=3, z=3, y, x) in dBZ, dB, deg/km, by name and unit."""
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
    median, high = np.quantile(zh[zh != 0], [0.5, 0.95])
    return {
        "wet fraction": wet_fraction(zh),
        "median ZH of echo (dBZ)": float(median),
        "95% quantile of ZH of echo (dBZ)": float(high),
        "share of picture at 35 dBZ and more": float((zh >= 35).mean()),
    }


def _ice(radar: Real) -> dict[str, float]:
    """The same at 7 km, (t, v=3, y, x)."""
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


def compare(archive: Iterable[Real], synthetic: Iterable[Real]) -> list[tuple[str, float, float, float, float]]:
    """Rows of (quantity, mean over the archive's events, least, median, greatest over the synthetic events)."""
    theirs, ours = [describe(r) for r in archive], [describe(r) for r in synthetic]
    rows = []
    for name in theirs[0]:
        values = np.array([d[name] for d in ours])
        quantiles = (
            np.nanquantile(values, [0.0, 0.5, 1.0], method="nearest") if np.isfinite(values).any() else [np.nan] * 3
        )
        least, median, greatest = map(float, quantiles)
        rows.append((name, float(np.nanmean([d[name] for d in theirs])), least, median, greatest))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("preset", nargs="?", default="njucpol", choices=PRESETS)
    parser.add_argument("--events", type=int, default=8)
    options = parser.parse_args(arguments)
    archive = open_archive(options.archive)
    theirs = [np.stack([archive.read_radar(e, f) for f in frames]) for e, frames in archive.frames.items()]
    size, length = theirs[0].shape[-1], min(len(t) for t in theirs)
    world = PRESETS[options.preset]
    ours = (generate_event(world, 0, e, size, length).radar for e in range(options.events))
    print(f"{'':40s} archive   {options.preset}: median (least ... greatest of {options.events} events)")
    for name, value, least, median, greatest in compare(theirs, ours):
        print(f"{name:40s} {value:7.3f}   {median:7.3f} ({least:.3f} ... {greatest:.3f})")


if __name__ == "__main__":
    main()
