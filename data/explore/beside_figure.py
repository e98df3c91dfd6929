"""Draw the statistics of an archive beside those of synthetic events."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.explore.figures import pyplot, save
from polarcast.data.explore.growth import CHANGE_MIN, CLASSES_DBZ, LEADS_MIN
from polarcast.data.explore.profile import CURVE_DBZ, EventProfile

Real = npt.NDArray[np.floating]
_Profiles = Sequence[EventProfile]

_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    {"color": "#0072B2", "marker": "s", "linestyle": "--", "markerfacecolor": "white"},
)
"""Of the archive and of the synthetic events; colors from Okabe & Ito (2008), readable with color-vision deficiency."""
_BANDS: tuple[dict[str, Any], ...] = (
    {"facecolor": "#D55E00", "alpha": 0.25, "linewidth": 0},
    {"facecolor": "none", "edgecolor": "#0072B2", "hatch": "////", "linewidth": 0.6, "alpha": 0.6},
)
_OFFSET_DBZ = 1.0


def draw_profiles(path: Path, profiles: Mapping[str, _Profiles]) -> None:
    """Draw the archive's events and synthetic events, in this order, in panels; absent variables are said to be.

    Lines are means over events. Bands are the range over events, or the 1st and 99th percentile.
    """
    figure, grid = pyplot().subplots(2, 4, figsize=(16, 7.5), layout="constrained")
    panels: dict[str, Callable[[Any, _Profiles, int], bool]] = {
        "ZH of echo": _draw_shares,
        "ZDR at given ZH: median, 1-99%": lambda axis, p, i: _draw_curve(axis, p, i, "zdr"),
        "KDP at given ZH: median, 1-99%": lambda axis, p, i: _draw_curve(axis, p, i, "kdp"),
        "roughness of ZDR within 5 × 5 pixels": lambda axis, p, i: _draw_roughness(axis, p, i, "zdr"),
        "spectrum of ZH": _draw_spectrum,
        "lifetime by scale": _draw_lifetimes,
        f"change of ZH in {CHANGE_MIN:.0f} min: mean, 10-90%": _draw_change,
        "correlation with growth at given ZH (KDP: ×)": _draw_information,
    }
    for axis, (title, draw) in zip(grid.flat, panels.items(), strict=True):
        axis.set_title(title, fontsize=10)
        drawn = [draw(axis, events, i) for i, events in enumerate(profiles.values())]
        if not all(drawn):
            axis.text(0.5, 0.5, "not in the archive, or too little echo", ha="center", transform=axis.transAxes)
    for axis in grid.flat:
        axis.grid(alpha=0.3)
    handles = [pyplot().Line2D([], [], **style) for style in _STYLES]
    names = [f"{name}, {len(events)} event{'s' * (len(events) != 1)}" for name, events in profiles.items()]
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    save(figure, path)


def _summary(rows: Sequence[Real]) -> tuple[Real, Real, Real]:
    """Return mean, least and greatest over events of what is defined; NaN where nothing is."""
    values = np.ma.masked_invalid(np.array(rows, dtype=np.float64))
    return tuple(np.ma.filled(part, np.nan) for part in (values.mean(0), values.min(0), values.max(0)))  # type: ignore[return-value]


def _draw_line(axis: Any, x: Any, rows: Sequence[Real], which: int, **changed: Any) -> bool:
    """Draw the mean over events with its range; return whether anything is defined."""
    mean, low, high = _summary(rows)
    known = np.isfinite(mean)
    x = np.asarray(x, dtype=np.float64)
    axis.fill_between(x[known], low[known], high[known], **_BANDS[which])
    axis.plot(x[known], mean[known], markersize=4, **{**_STYLES[which], **changed})
    return bool(known.any())


def _draw_shares(axis: Any, profiles: _Profiles, which: int) -> bool:
    shares = [p.zh_shares.reshape(-1, 2).sum(axis=1) / 2 for p in profiles]
    axis.set(xlabel="ZH in dBZ", ylabel="share of echo per dB", yscale="log", ylim=(1e-6, 0.3), xlim=(0, 70))
    return _draw_line(axis, np.arange(1, 70, 2), [np.where(s > 0, s, np.nan) for s in shares], which)


def _draw_curve(axis: Any, profiles: _Profiles, which: int, name: str) -> bool:
    unit = {"zdr": "ZDR in dB", "kdp": "KDP in °/km"}[name]
    axis.set(xlabel="ZH in dBZ", ylabel=unit, xlim=(5, 65))
    if name not in profiles[0].curves:
        return False
    if name == "kdp":  # strong rain would hide what weak echo tells
        axis.set_yscale("symlog", linthresh=1, linscale=1)
        axis.set_yticks([-1, -0.5, 0, 0.5, 1, 2, 5, 10], ["-1", "-0.5", "0", "0.5", "1", "2", "5", "10"])
    low, median, high = (_summary([p.curves[name][:, i] for p in profiles])[0] for i in range(3))
    known = np.isfinite(median)
    x = np.array([(a + b) / 2 for a, b in pairwise(CURVE_DBZ)])
    axis.fill_between(x[known], low[known], high[known], **_BANDS[which])
    axis.plot(x[known], median[known], markersize=4, **_STYLES[which])
    return bool(known.any())


def _class_centers() -> Real:
    return np.array([(a + b) / 2 for a, b in pairwise(CLASSES_DBZ)])


def _draw_roughness(axis: Any, profiles: _Profiles, which: int, name: str) -> bool:
    axis.set(xlabel="ZH in dBZ", ylabel="standard deviation in dB", xlim=(10, 60))
    if name not in profiles[0].roughness:
        return False
    return _draw_line(axis, _class_centers(), [p.roughness[name] for p in profiles], which)


def _draw_spectrum(axis: Any, profiles: _Profiles, which: int) -> bool:
    axis.set(xlabel="wavelength in km", ylabel="share of power density", xscale="log", yscale="log")
    used = [p.spectrum for p in profiles if len(p.spectrum[0])]
    if not used:
        return False
    axis.xaxis.set_inverted(True)
    is_drawn = _draw_line(axis, 1 / used[0][0], [np.where(power > 0, power, np.nan) for _, power in used], which)
    _set_plain_ticks(axis, (4, 8, 16, 32, 64, 128))
    return is_drawn


def _draw_lifetimes(axis: Any, profiles: _Profiles, which: int) -> bool:
    axis.set(xlabel="scale in km", ylabel="Lagrangian lifetime in min", xscale="log", yscale="log")
    scales = sorted({s for p in profiles for s in p.lifetimes})
    if not scales:
        return False
    rows = [np.array([p.lifetimes.get(s, np.nan) for s in scales]) for p in profiles]
    is_drawn = _draw_line(axis, scales, rows, which)
    _set_plain_ticks(axis, scales)
    axis.set_yticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
    return is_drawn


def _draw_change(axis: Any, profiles: _Profiles, which: int) -> bool:
    axis.set(xlabel="ZH at the start in dBZ", ylabel="change in dB", xlim=(10, 60))
    mean, low, high = (_summary([p.change[:, i] for p in profiles])[0] for i in range(3))
    known = np.isfinite(mean)
    x = _class_centers()[known] + (2 * which - 1) * _OFFSET_DBZ
    ends = np.stack([mean - low, high - mean])[:, known].clip(0)
    axis.errorbar(x, mean[known], ends, capsize=3, markersize=4, **_STYLES[which])
    return bool(known.any())


def _draw_information(axis: Any, profiles: _Profiles, which: int) -> bool:
    axis.set(xlabel="lead time in min", ylabel="correlation", xticks=LEADS_MIN)
    axis.axhline(0, color="black", linewidth=0.6)
    is_drawn = False
    for name, rows in ((n, [p.information[n] for p in profiles]) for n in profiles[0].information):
        changed = {"marker": "x"} if name == "kdp" else {}
        mean, low, high = _summary(rows)
        known = np.isfinite(mean)
        x = np.array(LEADS_MIN)[known] + (2 * which - 1) * 0.4 + (0.8 if name == "kdp" else -0.8)
        ends = np.stack([mean - low, high - mean])[:, known]
        axis.errorbar(x, mean[known], ends, capsize=2, markersize=5, **{**_STYLES[which], **changed})
        is_drawn |= bool(known.any())
    return is_drawn


def _set_plain_ticks(axis: Any, ticks: Sequence[float]) -> None:
    from matplotlib.ticker import NullFormatter

    axis.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
