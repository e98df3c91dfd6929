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
_SETTINGS: Any = config
_PLACES = ("CACHE_DIR", "CACHE_LOCATOR_CLASSES")
"""Settings of numba that choose where it keeps code, the second one in recent versions only."""


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function on its first call, or load the machine code of an earlier process.

    Without a safe folder or space on the disk, every process compiles for itself. Code that can't be read is removed,
    and kept anew by the next process. With numba's `NUMBA_DISABLE_JIT=1`, for a debugger, nothing is compiled.
    """
    if _SETTINGS.DISABLE_JIT:
        return function
    dispatcher = _with_cache(function)

    @wraps(function)
    def call(*arguments: Any) -> None:
        nonlocal dispatcher
        try:
            dispatcher(*arguments)
        except Exception:  # a full disk or a damaged file, before it runs; an error of the function itself comes back
            _remove_kept(function, dispatcher)
            dispatcher = _compiled(function)
            dispatcher(*arguments)

    return call


def inlined(function: Function) -> Function:
    """Compile a function that kernels of the same file call; it is kept with each of them."""
    return cast(Function, _compiled(function))


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


def _with_cache(function: Callable[..., None]) -> Any:
    source = Path(function.__code__.co_filename)
    folder = cache_folder(source)
    with suppress(OSError, RuntimeError):  # numba can't write to the folder
        if folder:
            dispatcher = _compiled(function, "" if folder.parent == source.parent else str(folder))
            if Path(dispatcher.stats.cache_path).is_relative_to(folder):
                return dispatcher
    return _compiled(function)


def _remove_kept(function: Callable[..., None], dispatcher: Any) -> None:
    if folder := dispatcher.stats.cache_path:
        for file in Path(folder).glob(f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}-*.nb[ci]"):
            with suppress(OSError):
                file.unlink()


def _compiled(function: Callable[..., Any], folder: str | None = None) -> Any:
    """Return a dispatcher that keeps code in a folder, beside the source if it is empty, or nowhere without one."""
    with _numba_folder(folder or ""):
        return njit(cache=folder is not None, **_OPTIONS)(function)


@contextmanager
def _numba_folder(folder: str) -> Iterator[None]:
    """Let numba keep code in a folder, or beside the source if it is empty, whatever its own settings say."""
    before = {name: getattr(_SETTINGS, name) for name in _PLACES if hasattr(_SETTINGS, name)}
    for name in before:
        setattr(_SETTINGS, name, folder if name == "CACHE_DIR" else "")
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(_SETTINGS, name, value)


def _is_own(folder: Path) -> bool:
    """Whether a folder belongs to this user or to root, and not everyone can write to it."""
    status = os.stat(folder)
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & stat.S_IWOTH


def _is_own_or_missing(folder: Path) -> bool:
    return not folder.exists() or _is_own(folder)
