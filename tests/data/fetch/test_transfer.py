"""Transfers of one object over a server that is slow, fails, cuts, lies and changes."""

import os
from datetime import UTC, datetime
from hashlib import md5, sha256
from pathlib import Path

import pytest

from polarcast.data.fetch.networks import NEXRAD, RemoteFile
from polarcast.data.fetch.store import (
    ABSENT,
    BROKEN,
    BUSY,
    CHANGED,
    DENIED,
    UNREACHABLE,
    ObjectStore,
    RequestFailed,
    RequestPatience,
)
from polarcast.data.fetch.transfer import adopt, fetch_file, part_of
from tests.data.fetch.conftest import Open
from tests.support.s3_server import S3Fault, S3Server

KEY = "2016/06/01/KLBB/KLBB20160601_150025_V06"
PATH = f"/{NEXRAD.bucket}/{KEY}"
CONTENT = os.urandom(3 * 2**20 + 12345)


def put(s3: S3Server, content: bytes = CONTENT) -> RemoteFile:
    etag = s3.put(NEXRAD.bucket, KEY, content)
    s3.faulty.reset()
    return RemoteFile(KEY, len(content), etag, datetime(2016, 6, 1, 15, 0, 25, tzinfo=UTC))


def fails(store: ObjectStore, remote: RemoteFile, target: Path) -> RequestFailed:
    with pytest.raises(RequestFailed) as caught:
        fetch_file(store, remote, target)
    assert not target.exists()
    return caught.value


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "KLBB" / "KLBB20160601_150025_V06"


def test_a_file_comes_whole_and_is_recorded(s3: S3Server, opened: Open, target: Path) -> None:
    file = fetch_file(opened(), put(s3), target)
    assert target.read_bytes() == CONTENT
    assert (file.sha256, file.size, file.checked) == (sha256(CONTENT).hexdigest(), len(CONTENT), "md5")
    assert (file.key, file.etag, file.time) == (KEY, md5(CONTENT).hexdigest(), "2016-06-01T15:00:25Z")
    assert list(target.parent.iterdir()) == [target]


def test_an_empty_object(s3: S3Server, opened: Open, target: Path) -> None:
    assert fetch_file(opened(), put(s3, b""), target).checked == "md5"
    assert target.read_bytes() == b""


def test_parts_are_checked(s3: S3Server, opened: Open, target: Path) -> None:
    parts = [os.urandom(5 * 2**20), os.urandom(1000)]
    etag = s3.put_in_parts(NEXRAD.bucket, KEY, parts)
    remote = RemoteFile(KEY, sum(map(len, parts)), etag, datetime(2016, 6, 1, tzinfo=UTC))
    assert fetch_file(opened(), remote, target).checked == "md5 of parts"
    assert target.read_bytes() == b"".join(parts)
    s3.faulty.faults = [S3Fault(KEY, lies=True)]
    assert fetch_file(opened(), remote, target).checked == "size"  # the record tells that nothing stricter held


@pytest.mark.parametrize("cut", [0, 1, 2**20 + 1])
def test_a_cut_body_is_continued_where_it_broke(s3: S3Server, opened: Open, target: Path, cut: int) -> None:
    remote = put(s3)
    s3.faulty.faults = [S3Fault(KEY, times=1, cut=cut)]
    fetch_file(opened(), remote, target)
    assert target.read_bytes() == CONTENT
    first, second = s3.faulty.ranges[PATH]
    assert first == ""
    got = int(second.removeprefix("bytes=").removesuffix("-")) if second else 0
    assert got <= cut
    assert s3.faulty.served[PATH] == cut + len(CONTENT) - got


def test_a_body_that_is_always_cut_comes_while_there_is_progress(s3: S3Server, opened: Open, target: Path) -> None:
    remote = put(s3)
    s3.faulty.faults = [S3Fault(KEY, cut=2**18)]
    fetch_file(opened(), remote, target)
    assert target.read_bytes() == CONTENT
    assert len(s3.faulty.ranges[PATH]) > 4  # the number of tries without progress


