"""One call of an ingestion: its archive, settings and report, and the processes that work for it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.jobs import InputFile
from polarcast.data.ingest.report import IngestReport
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.notes import event_notes

CACHE = ".ingest"
"""Folder of the archive for volumes that were gridded before an interruption."""

OnProgress = Callable[[str, int, int], None]
Run = Callable[[Any, Sequence[Any], int], Iterator[tuple[int, Any]]]


@dataclass(frozen=True)
class IngestSettings:
    """Settings of an ingestion.

    Attributes:
        volumes: Settings for radar volumes.
        sequences: Settings for gridded sequences.
        pictures: Whether to draw every event.
    """

    volumes: VolumeSettings = field(default_factory=VolumeSettings)
    sequences: GridSettings = field(default_factory=GridSettings)
    pictures: bool = False


@dataclass(frozen=True)
class Session:
    """One call of an ingestion.

    Attributes:
        out: Folder of the archive.
        settings: Settings for gridding, tiling and resampling.
        workers: Number of processes.
        report: What was done and left out so far.
        progress: Callback with (stage, done, total).
        run: (function, jobs, workers) → position and outcome of each job, an exception if it failed.
    """

    out: Path
    settings: IngestSettings
    workers: int
    report: IngestReport
    progress: OnProgress
    run: Run

    def results(
        self, function: Any, jobs: Sequence[Any], names: Sequence[str], stage: str
    ) -> Iterator[tuple[int, Any]]:
        """Yield position and result of each job, as they come, and add failures to the report under their names."""
        for done, (index, outcome) in enumerate(self.run(function, jobs, self.workers), start=1):
            self.progress(stage, done, len(jobs))
            if isinstance(outcome, BadInput):
                self.report.failed[names[index]] = outcome.reason
            else:
                yield index, outcome

    def joined(
        self, function: Any, jobs: Sequence[Any], sources: Sequence[InputFile], join: Callable[[Any], list[list[int]]]
    ) -> list[list[InputFile]]:
        """Return the files that belong together by their headers; files whose header can't be read are reported.

        Args:
            function: Reads the header of a file.
            jobs: Its jobs, one for each file.
            sources: The files.
            join: Headers → positions of those that belong together.
        """
        headers = dict(self.results(function, jobs, [source.file for source in sources], "headers"))
        order = sorted(headers)
        return [[sources[order[i]] for i in group] for group in join([headers[i] for i in order])]

    def free_numbers(self) -> Iterator[int]:
        """Yield the numbers that no event of the archive has."""
        taken = set(event_notes(self.out))
        return (n for n in count() if n not in taken)
