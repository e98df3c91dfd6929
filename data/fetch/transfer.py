"""Transfer one object to a file: resumable, checked, whole or not at all."""

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from polarcast.data.fetch.checks import check_of
from polarcast.data.fetch.networks import RemoteFile
from polarcast.data.fetch.store import ABSENT, BROKEN, CHANGED, ObjectStore, RequestFailed
from polarcast.data.files import sync_file

_READ = 2**20
_MOST_LIES = 2
"""Tries of a body whose content is not that of the ETag."""
_MOST_CHANGES = 3
_MOST_BREAKS = 100
"""Most failures of one object, even if each try brings some bytes."""


@dataclass(frozen=True)
class FetchedFile:
    """File that was fetched.

    Attributes:
        bucket: Bucket that it is from.
        key: Key in the bucket.
        size: Bytes.
        etag: Entity tag in the bucket.
        sha256: SHA-256 of the content.
        checked: How the content was checked: md5, md5 of parts, or size.
        time: Time in the name, UTC, ISO 8601.
    """

    bucket: str
    key: str
    size: int
    etag: str
    sha256: str
    checked: str
    time: str


class _Sums:
    """MD5 and SHA-256 of bytes as they come."""

    def __init__(self) -> None:
        self.md5, self.sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self.size = 0

    def update(self, block: bytes) -> None:
        self.md5.update(block)
        self.sha256.update(block)
        self.size += len(block)

    @classmethod
    def of(cls, path: Path) -> "_Sums":
        sums = cls()
        with path.open("rb") as stream:
            while block := stream.read(_READ):
                sums.update(block)
        return sums


def part_of(target: Path, etag: str) -> Path:
    """Return the file that holds the first bytes of an object: its name has the ETag, by which it can be resumed."""
    tag = etag if re.fullmatch(r"[0-9a-f]{32}(-[0-9]{1,5})?", etag) else hashlib.sha256(etag.encode()).hexdigest()[:32]
    return target.with_name(f".{target.name}.{tag}.part")


def recorded(store: ObjectStore, remote: RemoteFile, sha256: str, checked: str) -> FetchedFile:
    """Return the record of a file."""
    time = f"{remote.time:%Y-%m-%dT%H:%M:%S}Z"
    return FetchedFile(store.bucket, remote.key, remote.size, remote.etag, sha256, checked, time)


def adopt(store: ObjectStore, remote: RemoteFile, target: Path) -> FetchedFile | None:
    """Return the record of a file that is there already; None if its content is not that of the object."""
    if target.stat().st_size != remote.size:
        return None
    sums = _Sums.of(target)
    checked = check_of(target, remote.etag, sums.md5.hexdigest())
    return recorded(store, remote, sums.sha256.hexdigest(), checked) if checked else None


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch_file(store: ObjectStore, remote: RemoteFile, target: Path) -> FetchedFile:
    """Fetch an object to a file, which appears when it is whole and checked.

    The bytes go to a hidden file beside it, which the next call continues if the object has the same ETag.

    Args:
        store: Bucket.
        remote: Object as listed. If it has changed since, the object of now is fetched.
        target: File to write or to replace.

    Raises:
        RequestFailed: It can't be had.
        Halted: `store.halt` was called; the bytes that came are kept.
        OSError: The file can't be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_MOST_CHANGES):
        try:
            return _fetch(store, remote, target)
        except RequestFailed as error:
            part = part_of(target, remote.etag)
            if part.is_file() and not part.stat().st_size:
                part.unlink()
            if error.kind != CHANGED:
                raise
        size, etag = store.look_up(remote.key)
        remote = replace(remote, size=size, etag=etag)
    raise RequestFailed(CHANGED, "it keeps changing in the bucket")


def _fetch(store: ObjectStore, remote: RemoteFile, target: Path) -> FetchedFile:
    part = part_of(target, remote.etag)
    for other in target.parent.glob(f".{_escaped(target.name)}.*.part"):
        if other != part:
            other.unlink(missing_ok=True)
    for _ in range(_MOST_LIES):
        sums, is_plain = _fill(store, remote, part)
        checked = check_of(part, remote.etag, sums.md5.hexdigest(), is_plain)
        if checked:
            sync_file(part)
            os.replace(part, target)
            return recorded(store, remote, sums.sha256.hexdigest(), checked)
        part.unlink()
    raise RequestFailed(BROKEN, "the bytes that came are not those of the bucket's checksum")


def _fill(store: ObjectStore, remote: RemoteFile, part: Path) -> tuple[_Sums, bool]:
    """Read the bytes that a partial file lacks; return the sums of all, and whether the ETag can be an MD5."""
    if part.is_symlink():
        part.unlink()
    sums = _Sums.of(part) if part.is_file() else _Sums()
    if sums.size > remote.size:
        part.unlink()
        sums = _Sums()
    _opened(part).close()
    failed, breaks, is_plain = 0, 0, True
    while sums.size < remote.size:
        before = sums.size
        try:
            sums, is_plain = _read_on(store, remote, part, sums)
            if sums.size < remote.size:
                raise RequestFailed(BROKEN, f"it ended after {sums.size} of {remote.size} bytes")
        except RequestFailed as error:
            failed, breaks = 1 if part.stat().st_size > before else failed + 1, breaks + 1
            if error.kind == ABSENT:
                raise RequestFailed(ABSENT, "it is no longer in the bucket (404)") from None
            if store.patience.is_over(failed, error) or breaks >= _MOST_BREAKS:
                raise
            store.rest(failed, error)
            sums = sums if sums.size == part.stat().st_size else _Sums.of(part)
    return sums, is_plain


def _read_on(store: ObjectStore, remote: RemoteFile, part: Path, sums: _Sums) -> tuple[_Sums, bool]:
    """Append what one request gives; return the sums of all bytes."""
    with store.body(remote.key, remote.etag, sums.size) as body:
        if body.total != remote.size:
            raise RequestFailed(CHANGED, "its size changed in the bucket")
        if body.start != sums.size:
            sums = _Sums()
        with _opened(part) as stream:
            stream.truncate(sums.size)
            stream.seek(sums.size)
            while block := body.read():
                stream.write(block)
                sums.update(block)
                if sums.size > remote.size:
                    raise RequestFailed(CHANGED, "more bytes came than it has")
        return sums, body.is_plain


def _opened(part: Path) -> BinaryIO:
    """Open a partial file, made if missing, to write to it; a link that others put there is not followed."""
    return os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
