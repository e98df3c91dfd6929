"""Standard streams that fail no command: closed ones, pipes without a reader, and terminals that are not UTF-8."""

import codecs
import errno
import os
import sys
from contextlib import suppress
from typing import Any, cast

_ERRORS = "polarcast.readable"
_ASCII = {
    "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "≥": ">=", "≤": "<=", "²": "2", "→": "->", "µ": "u", "“": '"',
    "”": '"', "’": "'", "°": " deg",
}  # fmt: skip


def prepare_streams() -> None:
    """Replace closed standard streams by the null device, and characters that a stream can't encode by similar ones.

    Without this, a file that is opened later would get the number of a closed stream, and the output of child processes
    would go into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _open_null(number)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))
    codecs.register_error(_ERRORS, cast(Any, _readable))
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # streams that a test or a notebook put there
            cast(Any, stream).reconfigure(errors=_ERRORS)
    # For child processes; the encoding stays that of the locale.
    os.environ.setdefault("PYTHONIOENCODING", ":backslashreplace")


def flush_streams() -> bool:
    """Flush the standard streams; return whether all could be written.

    Python flushes them again when it ends, so a stream that can't be written is connected to the null device. A full
    disk is reported; a reader that closed its pipe, such as `head`, has what it wanted.
    """
    problem: OSError | None = None
    for stream in filter(None, (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__)):
        try:
            stream.flush()
        except ValueError:  # it is closed
            continue
        except OSError as error:
            problem = problem or error
            with suppress(OSError, ValueError):
                _open_null(stream.fileno())
    if problem and problem.errno != errno.EPIPE:
        with suppress(OSError, ValueError):
            print(f"polarcast: output: {problem.strerror}", file=sys.stderr, flush=True)
    return problem is None


def _open_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that a stream can't encode by similar ones in ASCII, or by escapes."""
    assert isinstance(error, UnicodeEncodeError)
    failed = error.object[error.start : error.end]
    return "".join(_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in failed), error.end
