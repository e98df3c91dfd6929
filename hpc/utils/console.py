"""Terminal output of all verbs: text, progress, `--json`, and one-line errors."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from polarcast.data.errors import BadInput
from polarcast.hpc.utils.exit_codes import FAILED, OK
from polarcast.hpc.utils.sigterm import ends_at_sigterm
from polarcast.hpc.utils.streams import flush_streams, prepare_streams
from polarcast.hpc.utils.text import printable

if TYPE_CHECKING:
    from polarcast.data.check.findings import Finding

_SECONDS_BETWEEN_LINES = 20.0

Json = typer.Option(False, "--json", help="Print one JSON object instead of text.")


def print_json(content: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(content))


def print_text(text: Any) -> None:
    """Print text or a rich renderable on standard output.

    Text is printed as it is: brackets are no markup, long lines are not divided, control characters are escaped.
    """
    if isinstance(text, str):
        text = "\n".join(map(printable, text.split("\n")))
        stdout().print(text, highlight=False, markup=False, soft_wrap=True)
    else:
        stdout().print(text, highlight=False)


def print_marked(mark: str, style: str, text: object) -> None:
    """Print a line that starts with a mark in a rich style such as `red`."""
    from rich.text import Text

    stdout().print(Text.assemble((mark, style), " ", printable(str(text))), highlight=False, soft_wrap=True)


def split_names(text: str | None) -> list[str] | None:
    """Split `zh,zdr` into its names; None stays None."""
    return (text and [name.strip() for name in text.split(",")]) or None


def split_numbers(text: str | None, option: str) -> list[float] | None:
    """Split `1,3` into its numbers; None stays None. Raises BadInput, which names the option, for other text."""
    if not text:
        return None
    with suppress(ValueError):
        numbers = [float(number) for number in text.split(",")]
        if all(map(isfinite, numbers)):
            return numbers
    raise BadInput(f"{text!r} is not a list of numbers", option, "separate numbers by commas, such as 1,3,7")


def positive(value: float, option: str) -> float:
    """Return a finite number above zero. Raises BadInput, which names the option, for others."""
    if not (isfinite(value) and value > 0):
        raise BadInput(f"{value:g} is not a positive number", option, "give a number above 0")
    return value


def plain(text: object) -> str:
    """Return text such as a path for one line of `print_text`, with line ends and control characters escaped."""
    return printable(str(text))


_MARKS = {"ok": ("ok   ", "green"), "warning": ("warn ", "yellow"), "not judged": ("–    ", "dim")}


def report_findings(findings: "Sequence[Finding]", as_json: bool) -> None:
    """Print the findings of a check; exit with code 1 if any failed."""
    ok = all(f.ok for f in findings)
    if as_json:
        print_json({"ok": ok, "checks": [f.as_row() for f in findings]})
    else:
        for finding in findings:
            mark, style = _MARKS.get(finding.severity, ("FAIL ", "red"))
            print_marked(mark, style, f"{finding.where:<22} {finding.found}")
    if not ok:
        raise typer.Exit(FAILED)


def stdout() -> Any:
    """Return the console for results; 140 columns wide if it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, emoji=False)


def stderr() -> Any:
    """Return the console for progress and errors."""
    from rich.console import Console

    return Console(stderr=True, emoji=False)


@contextmanager
def progress(what: str, total: int, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Show progress on standard error; yield a function of (done, total, note).

    A terminal shows a bar with the remaining time. A log file gets a line every 20 s, so that a batch job can be
    followed.
    """
    console = stderr()
    if not shown:
        yield lambda *_: None
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(what, total=total, note="")
            yield lambda done, of=total, note="": bar.update(task, completed=done, total=of, note=note)
    else:
        yield _Lines(what, total)


@contextmanager
def live() -> Iterator[Callable[[str], None]]:
    """Show one line of status: updated in place on a terminal, otherwise printed on change, at most every 20 s."""
    console = stderr()
    if console.is_terminal:
        from rich.text import Text

        with console.status("") as status:
            yield lambda text: status.update(Text(printable(text)))
        return
    last, due = "", 0.0

    def show(text: str) -> None:
        nonlocal last, due
        # Print a new state at once.
        if text.split(",")[0] != last.split(",")[0] or (text != last and time.monotonic() >= due):
            last, due = text, time.monotonic() + _SECONDS_BETWEEN_LINES
            print(printable(text), file=sys.stderr, flush=True)

    yield show


@contextmanager
def live_block(quiet: bool = False) -> Iterator[Callable[[Any], None]]:
    """Show a rich renderable on standard output: renewed in place on a terminal, otherwise printed on change."""
    console = stdout()
    if quiet:
        yield lambda _: None
        return
    if sys.stdout.isatty():
        from rich.live import Live

        with Live(console=console, auto_refresh=False) as shown:
            yield lambda block: shown.update(block, refresh=True)
        return
    last, due = "", 0.0

    def show(block: Any) -> None:
        nonlocal last, due
        with console.capture() as captured:
            console.print(block, highlight=False)
        text = captured.get()
        if text != last and time.monotonic() >= due:
            last, due = text, time.monotonic() + _SECONDS_BETWEEN_LINES
            print(text, flush=True)

    yield show


@contextmanager
def stages() -> Iterator[Callable[..., None]]:
    """Show the progress of consecutive stages; yield a function of (stage, done, total, note)."""
    with ExitStack() as stack:
        current: dict[str, Callable[..., None]] = {}

        def show(stage: str, done: int, total: int, note: str = "") -> None:
            if stage not in current:
                stack.close()
                current.clear()
                current[stage] = stack.enter_context(progress(stage, total))
            current[stage](done, total, note)

        yield show


def _bar(console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words, note = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[note]"))
    return Progress(words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note, console=console)


class _Lines:
    """Print a line of progress every `_SECONDS_BETWEEN_LINES`."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._next = time.monotonic() + _SECONDS_BETWEEN_LINES

    def __call__(self, done: int, of: int | None = None, note: str = "") -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SECONDS_BETWEEN_LINES
            print(f"{self._what}: {done} of {of or self._total} {note}".rstrip(), file=sys.stderr, flush=True)


def run_app(app: Callable[[], Any]) -> NoReturn:
    """Run the command line; any error ends it with one line on standard error and an exit code.

    The traceback of an unknown error is kept in a file; `--debug` prints that of every error.
    """
    prepare_streams()
    code: str | int | None = OK
    try:
        with ends_at_sigterm():
            app()
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        code = _report(error)
    exit_process(code)


def exit_process(code: str | int | None) -> NoReturn:
    """End this process; skip Python's teardown if torch.distributed is initialized.

    During teardown, a gloo thread that still releases a tensor aborts the process (pytorch issue 190489), and thereby
    the job.
    """
    if not flush_streams():
        code = code or FAILED
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_initialized() or isinstance(code, str):
        sys.exit(code)
    os._exit(code or OK)


def _report(error: BaseException) -> int:
    """Print one line about an error, and the traceback if it was asked for; return the exit code."""
    from polarcast.hpc.utils.failures import failure_of, report_bug

    failure = failure_of(error)
    message = failure.message
    if os.environ.get("POLARCAST_DEBUG"):
        import traceback

        traceback.print_exception(error)
    elif failure.is_bug:
        message = report_bug(failure, error)
    # The stream may be a closed pipe or a full disk.
    with suppress(OSError):
        print(f"polarcast: {message}", file=sys.stderr, flush=True)
    return failure.code
