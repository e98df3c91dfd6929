"""Join gridded sequences, and plan the events that they become."""

import re
from collections.abc import Iterable, Sequence
from functools import partial

from polarcast.data.archive import VARIABLES
from polarcast.data.ingest.archive_settings import NO_RAIN, claim_archive
from polarcast.data.ingest.grids.events import Piece
from polarcast.data.ingest.grids.joining import joined_files
from polarcast.data.ingest.jobs import (
    InputFile,
    PieceJob,
    Plan,
    PlanJob,
    SequenceHeaderJob,
    describe_sequence,
    name_of,
    plan_one,
    sha256_of,
)
from polarcast.data.ingest.session import Session
from polarcast.data.notes import Note, event_notes

_IDENTITY = re.compile(r"([^/]+)/([0-9]{1,9})-([0-9]{1,9})/(.+)")
"""Identity in an event's note: SHA-256 of the file's content, range of frames, and tile; see `piece_identity`."""


def events_of_sequences(session: Session, sources: Sequence[InputFile]) -> list[PieceJob]:
    """Return one job for each tile and period that is not an event yet.

    Raises:
        BadInput: The archive was made with other settings.
    """
    settings, report, out = session.settings.sequences, session.report, session.out
    groups = _sequences_of(session, sources)
    plans = [PlanJob(tuple(group), settings) for group in groups]
    made = (plan for _, plan in session.results(plan_one, plans, [name_of(g) for g in groups], "sequences"))
    found: list[Plan] = sorted(made, key=lambda plan: plan.sources[0].file)
    if not found:
        return []
    claim_archive(out, "sequences", settings, "as given" if found[0].has_rain else NO_RAIN, found[0].measured)
    notes = event_notes(out).values()
    known = _known_parts(notes)
    earlier = {tuple(n for n in VARIABLES if n in note.get("units", {})) for note in notes}
    numbers, pictures = session.free_numbers(), session.settings.pictures
    jobs: list[PieceJob] = []
    for plan in found:
        fresh = [p for p in plan.pieces if not _is_known(p, known.get((sha256_of(plan.sources), p.tile), ()))]
        if fresh and (problem := _difference_of_plans(plan, found[0], earlier)):
            report.failed[name_of(plan.sources)] = f"{problem}: ingest it into another archive"
            continue
        for reason, number in plan.dropped.items():
            report.drop(reason, number, plan.dropped_from.get(reason, [s.file for s in plan.sources]))
        report.known += [s.file for s in plan.sources] if plan.pieces and not fresh else []
        jobs += [PieceJob(out, next(numbers), settings, pictures, plan.sources, p) for p in fresh]
    return jobs


def _difference_of_plans(plan: Plan, first: Plan, earlier: set[tuple[str, ...]]) -> str:
    """Return what a sequence has unlike the first one, or unlike the archive's events; empty if it is like them.

    Args:
        plan: The sequence.
        first: The first one.
        earlier: Radar variables of the events of the archive.
    """
    if plan.has_rain != first.has_rain:
        return "not the first file's quantity (rain or reflectivity)"
    if (plan.measured, plan.heights_km) != (first.measured, first.heights_km):
        return "not the first file's variables and heights"
    return "" if not earlier or plan.variables in earlier else "not the variables of the archive's events"


def _sequences_of(session: Session, sources: Sequence[InputFile]) -> list[list[InputFile]]:
    """Return the files of each sequence: those of events of the archive as they were joined, then new ones.

    A file of an event is not joined with new ones, because its frames would then be in two events.
    """
    settings, by_sum = session.settings.sequences, {s.sha256: s for s in sources}
    earlier = {tuple(s["sha256"] for s in note.get("sources", ())) for note in event_notes(session.out).values()}
    groups = [[by_sum[sha] for sha in group] for group in sorted(earlier) if group and by_sum.keys() >= set(group)]
    resumed = {s.sha256 for group in groups for s in group}
    known = {sha for group in earlier for sha in group} - resumed
    session.report.known += [s.file for s in sources if s.sha256 in known]
    fresh = [s for s in sources if s.sha256 not in known | resumed]
    if len(fresh) < 2:
        return groups + [[s] for s in fresh]
    jobs = [SequenceHeaderJob(s, settings) for s in fresh]
    join = partial(joined_files, max_gap_minutes=settings.max_gap_minutes)
    return groups + session.joined(describe_sequence, jobs, fresh, join)


def _known_parts(notes: Iterable[Note]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Return the frame ranges of the events that an archive has of each file's content and tile."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for note in notes:
        if parts := _IDENTITY.fullmatch(str(note.get("identity"))):
            content, start, stop, tile = parts.groups()
            found.setdefault((content, tile), []).append((int(start), int(stop)))
    return found


def _is_known(piece: Piece, ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether an event holds the piece: earlier versions did not divide long records into days."""
    return any(start <= piece.start and piece.stop <= stop for start, stop in ranges)
