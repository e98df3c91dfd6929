"""Terminal output of all verbs: text, progress, `--json`, and one-line errors."""

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from polarcast.data.errors import BadInput, Stopped, WorkFailed
from polarcast.hpc.utils.exit_codes import BAD_INPUT, ENDED_EARLY, FAILED, INTERRUPTED, OK

if TYPE_CHECKING:
    from polarcast.data.check.findings import Finding

_SECONDS_BETWEEN_LINES = 20.0

Json = typer.Option(False, "--json", help="Print one JSON object instead of text.")


def print_json(content: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(content))


def print_text(text: Any) -> None:
    """Print text or a rich renderable on standard output."""
    stdout().print(text, highlight=False)


def split_names(text: str | None) -> list[str] | None:
    """Split `zh,zdr` into its names; None stays None."""
    return (text and [name.strip() for name in text.split(",")]) or None


def split_numbers(text: str | None, option: str) -> list[float] | None:
    """Split `1,3` into its numbers; None stays None. Raises BadInput, which names the option, for other text."""
    try:
        return (text and [float(number) for number in text.split(",")]) or None
    except ValueError:
        raise BadInput(
            f"{text!r} is not a list of numbers", option, "separate numbers by commas, such as 1,3,7"
        ) from None


def plain(text: object) -> str:
    """Escape text such as a path, so that rich prints its brackets as they are."""
    from rich.markup import escape

    return escape(str(text))


def report_findings(findings: "Sequence[Finding]", as_json: bool) -> None:
    """Print the findings of a check; exit with code 1 if any failed."""
    ok = all(f.ok for f in findings)
    if as_json:
        print_json({"ok": ok, "checks": [f.as_row() for f in findings]})
    else:
        for finding in findings:
            mark = {"ok": "[green]ok   [/]", "warning": "[yellow]warn [/]"}.get(finding.severity, "[red]FAIL [/]")
            print_text(f"{mark} {plain(f'{finding.where:<22}')} {plain(finding.found)}")
    if not ok:
        raise typer.Exit(FAILED)


def stdout() -> Any:
    """Return the console for results; 140 columns wide if it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)


def stderr() -> Any:
    """Return the console for progress and errors."""
    from rich.console import Console

    return Console(stderr=True)


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
        with console.status("") as status:
            yield lambda text: status.update(plain(text))
        return
    last, due = "", 0.0

    def show(text: str) -> None:
        nonlocal last, due
        # Print a new state at once.
        if text.split(",")[0] != last.split(",")[0] or (text != last and time.monotonic() >= due):
            last, due = text, time.monotonic() + _SECONDS_BETWEEN_LINES
            print(text, file=sys.stderr, flush=True)

    yield show


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of consecutive stages; yield a function of (stage, done, total)."""
    with ExitStack() as stack:
        current: dict[str, Callable[..., None]] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in current:
                stack.close()
                current.clear()
                current[stage] = stack.enter_context(progress(stage, total))
            current[stage](done, total)

        yield show


def _bar(console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), console=console)


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
    """Run the command line; an error in the input ends it with one line and exit code 2."""
    try:
        app()
    except SystemExit as end:
        exit_process(end.code)
    except BadInput as error:
        _stop(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        _stop("interrupted — run the same command to continue", INTERRUPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        _stop(
            f"{error.filename or 'output'}: {error.strerror} — free some space or choose another folder",
            BAD_INPUT,
        )
    except Stopped as stopped:
        _stop(str(stopped), ENDED_EARLY)
    except WorkFailed as error:
        _stop(str(error), FAILED)
    exit_process(OK)


def exit_process(code: str | int | None) -> NoReturn:
    """End this process; skip Python's teardown if torch.distributed is initialized.

    During teardown, a gloo thread that still releases a tensor aborts the process (pytorch issue 190489), and thereby
    the job.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_initialized() or isinstance(code, str):
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or OK)


def _stop(message: str, code: int) -> NoReturn:
    if os.environ.get("POLARCAST_DEBUG"):
        raise
    print(f"polarcast: {message}", file=sys.stderr)
    sys.exit(code)
