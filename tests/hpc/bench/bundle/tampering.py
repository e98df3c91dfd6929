"""Bundles that were changed by hand, with sums that fit."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from polarcast.hpc.bench.bundle.archive import write_members
from polarcast.hpc.bench.bundle.note import NOTE, Bundle
from polarcast.hpc.zoo.note import file_entry

Change = Callable[[bytes], bytes]


def changed(file: Path, out: Path, changes: Mapping[str, Change | bytes | None]) -> Path:
    """Write a copy of a bundle whose members are changed, added (by bytes) or left out (None); its sums fit."""
    bundle = Bundle.read(file)
    members = dict(bundle.members)
    for name, change in changes.items():
        if change is None:
            del members[name]
        else:
            members[name] = change if isinstance(change, bytes) else change(members[name])
    return written(bundle, members, out)


def written(bundle: Bundle, members: Mapping[str, bytes], out: Path) -> Path:
    """Write a bundle with other members and sums that fit them."""
    note = replace(bundle.note, files={name: file_entry(content) for name, content in members.items()})
    write_members(out, {NOTE: note.as_bytes(), **members})
    return out


def replaced(before: str, after: str) -> Change:
    """Return the change that replaces the first occurrence of a text, which must be there."""

    def change(content: bytes) -> bytes:
        assert before.encode() in content, before
        return content.replace(before.encode(), after.encode(), 1)

    return change
