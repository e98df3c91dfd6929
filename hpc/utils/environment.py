"""Surroundings that fail no command: a locale without UTF-8, and a home folder that is missing or can't be written."""

import locale
import os
import sys
import tempfile
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.files import private_folder

_CACHES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "TRITON_CACHE_DIR")


def use_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if the locale has another encoding.

    Paths are then the same text in every locale, and so are the records that hold them. Output for the terminal keeps
    the encoding of the locale.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    os.environ.setdefault("PYTHONIOENCODING", f"{locale.getencoding()}:backslashreplace")
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def use_caches() -> None:
    """Give libraries a private temporary folder for their caches, if the user has no home folder that can be written.

    They would print warnings, fail, or make a folder called `~` in the current one.
    """
    home = _home()
    if home and os.access(home, os.W_OK | os.X_OK):
        return
    folder = str(_temporary())
    if home is None:
        os.environ["HOME"] = folder
    for name in _CACHES:
        os.environ.setdefault(name, folder)


def _home() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if home.is_dir() else None


def _temporary() -> Path:
    try:
        return private_folder(Path(os.environ.get("TMPDIR") or "/tmp") / f"polarcast-{os.geteuid()}")
    except (BadInput, OSError):
        return Path(tempfile.mkdtemp(prefix="polarcast-"))


def use_passive_waiting() -> None:
    """Let the threads of OpenMP sleep while they wait, unless the user says otherwise; call this before torch loads.

    By default they spin. Beside other processes they then hold the core that the thread they wait for needs.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
