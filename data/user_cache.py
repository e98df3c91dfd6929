"""The folder of polarcast in the user's cache."""

import os
from pathlib import Path


def user_cache() -> Path | None:
    """Return the folder, which may not exist; None if the user has no home folder."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "polarcast"
    try:
        return Path.home() / ".cache" / "polarcast"
    except RuntimeError:
        return None
