"""Progress board of a suite: a bar for each stage and running cell, and the remaining time of the suite."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from polarcast.hpc.utils.text import printable

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_SAMPLES = 1.0
_SHARE_BETWEEN_SAMPLES = 0.01
_LEAST_WINDOW = 60.0
_LEAST_SECONDS = 10.0
_LEAST_SHARE = 0.05
_ALL = ""


class ProgressBoard:
    """Progress of a suite: bars on a terminal; elsewhere, a line for each finished cell, and at least every 30 s.

    The remaining time is the remaining work divided by the speed of the last half of the time, at least of a minute. A
    stage that is under way has its own speed, others that of all work, weighted by the expected cost of each stage. The
    estimate therefore adapts to the machine, and a resumed run ignores earlier work. It is not told before some of the
    work is measured.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._expected: dict[str, float] = {}
        self._guessed: set[str] = set()
        self._share: dict[str, float] = {}
        self._past: dict[str, deque[tuple[float, float]]] = {}
        self._began = self._due = clock()
        self._finished: list[str] = []
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
        known = 0.0 if stage in self._guessed else self._expected.get(stage, 0.0)
        self._guessed.discard(stage)
        self._expected[stage] = known + seconds

    def guess(self, stage: str, seconds: float) -> None:
        """Announce work of a stage that will be known when the stage begins, and then replaces this."""
        self.expect(stage, seconds)
        self._guessed.add(stage)

    @contextmanager
    def stage(self, name: str, unit: str, total: int, weighted: bool = False) -> Iterator[Callable[[int], None]]:
        """Show a bar for one stage; yield a function of the number of units done.

        Units are equal parts of the work. If `weighted`, they are not, and the caller sets the share done by `advance`.
        A stage on a board without any announced work is all of the work.
        """
        started = self._clock()
        if not self._expected:
            self.expect(name, 1.0)
        self._log(f"{name}: {total} {unit} …")
        self._due = started + _SECONDS_BETWEEN_LINES
        bar = self._bars.add_task(name, total=total, note=unit)

        def done(units: int) -> None:
            self._bars.update(bar, completed=units)
            if not weighted:
                self.advance(name, units / max(1, total))
            self._log_progress(f"{name}: {units} of {total} {unit}")

        yield done
        self.advance(name, 1.0)
        self._bars.remove_task(bar)
        self._log(f"{name}: done in {time_words(self._clock() - started)}")

    def advance(self, stage: str, share: float) -> None:
        """Set the share of a stage that is done, and update the remaining time."""
        self._share[stage] = share
        now = self._clock()
        for key, done in ((_ALL, self._done_seconds()), (stage, self._expected.get(stage, 0.0) * share)):
            _add_sample(self._past.setdefault(key, deque()), now, done)
        self._bars.update(self._total, completed=int(1000 * self.done_share()), note=self.remaining())

    def cell_bar(self, name: str) -> Callable[[str, int, int], None]:
        """Add a bar for one cell; return a function of (stage, done, total). `done`, `stopped`, `failed` remove it."""
        bar = self._bars.add_task(name, total=None, note="starting")

        def report(stage: str, done: int, total: int) -> None:
            if stage in ("done", "stopped", "failed"):
                self._bars.remove_task(bar)
                if stage == "done":
                    self._finished.append(name)
                else:
                    self._log(f"{name}: {stage}")
            else:
                self._bars.update(bar, completed=done, total=total, note=stage)

        return report

    def done_share(self) -> float:
        """Return the share of the expected work that is done."""
        whole = sum(self._expected.values())
        return self._done_seconds() / whole if whole else 0.0

    def remaining(self) -> str:
        """Return the remaining time as text."""
        seconds = self.remaining_seconds()
        return "estimating the time left" if seconds is None else f"about {time_words(_rounded(seconds))} left"

    def remaining_seconds(self) -> float | None:
        """Return the remaining time; None as long as too little of the work is measured."""
        of_all = self._speed(_ALL, self._done_seconds(), sum(self._expected.values()))
        if of_all is None:
            return None
        left = 0.0
        for stage, seconds in self._expected.items():
            done = seconds * self._share.get(stage, 0.0)
            left += (seconds - done) / (self._speed(stage, done, seconds) or of_all)
        return left

    def _speed(self, key: str, done: float, whole: float) -> float | None:
        """Return the expected seconds of work done in a second; None if too little of it is measured."""
        past, now = self._past.get(key), self._clock()
        if not past:
            return None
        window = _window(past, now)
        then, before = next((sample for sample in reversed(past) if now - sample[0] >= window), past[0])
        is_measured = now - then >= _LEAST_SECONDS and done - past[0][1] >= _LEAST_SHARE * whole
        return (done - before) / (now - then) if is_measured and done > before else None

    def _done_seconds(self) -> float:
        return sum(seconds * self._share.get(stage, 0.0) for stage, seconds in self._expected.items())

    def _log_progress(self, line: str) -> None:
        """Print a line of progress if a cell has finished, or none was printed for a while."""
        now = self._clock()
        if not self._finished and now < self._due:
            return
        names = f" (done: {', '.join(self._finished)})" if self._finished else ""
        self._finished.clear()
        self._due = now + _SECONDS_BETWEEN_LINES
        self._log(f"{line}, {time_words(now - self._began)} so far, {self.remaining()}{names}")

    def _log(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _window(past: deque[tuple[float, float]], now: float) -> float:
    """Return the seconds over which speed is measured."""
    return max(_LEAST_WINDOW, (now - past[0][0]) / 2)


def _add_sample(past: deque[tuple[float, float]], now: float, done: float) -> None:
    """Add a sample of (time, work done), unless the last one is recent, and drop those that are not needed any more.

    Needed are the first one and those of the window, whose begin only moves forward. Their distance grows with the
    time, so that about a hundred are kept, however long the suite takes.
    """
    if past and now - past[-1][0] < max(_SECONDS_BETWEEN_SAMPLES, _SHARE_BETWEEN_SAMPLES * (now - past[0][0])):
        return
    past.append((now, done))
    begin = now - _window(past, now)
    while len(past) > 2 and past[2][0] <= begin:
        del past[1]


def time_words(seconds: float) -> str:
    """Return a time in its two largest units, such as `3 min 10 s`."""
    whole = round(seconds)
    units = [("d", whole // 86_400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60)]
    first = next((place for place, (_, number) in enumerate(units) if number), len(units) - 1)
    parts = [f"{number} {unit}" for unit, number in units[first : first + 2] if number]
    return " ".join(parts) or "0 s"


def _rounded(seconds: float) -> float:
    """Round a time that is only known roughly: to minutes above two, otherwise to ten seconds."""
    step = 3600 if seconds >= 36_000 else 60 if seconds >= 120 else 10
    return max(10, step * round(seconds / step))
