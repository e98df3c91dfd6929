"""Check the arguments of calls from Python, so that each wrong one is reported in one line that names it."""

import operator
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from polarcast.data.errors import BadInput, shown


def path_text(value: Any, name: str) -> str:
    """Return a path or URL as text. Raises BadInput for anything but text or a path, and for empty text."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if isinstance(text, str) and not text.strip():
        raise BadInput("is empty", name, "give text such as 'runs/unet', or a Path")
    if not isinstance(text, str) or "\0" in text:
        raise BadInput(f"expected a path, got {shown(value)}", name, "give text such as 'runs/unet', or a Path")
    return text


def path_of(value: Any, name: str) -> Path:
    """Return a path. Raises BadInput for anything but text or a path, and for empty text."""
    return Path(path_text(value, name))


def text_of(value: Any, name: str, example: str) -> str:
    """Return text. Raises BadInput for anything else."""
    if not isinstance(value, str):
        raise BadInput(f"expected text, got {shown(value)}", name, f"give text such as {example!r}")
    return value


def flag(value: Any, name: str) -> bool:
    """Return True or False. Raises BadInput for anything else, such as the text 'no'."""
    if not isinstance(value, bool):
        raise BadInput(f"expected True or False, got {shown(value)}", name, "give True or False")
    return value


def whole(value: Any, name: str, least: int | None = None) -> int:
    """Return a whole number of Python or numpy as an int. Raises BadInput for anything else, and for numbers below."""
    expected = "a whole number" + ("" if least is None else f" of at least {least}")
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or (least is not None and number < least):
        fix = "give a number such as 8" if least is None else f"give {least} or more"
        raise BadInput(f"must be {expected}, got {shown(value)}", name, fix)
    return number


def optional_whole(value: Any, name: str) -> int | None:
    """Return a whole number or None. Raises BadInput for anything else."""
    return None if value is None else whole(value, name)


def real(value: Any, name: str) -> float:
    """Return a number as a float. Raises BadInput for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise BadInput(f"expected a number, got {shown(value)}", name, "give a number such as 10") from None


def one_of(value: Any, name: str, choices: Collection[str]) -> str:
    """Return one of the choices. Raises BadInput for anything else."""
    if not isinstance(value, str) or value not in choices:
        raise BadInput(f"unknown {name} {shown(value)}", name, f"choose from: {', '.join(choices)}")
    return value


def different(values: Any, name: str) -> None:
    """Raise BadInput unless the values are a list, not empty, of texts or numbers that all differ."""
    try:
        is_list = not isinstance(values, str | bytes | dict) and len(set(values)) == len(values) > 0
    except TypeError:
        is_list = False
    if not is_list:
        raise BadInput(f"must be a list of different values, got {shown(values)}", name, "give each of them once")


def frame_range(value: Any, name: str) -> tuple[int | None, int | None]:
    """Return (first frame or None, end or None). Raises BadInput for anything else."""
    fix = "give them as (2, 9)"
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) != 2:
        raise BadInput(f"expected a pair of numbers or None, got {shown(value)}", name, fix)
    try:
        first, end = (None if number is None else whole(number, name, 0) for number in value)
    except BadInput:
        raise BadInput(f"expected numbers from 0 or None, got {shown(value)}", name, fix) from None
    return first, end
