"""What all verbs share: the terminal, progress bars, `--json`, and errors told in one line."""

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from polarcast.data.errors import BadInput

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

Json = typer.Option(False, "--json", help="Print one JSON object instead of text.")


def print_json(content: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(content))


def print_text(text: Any) -> None:
    """Print text or a rich renderable on standard output."""
    stdout().print(text, highlight=False)


def stdout() -> Any:
    """The console for results; wide enough for tables when it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)


def stderr() -> Any:
    """The console for progress and errors."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar with the remaining time on standard error; yields a function of (done, total, note)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=console, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(what, total=total, note="")

        def show(done: int, of: int | None = None, note: str = "") -> None:
            bar.update(task, completed=done, total=of or total, note=note)

        yield show


def run_app(app: Callable[[], Any]) -> NoReturn:
    """Run the command line; what went wrong through the input is one line and exit code 2."""
    try:
        app()
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
    except RuntimeError as error:
        _stop(str(error), FAILED)
    sys.exit(OK)


def _stop(message: str, code: int) -> NoReturn:
    if os.environ.get("POLARCAST_DEBUG"):
        raise
    print(f"polarcast: {message}", file=sys.stderr)
    sys.exit(code)
