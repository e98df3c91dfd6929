"""Check an archive. Every file is read once, in parallel over events; a bad file does not stop the check."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from polarcast.data.archive import Archive
from polarcast.data.check.event import EventResult, check_across_events, check_event, passed_checks, unjudged_checks
from polarcast.data.check.facts import FrameFacts, frame_facts
from polarcast.data.check.findings import Finding, Problem, to_findings
from polarcast.data.check.leaks import group_finding
from polarcast.data.check.missing import missing_findings
from polarcast.data.check.observed import count, observed_finding
from polarcast.data.check.plausibility import CheckedEvent
from polarcast.data.errors import BadInput
from polarcast.data.field_file import Field, read_field
from polarcast.data.observed import ObservedPixels
from polarcast.data.workers import run_all

_FILES_PASSED = "all files are complete, finite, and of the same shape"


def check_archive(archive: Archive, workers: int = 1, on_event: Callable[[int], None] | None = None) -> list[Finding]:
    """Check every file of an archive, and the physical plausibility of its events.

    Args:
        archive: Archive to check.
        workers: Number of processes.
        on_event: Callback with the number of events done.

    Returns:
        One finding for each kind of check that passed, one for each problem, one on the groups of events, those on
        missing values if events count them, and one on the observed pixels if there are masks.
    """
    shape = _usual_shape(archive)
    jobs = [(archive, event, shape) for event in archive.frames]
    results: dict[int, EventResult] = {}
    for index, outcome in run_all(_check_event, jobs, workers, isolated=False):
        if isinstance(outcome, BadInput):
            outcome = _unreadable_event(archive, jobs[index][1], outcome)
        results[index] = outcome
        if on_event:
            on_event(len(results))
    ordered = [results[i] for i in sorted(results)]
    problems = [p for e in ordered for p in e.problems]
    passed = {"files": f"{sum(e.frames for e in ordered)} frames: {_FILES_PASSED}", **passed_checks(ordered)}
    problems += check_across_events(ordered)
    found = [*to_findings(problems, passed, unjudged_checks(ordered)), group_finding(archive)]
    found += missing_findings(archive)
    counts = [e.observed for e in ordered if e.observed is not None]
    return [*found, observed_finding(np.sum(counts, 0))] if counts else found


def _check_event(job: tuple[Archive, int, tuple[int, ...]]) -> EventResult:
    """Read one event frame by frame, and check it."""
    archive, number, shape = job
    event = CheckedEvent(number, archive.variables, archive.heights_km)
    problems = _unindexed_frames(archive, number)
    masks, counts = _masks(archive, number, shape, problems), []
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
            counts += [] if masks is None or fields[0] is None else [count(masks.masks(frame)[0], fields[0])]
    measured = "zh" not in archive.provenance().get("derived", {})
    result = check_event(event, facts, problems, zh_is_measured=measured)
    return replace(result, observed=np.sum(counts, 0)) if counts else result


def _read(path: Path, shape: tuple[int, ...], problems: list[Problem]) -> Field | None:
    """Read a field; if it is bad, add a problem and return None."""
    try:
        values = read_field(path)
    except BadInput as error:
        problems.append(Problem("files", str(path), f"{error.what}: {error.fix}"))
        return None
    if values.shape != shape:
        found = f"shape {values.shape}, the others have {shape}: grid it again"
        problems.append(Problem("files", str(path), found))
        return None
    return values


def _unindexed_frames(archive: Archive, number: int) -> list[Problem]:
    """Report frames of a variable that are missing from the event's index and would be ignored silently."""
    known = {f"frame_{frame:03d}.npy" for frame in archive.frames[number]}
    problems = []
    for variable in archive.variables:
        for height in archive.heights_km:
            folder = archive.radar_file(variable, height, number, 0).parent
            present = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
            for name in sorted(n for n in present - known if n.startswith("frame_")):
                found = "the rain grid has no such frame: remove it, or add the rain"
                problems.append(Problem("files", str(folder / name), found))
    return problems


def _masks(archive: Archive, number: int, shape: tuple[int, ...], problems: list[Problem]) -> ObservedPixels | None:
    """Read the masks of observed pixels; if they are damaged or on another grid, add a problem and return None."""
    try:
        return archive.read_observed(number, shape)
    except BadInput as error:
        problems.append(Problem("files", str(error.where), f"{error.what}: {error.fix}"))
        return None


def _usual_shape(archive: Archive) -> tuple[int, ...]:
    """Return the most common shape of a few files, so that one bad file does not make all others fail."""
    shapes: list[tuple[int, ...]] = []
    for event in list(archive.frames)[:5]:
        for frame in archive.frames[event][:3]:
            for variable in archive.variables:
                try:
                    shapes.append(read_field(archive.radar_file(variable, archive.heights_km[0], event, frame)).shape)
                except BadInput:
                    continue
    return max(set(shapes), key=shapes.count) if shapes else ()


def _unreadable_event(archive: Archive, number: int, error: BadInput) -> EventResult:
    event = CheckedEvent(number, archive.variables, archive.heights_km)
    return check_event(event, [], [Problem("files", event.where(), f"could not be checked: {error}")])
