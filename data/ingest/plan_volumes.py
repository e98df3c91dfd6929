"""Grid radar volumes, and plan the events that they become."""

from collections.abc import Sequence
from pathlib import Path

from polarcast.data.ingest.archive_settings import claim_archive
from polarcast.data.ingest.formats import holds_a_volume
from polarcast.data.ingest.jobs import (
    HeaderJob,
    InputFile,
    VolumeEventJob,
    VolumeJob,
    describe_one,
    grid_one,
    sha256_of,
)
from polarcast.data.ingest.session import CACHE, Session
from polarcast.data.ingest.volumes.events import group_scans
from polarcast.data.ingest.volumes.pieces import Grouping, Header, grouping
from polarcast.data.notes import event_notes

INCOMPLETE = "files of a last volume without its last sweeps (ingest them again with these)"
SAME_SECOND = "volumes of the same radar and second as another"


def events_of_volumes(session: Session, sources: Sequence[InputFile]) -> list[VolumeEventJob]:
    """Grid every volume that is not in an event yet, and return one job for each group of consecutive scans.

    Raises:
        BadInput: The archive was made with other settings.
    """
    settings, report, out = session.settings.volumes, session.report, session.out
    claim_archive(out, "volumes", settings, settings.rain_note)
    known = {s["sha256"] for note in event_notes(out).values() for s in note.get("sources", ())}
    report.known += [s.file for s in sources if s.sha256 in known]
    cache = out / CACHE
    cache.mkdir(exist_ok=True)
    volumes = _volumes_of(session, [s for s in sources if s.sha256 not in known])
    jobs = [VolumeJob(tuple(group), cache / f"{sha256_of(group)}.npz", settings) for group in volumes]
    scans = [scan for _, scan in session.results(grid_one, jobs, [j.name for j in jobs], "volumes")]
    groups, unused = group_scans(scans, settings.max_gap_minutes)
    report.drop(SAME_SECOND, len(unused), [source["file"] for scan in unused for source in scan.sources])
    numbers, pictures = session.free_numbers(), session.settings.pictures
    return [VolumeEventJob(out, next(numbers), settings, pictures, tuple(group)) for group in groups]


def _volumes_of(session: Session, sources: Sequence[InputFile]) -> list[list[InputFile]]:
    """Return the files of each volume: most often one, or its pieces.

    A last volume of pieces that still arrives is left for a later call: its files would be in two volumes else.
    """
    whole = {source for source in sources if holds_a_volume(Path(source.file))}
    others = [source for source in sources if source not in whole]
    found = Grouping([])

    def join(headers: Sequence[Header]) -> list[list[int]]:
        nonlocal found
        found = grouping(headers)
        return found.volumes

    pieces = session.joined(describe_one, [HeaderJob(source) for source in others], others, join)
    left = [source.file for number in sorted(found.incomplete) for source in pieces[number]]
    session.report.drop(INCOMPLETE, len(left), left)
    complete = [group for number, group in enumerate(pieces) if number not in found.incomplete]
    return [[source] for source in sources if source in whole] + complete
