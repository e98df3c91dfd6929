"""Where shards lie: a folder of this machine, or whatever WebDataset opens (pipe:, http, s3 through a command)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from polarcast.data.errors import BadInput

_SCHEME = re.compile(r"^[a-z0-9+]+:")
_PLACE = "{name}"


@dataclass(frozen=True)
class ShardSource:
    """A folder, or a URL with `{name}` where a file's name belongs (at its end without).

    Examples: `/scratch/shards`, `https://host/shards`, `pipe:aws s3 cp s3://bucket/{name} -`.
    """

    location: str

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return not _SCHEME.match(self.location) or self.location.startswith("file:")

    @property
    def folder(self) -> Path:
        """The folder. Raises BadInput for a URL."""
        if not self.is_local:
            raise BadInput("not a folder of this machine", self.location, "set data.reader=stream, or data.stage_to")
        return Path(self.location.removeprefix("file:"))

    def url(self, name: str) -> str:
        """What to open for one file."""
        if self.is_local:
            return str(self.folder / name)
        if _PLACE in self.location:
            return self.location.replace(_PLACE, name)
        return f"{self.location.rstrip('/')}/{name}"

    def open(self, name: str) -> BinaryIO:
        """A stream of one file's bytes, by WebDataset's `gopen` where it is not a local one.

        Raises:
            OSError: it can't be opened. A pipe that fails tells so only when its bytes end early.
        """
        if self.is_local:
            return (self.folder / name).open("rb")
        from webdataset.gopen import gopen

        return gopen(self.url(name), "rb")  # type: ignore[no-any-return]

    def read_text(self, name: str, missing: str) -> str:
        """A small file as text. Raises BadInput with the advice `missing` when it can't be read."""
        if self.is_local and not (self.folder / name).is_file():
            raise BadInput(f"no {name}", self.folder, missing)
        try:
            with self.open(name) as stream:
                return stream.read().decode()
        except (OSError, ValueError) as error:
            raise BadInput(f"can't be read ({error})", self.url(name), missing) from None
