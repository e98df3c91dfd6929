"""Join files of one product that follow one another in time, such as files of one time each, to one sequence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polarcast.data.ingest.days import LONGEST_HOURS
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_part


@dataclass(frozen=True)
class SequenceHeader:
    """What decides which files are joined.

    Attributes:
        name: File, which decides the order of files that start at the same time.
        signature: Equal for files with the same variables and grid; see `Part.signature`.
        first, last: Times of the first and last frame.
    """

    name: str
    signature: str
    first: np.datetime64
    last: np.datetime64

    @classmethod
    def of(cls, path: Path, settings: GridSettings) -> "SequenceHeader":
        """Read the header of a file. Raises BadInput, see `source.open_source`."""
        part = open_part(path, settings)
        times = part.times[~np.isnat(part.times)]
        return cls(str(path), part.signature, times.min(), times.max())


def joined_files(headers: Sequence[SequenceHeader], max_gap_minutes: float) -> list[list[int]]:
    """Return the positions of the files of each sequence, ordered by time.

    Files of one product are joined if the time between them is at most `max_gap_minutes`. Sequences of more than a day
    are divided into the files of each UTC day.
    """
    order = sorted(range(len(headers)), key=lambda i: (headers[i].signature, headers[i].first, headers[i].name))
    return [day for run in _runs(headers, order, max_gap_minutes) for day in _days(headers, run)]


def _runs(headers: Sequence[SequenceHeader], order: Sequence[int], max_gap_minutes: float) -> Iterator[list[int]]:
    run: list[int] = []
    until = 0
    for i in order:
        header = headers[i]
        first, last = (int(time.astype("datetime64[s]").astype(np.int64)) for time in (header.first, header.last))
        if run and (header.signature != headers[run[0]].signature or first - until > 60 * max_gap_minutes):
            yield run
            run = []
        until = max(until, last) if run else last
        run.append(i)
    if run:
        yield run


def _days(headers: Sequence[SequenceHeader], run: list[int]) -> list[list[int]]:
    span = max(headers[i].last for i in run) - headers[run[0]].first
    if span / np.timedelta64(1, "h") <= LONGEST_HOURS:
        return [run]
    days: dict[np.datetime64, list[int]] = {}
    for i in run:
        days.setdefault(headers[i].first.astype("datetime64[D]"), []).append(i)
    return list(days.values())
