"""Shard locations: a local folder, or any URL that WebDataset opens (pipe:, http, s3 through a command)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from polarcast.data.errors import BadInput

_SCHEME = re.compile(r"^[a-z0-9+]+:")
_PLACE = "{name}"


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
            raise BadInput("not a local folder", self.location, "set data.reader=stream, or data.stage_to")
        return Path(self.location.removeprefix("file:"))

    def url(self, name: str) -> str:
        """Path or URL of one file."""
        if self.is_local:
            return str(self.folder / name)
        if _PLACE in self.location:
            return self.location.replace(_PLACE, name)
        return f"{self.location.rstrip('/')}/{name}"

    def open(self, name: str) -> BinaryIO:
        """Open one file as a byte stream, with WebDataset's `gopen` unless it is local.

        Raises:
            OSError: The file can't be opened. A failing pipe raises only when its bytes end early.
        """
        if self.is_local:
            return (self.folder / name).open("rb")
        from webdataset.gopen import gopen

        return gopen(self.url(name), "rb")  # type: ignore[no-any-return]

    def read_text(self, name: str, missing: str) -> str:
        """Read a small file as text. Raises BadInput with the fix `missing` if it can't be read."""
        if self.is_local and not (self.folder / name).is_file():
            raise BadInput(f"no {name}", self.folder, missing)
        try:
            with self.open(name) as stream:
                return stream.read().decode()
        except (OSError, ValueError) as error:
            raise BadInput(f"can't be read ({error})", self.url(name), missing) from None
