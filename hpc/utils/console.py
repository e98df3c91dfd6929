"""What all verbs share: the terminal, progress bars, `--json`, and errors told in one line."""

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
    """`zh,zdr` → its names; None stays None."""
    return (text and [name.strip() for name in text.split(",")]) or None


def split_numbers(text: str | None, option: str) -> list[float] | None:
    """`1,3` → its numbers; None stays None. Raises BadInput, naming the option, for anything else."""
    try:
        return (text and [float(number) for number in text.split(",")]) or None
    except ValueError:
        raise BadInput(f"{text!r} is not a list of numbers", option, "give them like 1,3,7") from None


def plain(text: object) -> str:
    """Text of others, such as a path, in which brackets are brackets and not markup."""
    from rich.markup import escape

    return escape(str(text))


def report_findings(findings: "Sequence[Finding]", as_json: bool) -> None:
    """Print what was checked; exits with code 1 if anything does not hold."""
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
    """The console for results; wide enough for tables when it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)


def stderr() -> Any:
    """The console for progress and errors."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def progress(what: str, total: int, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Progress on standard error; yields a function of (done, total, note).

    On a terminal a bar with the remaining time; in a log file a line now and then, so that a batch job can be followed.
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
    """One line that changes in a terminal; elsewhere a line whenever it says something new, not too often."""
    console = stderr()
    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(plain(text))
        return
    told, due = "", 0.0

    def show(text: str) -> None:
        nonlocal told, due
        # A new state is told at once.
        if text.split(",")[0] != told.split(",")[0] or (text != told and time.monotonic() >= due):
            told, due = text, time.monotonic() + _SECONDS_BETWEEN_LINES
            print(text, file=sys.stderr, flush=True)

    yield show


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of one stage of work after another; yields a function of (stage, done, total)."""
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
    """A line of progress every `_SECONDS_BETWEEN_LINES`."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._next = time.monotonic() + _SECONDS_BETWEEN_LINES

    def __call__(self, done: int, of: int | None = None, note: str = "") -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SECONDS_BETWEEN_LINES
            print(f"{self._what}: {done} of {of or self._total} {note}".rstrip(), file=sys.stderr, flush=True)


def run_app(app: Callable[[], Any]) -> NoReturn:
    """Run the command line; what went wrong through the input is one line and exit code 2."""
    try:
        app()
    except SystemExit as end:
        exit_process(end.code)
    except BadInput as error:
        _stop(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        _stop("interrupted: run the same command again to continue", INTERRUPTED)
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
    """End this process; one that has talked to others, without Python's teardown.

    In it, a gloo thread that still lets go of a tensor aborts the process (pytorch issue 190489), and with it the job.
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
