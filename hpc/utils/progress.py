"""Progress board of a suite: a bar for each stage and running cell, and the remaining time of the suite."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from polarcast.hpc.utils.text import printable

_WINDOW_SECONDS = 60.0
_LEAST_SECONDS = 5.0


class ProgressBoard:
    """Progress of a suite: bars on a terminal; in a log file, a line when a stage starts and ends.

    The remaining time is the remaining work divided by the speed of the last minute. Work is weighted by the expected
    cost of each stage. The estimate therefore adapts to the machine, and a resumed run ignores earlier work.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._expected: dict[str, float] = {}
        self._share: dict[str, float] = {}
        self._past: deque[tuple[float, float]] = deque()
        self._bars = Progress(
            TextColumn("{task.description:<28}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False), TimeElapsedColumn(), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        self._total = self._bars.add_task("all", total=1000, note="")

    def __enter__(self) -> "ProgressBoard":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def expect(self, stage: str, seconds: float) -> None:
        """Announce work of a stage, in expected seconds of one core."""
        self._expected[stage] = self._expected.get(stage, 0.0) + seconds

    @contextmanager
    def stage(self, name: str, unit: str, total: int, weighted: bool = False) -> Iterator[Callable[[int], None]]:
        """Show a bar for one stage; yield a function of the number of units done.

        Units are equal parts of the work. If `weighted`, they are not, and the caller sets the share done by `advance`.
        """
        started = time.monotonic()
        self._log(f"{name}: {total} {unit} …")
        bar = self._bars.add_task(name, total=total, note=unit)

        def done(units: int) -> None:
            self._bars.update(bar, completed=units)
            if not weighted:
                self.advance(name, units / max(1, total))

        yield done
        self.advance(name, 1.0)
        self._bars.remove_task(bar)
        self._log(f"{name}: done in {time.monotonic() - started:.0f} s")

    def advance(self, stage: str, share: float) -> None:
        """Set the share of a stage that is done, and update the remaining time."""
        self._share[stage] = share
        self._bars.update(self._total, completed=int(1000 * self.done_share()), note=self.remaining())

    def cell_bar(self, name: str) -> Callable[[str, int, int], None]:
        """Add a bar for one cell; return a function of (stage, done, total). `done`, `stopped`, `failed` remove it."""
        bar = self._bars.add_task(name, total=None, note="starting")

        def report(stage: str, done: int, total: int) -> None:
            if stage in ("done", "stopped", "failed"):
                self._bars.remove_task(bar)
                self._log(f"{name}: {stage}")
            else:
                self._bars.update(bar, completed=done, total=total, note=stage)

        return report

    def done_share(self) -> float:
        """Return the share of the expected work that is done."""
        whole = sum(self._expected.values())
        return sum(self._expected[s] * self._share.get(s, 0.0) for s in self._expected) / whole if whole else 0.0

    def remaining(self) -> str:
        """Return the remaining time as text."""
        now, share = time.monotonic(), self.done_share()
        self._past.append((now, share))
        while now - self._past[0][0] > _WINDOW_SECONDS:
            self._past.popleft()
        then, before = self._past[0]
        if now - then < _LEAST_SECONDS or share <= before:
            return "estimating …"
        seconds = (1 - share) * (now - then) / (share - before)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"

    def _log(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
