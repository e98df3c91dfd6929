"""Kinds of the folders that polarcast writes: a folder of one kind is not the output of another one."""

import os
from pathlib import Path

from polarcast.data.errors import BadInput

RUN_FILE, SUITE_FILE, SWEEP_FILE = "config.yaml", "suite.yaml", "space.json"
_MARKERS = {
    "an archive": ("archive.json", "NJU_CPOL_update2308", "NJU_CPOL_kdpRain", "dBZ"),
    "a folder of shards": ("manifest.json",),
    "a run": (RUN_FILE,),
    "a suite": (SUITE_FILE,),
    "a sweep": (SWEEP_FILE,),
}
"""Files or folders that every folder of a kind has; one of them is enough."""


def checked_kind(folder: str | Path, own: str) -> Path:
    """Return an output folder that is new, of its own kind, or of no kind, such as one with notes of the user.

    Args:
        folder: The folder; it may be missing.
        own: Kind of what will be written, such as "a run".

    Raises:
        BadInput: it is of another kind, or its name is empty, which would be the current folder.
    """
    if not str(folder):
        raise BadInput("the name of the folder is empty", fix="give its path, or . for the current folder")
    assert own in _MARKERS
    kinds = [kind for kind, names in _MARKERS.items() if any(os.path.lexists(Path(folder, name)) for name in names)]
    if kinds and own not in kinds:
        raise BadInput(f"is {kinds[0]}", folder, "choose another folder")
    return Path(folder)


def is_new(folder: Path) -> bool:
    """Return whether a folder is missing or empty."""
    return not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))
