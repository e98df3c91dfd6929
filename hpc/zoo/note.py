"""A net of the zoo as a folder: `zoo.json` names the net, and its other files with their sizes and SHA-256.

Nothing in such a folder is trusted. The names of its files are fixed, their sizes are limited, links are not followed,
and each file is compared with its SHA-256 whenever the net is opened. No file is unpickled or run.
"""

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard

from polarcast.data.errors import CONTROL, BadInput, shown
from polarcast.data.files import SMALL_BYTES
from polarcast.data.names import problem_of_name

FORMAT = "polarcast-zoo/1"
NOTE = "zoo.json"
CONFIG, WEIGHTS, PROVENANCE = "config.yaml", "weights.safetensors", "provenance.json"
CARD, CARD_PAGE = "card.json", "card.md"
LIMITS = {CONFIG: 2**17, WEIGHTS: 2**28, PROVENANCE: 2**20, CARD: 2**20, CARD_PAGE: 2**20}
"""Files of a net, and their largest sizes in bytes."""
NOTE_BYTES = 2**16
NETS = Path(__file__).parent / "nets"
"""Folder of the nets that come with polarcast."""
NOT_STATED = "not stated"
_LONGEST_TEXT, _LONGEST_LIST = 500, 1000
_HEX = frozenset("0123456789abcdef")
_DIGEST_LETTERS = 64
_FIX = "copy the net again, or ask whoever made it"


@dataclass(frozen=True)
class ZooNote:
    """Content of `zoo.json`.

    Attributes:
        name: Name of the net; also that of a folder.
        about: One line about it; may be empty.
        license: Licence of the weights, such as Apache-2.0, or `not stated`.
        task: qpe or nowcast.
        arm: radar or dualpol.
        model: Name of the model.
        variables: Variables that it reads.
        heights_km: Heights that it reads, in km.
        frames: Input frames.
        lead_frames: Frames of a nowcast; 0 of an estimate.
        sides_multiple_of: Rows and columns of its input must be multiples of this.
        spacing_km: Pixel spacing of its training data; None if unknown.
        step_minutes: Time between frames of its training data; None if unknown.
        polarcast: Version that wrote the folder.
        files: Name → {"bytes": size, "sha256": SHA-256} of every other file.
    """

    name: str
    about: str
    license: str
    task: str
    arm: str
    model: str
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    frames: int
    lead_frames: int
    sides_multiple_of: int
    spacing_km: float | None
    step_minutes: float | None
    polarcast: str
    files: Mapping[str, Mapping[str, Any]]

    @property
    def bytes(self) -> int:
        """Size of all files but `zoo.json`."""
        return sum(int(entry["bytes"]) for entry in self.files.values())

    def as_record(self) -> dict[str, Any]:
        """Return the content of `zoo.json`."""
        return {"format": FORMAT, **asdict(self)}


def parse_note(content: bytes, where: object) -> ZooNote:
    """Read `zoo.json`.

    Args:
        content: Its bytes.
        where: Path or URL, for messages.

    Raises:
        BadInput: the content is damaged, of another format, or names a file or size that no net has.
    """
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise BadInput("damaged (not JSON)", where, _FIX) from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        given = shown(found.get("format")) if isinstance(found, dict) else "none"
        raise BadInput(f"is of the format {given}, not {FORMAT}", where, "use a version of polarcast that reads it")
    known = {field.name for field in fields(ZooNote)} | {"format"}
    for key in sorted(known ^ found.keys()):
        what = f"lacks {key}" if key in known else f"has an unknown key {shown(key)}"
        raise BadInput(what, where, _FIX)
    values = {key: value for key, value in found.items() if key != "format"}
    _check_values(values, where)
    return ZooNote(**{**values, "variables": tuple(values["variables"]), "heights_km": tuple(values["heights_km"])})


def read_net(folder: Path) -> ZooNote:
    """Verify a net in a folder: names, sizes and SHA-256 of all its files.

    Raises:
        BadInput: a file is missing, a link, too large or damaged.
    """
    if not folder.is_dir():
        raise BadInput("no such folder", folder, "give the folder of a net: see polarcast zoo add")
    note = parse_note(read_file(folder / NOTE, NOTE_BYTES), folder / NOTE)
    for name, entry in note.files.items():
        if (found := _measured(folder / name, LIMITS[name])) != (entry["bytes"], entry["sha256"]):
            sizes = f"{found[0]} bytes, not {entry['bytes']}"
            what = sizes if found[0] != entry["bytes"] else "its SHA-256 is not the one in zoo.json"
            raise BadInput(f"damaged ({what})", folder / name, _FIX)
    return note


