"""How to read files of gauges, where the files do not say it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polarcast.data.errors import BadInput, shown
from polarcast.data.gauges.clock import zone_of
from polarcast.data.gauges.gauge import REFUSE, THIN, Gauge

END, START = "end", "start"
MARKS = (END, START)
MOST_MINUTES = 60 * 24 * 31
INCH_MM = 25.4


@dataclass(frozen=True)
class GaugeOptions:
    """Options of `read_gauges`.

    Attributes:
        time_zone: Zone of times in tables that have no offset.
        minutes: Length of the intervals of tables without a column for it.
        mark: Whether times are the ends or the starts of their intervals.
        cumulative: Whether the amounts are readings of a counter.
        overlaps: `refuse` or `thin` intervals of a station that overlap.
    """

    time_zone: str | None = None
    minutes: float | None = None
    mark: str = END
    cumulative: bool = False
    overlaps: str = REFUSE

    def __post_init__(self) -> None:
        if self.mark not in MARKS:
            raise BadInput(f"unknown value {shown(self.mark)}", "--gauge-time", f"choose from: {', '.join(MARKS)}")
        if self.overlaps not in (REFUSE, THIN):
            raise BadInput(f"unknown value {shown(self.overlaps)}", "overlaps", f"choose from: {REFUSE}, {THIN}")
        if self.minutes is not None and not 0 < self.minutes <= MOST_MINUTES:
            raise BadInput(f"{self.minutes:g} minutes", "--gauge-minutes", "give the length of an interval, such as 60")
        if self.time_zone is not None:
            zone_of(self.time_zone)


@dataclass(frozen=True)
class GaugeData:
    """Gauges that were read.

    Attributes:
        gauges: Gauges.
        notes: What was assumed or left out, one line each.
        files: Files they are from.
        is_counter: Whether amounts are readings of a counter, which are not differenced yet.
    """

    gauges: tuple[Gauge, ...]
    notes: tuple[str, ...] = ()
    files: Sequence[Path] = field(default=())
    is_counter: bool = False
