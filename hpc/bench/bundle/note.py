"""`bundle.json`, the first member of a bundle: what it is of, and the sizes and SHA-256 of all other members."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from polarcast.data.errors import CONTROL, BadInput, shown
from polarcast.data.names import problem_of_name
from polarcast.hpc.bench.bundle.archive import read_members
from polarcast.hpc.bench.verdict import FILE as VERDICT_FILE
from polarcast.hpc.zoo.note import file_entry, is_digest

FORMAT = "polarcast-bundle/1"
NOTE, SUITE, MANIFEST, REPORT = "bundle.json", "suite.yaml", "data/manifest.json", "report.html"
CELLS, TABLES, ROBUSTNESS = "cells", "tables", "robustness"
CONFIG, PROVENANCE, CARD, SCORES, LOG, FAILED = (
    "config.yaml", "provenance.json", "card.json", "scores.parquet", "log.jsonl", "failed.json"
)  # fmt: skip
KINDS = ("json", "csv", "md", "tex")
"""Forms in which a table is written."""
_TOP = {NOTE: 2**23, SUITE: 2**17, MANIFEST: 2**28, REPORT: 2**28, **{f"cost.{kind}": 2**22 for kind in KINDS}}
ROBUSTNESS_FILES = (f"{ROBUSTNESS}/robustness.json", f"{ROBUSTNESS}/robustness.csv")
_OF_CELL = {CONFIG: 2**17, PROVENANCE: 2**20, CARD: 2**20, SCORES: 2**28, LOG: 2**27, FAILED: 2**20}
_OF_TABLE = 2**26
"""Largest sizes of members in bytes."""
_PARTS, _PARTS_OF_PERTURBED = 3, 5
_LONGEST_TEXT = 10_000
_FIX = "ask whoever made it for another copy"


@dataclass(frozen=True)
class BundleNote:
    """Content of `bundle.json`.

    Attributes:
        suite: Name of the suite.
        polarcast: Version that wrote the file.
        data: Digest of the manifest of the data.
        about_data: Note on the data and on missing runs below each table.
        left_out: Parts of the suite's folder that hold results and are not in the file.
        files: Name → {"bytes": size, "sha256": SHA-256} of every other member, in their order.
    """

    suite: str
    polarcast: str
    data: str
    about_data: str
    left_out: tuple[str, ...]
    files: Mapping[str, Mapping[str, Any]]

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory: its note, and the content of every other member by name, with the sizes and sums it tells."""

    note: BundleNote
    members: Mapping[str, bytes]

    @classmethod
    def read(cls, path: Path) -> "Bundle":
        """Read a bundle, which may be made by others.

        Raises:
            BadInput: the file is not a bundle, of another format, damaged, or not as polarcast writes it.
        """
        members = read_members(path, most_of)
        if next(iter(members)) != NOTE:
            raise BadInput(f"does not begin with {NOTE}", path, "give a file that polarcast bench bundle wrote")
        note = _parsed(members.pop(NOTE), path)
        if list(note.files) != list(members):
            odd = sorted(set(note.files) ^ set(members)) or ["their order"]
            raise BadInput(f"{NOTE} does not list the members as they are: {shown(odd[0])}", path, _FIX)
        for name, content in members.items():
            if file_entry(content) != note.files[name]:
                raise BadInput(f"{name} is damaged, or was changed: its SHA-256 is not that of {NOTE}", path, _FIX)
        if missing := [name for name in (SUITE, MANIFEST) if name not in members]:
            raise BadInput(f"lacks {missing[0]}", path, _FIX)
        return cls(note, members)

    def cells(self) -> list[str]:
        """Return the names of the run folders, sorted."""
        return sorted({name.split("/")[1] for name in self.members if name.startswith(f"{CELLS}/")})

    def unpack(self, folder: Path) -> None:
        """Write the members into an empty folder that nobody else can enter; their names were checked."""
        for name, content in self.members.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as stream:
                stream.write(content)


def most_of(name: str) -> int:
    """Return the largest size of a member in bytes; 0 for a name that no bundle has."""
    first, _, rest = name.partition("/")
    if name in _TOP:
        return _TOP[name]
    if name in ROBUSTNESS_FILES:
        return _OF_TABLE
    if first == TABLES and "/" not in rest:
        return _OF_TABLE if rest == VERDICT_FILE or rest.rpartition(".")[2] in KINDS else 0
    parts = name.split("/")
    if first == CELLS and len(parts) == _PARTS:
        return _OF_CELL.get(parts[2], 0)
    is_perturbed = first == CELLS and len(parts) == _PARTS_OF_PERTURBED and (parts[2], parts[4]) == (ROBUSTNESS, SCORES)
    return _OF_CELL[SCORES] if is_perturbed else 0


def parsed_json(content: bytes, where: object) -> Any:
    """Parse JSON of others.

    Raises:
        BadInput: it is damaged or nested too deeply, or holds a number that is not finite.
    """
    try:
        return json.loads(content.decode(), parse_constant=_not_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise BadInput(f"damaged ({reason:.200})", where, _FIX) from None


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _not_finite(text)
    return number


def _parsed(content: bytes, path: Path) -> BundleNote:
    where = f"{path}, {NOTE}"
    found = parsed_json(content, where)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        given = shown(found.get("format")) if isinstance(found, dict) else "none"
        raise BadInput(f"is of the format {given}, not {FORMAT}", where, "use a version of polarcast that reads it")
    known = {field.name for field in fields(BundleNote)} | {"format"}
    for key in sorted(known ^ found.keys()):
        what = f"lacks {key}" if key in known else f"has an unknown key {shown(key)}"
        raise BadInput(what, where, _FIX)
    for key, good in _GOOD.items():
        if not good(found[key]):
            raise BadInput(f"{key} is {shown(found[key])}", where, _FIX)
    del found["format"]
    return BundleNote(**{**found, "left_out": tuple(found["left_out"])})


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and not CONTROL.search(value)


def _are_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, dict) and one.keys() == {"bytes", "sha256"} and is_digest(one["sha256"])
        for one in value.values()
    )


_GOOD = {
    "suite": lambda value: not problem_of_name(value),
    "polarcast": _is_line,
    "data": is_digest,
    "about_data": _is_line,
    "left_out": lambda value: isinstance(value, list) and all(map(_is_line, value)),
    "files": _are_files,
}
