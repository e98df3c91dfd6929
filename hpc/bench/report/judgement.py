"""Words and marks for what a comparison shows, so that no reader depends on colors."""

from dataclasses import dataclass

from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.bench.verdicts import is_nearer
from polarcast.hpc.scores.stats.paired import DISTANCE, GAIN

_LEVEL = 0.05
BETTER, WORSE = "better", "worse"


@dataclass(frozen=True)
class Judgement:
    """What a comparison shows.

    Attributes:
        mark: A sign.
        words: The same in words.
        kind: `better`, `worse`, or empty.
    """

    mark: str
    words: str
    kind: str = ""

    @property
    def text(self) -> str:
        """Sign and words."""
        return f"{self.mark} {self.words}".strip()


def judge(record: Record, table: ComparisonTable) -> Judgement:
    """Return what the interval of a comparison shows: better, worse, differs, not shown, or why there is no answer."""
    if record.value is None or record.low is None or record.high is None:
        return Judgement("–", "undefined")
    if record.lacks_seeds:
        return Judgement("?", "one seed, no test")
    if not record.excludes_zero:
        return Judgement("○", "not shown")
    is_corrected = record.p_holm is not None and record.p_holm < _LEVEL
    later = "" if is_corrected else ", not after Holm"
    is_better = _is_better(record, table)
    if is_better is None:
        return Judgement("≠", f"differs{later}")
    if is_better:
        return Judgement("▲" if is_corrected else "△", f"{BETTER}{later}", BETTER)
    return Judgement("▼" if is_corrected else "▽", f"{WORSE}{later}", WORSE)


def _is_better(record: Record, table: ComparisonTable) -> bool | None:
    """Return whether the second of a comparison is better; None if the score or the intervals do not tell."""
    assert record.value is not None
    if record.scale == DISTANCE:
        return is_nearer(record, table)
    if record.direction not in ("lower", "higher"):
        return None
    return (record.value > 0) == (record.direction == "higher" or record.scale == GAIN)
