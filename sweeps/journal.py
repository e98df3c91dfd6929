"""The journal of a sweep's study: one JSON object a line. A line that a kill or a bad disk has damaged is skipped."""

import json
import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

_log = logging.getLogger("polarcast")


class TolerantJournal(JournalFileBackend):
    """Journal file of Optuna that skips damaged lines.

    Every worker skips the same lines, so all of them number the operations alike.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._valid_lines, self._offset = 0, 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the operations from a number on; a last line without an end is not complete yet."""
        number, offset = (self._valid_lines, self._offset) if log_number_from >= self._valid_lines else (0, 0)
        with self._path.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                if (operation := _parsed(line)) is None:
                    _warn_of(self._path)
                    continue
                number += 1
                # Reached only if the reader has applied the operation before.
                self._valid_lines, self._offset = number, offset
                if number > log_number_from:
                    yield operation

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations, on a new line even if the last one was cut short."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._lock.acquire()
        try:
            with self._path.open("ab") as stream:
                stream.write(("" if _ends_with_newline(self._path) else "\n").encode() + lines.encode())
                stream.flush()
                os.fsync(stream.fileno())
        finally:
            self._lock.release()


@cache
def _warn_of(path: Path) -> None:
    _log.warning("polarcast: skipping damaged lines of %s", path)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("op_code"), int) else None


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.seek(0, 2) == 0:
            return True
        stream.seek(-1, 2)
        return stream.read() == b"\n"