def test_a_server_that_ignores_ranges_sends_it_all_again(s3: S3Server, opened: Open, target: Path) -> None:
    remote = put(s3)
    s3.faulty.faults = [S3Fault(KEY, times=1, cut=2**20), S3Fault(KEY, ignores_range=True)]
    fetch_file(opened(), remote, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", ["503 SlowDown", "500 InternalError", "429 TooManyRequests"])
def test_a_busy_server_is_asked_again(s3: S3Server, opened: Open, target: Path, status: str) -> None:
    remote, store = put(s3), opened()
    s3.faulty.faults = [S3Fault(KEY, times=3, status=status)]
    fetch_file(store, remote, target)
    assert target.read_bytes() == CONTENT
    assert store.retries == 3


def test_a_server_that_stays_busy_is_left(s3: S3Server, opened: Open, target: Path) -> None:
    remote = put(s3)
    s3.faulty.faults = [S3Fault(KEY, status="503 SlowDown")]
    error = fails(opened(), remote, target)
    assert (error.kind, error.reason) == (BUSY, "the server is busy (503 SlowDown)")
    assert len(s3.faulty.requests) == 4
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(("status", "kind"), [("403 AccessDenied", DENIED), ("404 NoSuchKey", ABSENT)])
def test_a_refusal_is_not_repeated(s3: S3Server, opened: Open, target: Path, status: str, kind: str) -> None:
    remote = put(s3)
    s3.faulty.faults = [S3Fault(KEY, status=status)]
    assert fails(opened(), remote, target).kind == kind
    assert len(s3.faulty.requests) == 1
    assert list(target.parent.iterdir()) == []


def test_other_bytes_of_the_right_length_are_found(s3: S3Server, opened: Open, target: Path) -> None:
    remote = put(s3)
    s3.faulty.faults = [S3Fault(KEY, lies=True)]
    error = fails(opened(), remote, target)
    assert (error.kind, error.reason) == (BROKEN, "the bytes that came are not those of the bucket's checksum")
    assert list(target.parent.iterdir()) == []
    s3.faulty.faults = [S3Fault(KEY, times=1, lies=True)]
    fetch_file(opened(), remote, target)
    assert target.read_bytes() == CONTENT


def test_an_encrypted_object_has_no_md5(s3: S3Server, opened: Open, target: Path) -> None:
    remote = put(s3)
    s3.faulty.faults = [S3Fault(KEY, lies=True, headers={"x-amz-server-side-encryption": "aws:kms"})]
    assert fetch_file(opened(), remote, target).checked == "size"


def test_an_object_that_changed_since_the_listing_comes_as_it_is_now(s3: S3Server, opened: Open, target: Path) -> None:
    remote, now = put(s3), b"newer" * 1000
    s3.put(NEXRAD.bucket, KEY, now)
    file = fetch_file(opened(), remote, target)
    assert target.read_bytes() == now
    assert (file.etag, file.size) == (md5(now).hexdigest(), len(now))


def test_an_object_that_changes_between_two_pieces(s3: S3Server, opened: Open, target: Path) -> None:
    remote, now = put(s3), os.urandom(len(CONTENT))
    s3.faulty.faults = [
        S3Fault(KEY, times=1, cut=2**20),
        S3Fault(KEY, times=1, before=lambda: s3.put(NEXRAD.bucket, KEY, now) and None),
    ]
    fetch_file(opened(), remote, target)
    assert target.read_bytes() == now


def test_an_object_that_always_changes_is_left(s3: S3Server, opened: Open, target: Path) -> None:
    remote = put(s3)
    s3.faulty.faults = [S3Fault(KEY, before=lambda: s3.put(NEXRAD.bucket, KEY, os.urandom(100)) and None)]
    assert fails(opened(), remote, target).kind == CHANGED


def test_a_deleted_object(s3: S3Server, opened: Open, target: Path) -> None:
    remote = put(s3)
    s3.delete(NEXRAD.bucket, KEY)
    error = fails(opened(), remote, target)
    assert (error.kind, error.reason) == (ABSENT, "it is no longer in the bucket (404)")


def test_a_silent_server_is_left(s3: S3Server, opened: Open, target: Path) -> None:
    remote = put(s3)
    s3.faulty.faults = [S3Fault(KEY, seconds=0.6)]
    error = fails(opened(patience=RequestPatience(tries=1, timeout_s=0.2)), remote, target)
    assert error.kind == BROKEN


def test_a_dead_port(opened: Open, s3: S3Server, target: Path) -> None:
    error = fails(opened(endpoint="http://127.0.0.1:9"), put(s3), target)
    assert error.kind == UNREACHABLE
    assert "Connect call failed" in error.reason


def test_a_partial_file_is_continued_only_if_the_object_is_the_same(s3: S3Server, opened: Open, target: Path) -> None:
    remote = put(s3)
    target.parent.mkdir()
    part_of(target, remote.etag).write_bytes(CONTENT[: 2**20])
    fetch_file(opened(), remote, target)
    assert s3.faulty.ranges[PATH] == [f"bytes={2**20}-"]
    assert target.read_bytes() == CONTENT
    part_of(target, "0" * 32).write_bytes(b"older")
    fetch_file(opened(), remote, target)
    assert s3.faulty.ranges[PATH][1:] == [""]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    "content", [b"\0" * 2**20, CONTENT + b"more", b"\0" * len(CONTENT)], ids=["begin", "longer", "whole"]
)
def test_a_damaged_partial_file_does_not_become_a_file(
    s3: S3Server, opened: Open, target: Path, content: bytes
) -> None:
    remote = put(s3)
    target.parent.mkdir()
    part_of(target, remote.etag).write_bytes(content)
    fetch_file(opened(), remote, target)
    assert target.read_bytes() == CONTENT


def test_a_link_in_the_place_of_a_partial_file_is_not_followed(s3: S3Server, opened: Open, target: Path) -> None:
    remote, other = put(s3), target.parent.parent / "precious"
    target.parent.mkdir()
    other.write_bytes(b"kept")
    part_of(target, remote.etag).symlink_to(other)
    fetch_file(opened(), remote, target)
    assert target.read_bytes() == CONTENT
    assert not target.is_symlink()
    assert other.read_bytes() == b"kept"


def test_a_file_of_the_same_content_is_adopted(s3: S3Server, opened: Open, tmp_path: Path) -> None:
    remote, file = put(s3), tmp_path / "copied"
    file.write_bytes(CONTENT)
    found = adopt(opened(), remote, file)
    assert found is not None
    assert (found.sha256, found.checked) == (sha256(CONTENT).hexdigest(), "md5")
    file.write_bytes(b"\0" + CONTENT[1:])
    assert adopt(opened(), remote, file) is None
    file.write_bytes(CONTENT[:-1])
    assert adopt(opened(), remote, file) is None


def test_the_name_of_a_partial_file_is_safe_for_any_etag(tmp_path: Path) -> None:
    odd = part_of(tmp_path / "volume", "../../etc/passwd")
    assert odd.parent == tmp_path
    assert odd != part_of(tmp_path / "volume", "../../etc/shadow")
