"""Record of what was fetched: `fetched.json` in the output folder."""

import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from polarcast.data.fetch.transfer import FetchedFile
from polarcast.data.files import read_json, write_json

MANIFEST = "fetched.json"
GENERATOR = "polarcast data fetch"
_SHARE_OF_TIME = 0.05
"""Most of the time that is spent on writing the record: with many files, it is not written after each of them."""


class FetchManifest:
    """Record of the files below a folder, by their path in it such as `KLBB/KLBB20160601_150025_V06`.

    Files that came since it was last written are found again by the ETags of the bucket, so that a process that was
    killed loses nothing.
    """

    def __init__(self, folder: Path) -> None:
        """Read the record; a damaged one counts as none."""
        self._path = folder / MANIFEST
        noted = read_json(self._path).get("files")
        noted = noted if isinstance(noted, dict) else {}
        self.files = {path: file for path, one in noted.items() if (file := _file_of(one))}
        self._is_written, self._due = True, 0.0

    def add(self, path: str, file: FetchedFile) -> None:
        """Record a file, and write the record unless that was done just now."""
        self.files[path], self._is_written = file, False
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write the record, if there is anything new."""
        if self._is_written:
            return
        began = time.monotonic()
        files = {path: asdict(self.files[path]) for path in sorted(self.files)}
        write_json(self._path, {"generator": GENERATOR, "files": files})
        self._is_written = True
        self._due = time.monotonic() + (time.monotonic() - began) / _SHARE_OF_TIME


def _file_of(one: Any) -> FetchedFile | None:
    if not isinstance(one, dict) or {field.name for field in fields(FetchedFile)} - one.keys():
        return None
    values = {field.name: one[field.name] for field in fields(FetchedFile)}
    is_valid = all(isinstance(value, int if name == "size" else str) for name, value in values.items())
    return FetchedFile(**values) if is_valid else None
