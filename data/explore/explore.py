"""Explore an archive in one pass: acceptance table, test of the rain grid, and figures."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.explore import figures
from polarcast.data.explore.content import ArchiveContent, check_frames, chosen_events, content_of
from polarcast.data.explore.describe import Description, describe_event, join_maps
from polarcast.data.explore.measures import AcceptanceRow, Truth, accept
from polarcast.data.explore.rain_relation import RainRelation, fit_rain_relations, verdict
from polarcast.data.files import checked_output, sole_writer, write_json
from polarcast.data.groups import groups_of
from polarcast.data.workers import end_with_parent

COMPARISON_FIGURES = ("beside.png", "beside_frames.png")


@dataclass(frozen=True)
class Exploration:
    """Results of an exploration."""

    events: int
    groups: int
    acceptance: list[AcceptanceRow]
    rain_relations: list[RainRelation]
    left_out: Sequence[str] = ()
    """What is left out because the archive lacks a variable, a height or rain."""

    @property
    def verdict(self) -> str:
        """One-sentence result of the test of the rain grid."""
        if not self.rain_relations:
            return "the rain grid was not tested: the archive has no rain grid, or no KDP"
        return verdict(self.rain_relations)

    def as_record(self) -> dict[str, Any]:
        """Return the record for `--json` and report.json; undefined numbers are None."""
        rows = [_finite(row.as_record()) for row in self.acceptance]
        relations = [_finite({**asdict(r), "is_product": r.is_product}) for r in self.rain_relations]
        counts = {"events": self.events, "groups": self.groups}
        left_out = {"left_out": list(self.left_out)}
        return {**counts, "acceptance": rows, "rain_relations": relations, "verdict": self.verdict, **left_out}


def explore(
    archive: Archive,
    out: Path,
    *,
    truth: Truth | None = None,
    events: int | None = None,
    workers: int = 1,
    on_event: Callable[[int], None] | None = None,
) -> Exploration:
    """Measure an archive and write its report and figures to `out`.

    Args:
        archive: Archive of zh at any height; what needs absent variables, heights or rain is left out and named.
        out: Folder for report.json and the figures.
        truth: Noise-free truth of a synthetic archive; adds the rows that require it.
        events: Number of events to use, evenly spaced; all by default.
        workers: Number of processes.
        on_event: Callback with the number of events done.

    Raises:
        BadInput: A frame is unreadable or no square, a number is out of range, `out` can't be written, or another
            process writes there.
    """
    for name, value in (("events", events), ("workers", workers)):
        if value is not None and value < 1:
            raise BadInput(f"{name} = {value}", fix="give 1 or more")
    check_frames(archive)
    with sole_writer(checked_output(out, is_folder=True)):
        return _explore(archive, out, truth, chosen_events(archive, events), workers, on_event)


def _explore(
    archive: Archive,
    out: Path,
    truth: Truth | None,
    events: list[int],
    workers: int,
    on_event: Callable[[int], None] | None,
) -> Exploration:
    described, groups = [], groups_of(archive).names
    for number, description in enumerate(_describe(archive, events, workers), start=1):
        described.append(description)
        if on_event:
            on_event(number)
    if len({d.summary.size for d in described}) > 1:
        raise BadInput("events differ in their number of pixels", archive.root, "regrid all events to one grid")
    pixels, content = np.concatenate([d.pixels for d in described]), content_of(archive)
    found = Exploration(
        events=len(described),
        groups=len({groups[event] for event in events}),
        acceptance=accept([d.summary for d in described], truth),
        rain_relations=_rain_relations(pixels, content),
        left_out=content.left_out,
    )
    _draw(archive, out, described, pixels)
    write_json(out / "report.json", found.as_record())
    return found


def add_comparison(out: Path, found: Exploration, comparison: dict[str, Any]) -> None:
    """Write report.json again, with a comparison under `beside`. Raises BadInput if another process writes there."""
    with sole_writer(out):
        write_json(out / "report.json", {**found.as_record(), "beside": comparison})


def _rain_relations(pixels: Any, content: ArchiveContent) -> list[RainRelation]:
    if not content.has_rain or "kdp" not in content.variables:
        return []
    first = content.column("kdp", 0)
    kdp = pixels[:, first : first + len(content.heights_km)]
    return fit_rain_relations(kdp, pixels[:, -1], content.heights_km)


def _draw(archive: Archive, out: Path, described: Sequence[Description], pixels: Any) -> None:
    wettest, content = max(described, key=lambda d: d.wetness), content_of(archive)
    is_drawn = {
        "fig_5_1.png": figures.draw_frequency_maps(out / "fig_5_1.png", join_maps(described)),
        "fig_7_1.png": figures.draw_rain_scatter(out / "fig_7_1.png", pixels, content),
        "fig_7_2.png": figures.draw_rain_against_variables(out / "fig_7_2.png", pixels, content),
    }
    figures.draw_evolution(out / "fig_5_2.png", wettest, content.step_minutes)
    figures.draw_frames(out / "frames.png", archive, wettest.event)
    # Earlier figures are of another archive or comparison.
    for name in (*COMPARISON_FIGURES, *(name for name, drawn in is_drawn.items() if not drawn)):
        (out / name).unlink(missing_ok=True)


def _describe(archive: Archive, events: Sequence[int], workers: int) -> Iterator[Description]:
    workers = min(workers, len(events))
    if workers == 1:
        yield from (describe_event(archive, event) for event in events)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        yield from pool.map(describe_event, repeat(archive), events)


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in record.items()}
