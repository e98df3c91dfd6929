"""Growth and decay of echo along its motion, and what ZDR and KDP tell about it beyond ZH."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from polarcast.data.explore.joint_histogram import JointHistogram
from polarcast.data.explore.scales import LOWEST_DBZ, motion

Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

CLASSES_DBZ = (10, 20, 30, 40, 50, 60)
"""Edges of the classes of ZH."""
CHANGE_MIN = 30.0
"""Lead time of the changes by class, min."""
LEADS_MIN = (6.0, 18.0, 30.0)
"""Lead times of the correlations, min."""
WIDTH = 5
"""Pixels per side of the squares over which correlations are averaged."""
_TOLERANCE = 0.1
_STARTS = 8
_BIN_DB = 2.5
_FEWEST = 500
_FEWEST_ECHOES = 200


def frames_of(minutes: float, step_minutes: float) -> int | None:
    """Return a lead time in frames; None if no number of frames is within a tenth of it."""
    frames = round(minutes / step_minutes)
    return frames if frames and abs(frames * step_minutes - minutes) <= _TOLERANCE * minutes else None


class GrowthRecord:
    """Lagrangian changes of ZH of one event, collected from consecutive blocks of frames.

    The change is max(zh, 5 dBZ) at the lead time less zh now, where echo of now moves to. The motion is that of the
    frames in between, one vector for the picture. A frame without any echo counts as lost.
    """

    def __init__(self, variables: Sequence[str], step_minutes: float) -> None:
        self.lead = frames_of(CHANGE_MIN, step_minutes)
        self.changes = JointHistogram(-70.0, 70.0, 0.1)
        self._leads = {minutes: frames_of(minutes, step_minutes) for minutes in LEADS_MIN}
        self._others = [name for name in variables if name != "zh"]
        self._samples: dict[tuple[str, float], list[Real]] = {}

    def add(self, fields: Mapping[str, Real], observed: Mask) -> None:
        """Add a block of consecutive frames.

        Args:
            fields: zh and others, (t, y, x) in dBZ, dB, deg/km, fill 0.
            observed: Observed pixels, (t, y, x).
        """
        zh = fields["zh"]
        longest = max([lead for lead in (self.lead, *self._leads.values()) if lead], default=0)
        has_echo = [(frame >= CLASSES_DBZ[0]).sum() >= _FEWEST_ECHOES for frame in zh]
        for start in range(0, len(zh) - 1, max(1, len(zh) // _STARTS)):
            through = zh[start : start + longest + 1]
            if not has_echo[start] or not any(has_echo[start + 1 : start + len(through)]):
                continue
            drift = motion(through)
            ends = {lead: start + lead for lead in (self.lead, *self._leads.values()) if lead}
            usable = {lead for lead, end in ends.items() if end < len(zh) and (zh[end] != 0).any()}
            if self.lead in usable:
                self._add_change(zh, observed, start, drift)
            for minutes, lead in self._leads.items():
                if lead in usable:
                    self._add_sample(fields, observed, start, drift, minutes)

    def _add_change(self, zh: Real, observed: Mask, start: int, drift: tuple[float, float]) -> None:
        assert self.lead is not None
        now, then = _along(drift, self.lead, zh.shape[-1])
        before, after = zh[start][now], np.maximum(zh[start + self.lead][then], LOWEST_DBZ)
        used = (before >= CLASSES_DBZ[0]) & observed[start][now] & observed[start + self.lead][then]
        self.changes.add(before[used], (after - before)[used])

    def _add_sample(
        self, fields: Mapping[str, Real], observed: Mask, start: int, drift: tuple[float, float], minutes: float
    ) -> None:
        """Add means over squares full of echo: zh now, another variable now, and change of zh."""
        zh, lead = fields["zh"], self._leads[minutes]
        assert lead is not None
        now, then = _along(drift, lead, zh.shape[-1])
        before = _square_mean(zh[start])[now]
        after = _square_mean(np.maximum(zh[start + lead], LOWEST_DBZ))[then]
        is_seen = _square_mean(observed[start + lead].astype(np.float32))[then] > 0.999
        for name in self._others:
            echo = (zh[start] >= CLASSES_DBZ[0]) & (fields[name][start] != 0)
            full = (_square_mean(echo.astype(np.float32))[now] > 0.999) & is_seen
            other = _square_mean(fields[name][start])[now]
            sample = np.stack([before[full], other[full], (after - before)[full]])
            self._samples.setdefault((name, minutes), []).append(sample[:, ::3])

    def change(self) -> Real:
        """Return mean, 10% and 90% quantile of the change by class of ZH, (class, 3) in dB; NaN where unknown."""
        classes = list(pairwise(CLASSES_DBZ))
        return np.array([[self.changes.mean(a, b), *self.changes.quantiles(a, b, (0.1, 0.9))] for a, b in classes])

    def information(self) -> dict[str, Real]:
        """Return the correlation of each variable at given ZH with the change at given ZH, by lead time."""
        return {
            name: np.array([_partial_correlation(self._samples.get((name, m), [])) for m in LEADS_MIN])
            for name in self._others
        }


def _square_mean(field: Real) -> Real:
    return np.asarray(uniform_filter(field, WIDTH, mode="constant"))


def _along(drift: tuple[float, float], lead: int, size: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the places now and then of what stays in the picture."""
    shift = [int(np.clip(round(d * lead), -size, size)) for d in drift]
    now = tuple(slice(max(-s, 0), size + min(-s, 0)) for s in shift)
    then = tuple(slice(max(s, 0), size + min(s, 0)) for s in shift)
    return now, then


def _partial_correlation(samples: Sequence[Real]) -> float:
    """Return the correlation of two anomalies at given ZH from samples (3, n) of zh, other, change; NaN for few."""
    zh, other, change = np.concatenate(samples, axis=1).astype(np.float64) if samples else np.empty((3, 0))
    if len(zh) < _FEWEST:
        return float("nan")
    bins = (zh / _BIN_DB).astype(int)
    a, b = (_anomaly(bins, zh, values) for values in (other, change))
    spread = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / spread) if spread > 0 else float("nan")


def _anomaly(bins: npt.NDArray[np.int_], zh: Real, values: Real) -> Real:
    """Subtract a straight line in ZH, fitted in each bin of ZH."""
    count = np.maximum(np.bincount(bins), 1)
    z = zh - (np.bincount(bins, zh) / count)[bins]
    v = values - (np.bincount(bins, values) / count)[bins]
    slope = np.bincount(bins, z * v) / np.maximum(np.bincount(bins, z * z), 1e-9)
    return np.asarray(v - slope[bins] * z)
