"""Choose the inputs of one kind: an archive is made of radar volumes or of gridded sequences."""

from collections.abc import Sequence
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_part
from polarcast.data.ingest.jobs import HeaderJob, InputFile, describe_one, is_gridded
from polarcast.data.ingest.report import IngestReport

NEARLY_ALL = 9
"""Files of one kind for each of the other that make it the kind of the call."""
_NAMES = {True: "gridded sequence", False: "radar volume"}


def of_one_kind(sources: Sequence[InputFile], settings: GridSettings, report: IngestReport) -> list[InputFile]:
    """Return the volumes or the sequences among some inputs, and report the others.

    Files that can't be used count for neither kind. If at least nine in ten files are of one kind, the others are left
    out, each with its line.

    Raises:
        BadInput: There are usable files of both kinds, and too many of each.
    """
    by_kind: dict[bool, list[InputFile]] = {True: [], False: []}
    for source in sources:
        by_kind[is_gridded(Path(source.file))].append(source)
    is_few_gridded = len(by_kind[True]) <= len(by_kind[False])
    few, many = by_kind[is_few_gridded], by_kind[not is_few_gridded]
    if not few:
        return list(sources)
    usable = _usable(few, settings, report)
    if not usable:
        return many
    failures: dict[str, str] = {}
    example = next((s for s in many if not failures.setdefault(s.file, _problem(s, settings))), None)
    if example is None:
        report.failed.update(failures)
        return usable
    if NEARLY_ALL * len(usable) > len(many):
        what = f"a {_NAMES[is_few_gridded]}, and {example.file} is a {_NAMES[not is_few_gridded]}"
        raise BadInput(what, usable[0].file, "volumes and gridded sequences in one call: ingest each in its own")
    reason = f"a {_NAMES[is_few_gridded]}, and at least nine in ten files are {_NAMES[not is_few_gridded]}s"
    report.failed.update({s.file: f"{reason} — ingest it into another archive" for s in usable})
    return many


def _usable(sources: Sequence[InputFile], settings: GridSettings, report: IngestReport) -> list[InputFile]:
    """Return the inputs that can be read, and report the others."""
    problems = {s.file: _problem(s, settings) for s in sources}
    report.failed.update({file: problem for file, problem in problems.items() if problem})
    return [s for s in sources if not problems[s.file]]


def _problem(source: InputFile, settings: GridSettings) -> str:
    """Return why an input can't be read; empty if it can."""
    try:
        if is_gridded(Path(source.file)):
            open_part(Path(source.file), settings)
        else:
            describe_one(HeaderJob(source))
    except BadInput as error:
        return error.reason
    return ""
