"""Compile inner loops with numba, and keep their machine code in a folder that no one else can write to."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import config, njit

from polarcast.data.errors import BadInput
from polarcast.data.files import private_folder
from polarcast.data.user_cache import user_cache

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}
"""A division by zero is not checked for, as in numpy; other Python threads run meanwhile."""
_PLACES = ("CACHE_DIR", "CACHE_LOCATOR_CLASSES")
"""Settings of numba that choose where it keeps code, the second one in recent versions only."""


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function on its first call, or load the machine code of an earlier process.

    Without a safe folder, and if the kept code can't be read or written, every process compiles for itself.
    """
    dispatcher = _with_cache(function)

    @wraps(function)
    def call(*arguments: Any) -> None:
        nonlocal dispatcher
        try:
            dispatcher(*arguments)
        except Exception:  # a full disk or a damaged file, before it runs; an error of the function itself comes back
            dispatcher = njit(**_OPTIONS)(function)
            dispatcher(*arguments)

    return call


def inlined(function: Function) -> Function:
    """Compile a function that kernels of the same file call; it is kept with each of them."""
    return cast(Function, njit(**_OPTIONS)(function))


def cache_folder(source: Path) -> Path | None:
    """Return the folder for the machine code of a source file; None if none is safe.

    Kept code is executed, so the folder must not be writable for others: the one for Python's own compiled files if
    this user can write to it, otherwise one in the user's cache.
    """
    beside = source.parent / "__pycache__"
    if os.access(source.parent, os.W_OK) and _is_own(source.parent):
        with suppress(OSError):
            beside.mkdir(exist_ok=True)
            if os.access(beside, os.W_OK) and _is_own(beside):
                return beside
    cache = user_cache()
    with suppress(OSError, BadInput):
        return private_folder(cache / "compiled") if cache and _is_own_or_missing(cache) else None
    return None


def _with_cache(function: Callable[..., None]) -> Callable[..., None]:
    source = Path(function.__code__.co_filename)
    folder = cache_folder(source)
    with suppress(OSError, RuntimeError):  # numba can't write to the folder
        if folder:
            with _numba_folder("" if folder.parent == source.parent else str(folder)):
                dispatcher = njit(cache=True, **_OPTIONS)(function)
            if Path(dispatcher.stats.cache_path).is_relative_to(folder):
                return cast(Callable[..., None], dispatcher)
    return cast(Callable[..., None], njit(**_OPTIONS)(function))


@contextmanager
def _numba_folder(folder: str) -> Iterator[None]:
    """Let numba keep code in a folder, or beside the source if it is empty, whatever its own settings say."""
    settings: Any = config
    before = {name: getattr(settings, name) for name in _PLACES if hasattr(settings, name)}
    for name in before:
        setattr(settings, name, folder if name == "CACHE_DIR" else "")
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(settings, name, value)


def _is_own(folder: Path) -> bool:
    """Whether a folder belongs to this user or to root, and not everyone can write to it."""
    status = os.stat(folder)
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & stat.S_IWOTH


def _is_own_or_missing(folder: Path) -> bool:
    return not folder.exists() or _is_own(folder)
