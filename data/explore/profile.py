"""Statistics of an event that tell a real archive from a synthetic one, collected block by block."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from polarcast.data.explore.content import ArchiveContent
from polarcast.data.explore.growth import CHANGE_MIN, CLASSES_DBZ, LEADS_MIN, GrowthRecord, frames_of
from polarcast.data.explore.joint_histogram import FEWEST_VALUES, JointHistogram
from polarcast.data.explore.measures import local_mean
from polarcast.data.explore.scales import (
    LOWEST_DBZ,
    SCALES_KM,
    correlation_sums,
    lifetime,
    spectral_slope,
    spectrum,
)
from polarcast.data.quality import LIGHT_RAIN_DBZ, LIGHT_RAIN_ZDR_DB, STRONG_DBZ, WEAK_DBZ, motion_of

Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Values = dict[str, float]

UNITS = {"zdr": "dB", "kdp": "deg/km"}
SHARES = (0.01, 0.5, 0.99)
"""Quantiles of ZDR and KDP by class of ZH."""
CURVE_DBZ = tuple(range(5, 66, 5))
"""Edges of the bins of ZH of the curves."""
BLOCK = 24
"""Frames that are in memory at once: motion and lifetimes are those of a block."""
_LARGEST = {"zdr": 15.0, "kdp": 20.0}
_STEP = 0.02
_MAD_TO_STD = 1.4826
_CLASSES = list(pairwise(CLASSES_DBZ))
_ICE_SAMPLE = 20_000
_SHORTEST_SCALE_PX = 4.0


@dataclass(frozen=True)
class StormBlock:
    """Consecutive frames of one event."""

    storm: Mapping[str, Real]
    """zh and others at the height nearest 3 km, (t, y, x) in dBZ, dB, deg/km; fill 0, also where not observed."""
    ice: Mapping[str, Real]
    """The same at the height nearest 7 km; empty without one."""
    observed: Mask
    """Observed pixels at the height nearest 3 km, (t, y, x)."""

    @classmethod
    def of(cls, radar: Real, observed: Mask, content: ArchiveContent) -> "StormBlock":
        """Choose the heights of fields (t, v, z, y, x), and clear what is not observed, (t, y, x)."""
        names = content.variables
        storm = {name: np.where(observed, radar[:, v, content.storm], 0) for v, name in enumerate(names)}
        level = content.ice
        ice = {} if level is None else {name: radar[:, v, level] for v, name in enumerate(names)}
        return cls(storm, ice, observed)


@dataclass(frozen=True)
class EventProfile:
    """Statistics of one event, and the curves drawn of it."""

    values: dict[str, Values]
    """Value by group and name; the name ends with its unit. NaN where it is undefined."""
    zh_shares: Real
    """Share of the echo in each bin of 1 dB from 0 to 70 dBZ."""
    curves: dict[str, Real]
    """By variable: quantiles `SHARES` in the bins `CURVE_DBZ` of ZH, (bin, 3)."""
    roughness: dict[str, Real]
    """By variable and class of ZH."""
    spectrum: tuple[Real, Real]
    """Wavenumbers in cycles per km, and power density relative to its sum."""
    lifetimes: dict[float, float]
    """Lifetime in min by scale in km."""
    change: Real
    """Mean, 10% and 90% of the change of ZH in 30 min by class, (class, 3) in dB."""
    information: dict[str, Real]
    """By variable: correlation at given ZH with the change of ZH, by lead time."""


@dataclass
class _Texture:
    """Moments of deviations from the mean over 5 × 5 pixels full of echo, by class of ZH."""

    sums: Real = field(default_factory=lambda: np.zeros((len(_CLASSES), 3)))

    def add(self, zh: Real, other: Real) -> None:
        size = (1, 5, 5)
        full = uniform_filter(((zh != 0) & (other != 0)).astype(np.float32), size) > 0.999
        deviation, at = (other - uniform_filter(other, size))[full].astype(np.float64), zh[full]
        for i, (low, high) in enumerate(_CLASSES):
            chosen = deviation[(at >= low) & (at < high)]
            self.sums[i] += len(chosen), chosen.sum(), (chosen**2).sum()

    def spread(self) -> Real:
        """Return the standard deviation by class; NaN for few pixels."""
        count = np.where(self.sums[:, 0] >= FEWEST_VALUES, self.sums[:, 0], np.nan)
        return np.asarray(np.sqrt(np.maximum(self.sums[:, 2] / count - (self.sums[:, 1] / count) ** 2, 0)))


class ProfileBuilder:
    """Collect the statistics of one event from its blocks of frames.

    Args:
        content: Variables, heights and grid of the archive.
    """

    def __init__(self, content: ArchiveContent) -> None:
        self._content = content
        self._others = [name for name in content.variables if name in UNITS]
        self._zh = JointHistogram(0.0, 1.0, 1.0)
        self._joint = {n: JointHistogram(-_LARGEST[n], _LARGEST[n], _STEP) for n in self._others}
        self._texture = {name: _Texture() for name in self._others}
        self._growth = GrowthRecord(("zh", *self._others), content.step_minutes)
        self._pixels = np.zeros(3)  # observed, wet, strong
        self._ice: dict[str, list[Real]] = {}
        self._speeds: list[tuple[int, float]] = []
        self._power: list[tuple[int, Real]] = []
        self._wavenumbers: Real = np.empty(0)
        self._correlations: dict[float, Real] = {}

    def add(self, block: StormBlock) -> None:
        """Add consecutive frames."""
        zh = block.storm["zh"]
        seen = zh[block.observed]
        self._pixels += len(seen), (seen > LOWEST_DBZ).sum(), (seen >= STRONG_DBZ).sum()
        self._zh.add(zh[zh != 0], np.zeros((zh != 0).sum()))
        for name in self._others:
            valid = (zh != 0) & (block.storm[name] != 0)
            self._joint[name].add(zh[valid], block.storm[name][valid])
            self._texture[name].add(zh, block.storm[name])
        self._add_ice(block.ice)
        self._growth.add(block.storm, block.observed)
        # A lost frame has no echo, and neither motion nor lifetimes are known across it.
        for run in _runs((zh != 0).any((1, 2))):
            self._add_scales(zh[run])

    def _add_ice(self, ice: Mapping[str, Real]) -> None:
        for name, values in ice.items():
            sample = values[ice["zh"] != 0] if name == "zh" else local_mean(values, ice["zh"])
            self._ice.setdefault(name, []).append(sample[:: max(1, len(sample) // _ICE_SAMPLE)])

    def _add_scales(self, zh: Real) -> None:
        """Add motion, spectrum and correlations of consecutive frames with echo."""
        speed, _ = motion_of(zh.astype(np.float32), self._content.step_minutes, self._content.spacing_km)
        if speed is None:
            return
        self._speeds.append((len(zh), speed / 3.6))
        self._wavenumbers, power = spectrum(zh, self._content.spacing_km)
        self._power.append((len(zh), power))
        scales = [s for s in SCALES_KM if s >= _SHORTEST_SCALE_PX * self._content.spacing_km]
        for scale, sums in correlation_sums(zh, scales, self._content.spacing_km).items():
            self._correlations[scale] = self._correlations.get(scale, 0) + sums

    def finish(self) -> EventProfile:
        """Return the statistics."""
        echo = self._zh.counts.sum(axis=1)
        change, information = self._growth.change(), self._growth.information()
        lifetimes = {s: lifetime(sums, self._content.step_minutes) for s, sums in self._correlations.items()}
        power = sum((n * p for n, p in self._power), np.zeros(len(self._wavenumbers)))
        roughness = {name: texture.spread() for name, texture in self._texture.items()}
        values = {"echo": self._echo(), **{n.upper(): self._of_variable(n, roughness[n]) for n in self._others}}
        values |= {"ice": self._of_ice()} if self._ice else {}
        values["scales"] = self._of_scales(power, lifetimes)
        if self._growth.lead:
            values["growth and decay"] = _change_rows(change)
        if self._others:
            values["information"] = _information_rows(information, self._content.step_minutes)
        return EventProfile(
            values={group: rows for group, rows in values.items() if rows},
            zh_shares=echo / max(echo.sum(), 1),
            curves={n: _curve(joint) for n, joint in self._joint.items()},
            roughness=roughness,
            spectrum=(self._wavenumbers, power / max(power.sum(), 1e-12)),
            lifetimes=lifetimes,
            change=change,
            information=information,
        )

    def _echo(self) -> Values:
        echo, (observed, wet, strong) = self._zh.counts.sum(axis=1), self._pixels / max(self._pixels[0], 1)
        total = echo[CLASSES_DBZ[0] :].sum() or np.nan
        place = np.cumsum(echo) / (echo.sum() or np.nan)
        median, high = (float(np.interp(q, place, np.arange(1, len(echo) + 1))) for q in (0.5, 0.95))
        return {
            "wet fraction": float(wet) if observed else np.nan,
            "median ZH of echo (dBZ)": median if echo.sum() else np.nan,
            "95% quantile of ZH of echo (dBZ)": high if echo.sum() else np.nan,
            f"share of pixels at {STRONG_DBZ:.0f} dBZ and more": float(strong) if observed else np.nan,
            **{f"share of echo at {a}-{b} dBZ": float(echo[a:b].sum() / total) for a, b in _CLASSES},
        }

    def _of_variable(self, name: str, roughness: Real) -> Values:
        joint, label, unit = self._joint[name], name.upper(), UNITS[name]
        rows = {}
        for share, told in zip(SHARES, ("1%", "median", "99%"), strict=True):
            for a, b in _CLASSES:
                rows[f"{label} at {a}-{b} dBZ, {told} ({unit})"] = float(joint.quantiles(a, b, (share,))[0])
        rows |= {
            f"roughness of {label} at {a}-{b} dBZ ({unit})": float(r)
            for (a, b), r in zip(_CLASSES, roughness, strict=True)
        }
        if name == "zdr":
            low, high = map(int, LIGHT_RAIN_DBZ)
            bias = float(joint.quantiles(low, high, (0.5,))[0]) - LIGHT_RAIN_ZDR_DB
            rows[f"bias of ZDR in light rain, {LIGHT_RAIN_DBZ[0]:.0f}-{LIGHT_RAIN_DBZ[1]:.0f} dBZ (dB)"] = bias
        else:
            rows["noise of KDP in weak echo, 10-25 dBZ (deg/km)"] = _weak_noise(joint)
        echo = self._zh.counts[CLASSES_DBZ[0] :].sum()
        share = joint.counts[CLASSES_DBZ[0] :].sum() / echo if echo else np.nan
        return {**rows, f"share of echo with {label}": float(share)}

    def _of_ice(self) -> Values:
        pooled = {name: np.concatenate(parts) for name, parts in self._ice.items()}
        medians = {n: float(np.median(v)) if len(v) >= FEWEST_VALUES else np.nan for n, v in pooled.items()}
        rows = {"7 km median ZH of echo (dBZ)": medians["zh"]}
        names = [name for name in self._others if name in medians]
        return rows | {f"7 km median {n.upper()}, means of 5 × 5 pixels ({UNITS[n]})": medians[n] for n in names}

    def _of_scales(self, power: Real, lifetimes: Mapping[float, float]) -> Values:
        slopes = {
            (low, high): spectral_slope(self._wavenumbers, power, low, high) for low, high in ((20, 100), (5, 20))
        }
        return {
            "speed of motion (m/s)": sum(n * s for n, s in self._speeds) / (sum(n for n, _ in self._speeds) or np.nan),
            **{f"spectral slope, {low}-{high} km": slope for (low, high), slope in slopes.items()},
            **{f"lifetime at {s:.0f} km (min)": lifetimes.get(s, np.nan) for s in SCALES_KM},
        }


def _runs(is_in: Mask) -> list[slice]:
    """Return the runs of two or more consecutive frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_in, [False]]).astype(np.int8)))
    return [slice(a, b) for a, b in edges.reshape(-1, 2) if b - a > 1]


def _weak_noise(joint: JointHistogram) -> float:
    """Return the robust standard deviation of KDP in echo too weak to have any, as in `quality.kdp_noise`."""
    low, high = map(int, WEAK_DBZ)
    quartiles = joint.quantiles(low, high, (0.25, 0.75))
    return float(_MAD_TO_STD * (quartiles[1] - quartiles[0]) / 2)


def _curve(joint: JointHistogram) -> Real:
    return np.array([joint.quantiles(a, b, SHARES) for a, b in pairwise(CURVE_DBZ)])


def _change_rows(change: Real) -> Values:
    told = ("mean", "10%", "90%")
    return {
        f"change of ZH in {CHANGE_MIN:.0f} min at {a}-{b} dBZ, {name} (dB)": float(change[i, j])
        for j, name in enumerate(told)
        for i, (a, b) in enumerate(_CLASSES)
    }


def _information_rows(information: Mapping[str, Real], step_minutes: float) -> Values:
    return {
        f"correlation of {name.upper()} at given ZH with growth in {minutes:.0f} min": float(value)
        for name, values in information.items()
        for minutes, value in zip(LEADS_MIN, values, strict=True)
        if frames_of(minutes, step_minutes)
    }
