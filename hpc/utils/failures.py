"""Messages and exit codes of commands that fail; tracebacks of bugs."""

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from polarcast.data.errors import BadInput, Stopped, Terminated, WorkFailed
from polarcast.data.secrets import redacted
from polarcast.data.user_cache import user_cache
from polarcast.hpc.utils.exit_codes import BAD_INPUT, ENDED_EARLY, FAILED, INTERRUPTED
from polarcast.hpc.utils.text import one_line, printable

_ANOTHER = "choose another path"
_CHECK = "check the path"
_FREE = "free some space or choose another folder"
_LIMIT = "use fewer workers, or raise the limit with ulimit -n"
_PERMISSION = "ask for permission, or choose another path"
_REGULAR = "give the path of a regular file"
_ADVICE = {
    errno.ENOENT: _CHECK, errno.ENOTDIR: _CHECK, errno.ELOOP: _CHECK, errno.EINVAL: _CHECK,
    errno.EISDIR: "give the path of a file", errno.ENXIO: _REGULAR, errno.ENODEV: _REGULAR, errno.ESPIPE: _REGULAR,
    errno.EEXIST: _ANOTHER, errno.ENOTEMPTY: _ANOTHER, errno.EBUSY: _ANOTHER, errno.ETXTBSY: _ANOTHER,
    errno.ENAMETOOLONG: "use shorter names",
    errno.EACCES: _PERMISSION, errno.EPERM: _PERMISSION, errno.EROFS: "choose a folder that can be written",
    errno.ENOSPC: _FREE, errno.EDQUOT: _FREE, errno.EFBIG: "choose a file system for larger files",
    errno.EOPNOTSUPP: "choose a folder on another file system",
    errno.EXDEV: "choose a folder on one file system", errno.ENOEXEC: "check the program",
    errno.EMFILE: _LIMIT, errno.ENFILE: _LIMIT,
}  # fmt: skip
"""Error numbers that the user can do something about → what."""
_DISK = {errno.EIO, errno.ESTALE, errno.EUCLEAN, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN}
"""Error numbers of a damaged disk or of a file server."""
_WITHOUT_A_PATH = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, *_DISK}
_MEMORY = "out of memory — use a smaller batch, size or number of workers, or a machine with more memory"
_BY_NAME = {
    **dict.fromkeys(("MemoryError", "_ArrayMemoryError", "OutOfMemoryError"), _MEMORY),
    "BrokenProcessPool": "a worker process was killed — if memory ran out, use fewer workers",
}
"""Classes whose modules are not imported here → message."""


@dataclass(frozen=True)
class Failure:
    """Message and exit code of a command that failed.

    Attributes:
        message: One line without secrets and control characters.
        code: Exit code.
        is_bug: Whether the cause is unknown, so that the traceback is needed.
    """

    message: str
    code: int
    is_bug: bool = False


def failure_of(error: BaseException) -> Failure:
    """Return what the command line prints for an exception, and its exit code."""
    found = _known(error) or Failure(f"unexpected {type(error).__name__}: {error}", FAILED, is_bug=True)
    return Failure(one_line(redacted(found.message)), found.code, found.is_bug)


def _known(error: BaseException) -> Failure | None:
    match error:
        case BadInput():
            return Failure(str(error.at(printable(error.where))), BAD_INPUT)
        case Stopped():
            return Failure(str(error), ENDED_EARLY)
        case WorkFailed():
            return Failure(str(error), FAILED)
        case Terminated():
            return Failure("terminated — run the same command to continue", ENDED_EARLY)
        case KeyboardInterrupt():
            return Failure("interrupted — run the same command to continue", INTERRUPTED)
        case UnicodeEncodeError(object=str() as text) if any("\udc80" <= c <= "\udcff" for c in text):
            return Failure(f"{printable(text)[:200]}: not UTF-8 — rename it", BAD_INPUT)
        case OSError():
            return _os_failure(error)
        case RuntimeError() if "can't allocate memory" in str(error):  # torch, on a CPU
            return Failure(_MEMORY, FAILED)
    message = _BY_NAME.get(type(error).__name__)
    return Failure(message, FAILED) if message else None


def _os_failure(error: OSError) -> Failure | None:
    """Return the failure for an error of the operating system; None if it names no path and is no full disk."""
    if error.filename is None and error.errno not in _WITHOUT_A_PATH:
        return None
    where = "output" if error.filename is None else printable(_text(error.filename))
    if error.errno in _DISK:
        return Failure(f"{where}: {error.strerror} — check the disk or the file server", FAILED)
    if error.errno not in _ADVICE:
        return None
    return Failure(f"{where}: {error.strerror} — {_ADVICE[error.errno]}", BAD_INPUT)


def _text(filename: object) -> str:
    return os.fsdecode(filename) if isinstance(filename, str | bytes | os.PathLike) else str(filename)


def report_bug(failure: Failure, error: BaseException) -> str:
    """Keep the traceback of an unknown error; return the message, which says where it is and where to report it.

    The traceback goes to a file that only this user can read, or into the message if no folder can be written.
    """
    text = _traceback(error)
    kept = _kept(text)
    line = f"{failure.message} — traceback {f'in {kept}' if kept else 'below'}; please report it{_address()}"
    return line if kept else f"{line}\n{text}"


def _traceback(error: BaseException) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    head = f"{now}, python {sys.version.split()[0]}: {' '.join(map(ascii, sys.argv))}"
    return redacted("\n".join([head, "".join(traceback.format_exception(error))]))


def _kept(text: str) -> Path | None:
    """Write text to a new file that only this user can read; return its path, or None if no folder can be written."""
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, path = tempfile.mkstemp(".txt", "polarcast-traceback-", folder)
            with open(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
        except OSError:
            continue
        return Path(path)
    return None


def _folders() -> Iterator[Path]:
    """Yield folders for tracebacks: temporary ones, or in a Slurm job first the user's cache, which outlives it."""
    cache, temporary = user_cache(), Path(os.environ.get("TMPDIR") or "/tmp")
    folders = (cache, temporary) if "SLURM_JOB_ID" in os.environ else (temporary, cache)
    yield from (folder for folder in folders if folder)


def _address() -> str:
    """Return where to report a bug: at the address in the package's metadata, or as CONTRIBUTING.md says."""
    try:
        urls = metadata("polarcast").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    named = dict(url.split(", ", 1) for url in urls)
    url = named.get("Issues") or named.get("Repository")
    return f" at {url}" if url else " with that file, as CONTRIBUTING.md says"