def read_file(path: Path, most: int = SMALL_BYTES) -> bytes:
    """Read a regular file of at most `most` bytes. Raises BadInput for a link, another kind of file, or a larger one.

    Links are refused because they could lead to files that the net does not contain.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise BadInput("is not a regular file", path, _FIX)
        with open(handle, "rb") as stream:
            content = stream.read(most + 1)
    except FileNotFoundError:
        raise BadInput("no such file", path, _FIX) from None
    except OSError as error:
        why = "is a link" if error.errno == errno.ELOOP else f"can't be read ({error.strerror})"
        raise BadInput(why, path, _FIX) from None
    if len(content) > most:
        raise BadInput(f"is larger than {most} bytes", path, _FIX)
    return content


def card_of(folder: Path) -> dict[str, Any]:
    """Return the card of a net as nested values. Raises BadInput if it is damaged."""
    try:
        found = json.loads(read_file(folder / CARD).decode())
    except (ValueError, RecursionError):
        raise BadInput("damaged (not JSON)", folder / CARD, _FIX) from None
    if not isinstance(found, dict):
        raise BadInput("expected keys and values", folder / CARD, _FIX)
    return found


def file_entry(content: bytes) -> dict[str, Any]:
    """Return the entry of a file in `zoo.json`."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _measured(path: Path, most: int) -> tuple[int, str]:
    entry = file_entry(read_file(path, most))
    return entry["bytes"], entry["sha256"]


def _check_values(values: Mapping[str, Any], where: object) -> None:
    """Raise BadInput for a value that no net has."""
    if problem := problem_of_name(values["name"]):
        raise BadInput(f"name {shown(values['name'])}: a name {problem}", where, _FIX)
    for key in ("about", "license", "task", "arm", "model", "polarcast"):
        if not _is_text(values[key]):
            raise BadInput(f"{key} is {shown(values[key])}, not a line of text", where, _FIX)
    for key in ("frames", "lead_frames", "sides_multiple_of"):
        if type(values[key]) is not int or not 0 <= values[key] <= _LONGEST_LIST:
            raise BadInput(f"{key} is {shown(values[key])}", where, _FIX)
    for key in ("spacing_km", "step_minutes"):
        if values[key] is not None and not _is_positive(values[key]):
            raise BadInput(f"{key} is {shown(values[key])}, not a positive number", where, _FIX)
    if not _is_list(values["variables"]) or not all(map(_is_text, values["variables"])):
        raise BadInput(f"variables are {shown(values['variables'])}", where, _FIX)
    if not _is_list(values["heights_km"]) or not all(map(_is_positive, values["heights_km"])):
        raise BadInput(f"heights_km are {shown(values['heights_km'])}", where, _FIX)
    _check_files(values["files"], where)


def _check_files(files: Any, where: object) -> None:
    """Raise BadInput unless these are the files of a net, with sizes that nets have."""
    if not isinstance(files, dict):
        raise BadInput(f"files are {shown(files)}", where, _FIX)
    for name in sorted(LIMITS.keys() ^ files.keys()):
        what = f"lacks the file {name}" if name in LIMITS else f"names a file that no net has, {shown(name)}"
        raise BadInput(what, where, _FIX)
    for name, entry in files.items():
        if not isinstance(entry, dict) or entry.keys() != {"bytes", "sha256"}:
            raise BadInput(f"{name} is {shown(entry)}, not its size and SHA-256", where, _FIX)
        size, digest = entry["bytes"], entry["sha256"]
        if type(size) is not int or not 0 <= size <= LIMITS[name]:
            raise BadInput(f"{name} has {shown(size)} bytes; the most are {LIMITS[name]}", where, _FIX)
        if not is_digest(digest):
            raise BadInput(f"{name} has the SHA-256 {shown(digest)}, which is none", where, _FIX)


def is_digest(text: object) -> TypeGuard[str]:
    """Return whether a text is a SHA-256 in lower-case hexadecimal."""
    return isinstance(text, str) and len(text) == _DIGEST_LETTERS and set(text) <= _HEX


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and not CONTROL.search(value)


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and 0 < len(value) <= _LONGEST_LIST
