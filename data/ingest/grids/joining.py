"""Join files of one product that follow one another in time, such as files of one time each, to one sequence."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polarcast.data.ingest.days import LONGEST_HOURS
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_part

_DIGITS = re.compile(r"[0-9]+")


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

    @property
    def place(self) -> tuple[str, np.datetime64, int, str]:
        """Place in the order of files: by product and first time, the longest first."""
        return self.signature, self.first, -int(self.last.astype("datetime64[s]").astype(np.int64)), self.name

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
    order = sorted(range(len(headers)), key=lambda i: headers[i].place)
    return [day for run in _runs(headers, order, max_gap_minutes) for day in _days(headers, run)]


def _runs(headers: Sequence[SequenceHeader], order: Sequence[int], max_gap_minutes: float) -> list[list[int]]:
    """Return the files that follow one another, of each product.

    A file whose times lie within those of another is of another product, or of another place: files without places look
    alike. Of several sequences that it could continue, it continues that of names that differ in digits only.
    """
    gap = np.timedelta64(round(60 * max_gap_minutes), "s")
    runs: list[list[int]] = []
    until: list[np.datetime64] = []
    for i in order:
        header = headers[i]
        fitting = [n for n, run in enumerate(runs) if headers[run[0]].signature == header.signature]
        # Files come by their first times: one that ends before the end of a run lies within it.
        fitting = [n for n in fitting if until[n] < header.last and header.first - until[n] <= gap]
        fitting.sort(key=lambda n: _pattern(headers[runs[n][-1]]) != _pattern(header))
        if fitting:
            runs[fitting[0]].append(i)
            until[fitting[0]] = header.last
        else:
            runs.append([i])
            until.append(header.last)
    return runs


def _pattern(header: SequenceHeader) -> str:
    return _DIGITS.sub("", Path(header.name).name)


def _days(headers: Sequence[SequenceHeader], run: list[int]) -> list[list[int]]:
    span = max(headers[i].last for i in run) - headers[run[0]].first
    if span / np.timedelta64(1, "h") <= LONGEST_HOURS:
        return [run]
    days: dict[np.datetime64, list[int]] = {}
    for i in run:
        days.setdefault(headers[i].first.astype("datetime64[D]"), []).append(i)
    return list(days.values())
