"""Score runs, laws and the archive's own rain at gauges; write the results and the pairs they are from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import Archive, open_archive
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.data.gauges.correlation import Correlation
from polarcast.data.gauges.gauge import Gauge, accumulated
from polarcast.data.gauges.options import GaugeOptions
from polarcast.data.gauges.places import GridPlace
from polarcast.data.gauges.quality import check_quality, quality_table
from polarcast.data.gauges.read import read_gauges
from polarcast.data.ingest.volumes.rain import check_zr
from polarcast.data.shards.manifest import NAME
from polarcast.hpc.evaluation.gauges.pairs import MODES, Pairs, pairs_of
from polarcast.hpc.evaluation.gauges.patches import (
    ARCHIVE,
    EventRates,
    Laws,
    Patch,
    event_rates,
    laws_of,
    patches_of,
    read_notes,
)
from polarcast.hpc.evaluation.gauges.reference_error import separate
from polarcast.hpc.evaluation.gauges.report import GaugeReport, GaugeResult, RadarMap, write_report
from polarcast.hpc.evaluation.gauges.scores import (
    AMOUNTS_MM,
    RANGES_KM,
    SCORES,
    compare,
    score,
    strata,
)
from polarcast.hpc.evaluation.gauges.two_way import Crossed
from polarcast.hpc.evaluation.shards import shards_of
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.utils.progress import ProgressBoard

FOLDER = "gauges"
STRATA_SCORES = ("bias", "rmse")
FEWEST = 5
"""Pairs below which nothing is scored."""
_MOST_LISTED = 8


@dataclass(frozen=True)
class GaugeRequest:
    """What to score at gauges.

    Attributes:
        archive: Archive of radar fields, with times and places.
        gauges: Files or folders of gauges.
        reading: How to read the gauges.
        out: Folder for the results.
        minutes: Length of intervals to sum the gauges' to; None for their own.
        correlation: Correlation of rain; None to estimate it from the gauges.
        zr: a and b of Z = a R^b.
        runs: Runs of each estimator, which differ in seed only.
    """

    archive: Path
    gauges: tuple[Path, ...]
    reading: GaugeOptions
    out: Path
    minutes: float | None = None
    correlation: Correlation | None = None
    zr: tuple[float, float] = (200.0, 1.6)
    runs: dict[str, list[RunFolder]] = field(default_factory=dict)


def evaluate_at_gauges(request: GaugeRequest, board: ProgressBoard) -> GaugeReport:
    """Score all estimators at gauges, and write `report.FILES`.

    Raises:
        BadInput: The gauges or the archive can't be used, no gauge lies below it, no frame falls in an interval, a run
            can't be scored, or the results can't be written.
    """
    check_zr(request.zr)
    checked_output(request.out, is_folder=True)
    archive = _archive(request.archive)
    data = read_gauges(request.gauges, request.reading)
    gauges, notes = check_quality(data.gauges), read_notes(archive)
    _check_counted(gauges, request.gauges)
    quality = quality_table(gauges)
    said = list(data.notes)
    if request.minutes is not None:
        gauges = [accumulated(gauge, request.minutes) for gauge in gauges]
        empty = [gauge.station for gauge in gauges if not len(gauge)]
        if len(empty) == len(gauges):
            what = f"no interval of {request.minutes:g} min is full at any gauge"
            raise BadInput(what, "--accumulate", "give a multiple of the gauges' intervals")
        said += [f"no interval of {request.minutes:g} min is full: {_listed(empty)}"] if empty else []
    found, laws = patches_of(archive, notes, gauges), laws_of(archive, notes)
    said += [*laws.left_out, *_outside(gauges, [patch for patch, _ in found.values()])]
    events = []
    with board.stage("read", "events", len(found)) as done:
        for number, (event, place) in enumerate(found.items(), start=1):
            events.append(event_rates(archive, event, place, notes[event], laws, request.zr))
            done(number)
    _check_times(gauges, events, archive)
    seeds = {name: [name] for name in ([ARCHIVE] if laws.archive else []) + list(laws.relations)}
    seeds |= _add_runs(request, events, board)
    if not seeds:
        raise BadInput("nothing to score: no rain, and no law applies", archive.root, "give a RUN that estimates rain")
    results = _results(request, archive, pairs_of(gauges, events, seeds, archive.time_step_minutes), board)
    said += _short_intervals(results, archive.time_step_minutes)
    report = GaugeReport(
        archive,
        gauges,
        quality,
        results,
        _described(seeds, laws, archive, notes, request.zr),
        tuple(said),
        request.out,
        _map(events, found),
    )
    write_report(report)
    return report


def _check_counted(gauges: Sequence[Gauge], paths: Sequence[Path]) -> None:
    """Raise BadInput if no amount of any gauge counts."""
    if any(gauge.counts.any() for gauge in gauges):
        return
    flags = Counter(flag for gauge in gauges for flag in gauge.flags.tolist())
    reasons = ", ".join(f"{number} × {flag}" for flag, number in flags.most_common()) or "there is none"
    where = ", ".join(map(str, paths))
    raise BadInput(f"no amount of the gauges is used: {reasons}", where, "look at the units, and at codes for missing")


def _check_times(gauges: Sequence[Gauge], events: Sequence[EventRates], archive: Archive) -> None:
    """Raise BadInput if all gauges are before the first frame or after the last."""
    used = [gauge.chosen(gauge.counts) for gauge in gauges if gauge.counts.any()]
    first, last = min(e.times.min() for e in events), max(e.times.max() for e in events)
    if any(((gauge.ends >= first) & (gauge.starts < last)).any() for gauge in used):
        return
    begin, end = min(gauge.starts.min() for gauge in used), max(gauge.ends.max() for gauge in used)
    what = f"gauges of {begin} to {end} and frames of {first} to {last} have no time in common"
    raise BadInput(what, archive.root, "give gauges of the same time: look at --gauge-time-zone and the times")


def _map(events: Sequence[EventRates], found: dict[int, tuple[Patch, GridPlace]]) -> RadarMap:
    """Return the map of the grid with most gauges, of all of its events."""
    key = max(events, key=lambda event: len(event.patch.gauges)).place
    own = [event for event in events if event.place == key]
    totals = [event.total_mm for event in own if event.total_mm is not None]
    return RadarMap(found[own[0].event][1], np.sum(totals, 0) if totals else None)


def _archive(path: Path) -> Archive:
    if (path / NAME).is_file():
        raise BadInput("shards do not tell where their pixels are", path, "give the archive they were written from")
    return open_archive(path)


def _outside(gauges: Sequence[Gauge], patches: Sequence[Patch]) -> list[str]:
    inside = {number for patch in patches for number in patch.gauges.tolist()}
    lost = [gauge.station for number, gauge in enumerate(gauges) if number not in inside]
    return [f"outside the grid, left out: {_listed(lost)}"] if lost else []


def _listed(stations: Sequence[str]) -> str:
    more = f" and {len(stations) - _MOST_LISTED} more" if len(stations) > _MOST_LISTED else ""
    return f"{', '.join(stations[:_MOST_LISTED])}{more}"


def _add_runs(request: GaugeRequest, events: list[EventRates], board: ProgressBoard) -> dict[str, list[str]]:
    """Add the rates of all runs to those of the events; return their names by estimator."""
    from polarcast.hpc.evaluation.gauges.forecasts import run_rates

    if not request.runs:
        return {}
    manifest = shards_of(request.archive, request.out.parent, board)
    seeds: dict[str, list[str]] = {}
    for label, runs in request.runs.items():
        for run in runs:
            name = f"{label} ({run.path.name})"
            stage = f"estimate {run.path.name}"
            with board.stage(stage, "% of the frames", 100) as done:
                rates = run_rates(run, manifest, events, lambda part, of, done=done: done(100 * part // of))  # type: ignore[misc]
            for event, values in zip(events, rates, strict=True):
                event.rates[name] = values
            seeds.setdefault(label, []).append(name)
    return seeds


def _results(
    request: GaugeRequest, archive: Archive, found: Sequence[Pairs], board: ProgressBoard
) -> list[GaugeResult]:
    enough = [pairs for pairs in found if len(pairs) >= FEWEST]
    if not enough:
        number = max(map(len, found), default=0)
        what = f"{number} intervals of gauges have all their frames; {FEWEST} are needed"
        raise BadInput(what, archive.root, "give gauges of the same time: look at --gauge-time-zone and the times")
    results = []
    with board.stage("score", "lengths of interval", len(enough)) as done:
        for number, pairs in enumerate(enough, start=1):
            results.append(score_pairs(pairs, archive.spacing_km, request.correlation))
            done(number)
    return results


def score_pairs(pairs: Pairs, spacing_km: float, correlation: Correlation | None = None) -> GaugeResult:
    """Return all scores of pairs of one length of interval.

    Args:
        pairs: Pairs.
        spacing_km: Side of a pixel.
        correlation: Correlation of rain; None to estimate it.
    """
    names, groups = list(pairs.estimates), Crossed.of(pairs)
    scores = {e: {mode: {s: score(pairs, e, mode, s, groups) for s in SCORES} for mode in MODES} for e in names}
    has_range = bool(np.isfinite(pairs.range_km).all())
    compared = [compare(pairs, first, second, groups) for i, first in enumerate(names) for second in names[i + 1 :]]
    return GaugeResult(
        pairs,
        scores,
        strata(pairs, pairs.range_km, RANGES_KM, "km", STRATA_SCORES, names) if has_range else [],
        strata(pairs, pairs.gauge, AMOUNTS_MM, "mm", STRATA_SCORES, names),
        compared,
        separate(pairs, names, spacing_km, correlation),
    )


def _short_intervals(results: Sequence[GaugeResult], step: float) -> list[str]:
    short = [f"{r.pairs.minutes:g}" for r in results if r.pairs.minutes < step]
    return [f"intervals of {', '.join(short)} min are shorter than the {step:g} min between frames"] if short else []


def _described(
    seeds: dict[str, list[str]],
    laws: Laws,
    archive: Archive,
    notes: dict[int, dict[str, Any]],
    zr: tuple[float, float],
) -> dict[str, str]:
    """Say what each estimator is."""
    from polarcast.data.ingest.volumes.rain import RELATIONS

    bands = {str(note.get("band") or "") for note in notes.values()}
    out = {}
    for name, runs in seeds.items():
        if name == ARCHIVE:
            kinds = {str(note["rain"]) for note in notes.values() if note.get("rain")}
            out[name] = (
                "; ".join(sorted(kinds)) or f"rain of the archive: {archive.provenance().get('rain', 'as given')}"
            )
        elif name in laws.relations:
            law = RELATIONS[laws.relations[name]]
            out[name] = "; ".join(sorted(law.law(band, zr) for band in bands))
        else:
            out[name] = f"{len(runs)} run{'s' * (len(runs) != 1)}: {', '.join(runs)}"
    return out


def output_folder(run: Path | None, archive: Path) -> Path:
    """Return where results go: beside the run's records on this archive, or into the archive."""
    return archive / FOLDER if run is None else run / "on" / archive.resolve().name / FOLDER
