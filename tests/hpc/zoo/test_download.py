"""Nets behind URLs: in the user's cache, whole or not at all, and used from there when the server is away."""

import hashlib
import json
import shutil
import socket
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from threading import Event

import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.zoo import download
from polarcast.hpc.zoo.download import Address, downloaded
from polarcast.hpc.zoo.note import LIMITS, NOTE, WEIGHTS, read_net
from tests.support.zoo_nets import WebServer, answers, copied, serving, with_file, with_note

Here = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "polarcast" / "zoo"


@pytest.fixture
def net(packed_net: Path, tmp_path: Path) -> Path:
    """Folder of the net on the server."""
    (tmp_path / "site").mkdir()
    return copied(packed_net, tmp_path / "site" / "net")


@pytest.fixture
def server(net: Path) -> Iterator[WebServer]:
    with serving(net.parent) as running:
        yield running


@pytest.fixture
def away() -> str:
    """URL of a server that is not there."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}/net"


def digest_of(net: Path) -> str:
    return hashlib.sha256((net / NOTE).read_bytes()).hexdigest()


def nets_in(cache: Path) -> list[str]:
    """Names in the cache, also of partial folders."""
    return sorted(path.name for path in cache.iterdir() if path.name != "urls") if cache.exists() else []


@pytest.mark.parametrize("end", ["", "/", "/zoo.json"])
def test_a_net_is_downloaded_and_verified_once(server: WebServer, net: Path, cache: Path, end: str) -> None:
    folder = downloaded(f"{server.url}/net{end}")
    assert folder == cache / digest_of(net)
    assert read_net(folder).name == "tiny-unet"
    assert all((folder / name).read_bytes() == (net / name).read_bytes() for name in (*LIMITS, NOTE))
    server.asked.clear()
    assert downloaded(f"{server.url}/net{end}") == folder
    assert server.asked == [NOTE]


def test_the_cache_serves_when_the_server_is_away(
    net: Path, packed_net: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(net.parent) as server:
        url = f"{server.url}/net"
        folder = downloaded(url)
    assert downloaded(url) == folder
    assert "can't be reached" in caplog.text
    assert "using the copy in the cache" in caplog.text
    assert read_net(folder) == read_net(packed_net)


def test_a_server_error_is_no_end_of_a_net(server: WebServer) -> None:
    folder = downloaded(f"{server.url}/net")
    server.faults[NOTE] = answers(503)
    assert downloaded(f"{server.url}/net") == folder


def test_a_pinned_net_needs_no_server_again(net: Path, cache: Path) -> None:
    pin = f"#sha256={digest_of(net)}"
    with serving(net.parent) as server:
        folder = downloaded(f"{server.url}/net{pin}")
        server.asked.clear()
        assert downloaded(f"{server.url}/net{pin}") == folder
        assert server.asked == []
    assert downloaded(f"{server.url}/net{pin}") == folder


def test_a_net_that_is_not_the_pinned_one_is_refused(server: WebServer, cache: Path) -> None:
    with pytest.raises(BadInput, match=r"not the pinned 000000000000…"):
        downloaded(f"{server.url}/net#sha256={64 * '0'}")
    assert nets_in(cache) == []


def test_a_new_version_is_downloaded_and_the_old_one_stays(server: WebServer, net: Path, cache: Path) -> None:
    first = downloaded(f"{server.url}/net")
    with_note(net, lambda note: note.update(about="changed"))
    second = downloaded(f"{server.url}/net")
    assert read_net(second).about == "changed"
    assert nets_in(cache) == sorted([first.name, second.name])


@pytest.mark.parametrize("damage", ["changed", "missing", "link"])
def test_a_damaged_copy_is_downloaded_again(server: WebServer, net: Path, tmp_path: Path, damage: str) -> None:
    copy = downloaded(f"{server.url}/net") / WEIGHTS
    whole = copy.read_bytes()
    copy.unlink()
    if damage == "changed":
        copy.write_bytes(whole[:-1])
    if damage == "link":
        (tmp_path / "other").write_bytes(whole)
        copy.symlink_to(tmp_path / "other")
    pinned = f"{server.url}/net#sha256={digest_of(net)}"
    assert read_net(downloaded(pinned)).name == "tiny-unet"
    assert copy.read_bytes() == whole
    assert not copy.is_symlink()


def endless(handler: SimpleHTTPRequestHandler) -> None:
    """Send more than the file has."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"x" * 2**20)


