"""Check that ZDR and KDP have values where zh has echo, by the counts in the notes of ingested events.

The fields themselves don't tell it: 0 is both a value and the absence of one.
"""

from collections.abc import Mapping
from typing import Any

from polarcast.data.archive import Archive
from polarcast.data.check.findings import WARNING, Finding, Problem, to_findings
from polarcast.data.errors import BadInput
from polarcast.data.ingest.missing import FEWEST_ECHOES, counted, total_missing

KIND = "missing values"
_MANY = 0.2
"""Share of the echo without a value from which on a variable is hardly one."""


def missing_findings(archive: Archive) -> list[Finding]:
    """Return the share of the echo without a value, and a warning for each event, variable and height with many.

    Archives of other programs and of earlier versions have no counts, and no finding. Neither has one with a damaged
    note, which `leaks.group_finding` reports.
    """
    try:
        notes = {event: archive.event_note(event) for event in archive.frames}
    except BadInput:
        return []
    known = {event: note for event, note in notes.items() if counted(note)}
    if not known:
        return []
    problems = [problem for event, note in known.items() for problem in _problems(event, note)]
    totals = ", ".join(f"{name} {shares['all']:.1%}" for name, shares in total_missing(known.values()).items())
    rest = len(notes) - len(known)
    unjudged = {KIND: f"not judged in {rest} of {len(notes)} events: not counted"} if rest else {}
    return to_findings(problems, {KIND: f"share of the echo without a value: {totals}"}, unjudged)


def _problems(event: int, note: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem(
            KIND, f"event {event:03d}",
            f"{variable} is missing at {share:.0%} of the echo at {height} km, and is 0 there: ingest it without "
            f"{variable}, or without that height", WARNING,
        )
        for (variable, height), (share, pixels) in counted(note).items()
        if share >= _MANY and pixels >= FEWEST_ECHOES
    ]  # fmt: skip
