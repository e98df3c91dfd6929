"""Explore an archive in one pass: acceptance table, test of the rain grid, and figures."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.archive import HEIGHTS_KM, TIME_STEP_MINUTES, VARIABLES, Archive
from polarcast.data.errors import BadInput
from polarcast.data.explore import figures
from polarcast.data.explore.describe import Description, check_fields, describe_event, join_maps
from polarcast.data.explore.measures import AcceptanceRow, Truth, accept
from polarcast.data.explore.rain_relation import RainRelation, fit_rain_relations, verdict
from polarcast.data.files import checked_output, sole_writer, write_json
from polarcast.data.groups import groups_of
from polarcast.data.workers import end_with_parent


@dataclass(frozen=True)
class Exploration:
    """Results of an exploration."""

    events: int
    groups: int
    acceptance: list[AcceptanceRow]
    rain_relations: list[RainRelation]

    @property
    def verdict(self) -> str:
        """One-sentence result of the test of the rain grid."""
        return verdict(self.rain_relations)

    def as_record(self) -> dict[str, Any]:
        """Return the record for `--json` and report.json; undefined numbers are None."""
        rows = [_finite(row.as_record()) for row in self.acceptance]
        relations = [_finite({**asdict(r), "is_product": r.is_product}) for r in self.rain_relations]
        counts = {"events": self.events, "groups": self.groups}
        return {**counts, "acceptance": rows, "rain_relations": relations, "verdict": self.verdict}


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
        archive: Archive with zh, zdr and kdp at 1, 3 and 7 km.
        out: Folder for report.json and the figures.
        truth: Noise-free truth of a synthetic archive; adds the rows that require it.
        events: Number of events to use, evenly spaced; all by default.
        workers: Number of processes.
        on_event: Callback with the number of events done.

    Raises:
        BadInput: A frame is unreadable, the archive lacks a variable, a height or rain, a number is out of range, or
            `out` can't be written or another process writes there.
    """
    for name, value in (("events", events), ("workers", workers)):
        if value is not None and value < 1:
            raise BadInput(f"{name} = {value}", fix="give 1 or more")
    check_fields(archive)
    with sole_writer(checked_output(out, is_folder=True)):
        return _explore(archive, out, truth, _chosen(archive, events), workers, on_event)


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
    pixels = np.concatenate([d.pixels for d in described])
    first_kdp = VARIABLES.index("kdp") * len(HEIGHTS_KM)
    kdp, rain = pixels[:, first_kdp : first_kdp + len(HEIGHTS_KM)], pixels[:, -1]
    found = Exploration(
        events=len(described),
        groups=len({groups[event] for event in events}),
        acceptance=accept([d.summary for d in described], truth),
        rain_relations=fit_rain_relations(kdp, rain, HEIGHTS_KM),
    )
    _draw(archive, out, described, pixels)
    write_json(out / "report.json", found.as_record())
    return found


def _draw(archive: Archive, out: Path, described: Sequence[Description], pixels: Any) -> None:
    wettest = max(described, key=lambda d: d.rain)
    figures.draw_frequency_maps(out / "fig_5_1.png", join_maps(described))
    figures.draw_evolution(out / "fig_5_2.png", wettest, TIME_STEP_MINUTES)
    figures.draw_rain_scatter(out / "fig_7_1.png", pixels)
    figures.draw_rain_against_variables(out / "fig_7_2.png", pixels)
    figures.draw_frames(out / "frames.png", archive, wettest.event)


def _chosen(archive: Archive, events: int | None) -> list[int]:
    numbers = [event for event, frames in archive.frames.items() if frames]
    wanted = min(events or len(numbers), len(numbers))
    return [numbers[i] for i in np.unique(np.linspace(0, len(numbers) - 1, wanted).round().astype(int))]


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
