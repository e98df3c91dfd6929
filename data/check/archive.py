"""Is an archive sound? Every file is read once, in parallel over events; a bad one stops nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from polarcast.data.archive import Archive, Field, read_field
from polarcast.data.check.event import Examined, across, examine, sound
from polarcast.data.check.facts import FrameFacts, frame_facts
from polarcast.data.check.findings import Finding, Problem, to_findings
from polarcast.data.check.judge import CheckedEvent
from polarcast.data.errors import BadInput
from polarcast.data.workers import run_all

_SOUND_FILES = "every file whole, of one shape, and finite"


def check_archive(archive: Archive, workers: int = 1, on_event: Callable[[int], None] | None = None) -> list[Finding]:
    """Check every file of an archive, and whether its events are plausible weather.

    Args:
        archive: What to check.
        workers: Processes.
        on_event: Called with the number of events done.

    Returns:
        A finding for each kind of check that found nothing, and one for each problem.
    """
    shape = _usual_shape(archive)
    jobs = [(archive, event, shape) for event in archive.frames]
    examined: dict[int, Examined] = {}
    for index, outcome in run_all(_examine, jobs, workers, isolated=False):
        if isinstance(outcome, BadInput):
            outcome = _lost(archive, jobs[index][1], outcome)
        examined[index] = outcome
        if on_event:
            on_event(len(examined))
    ordered = [examined[i] for i in sorted(examined)]
    problems = [p for e in ordered for p in e.problems]
    told = {"files": f"{sum(e.frames for e in ordered)} frames: {_SOUND_FILES}", **sound(ordered)}
    return to_findings([*problems, *across(ordered)], told)


def _examine(job: tuple[Archive, int, tuple[int, ...]]) -> Examined:
    """One event, read frame by frame."""
    archive, number, shape = job
    event = CheckedEvent(number, archive.variables, archive.heights_km)
    problems: list[Problem] = _strays(archive, number)
    facts: list[FrameFacts] = []
    for frame in archive.frames[number]:
        read = [
            [_read(archive.radar_file(v, z, number, frame), shape, problems) for z in archive.heights_km]
            for v in archive.variables
        ]
        rain = _read(archive.rain_file(number, frame), shape, problems) if archive.has_rain else None
        fields = [field for row in read for field in row]
        if all(field is not None for field in fields) and (rain is not None or not archive.has_rain):
            facts.append(frame_facts(frame, np.array(read, dtype=np.float32), rain, archive.variables))
    measured = "zh" not in archive.provenance().get("derived", {})
    return examine(event, facts, problems, zh_is_measured=measured)


def _read(path: Path, shape: tuple[int, ...], problems: list[Problem]) -> Field | None:
    """A field, or None and a problem more."""
    try:
        values = read_field(path)
    except BadInput as error:
        problems.append(Problem("files", str(path), f"{error.what}: {error.fix}"))
        return None
    if values.shape != shape:
        found = f"shape {values.shape}, the others have {shape}: grid it anew"
        problems.append(Problem("files", str(path), found))
        return None
    return values


def _strays(archive: Archive, number: int) -> list[Problem]:
    """Frames of some variable that the event's index does not have: they would be passed over in silence."""
    known = {f"frame_{frame:03d}.npy" for frame in archive.frames[number]}
    problems = []
    for variable in archive.variables:
        for height in archive.heights_km:
            folder = archive.radar_file(variable, height, number, 0).parent
            there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
            for name in sorted(n for n in there - known if n.startswith("frame_")):
                found = "there is no such frame of the rain grid: remove it, or add the rain"
                problems.append(Problem("files", str(folder / name), found))
    return problems


def _usual_shape(archive: Archive) -> tuple[int, ...]:
    """The shape of most of a few files: one bad file must not make all others look wrong."""
    shapes: list[tuple[int, ...]] = []
    for event in list(archive.frames)[:5]:
        for frame in archive.frames[event][:3]:
            for variable in archive.variables:
                try:
                    shapes.append(read_field(archive.radar_file(variable, archive.heights_km[0], event, frame)).shape)
                except BadInput:
                    continue
    return max(set(shapes), key=shapes.count) if shapes else ()


def _lost(archive: Archive, number: int, error: BadInput) -> Examined:
    event = CheckedEvent(number, archive.variables, archive.heights_km)
    return examine(event, [], [Problem("files", event.where(), f"could not be examined: {error}")])
