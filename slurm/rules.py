"""Rules for text that reaches a job script.

A script is made of lines: a line break within a value would end a comment or an `#SBATCH` line, and the rest would run.
A space within the value of an sbatch option would start another option.
"""

import re
import reprlib
from typing import Any

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators, and what is not valid Unicode."""
_MOST_SHOWN = 60
MAX_INDEX = 4_000_000
"""Largest index of a job array that any Slurm accepts; most clusters allow 1000."""
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 2 * _MOST_SHOWN
"""Does not walk through nested lists, of which a YAML file can hold any number in a few lines."""
_INDICES = r"\d{1,7}(-\d{1,7}(:0*[1-9]\d{0,6})?)?"
_JOB = r"\d+(_(\d+|\*))?(\+\d+)?"
_FORMS = {
    "name": (r"\w[\w.-]{0,99}", "use at most 100 letters, digits, _, - and ., starting with a letter, a digit or _"),
    "time": (
        r"\d+(:\d\d?){0,2}|\d+-\d\d?(:\d\d?){0,2}|(?i:unlimited|infinite)",
        "give minutes, or '[days-]hours:minutes:seconds' in quotes",
    ),
    "indices": (rf"{_INDICES}(,{_INDICES})*(%[1-9]\d*)?", "give indices such as 0-9, 0-9%4 or 1,3,5"),
    "jobs": (rf"{_JOB}(:{_JOB})*", "give job ids such as 12 or 12:13"),
    "memory": (r"\d+([KMGTkmgt][Bb]?)?", "give a size such as 120G"),
    "variable": (r"[A-Za-z_]\w*", "use letters, digits and _"),
    "option": (r"--?[A-Za-z].*", "give an option such as --exclusive"),
    "image": (r"[^-].*", "give a file or an address"),
    "word": (r"[^\s\"'\\#]+", "give one word, without spaces, quotes, # or \\"),
    "folder": (r"[^\s\"'\\#%]+", "give a path without spaces, quotes, #, % or \\"),
    "line": (r".*", ""),
}
"""Forms of text: a regular expression of the whole text, in ASCII, and how to correct other text."""


def check_form(text: Any, form: str, where: str) -> None:
    """Check that text has one of the forms.

    Raises:
        ValueError: it is something else, or holds a control character; the message is one line.
    """
    expression, fix = _FORMS[form]
    if not isinstance(text, str):
        raise ValueError(f"{where} is {shown(text)} — give text")
    if _CONTROL.search(text):
        raise ValueError(f"{where} holds a line break or another control character: {shown(text)} — remove it")
    if not re.fullmatch(expression, text, re.ASCII):
        raise ValueError(f"{where} is {shown(text)} — {fix}")


def check_array(text: Any, where: str) -> None:
    """Check the indices of a job array: their form, that ranges ascend, and that Slurm can have so many.

    Raises:
        ValueError: with a message of one line.
    """
    check_form(text, "indices", where)
    for indices in text.split("%")[0].split(","):
        first, _, last = indices.split(":")[0].partition("-")
        if int(last or first) > MAX_INDEX:
            raise ValueError(f"{where} is {shown(text)} — give indices of at most {MAX_INDEX}")
        if int(last or first) < int(first):
            raise ValueError(f"{where} is {shown(text)} — give the smaller index first, such as 0-4")


def check_count(number: Any, least: int, where: str) -> None:
    """Check a whole number. Raises ValueError with a message of one line."""
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ValueError(f"{where} is {shown(number)} — give a whole number, at least {least}")


def name_of(text: str) -> str:
    """Return a job name made of any text; other characters become dashes."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-.")[:100] or "polarcast"


def shown(value: object) -> str:
    """Return a value for a message: as in Python, in one line, and short."""
    text = _REPR.repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
