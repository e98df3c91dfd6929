"""Moving random storms, honest forecasts of them, and the errors that are planted in forecasts."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from polarcast.hpc.leaderboard.claims.signs import ClaimSample
from polarcast.hpc.leaderboard.claims.timing import equal_share

Fields = npt.NDArray[np.float32]
SEEN, LEAD, SIDE, HEIGHTS, WINDOWS = 3, 3, 32, 2, 8
_DECAY = 0.8


def storms(seed: int, windows: int = WINDOWS, frames: int = SEEN + LEAD + 1) -> tuple[Fields, npt.NDArray[np.int64]]:
    """Return zh in dBZ, (n, f, z, y, x), and the motion of each window in pixels per frame (n, 2), down and right."""
    rng = np.random.default_rng(seed)
    motion = rng.integers(-2, 3, (windows, 2))
    motion[(motion == 0).all(1)] = 1
    noise = rng.standard_normal((frames, windows, SIDE, SIDE))
    fields = [_smooth(noise[0])]
    for new in noise[1:]:
        moved = np.stack([np.roll(f, tuple(m), (0, 1)) for f, m in zip(fields[-1], motion, strict=True)])
        fields.append(_DECAY * moved + np.sqrt(1 - _DECAY**2) * _smooth(new))
    lowest = np.clip(17 * np.stack(fields, 1) + 4, 0, 55)
    return np.stack([lowest, np.clip(0.7 * lowest - 3, 0, None)], 2).astype(np.float32), motion


def _smooth(noise: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    smooth = gaussian_filter(noise, (0, 3, 3), mode="wrap")
    return np.asarray(smooth / smooth.std())


def moved(last: Fields, motion: npt.NDArray[np.int64], leads: int = LEAD, first: int = 1) -> Fields:
    """Return the last frame (n, z, y, x) moved to lead times `first`, …, (n, t, z, y, x)."""
    frames = [
        np.stack([np.roll(field, tuple(lead * step), (-2, -1)) for field, step in zip(last, motion, strict=True)])
        for lead in range(first, first + leads)
    ]
    return np.stack(frames, 1)


def zh_sample(forecast: Fields, frames: Fields) -> ClaimSample:
    """Return the sample of nowcasts (n, t, z, y, x) or ensembles (n, m, t, z, y, x) of zh."""
    ensemble = forecast[:, None] if forecast.ndim == 5 else forecast
    events = np.arange(len(frames))
    sample = ClaimSample(
        ensemble.mean(1, dtype=np.float64).astype(np.float32), frames, SEEN, frames[:, SEEN - 1], events, "dBZ", 6.0,
        np.empty((0, 0), np.float32),
    )  # fmt: skip
    return _with_equal(sample, ensemble)


def rain_sample(forecast: Fields, rain: Fields, zh: Fields) -> ClaimSample:
    """Return the sample of estimates (n, y, x) of the second of three frames of rain, (n, 3, y, x), in mm/h."""
    ensemble = forecast[:, None, None, None]
    events = np.arange(len(rain))
    sample = ClaimSample(
        ensemble[:, 0], rain[:, :, None], 1, zh[:, None], events, "mm/h", 5.0, np.empty((0, 0), np.float32)
    )
    return _with_equal(sample, ensemble)


def _with_equal(sample: ClaimSample, ensemble: Fields) -> ClaimSample:
    shares = [equal_share(member, sample.observed, sample) for member in ensemble.swapaxes(0, 1)]
    return ClaimSample(**{**sample.__dict__, "equal": np.fmax.reduce(shares)})


def rain_of(zh: Fields) -> Fields:
    """Return rain in mm/h of zh in dBZ, by a law that is not the published one, with an error that has a pattern."""
    error = gaussian_filter(np.random.default_rng(len(zh)).standard_normal(zh.shape), 2) * 2
    return np.where(zh > 5, (10 ** ((zh + error) / 10) / 250) ** (1 / 1.5), 0).astype(np.float32)


def published(zh: Fields) -> Fields:
    """Return rain in mm/h of zh in dBZ by Z = 200 R^1.6."""
    return np.where(zh > 0, (10 ** (zh / 10) / 200) ** (1 / 1.6), 0).astype(np.float32)


def honest_nowcasts(seed: int) -> tuple[Fields, dict[str, Fields]]:
    """Return the frames, and forecasts without an error by name: skilful, poor, blurred, biased and useless ones."""
    frames, motion = storms(seed)
    rng = np.random.default_rng(seed + 1)
    truth, last = frames[:, SEEN : SEEN + LEAD], frames[:, SEEN - 1]
    still = np.repeat(last[:, None], LEAD, 1)
    ahead = moved(last, motion)
    climate = np.broadcast_to(storms(seed + 2, 20)[0].mean((0, 1), keepdims=True), truth.shape).astype(np.float32)
    noisy = ahead[:, None] + rng.normal(0, 6, (len(ahead), 4, *ahead.shape[1:]))
    weights = np.linspace(0.6, 0.9, LEAD)[None, :, None, None, None]
    return frames, {
        "persistence": still,
        "extrapolation": ahead,
        "blurred": gaussian_filter(ahead, (0, 0, 0, 3, 3)),
        "half-hearted": 0.5 * still + 0.5 * ahead,
        "too slow": moved(last, motion // 2),
        "relaxing": ((1 - weights) * ahead + weights * climate).astype(np.float32),
        "climatology": climate,
        "zero": np.zeros_like(truth),
        "constant": np.full_like(truth, 5),
        "noise": rng.normal(20, 10, truth.shape).astype(np.float32),
        "small noise": rng.random(truth.shape).astype(np.float32) * 0.5,
        "too low": 0.4 * ahead,
        "far too low": 0.1 * ahead,
        "too high": 1.5 * ahead,
        "misplaced": np.roll(ahead, (4, -3), (-2, -1)),
        "other storms": storms(seed + 3)[0][:, SEEN : SEEN + LEAD],
        "skilful": np.clip(truth + 4 * gaussian_filter(rng.normal(0, 3, truth.shape), (0, 0, 0, 1, 1)), 0, None),
        "ensemble": np.clip(noisy, 0, None).astype(np.float32),
    }


def honest_estimates(seed: int) -> tuple[Fields, Fields, dict[str, Fields]]:
    """Return rain of three frames (n, 3, y, x), zh of the second, and estimates without an error by name."""
    frames, _ = storms(seed, frames=3)
    zh = frames[:, :, 0]
    rain, law = rain_of(zh), published(zh[:, 1])
    rng = np.random.default_rng(seed)
    return rain, zh[:, 1], {
        "law": law,
        "half": 0.5 * law,
        "a fifth": 0.2 * law,
        "twice": 2 * law,
        "blurred": gaussian_filter(law, (0, 3, 3)),
        "capped": np.minimum(law, 10),
        "whole numbers": np.round(law),
        "mean": np.broadcast_to(rain.mean((0, 1)), law.shape),
        "zero": np.zeros_like(law),
        "noise": abs(rng.normal(0, 3, law.shape)).astype(np.float32),
        "skilful": rain[:, 1] * rng.lognormal(0, 0.3, law.shape).astype(np.float32),
    }  # fmt: skip


Plant = Callable[[Fields], Fields]
PLACES: dict[str, Plant] = {
    "transposed": lambda f: f.swapaxes(-1, -2),
    "flipped-y": lambda f: f[..., ::-1, :],
    "flipped-x": lambda f: f[..., ::-1],
    "rotated-180": lambda f: f[..., ::-1, ::-1],
    "rotated-90": lambda f: np.rot90(f, -1, (-2, -1)),
    "rotated-270": lambda f: np.rot90(f, 1, (-2, -1)),
    "antitransposed": lambda f: f[..., ::-1, ::-1].swapaxes(-1, -2),
}
"""Errors of the axes, by the name of their sign."""
VALUES_OF_ZH: dict[str, tuple[str, Plant]] = {
    "÷ 80": ("scale-0-1", lambda f: f / 80),
    "÷ 70": ("scale-0-1", lambda f: f / 70),
    "0–255 of 80": ("scale-0-255", lambda f: f * 255 / 80),
    "bytes of 70": ("scale-0-255", lambda f: np.round(f * 255 / 70)),
    "2 (dBZ + 32)": ("scale-0-255", lambda f: 2 * (f + 32)),
    "255 (dBZ + 10) / 70": ("scale-0-255", lambda f: 255 * (f + 10) / 70),
    "−1 to 1": ("scale-minus-1-1", lambda f: f / 40 - 1),
    "z-score": ("standardized", lambda f: (f - 9) / 13),
    "linear": ("linear-z", lambda f: 10 ** (f / 10)),
    "mm/h": ("rain-for-zh", published),
    "fill": ("missing-values", lambda f: np.where(f < 5, -9999, f)),
    "NaN": ("missing-values", lambda f: np.where(f < 5, np.nan, f)),
    "netCDF fill": ("missing-values", lambda f: np.where(f < 5, 9.97e36, f)),
    "−32": ("no-echo-value", lambda f: np.where(f <= 0, -32, f)),
    "heights": ("heights-reordered", lambda f: f[..., ::-1, :, :]),
}
"""Errors of the values of nowcasts: the name of their sign, and the function."""
VALUES_OF_RAIN: dict[str, tuple[str, Plant]] = {
    "÷ 100": ("scale-0-1", lambda f: f / 100),
    "bytes of 100": ("scale-0-255", lambda f: np.round(f * 255 / 100)),
    "mm in 5 min": ("depth-per-step", lambda f: f / 12),
    "dBZ": ("zh-for-rain", lambda f: np.where(f > 0, 10 * np.log10(200 * np.maximum(f, 1e-3) ** 1.6), 0).clip(0)),
    "ln(1 + R)": ("logarithm", np.log1p),
    "log10(1 + R)": ("logarithm", lambda f: np.log10(1 + f)),
    "NaN": ("missing-values", lambda f: np.where(f < 0.1, np.nan, f)),
}
"""Errors of the values of estimates: the name of their sign, and the function."""
