"""The folder of polarcast in the user's cache."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def user_cache() -> Path | None:
    """Return the folder, which may not exist; None if the user has no home folder."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "polarcast"
    try:
        return Path.home() / ".cache" / "polarcast"
    except RuntimeError:
        return None


def own_cache() -> Path | None:
    """Return the folder if its content can be relied on: no other user made it, or may write to it."""
    folder = user_cache()
    return None if folder is None or _belongs_to_others(folder) else folder


def _belongs_to_others(folder: Path) -> bool:
    with suppress(OSError):
        status = folder.stat()
        return status.st_uid != os.geteuid() or bool(status.st_mode & stat.S_IWOTH)
    return False