released = Event()
"""Set at the end of a test, so that the server can end."""
FAULTS = {
    "checksum": (WEIGHTS, answers(200, b"other"), "weights.safetensors: is not the file that zoo.json names"),
    "larger": (WEIGHTS, endless, "weights.safetensors: is larger than"),
    "larger note": (NOTE, endless, "zoo.json: is larger than 65536 bytes"),
    "cut": (WEIGHTS, answers(200, b"abc", Content_Length="900"), "can't be reached (the connection was closed early)"),
    "no note": (NOTE, answers(404), "zoo.json: no such file — give the URL of the folder that holds zoo.json"),
    "no file": ("card.md", answers(404), "card.md: no such file"),
    "refused": (NOTE, answers(403), "zoo.json: the server refuses it (403)"),
    "error": (NOTE, answers(500), "can't be reached (the server has an error, 500)"),
    "no JSON": (NOTE, answers(200, b"<html>"), "zoo.json: damaged (not JSON)"),
    "redirect to http": (NOTE, answers(302, Location="http://192.0.2.1/net/zoo.json"), "a place without https"),
    "redirect to a file": (NOTE, answers(302, Location="file:///etc/passwd"), "a place without https"),
    "redirect to ftp": (NOTE, answers(302, Location="ftp://192.0.2.1/zoo.json"), "a place without https"),
    "silent": (WEIGHTS, lambda handler: released.wait(30), "can't be reached (no answer in 0 s)"),
    "no HTTP": (NOTE, lambda handler: handler.wfile.write(b"hello\n"), "can't be reached ("),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_servers_do_is_one_line_and_leaves_nothing(
    server: WebServer, cache: Path, tmp_path: Path, polarcast_here: Here, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    name, fault, message = FAULTS[case]
    server.faults[name] = fault
    released.clear()
    monkeypatch.setattr(download, "_SILENT_SECONDS", 0.3)
    out = tmp_path / "rain.nc"
    code, _, err = polarcast_here("predict", f"zoo:{server.url}/net", tmp_path, out)
    released.set()
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert nets_in(cache) == []


@pytest.mark.parametrize("name", ["../../up", "/etc/passwd"])
def test_names_of_a_server_are_no_paths(server: WebServer, net: Path, tmp_path: Path, name: str) -> None:
    entry = {"bytes": 1, "sha256": 64 * "0"}
    with_note(net, lambda note: note["files"].update({name: entry}))
    server.asked.clear()
    with pytest.raises(BadInput, match="names a file that no net has"):
        downloaded(f"{server.url}/net")
    assert server.asked == [NOTE]
    assert not list(tmp_path.rglob("up"))


def test_what_the_server_says_is_checked_like_any_net(
    server: WebServer, net: Path, tmp_path: Path, polarcast_here: Here
) -> None:
    with_file(net, "config.yaml", b"_target_: os.system\n")
    code, _, err = polarcast_here("predict", f"zoo:{server.url}/net", tmp_path, tmp_path / "rain.nc")
    assert code == 2
    assert "_target_" in err


def test_an_unreachable_server_is_one_line(away: str, tmp_path: Path, polarcast_here: Here) -> None:
    code, _, err = polarcast_here("zoo", "show", away)
    assert code == 2
    assert err.count("\n") == 1
    assert f"polarcast: {away}: can't be reached (Connection refused)" in err
    assert "download the folder elsewhere and give its path" in err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/net", "nets are downloaded by https"),
        ("ftp://example.org/net", "nets are downloaded by https"),
        ("file:///etc", "nets are downloaded by https"),
        ("https:///net", "nets are downloaded by https"),
        ("https://user:pw0rd@example.org/net", "has a user or password"),
        ("https://example.org/n t", "holds characters that no URL has"),
        ("https://example.org/net#main", "pins nothing"),
        ("https://example.org/net#sha256=abc", "pins nothing"),
        ("https://example.org:x/net", "is no URL"),
        ("https://[::1/net", "is no URL"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        downloaded(url)
    assert message in str(caught.value)
    assert "pw0rd" not in str(caught.value)


def test_urls_of_files(cache: Path) -> None:
    address = Address.parse("https://example.org/a/net/?v=2#sha256=" + 64 * "a")
    assert address.of(NOTE) == "https://example.org/a/net/zoo.json?v=2"
    assert address.pin == 64 * "a"


def test_a_cache_of_others_is_not_used(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "own_cache", lambda: None)
    with pytest.raises(BadInput, match="no cache of your own"):
        downloaded(f"{server.url}/net")


def test_a_full_disk_is_one_line_and_leaves_nothing(
    server: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BadInput, match=r"can't be written \(No space left on device\) .* with room"):
        downloaded(f"{server.url}/net")
    assert nets_in(cache) == []


def test_a_record_of_the_cache_is_not_trusted(net: Path, cache: Path, packed_net: Path) -> None:
    """What the cache says of a URL is a name of a folder in it, whatever stands there."""
    with serving(net.parent) as server:
        url = f"{server.url}/net"
        downloaded(url)
    [record] = (cache / "urls").iterdir()
    record.write_text(json.dumps({"url": url, "sha256": "../../../elsewhere"}))
    shutil.copytree(packed_net, cache.parents[2] / "elsewhere")
    with pytest.raises(BadInput, match="can't be reached"):
        downloaded(url)
