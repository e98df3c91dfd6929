"""Cases to look at: maps of truth and forecasts of the worst, median and best of the kept cases."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.contrasts import ARM_NAMES
from polarcast.hpc.bench.figures.source import FigureData, Kept
from polarcast.hpc.bench.report.parts import CaseMap, Gallery, GalleryCase
from polarcast.hpc.bench.table import is_random
from polarcast.hpc.scores.wording import number
from polarcast.hpc.utils.plot_style import (
    MISSING_GRAY,
    RAIN_LEVELS_MM_H,
    ZDR_COLORS,
    ZDR_LEVELS_DB,
    ZH_COLORS,
    ZH_LEVELS_DBZ,
    field_style,
)

MOST_MODELS, MOST_FRAMES, MOST_PIXELS = 3, 12, 256
BUDGET = 5_000_000
"""Bytes of all maps; beyond, every second lead time is left out."""
_HEIGHT_KM = 3.0
_SWATCH, _SWATCH_HEIGHT = 34, 12
TRUTH = "input and truth"
"""Group of the maps that are no forecasts."""
CaseKey = tuple[int, int]
"""Number of the event, and of the frame in it."""
Field = npt.NDArray[Any]


@dataclass(frozen=True)
class Palette:
    """Colors of a quantity by level, as in the figures: white below the lowest, gray where it is unknown."""

    name: str
    levels: Sequence[float]
    colors: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, name: str, levels: Sequence[float], colors: str | None = None) -> "Palette":
        """Return the colors with which `field_style` draws values between levels."""
        style = field_style(levels, colors) if colors else field_style(levels)
        inside = [*np.mean([levels[:-1], levels[1:]], axis=0), 2 * levels[-1] + 1]
        rgba = style["cmap"](style["norm"](inside))
        return cls(name, levels, tuple(tuple(round(255 * c) for c in color[:3]) for color in rgba))

    def png(self, field: Field) -> bytes:
        """Return a field (y, x) as a PNG file with a palette; its first row is the top of the map."""
        from PIL import Image

        step = -(-max(field.shape) // MOST_PIXELS)
        values = field[::step, ::step]
        index = np.searchsorted(self.levels, values, side="right").astype(np.uint8)
        index[np.isnan(values)] = len(self.colors) + 1
        picture = Image.fromarray(index, "P")
        gray = round(255 * MISSING_GRAY)
        picture.putpalette([255, 255, 255, *(c for color in self.colors for c in color), gray, gray, gray])
        content = io.BytesIO()
        picture.save(content, "PNG", bits=4 if len(self.colors) <= 14 else 8)
        return content.getvalue()

    def legend(self) -> str:
        """Return the colors and their levels as SVG."""
        width, parts = _SWATCH * len(self.colors) + 20, []
        for i, (color, level) in enumerate(zip(self.colors, self.levels, strict=True)):
            left, fill = 10 + i * _SWATCH, "#" + "".join(f"{c:02x}" for c in color)
            box = f'x="{left}" y="0" width="{_SWATCH}" height="{_SWATCH_HEIGHT}"'
            parts.append(f'<rect {box} fill="{fill}" stroke="currentColor" stroke-width="0.4"/>')
            parts.append(f'<text x="{left}" y="24" font-size="10" text-anchor="middle">{level:g}</text>')
        text = f"{self.name}: levels {', '.join(f'{level:g}' for level in self.levels)}"
        return (
            f'<svg class="legend" role="img" aria-label="{escape(text)}" width="{width}" height="28" '
            f'viewBox="0 0 {width} 28" fill="currentColor">{"".join(parts)}</svg>'
        )


@dataclass(frozen=True)
class _Forecasts:
    """Forecasts of one model on one arm: fields (t, y, x) and errors by event and frame."""

    label: str
    arm: str
    fields: Mapping[CaseKey, Field]
    errors: Mapping[CaseKey, float]

    @property
    def name(self) -> str:
        """Label and arm."""
        return f"{self.label}, {self.arm}"


@dataclass(frozen=True)
class _Maps:
    """Draws the maps of cases."""

    source: FigureData
    manifest: Manifest
    kept: Sequence[Kept]
    observed: Mapping[CaseKey, Field]
    forecasts: Sequence[_Forecasts]
    leads: Sequence[str]

    @property
    def palette(self) -> Palette:
        """Colors of truth and forecasts."""
        return palettes(self.source)[0]

    def case(self, key: CaseKey, role: str, steps: Sequence[int]) -> GalleryCase:
        """Return the maps of a case at some of its frames."""
        event, frame = key
        origin = self.manifest.origins.get(event)
        when = f" ({origin.source}, {origin.period})" if origin else ""
        maps = self._inputs(key)
        for position, step in enumerate(steps):
            maps += self._at(key, step, None if self.source.is_rain else position)
        return GalleryCase(f"{role}: event {event:03d}, frame {frame:03d}{when}", maps)

    def _at(self, key: CaseKey, step: int, position: int | None) -> list[CaseMap]:
        truth, lead, unit = self.observed[key][step], self.leads[step], unit_of(self.source)
        maps = [CaseMap(self.palette.png(truth), f"truth {lead}".strip(), TRUTH, position)]
        for of in self.forecasts:
            if key in of.fields and step < len(of.fields[key]):
                field = of.fields[key][step]
                caption = f"{of.arm} {lead}".strip() + f", RMSE {number(_rmse(field, truth))} {unit}"
                maps.append(CaseMap(self.palette.png(field), caption, of.label, position))
        return maps

    def _inputs(self, key: CaseKey) -> list[CaseMap]:
        """Return the last observed frame of ZH, and of ZDR from a dual-pol run."""
        zh_colors, zdr_colors = palettes(self.source)[-2:]
        for one in sorted(self.kept, key=lambda k: k.arm != "dualpol"):
            with np.load(one.cases) as content:
                keys = _keys_in(content)
                if key not in keys:
                    continue
                radar = content["radar"][keys.index(key)]
            zh, *others = radar[:, min(_level(self.source, one.model), radar.shape[1] - 1)]
            maps = [CaseMap(zh_colors.png(zh), "input: ZH", TRUTH)]
            if one.arm == "dualpol" and others:
                zdr = np.where(zh == 0, -np.inf, others[0])
                maps.append(CaseMap(zdr_colors.png(zdr), "input: ZDR", TRUTH))
            return maps
        return []


def gallery_of(source: FigureData, manifest: Manifest, budget: int = BUDGET) -> Gallery | None:
    """Return the maps of up to three cases; None without kept cases of any model that tables show.

    Cases are ranked by the error of the first model that is shown, on its dual-pol arm if it has one.

    Args:
        source: Kept cases, and the suite that they are of.
        manifest: Data that they are of, for their times.
        budget: Most bytes of all maps.
    """
    models = _models(source)
    if not models:
        return None
    kept = [one for model in models for one in _by_arm(source, model).values()]
    forecasts = [_forecasts(source, model, one) for model in models for one in _by_arm(source, model).values()]
    first = next((f for f in forecasts if f.arm == ARM_NAMES["dualpol"]), forecasts[0])
    ranked = sorted(first.errors, key=lambda case: -np.nan_to_num(first.errors[case]))
    leads = [""] if source.is_rain else [f"+{lead:g} min" for lead in source.protocol(models[0]).lead_time]
    maps = _Maps(source, manifest, kept, _observed(source, kept), forecasts, leads)
    cases, steps = _within(budget, maps, ranked)
    notes = _notes(source, models, first, len(ranked))
    if len(steps) < len(leads):
        notes.append(f"{len(steps)} of {len(leads)} lead times are shown, which keeps the page small.")
    legends = {palette.name: palette.legend() for palette in palettes(source)}
    return Gallery(cases, [leads[step] for step in steps], legends, notes)


def _within(budget: int, maps: _Maps, ranked: Sequence[CaseKey]) -> tuple[list[GalleryCase], list[int]]:
    """Return the cases at as many frames as fit, and the positions of these frames."""
    count = len(maps.leads)
    steps = sorted({round(step) for step in np.linspace(0, count - 1, min(count, MOST_FRAMES))})
    while True:
        cases = [maps.case(key, role, steps) for role, key in _chosen(ranked)]
        size = sum(len(one.content) * 4 // 3 for case in cases for one in case.maps)
        if size <= budget or len(steps) == 1:
            return cases, steps
        steps = steps[:: -(-size // budget)]


def _models(source: FigureData) -> list[str]:
    """Return models of the verdict that have forecasts of both arms; without any, those with one.

    These are the first networks and the first of the others, a network first: cases are ranked by it.
    """
    tables = source.suite.verdict or list(source.suite.tables)
    of_verdict = {
        m for name in tables if name in source.suite.tables for m in source.suite.shown(source.suite.tables[name])
    }
    kept = [m for m in source.suite.models if source.arms(m) and _by_arm(source, m)]
    shown = [m for m in kept if m in of_verdict and not source.suite.models[m].synthetic_only]
    both = [m for m in shown if {"radar", "dualpol"} <= _by_arm(source, m).keys()]
    found = both or shown or kept
    networks = [m for m in found if is_random(source.suite, m)]
    others = [m for m in found if m not in networks]
    first = [*networks[: MOST_MODELS - bool(others)], *others]
    return first[:MOST_MODELS]


def _by_arm(source: FigureData, model: str) -> dict[str, Kept]:
    """Return the kept cases of a model by arm; those of the radar arm may be of the model that tables show for it."""
    kept = {(one.model, one.arm): one for one in source.kept}
    runs = {arm: (of, arm) for arm, of in source.suite.model_by_arm(model).items()}
    return {arm: kept[runs[arm]] for arm in ("radar", "placebo", "dualpol") if runs.get(arm) in kept}


def _forecasts(source: FigureData, model: str, one: Kept) -> _Forecasts:
    level = _level(source, one.model)
    fields: dict[CaseKey, Field] = {}
    errors: dict[CaseKey, float] = {}
    with np.load(one.cases) as content:
        for key, forecast, observed in zip(_keys_in(content), content["forecast"], content["observed"], strict=True):
            fields[key], errors[key] = _sequence(forecast, level), _rmse(forecast, observed)
    other = f" of {source.label(one.model)}" if one.model != model else ""
    return _Forecasts(source.label(model), f"{ARM_NAMES[one.arm]}{other}", fields, errors)


def _rmse(forecast: Field, observed: Field) -> float:
    """Return the root mean squared error over observed pixels; NaN without any."""
    squares = (forecast.astype(np.float64) - observed) ** 2
    known = squares[np.isfinite(squares)]
    return float(np.sqrt(known.mean())) if known.size else np.nan


def _keys_in(content: Mapping[str, Field]) -> list[CaseKey]:
    return [(int(event), int(frame)) for event, frame in zip(content["event"], content["frame"], strict=True)]


def _sequence(field: Field, level: int) -> Field:
    """Return the frames (t, y, x) of an estimate (y, x), or of a nowcast (t, z, y, x) at one height."""
    return field[None] if field.ndim == 2 else field[:, level]


def _level(source: FigureData, model: str) -> int:
    heights = np.asarray(source.protocol(model).height)
    return int(np.abs(heights - _HEIGHT_KM).argmin()) if len(heights) else 0


def _observed(source: FigureData, kept: Sequence[Kept]) -> dict[CaseKey, Field]:
    found: dict[CaseKey, Field] = {}
    for one in kept:
        with np.load(one.cases) as content:
            for key, field in zip(_keys_in(content), content["observed"], strict=True):
                found.setdefault(key, _sequence(field, _level(source, one.model)))
    return found


def _chosen(ranked: Sequence[CaseKey]) -> list[tuple[str, CaseKey]]:
    """Return role and key of the worst, the median and the best of cases ranked from worst to best."""
    count = len(ranked)
    roles = {0: "Worst", count - 1: "Best"} if count > 1 else {0: "Only case"}
    if count > 2:
        roles[count // 2] = "Median"
    return [(f"{roles[i]} ({i + 1} of {count} by error)", ranked[i]) for i in sorted(roles)]


def palettes(source: FigureData) -> list[Palette]:
    """Return the colors of truth and forecasts, then those of the input."""
    zh, zdr = Palette.of("ZH in dBZ", ZH_LEVELS_DBZ, ZH_COLORS), Palette.of("ZDR in dB", ZDR_LEVELS_DB, ZDR_COLORS)
    return [Palette.of("rain rate in mm/h", RAIN_LEVELS_MM_H), zh, zdr] if source.is_rain else [zh, zdr]


def unit_of(source: FigureData) -> str:
    """Return the unit of the forecasts."""
    return "mm/h" if source.is_rain else "dBZ"


def _notes(source: FigureData, models: Sequence[str], first: _Forecasts, count: int) -> list[str]:
    labels = ", ".join(source.label(model) for model in models)
    is_part = len(models) == MOST_MODELS < len(source.shown)
    part = f", {MOST_MODELS} of the {len(source.shown)} in the tables" if is_part else ""
    notes = [
        f"Ranked by the RMSE of {first.name}, first seed, over each case: of the {count} kept cases, not of all "
        "events. These were selected by the highest observed intensity of their event.",
        f"Models shown: {labels}{part}. Gray is unknown, and white is below the lowest level.",
    ]
    if not source.is_rain:
        heights = source.protocol(models[0]).height
        height = heights[_level(source, models[0])]
        over = "; cases are ranked over all heights" if len(heights) > 1 else ""
        notes.append(f"Maps, and the RMSE below them, are at {height:g} km{over}.")
    if any(source.protocol(model).members > 1 for model in models):
        notes.append("Of ensembles, the first member is shown.")
    return notes
