"""Exceptions that the command line reports in one line: invalid input, or a failure with a known cause."""

import difflib
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from polarcast.data.secrets import redacted

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that end lines or command terminals."""
_MOST_SHOWN = 60


class BadInput(Exception):
    """Invalid input, reported in one line without secrets: what is wrong, where, and how to fix it.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, what: str, where: object = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, str(where), fix
        super().__init__(what, self.where, fix)

    def at(self, where: object) -> "BadInput":
        """Return the same error at another place, as its caller knows it."""
        return BadInput(self.what, where, self.fix)

    @property
    def reason(self) -> str:
        """What is wrong and how to mend it, for a list that names the place."""
        return " — ".join(filter(None, (self.what, self.fix)))

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        return as_one_line(redacted(" — ".join([*parts, self.fix] if self.fix else parts)))


def not_installed(package: str, where: object, *extras: str) -> BadInput:
    """Return the error on a package that only extras of polarcast need, with how to install them."""
    names = ",".join(extras)
    fix = f"install the extra: pip install 'polarcast[{names}]', in a checkout pip install -e '.[{names}]'"
    return BadInput(f"{package} is not installed", where, fix)


class WorkFailed(Exception):
    """Failure with a known cause, reported in one line; the command line exits with code 1.

    Any other exception is a bug and keeps its traceback.
    """


class Stopped(Exception):
    """Early stop on request, after saving the state; the command line exits with code 143."""


class Terminated(BaseException):
    """SIGTERM, raised so that temporary files are removed; the command line exits with code 143.

    Not an `Exception`, so that code which continues after errors does not continue after a signal.
    """


def as_one_line(text: str) -> str:
    """Return text with control characters, such as newlines, written as in Python, so that it stays one line."""
    return CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def shown(value: object) -> str:
    """Return a value for a message: as in Python, in one line, and short."""
    try:
        text = as_one_line(repr(value))
    except ValueError:  # Python does not print integers of more than 4300 digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def nearest(
    name: object, known: Iterable[str], current: Mapping[str, str] = MappingProxyType({}), alike: float = 0.65
) -> str:
    """Return the fix for a mistyped name, such as "did you mean rmse?"; empty if no known name is like it.

    Args:
        name: What was given.
        known: Names that are known.
        current: Former name → current one, which is suggested instead.
        alike: Least similarity, 0 to 1, as `difflib` defines it.
    """
    given, names = str(name)[:_MOST_SHOWN].lower(), [*known, *current]
    lower = {one.lower(): one for one in reversed(names)}
    # A part of a name, such as mse of paper_mse, is no typing error of another one.
    parts = [one for one in lower if given in re.split(r"[_.]", one)]
    near = parts[:1] if len(parts) == 1 else difflib.get_close_matches(given, list(lower), n=1, cutoff=alike)
    return f"did you mean {current.get(lower[near[0]], lower[near[0]])}?" if near else ""
