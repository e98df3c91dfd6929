"""Results at gauges, and the files they are written to: scores as JSON and CSV, and the pairs they are from."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import Archive
from polarcast.data.files import write_json, write_text
from polarcast.data.gauges.gauge import Gauge, Real
from polarcast.data.gauges.places import GridPlace
from polarcast.hpc.evaluation.gauges.pairs import MODES, Pairs
from polarcast.hpc.evaluation.gauges.reference_error import ReferenceError
from polarcast.hpc.evaluation.gauges.scores import GaugeComparison, Stratum
from polarcast.hpc.evaluation.gauges.two_way import Crossed, CrossedInterval

FILES = ("scores.json", "scores.csv", "pairs.csv")


@dataclass(frozen=True)
class GaugeResult:
    """Scores at gauges for one length of interval.

    Attributes:
        pairs: What they are from.
        scores: By estimator, mode (`pairs.MODES`) and score.
        by_range, by_amount: Bias and RMSE at the pixel, by distance from the radar and by amount of the gauge.
        compared: Later estimators against earlier ones.
        reference: By estimator, the error with and without that of the gauges.
    """

    pairs: Pairs
    scores: dict[str, dict[str, dict[str, CrossedInterval]]]
    by_range: list[Stratum]
    by_amount: list[Stratum]
    compared: list[GaugeComparison]
    reference: dict[str, ReferenceError]


@dataclass(frozen=True)
class RadarMap:
    """Total of the archive's rain on the grid with most gauges, (y, x) in mm; None without rain."""

    place: GridPlace
    total_mm: Real | None


@dataclass(frozen=True)
class GaugeReport:
    """Results for each length of interval, with the quality of the gauges and lines on what was assumed."""

    archive: Archive
    gauges: list[Gauge]
    quality: list[dict[str, Any]]
    results: list[GaugeResult]
    described: dict[str, str]
    notes: tuple[str, ...]
    out: Path
    map: RadarMap

    def as_record(self) -> dict[str, Any]:
        """Return a JSON-serializable dict."""
        return {
            "archive": str(self.archive.root),
            "events": len(self.archive.frames),
            "estimators": self.described,
            "notes": list(self.notes),
            "results": [_result_record(result) for result in self.results],
            "gauges": self.quality,
        }


def _interval_record(found: CrossedInterval) -> dict[str, Any]:
    made = found.interval
    numbers = {"value": made.value, "low": made.low, "high": made.high}
    return {**{key: _finite(number) for key, number in numbers.items()}, "over": found.over}


def _finite(number: float) -> float | None:
    return round(float(number), 6) if math.isfinite(number) else None


def _result_record(result: GaugeResult) -> dict[str, Any]:
    pairs = result.pairs
    days, stations = Crossed.of(pairs).counts

    def named(scores: dict[str, CrossedInterval]) -> dict[str, Any]:
        return {name: _interval_record(found) for name, found in scores.items()}

    def classes(found: list[Stratum]) -> list[dict[str, Any]]:
        return [
            {"class": s.name, "pairs": s.pairs, "scores": {e: named(v) for e, v in s.scores.items()}} for s in found
        ]

    return {
        "minutes": pairs.minutes, "pairs": len(pairs), "stations": stations, "days": days,
        "total_gauges_mm": round(float(pairs.gauge.sum()), 3), "left_out": pairs.left_out,
        "scores": {e: {mode: named(v) for mode, v in by.items()} for e, by in result.scores.items()},
        "by_range": classes(result.by_range), "by_amount": classes(result.by_amount),
        "compared": [{"first": c.first, "second": c.second, "scores": named(c.scores)} for c in result.compared],
        "reference_error": {e: _reference_record(found) for e, found in result.reference.items()},
    }  # fmt: skip


def _reference_record(found: ReferenceError) -> dict[str, Any]:
    made = found.of_estimate
    law = found.correlation
    return {
        "rmse_against_gauges": _finite(found.rmse),
        "rmse_of_estimate": {"value": _finite(made.value), "low": _finite(made.low), "high": _finite(made.high)},
        "rms_of_gauges": _finite(found.of_gauge),
        "correlation": None if law is None else {"km": law.km, "shape": law.shape, "nugget": law.nugget},
        "correlation_from": found.source,
        "over": found.over,
        "not_estimated": found.why_not,
    }


def write_report(report: GaugeReport) -> None:
    """Write `FILES` into the folder of a report."""
    report.out.mkdir(parents=True, exist_ok=True)
    write_json(report.out / FILES[0], report.as_record())
    write_text(report.out / FILES[1], _table_of_scores(report))
    write_text(report.out / FILES[2], _table_of_pairs(report))


def _table_of_scores(report: GaugeReport) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["minutes", "estimator", "pixels", "score", "value", "low", "high", "over"])
    for result in report.results:
        for estimator, by_mode in result.scores.items():
            for mode, scores in by_mode.items():
                for name, found in scores.items():
                    record = _interval_record(found)
                    writer.writerow([f"{result.pairs.minutes:g}", estimator, mode, name, *record.values()])
    return text.getvalue()


def _table_of_pairs(report: GaugeReport) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(report.results[0].pairs.estimates)
    columns = [f"{name}, {mode}" for name in names for mode in MODES]
    writer.writerow(["station", "latitude", "longitude", "end", "minutes", "range_km", "gauge_mm", *columns])
    for pairs in (result.pairs for result in report.results):
        values = np.concatenate([pairs.estimates[name].mean(0) for name in names]).T
        for i, row in enumerate(values.tolist()):
            station = int(pairs.station[i])
            where = [f"{v:.6f}" for v in pairs.places[station]]
            far = "" if math.isnan(pairs.range_km[i]) else f"{pairs.range_km[i]:.2f}"
            head = [pairs.stations[station], *where, str(pairs.ends[i]), f"{pairs.minutes:g}", far]
            writer.writerow([*head, f"{pairs.gauge[i]:.3f}", *(f"{v:.3f}" for v in row)])
    return text.getvalue()
