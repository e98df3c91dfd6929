"""Shard locations: a local folder, or any URL that WebDataset opens (pipe:, http, s3 through a command)."""

import os
import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from polarcast.data.errors import BadInput
from polarcast.data.files import open_regular
from polarcast.data.secrets import redacted

_SCHEME = re.compile(r"^[a-z0-9+]+:")
_WEB = ("http:", "https:", "ftp:", "ftps:", "sftp:")
_CURL = ("http:", "https:", "ftps:", "sftp:")
_PLACE = "{name}"
_HARMLESS_TO_A_SHELL = re.compile(r"[\w@%+=:,.](?:[\w@%+=:,.-]|\x20(?!-))*")
"""Names without characters that act in a shell, not even in nested quotes or in the shell of another host."""
_CHUNK, _MAX_TEXT_BYTES, _PIPE_BYTES = 2**20, 2**29, 8192


@dataclass(frozen=True)
class ShardSource:
    """A folder, or a URL in which `{name}` is replaced by the file name; without `{name}` it is appended.

    Examples: `/scratch/shards`, `https://host/shards`, `pipe:aws s3 cp s3://bucket/{name} -`.
    """

    location: str

    @property
    def is_local(self) -> bool:
        """Whether the location is a local folder."""
        return not _SCHEME.match(self.location) or self.location.startswith("file:")

    @property
    def folder(self) -> Path:
        """Path of the folder. Raises BadInput for a URL."""
        if not self.is_local:
            raise BadInput("not a local folder", self.shown, "set data.reader=stream, or data.stage_to")
        return Path(self.location.removeprefix("file:"))

    @property
    def shown(self) -> str:
        """Location for messages and records, without secrets."""
        return redacted(self.location)

    def shown_url(self, name: str) -> str:
        """Path or URL of one file for messages and records, without secrets."""
        return redacted(self.url(name))

    def url(self, name: str) -> str:
        """Path or URL of one file. Raises BadInput if a shell could take the name for more than a name."""
        if self.is_local:
            return str(self.folder / name)
        if self.location.startswith("pipe:"):
            return _command(self.location, name)
        return _filled(self.location, quote(name) if self.location.startswith(_WEB) else name)

    def open(self, name: str) -> BinaryIO:
        """Open one file as a byte stream, with WebDataset's `gopen` unless it is local.

        Raises:
            OSError: The file can't be opened. A failing pipe raises only when its bytes end early.
        """
        if self.is_local:
            return open_regular(self.folder / name)
        from webdataset.gopen import gopen

        return gopen(self.url(name), "rb")  # type: ignore[no-any-return]

    def _open_once(self, name: str) -> BinaryIO:
        """Open one file as `open`, but give up on a web server that does not respond for some seconds.

        WebDataset asks for a minute, which suits a training that has begun, and not a first look.
        """
        if not self.location.startswith(_CURL) or {"GOPEN_REWRITE", "USE_AIS_FOR"} & set(os.environ):
            return self.open(name)
        from webdataset.gopen import Pipe

        command = ["curl", "--connect-timeout", "10", "--retry", "2", "--retry-delay", "1", "-f", "-s", "-L"]
        return Pipe([*command, self.url(name)], mode="rb", bufsize=_PIPE_BYTES)  # type: ignore[no-any-return]

    def read_text(self, name: str, missing: str) -> str:
        """Read a small file as text. Raises BadInput with the fix `missing` if it can't be read."""
        if self.is_local and not (self.folder / name).is_file():
            raise BadInput(f"no {name}", self.folder, missing)
        stream = None
        try:
            stream = self._open_once(name)
            with _closing(stream):
                return _bounded(stream).decode()
        except (OSError, ValueError) as error:
            failed = None if isinstance(error, ValueError) else _end_of_command(stream)
            reason = failed or redacted(str(error))
            raise BadInput(f"can't be read ({reason})", self.shown_url(name), missing) from None


@contextmanager
def _closing(stream: BinaryIO) -> Iterator[None]:
    """Close a stream. After an exception such as a signal, first end its command: closing waits for that."""
    try:
        yield
    except BaseException:
        end_command(stream)
        with suppress(OSError):
            stream.close()
        raise
    stream.close()


def _end_of_command(stream: BinaryIO | None) -> str:
    """Return how the command of a stream failed, without its words; empty if there is none, or it did not fail."""
    process = getattr(stream, "proc", None)
    if process is None or not process.returncode or process.returncode == -signal.SIGKILL:
        return ""
    is_curl = isinstance(process.args, list) and process.args[0] == "curl"
    return f"{'curl' if is_curl else 'the command'} ended with code {process.returncode}"


def end_command(stream: BinaryIO | None) -> None:
    """Kill the command of a stream, if it has one, and its children, such as a stalled download."""
    if (process := getattr(stream, "proc", None)) is not None:
        _kill_tree(process.pid)


def _kill_tree(pid: int) -> None:
    """Kill a process and its children; killing only the shell would leave a download running."""
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split():
            _kill_tree(int(child))
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _bounded(stream: BinaryIO) -> bytes:
    pieces, size = [], 0
    while piece := stream.read(_CHUNK):
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_TEXT_BYTES:
            raise ValueError(f"longer than {_MAX_TEXT_BYTES} bytes")
    return b"".join(pieces)


def _filled(template: str, name: str) -> str:
    return template.replace(_PLACE, name) if _PLACE in template else f"{template.rstrip('/')}/{name}"


def _command(template: str, name: str) -> str:
    """Return the command with the name as one argument, also where the template quotes `{name}` itself."""
    if not _HARMLESS_TO_A_SHELL.fullmatch(name):
        raise BadInput(
            f"the name {name!r} can't be given to a shell", redacted(template), "rename it, or copy it first"
        )
    before, *rest = (template if _PLACE in template else _filled(template, _PLACE)).split(_PLACE)
    for after in rest:
        before += (name if _is_quoted(before) else shlex.quote(name)) + after
    return before


def _is_quoted(command: str) -> bool:
    """Whether text after this part of a command is inside of quotes."""
    open_quote = ""
    for match in re.finditer(r"\\?['\"]|\\\\", command):
        # A backslash escapes a quote, except within single quotes.
        mark = match[0][-1] if open_quote == "'" else match[0]
        if mark == open_quote:
            open_quote = ""
        elif not open_quote and mark in ("'", '"'):
            open_quote = mark
    return bool(open_quote)
