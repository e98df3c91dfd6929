"""Checks of content against ETags, which Amazon's rule makes here independently."""

from hashlib import md5
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.fetch.checks import BY_MD5, BY_PARTS, BY_SIZE, check_of, etag_of_parts, part_sizes

MIB = 2**20


def etag_of(content: bytes, part: int) -> str:
    """Amazon's ETag of an upload in parts."""
    sums = b"".join(md5(content[at : at + part]).digest() for at in range(0, len(content), part))
    return f"{md5(sums).hexdigest()}-{-(-len(content) // part)}"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checks") / "file"


@given(st.binary(min_size=1, max_size=300), st.integers(1, 300))
def test_the_etag_of_parts(path: Path, content: bytes, part: int) -> None:
    path.write_bytes(content)
    assert etag_of_parts(path, part) == etag_of(content, part)


@given(st.integers(1, 10**10), st.integers(1, 10_000))
def test_sizes_of_parts_make_that_number_of_parts(size: int, parts: int) -> None:
    found = list(part_sizes(size, parts))
    assert found == sorted(set(found))
    assert all(-(-size // part) == parts for part in found)


@pytest.mark.parametrize("part", [5 * MIB, 8 * MIB])
def test_content_of_parts_is_checked(path: Path, part: int) -> None:
    content = bytes(range(256)) * (9 * MIB // 256 + 1)
    path.write_bytes(content)
    etag, whole = etag_of(content, part), md5(content).hexdigest()
    assert check_of(path, etag, whole) == BY_PARTS
    path.write_bytes(b"\1" + content[1:])
    assert check_of(path, etag, whole) == BY_SIZE


def test_content_of_one_part_is_checked(path: Path) -> None:
    path.write_bytes(b"radar")
    whole = md5(b"radar").hexdigest()
    assert check_of(path, whole, whole) == BY_MD5
    assert check_of(path, md5(b"other").hexdigest(), whole) is None


def test_an_etag_that_is_no_md5_leaves_the_size(path: Path) -> None:
    path.write_bytes(b"radar")
    whole = md5(b"radar").hexdigest()
    assert check_of(path, "opaque", whole) == BY_SIZE
    assert check_of(path, md5(b"other").hexdigest(), whole, is_plain=False) == BY_SIZE
