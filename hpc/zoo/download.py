"""Nets behind URLs: downloaded into the user's cache, whole or not at all, and used from there without network."""

import errno
import hashlib
import http.client
import ipaddress
import logging
import shutil
import socket
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from polarcast.data.errors import BadInput, shown
from polarcast.data.files import new_folder, read_json, write_json
from polarcast.data.secrets import redacted
from polarcast.data.user_cache import own_cache
from polarcast.hpc.zoo.note import NOTE, NOTE_BYTES, file_entry, is_digest, parse_note, read_net

_log = logging.getLogger("polarcast")
_PIN = "sha256="
_CHUNK = 2**16
_SILENT_SECONDS = 15.0
"""Longest time without an answer."""
_LONGEST_SECONDS = 900.0
"""Longest time for one file, so that a slow server can't hold a forecast for ever."""
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_ABSENT = (404, 410)
_NO_HTTPS = "the server leads to a place without https"


class Unreachable(Exception):
    """A server that gives no answer; the message says why."""


@dataclass(frozen=True)
class Address:
    """URL of the folder of a net, and the SHA-256 that its `zoo.json` must have; empty for any."""

    url: SplitResult
    pin: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse `https://host/folder#sha256=…`; http is for this machine only.

        Raises:
            BadInput: the URL has another scheme, no host, a password, or another fragment.
        """
        try:
            url = urlsplit(text)
            host, _ = url.hostname, url.port
        except ValueError as error:
            raise BadInput(f"is no URL ({error})", text, "give https://HOST/FOLDER") from None
        if not host or not _is_safe(url):
            fix = "give https://HOST/FOLDER; http is for servers on this machine"
            raise BadInput("nets are downloaded by https", text, fix)
        if url.username or url.password:
            raise BadInput("has a user or password, which a net does not need", text, "remove it")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise BadInput("holds characters that no URL has", text, "write them as %XX")
        pin = url.fragment.removeprefix(_PIN)
        if url.fragment and not (url.fragment.startswith(_PIN) and is_digest(pin)):
            raise BadInput(f"{shown(url.fragment)} pins nothing", text, "write #sha256= and the SHA-256 of zoo.json")
        path = url.path.removesuffix(NOTE).rstrip("/")
        return cls(url._replace(path=path, fragment=""), pin)

    def of(self, name: str) -> str:
        """Return the URL of a file in the folder."""
        return urlunsplit(self.url._replace(path=f"{self.url.path}/{quote(name)}"))

    def __str__(self) -> str:
        return redacted(urlunsplit(self.url))


def downloaded(text: str) -> Path:
    """Return the folder of a net behind a URL.

    `zoo.json` is asked for each time, and names the other files with their SHA-256. They are downloaded only if the
    cache lacks them. If the server can't be reached, the net that it gave last is used, with a warning. A net that is
    pinned by `#sha256=…`, the SHA-256 of its `zoo.json`, is used from the cache without asking the server.

    Args:
        text: URL of the folder, or of its zoo.json.

    Raises:
        BadInput: the URL can't be used, the server can't be reached or has no such net, or a file is damaged.
    """
    address = Address.parse(text)
    cache = _cache(address)
    if address.pin and _is_whole(cache / address.pin):
        return cache / address.pin
    known = cache / "urls" / f"{hashlib.sha256(str(address).encode()).hexdigest()}.json"
    try:
        return _current(address, cache, known)
    except Unreachable as error:
        last = read_json(known).get("sha256")
        if address.pin or not is_digest(last) or not _is_whole(cache / last):
            fix = "try again, or download the folder elsewhere and give its path"
            raise BadInput(f"can't be reached ({error})", address, fix) from None
        _log.warning("polarcast: %s can't be reached (%s); using the copy in the cache", address, error)
        return cache / last


def _cache(address: Address) -> Path:
    folder = own_cache()
    if folder is None:
        fix = "set XDG_CACHE_HOME to a folder of yours, or download the net and give its path"
        raise BadInput("there is no cache of your own to download to", address, fix)
    return folder / "zoo"


def _current(address: Address, cache: Path, known: Path) -> Path:
    """Return the folder of what the server has now. Raises BadInput or Unreachable."""
    content = fetch(address.of(NOTE), NOTE_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    if address.pin and digest != address.pin:
        what = f"its zoo.json has the SHA-256 {digest[:12]}…, not the pinned {address.pin[:12]}…"
        raise BadInput(what, address, "use it only if you know why it changed; then pin the new one")
    folder = cache / digest
    if not _is_whole(folder):
        _download(address, content, folder)
    try:
        known.parent.mkdir(parents=True, exist_ok=True)
        write_json(known, {"url": str(address), "sha256": digest})
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder


def _download(address: Address, content: bytes, folder: Path) -> None:
    """Download the files of a net, completely or not at all; a damaged copy is replaced."""
    note = parse_note(content, redacted(address.of(NOTE)))
    try:
        shutil.rmtree(folder, ignore_errors=True)
        with new_folder(folder) as partial:
            for name, entry in note.files.items():
                found = fetch(address.of(name), entry["bytes"])
                if file_entry(found) != entry:
                    fix = "try again; if it stays so, ask whoever made it"
                    raise BadInput("is not the file that zoo.json names", redacted(address.of(name)), fix)
                (partial / name).write_bytes(found)
            (partial / NOTE).write_bytes(content)
    except OSError as error:
        raise _unwritable(folder, error) from None
    except BadInput:
        if not _is_whole(folder):  # another process may have made it meanwhile
            raise


def _unwritable(folder: Path, error: OSError) -> BadInput:
    fix = "set XDG_CACHE_HOME to another folder" + " with room" * (error.errno == errno.ENOSPC)
    return BadInput(f"can't be written ({error.strerror})", folder, fix)


def _is_whole(folder: Path) -> bool:
    """Return whether the cache holds a net; the name of its folder is the SHA-256 of its zoo.json."""
    with suppress(BadInput, OSError):
        read_net(folder)
        return hashlib.sha256((folder / NOTE).read_bytes()).hexdigest() == folder.name
    return False


def fetch(url: str, most: int) -> bytes:
    """Return what a URL gives, at most `most` bytes.

    Raises:
        BadInput: the server has no such file, refuses it, or gives more; or leads to a place without https.
        Unreachable: there is no answer, the connection breaks, or the server has an error of its own.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "polarcast", "Accept-Encoding": "identity"})
    try:
        with _OPENER.open(request, timeout=_SILENT_SECONDS) as answer:
            return _read(answer, url, most)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= _SERVER_ERROR:
            raise Unreachable(f"the server has an error, {error.code}") from None
        what = "no such file" if error.code in _ABSENT else f"the server refuses it ({error.code})"
        if error.code < _CLIENT_ERROR:  # urllib does not follow it, as to file:
            what = _NO_HTTPS
        raise BadInput(what, redacted(url), "give the URL of the folder that holds zoo.json") from None
    except urllib.error.URLError as error:
        raise Unreachable(_reason(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(_reason(error)) from None


def _read(answer: Any, url: str, most: int) -> bytes:
    """Read an answer to its end. Raises BadInput if it is longer than `most`, Unreachable if it ends early."""
    pieces, size, began = [], 0, time.monotonic()
    while piece := answer.read(_CHUNK):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise BadInput(f"is larger than {most} bytes", redacted(url), "ask whoever made it")
        if time.monotonic() - began > _LONGEST_SECONDS:
            raise Unreachable(f"not complete after {_LONGEST_SECONDS:.0f} s")
    told = answer.headers.get("Content-Length")
    if told is not None and told.isdecimal() and int(told) > size:
        raise Unreachable("the connection was closed early")
    return b"".join(pieces)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError | socket.timeout):
        return f"no answer in {_SILENT_SECONDS:.0f} s"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _is_safe(url: SplitResult) -> bool:
    """Return whether a URL is https, or http to this machine."""
    if url.scheme == "http":
        with suppress(ValueError):
            return ipaddress.ip_address(url.hostname or "").is_loopback
        return url.hostname == "localhost"
    return url.scheme == "https"


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to places that could have been given themselves."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        """Return the next request. Raises BadInput if it would leave https."""
        if not _is_safe(urlsplit(newurl)):
            raise BadInput(_NO_HTTPS, redacted(req.full_url), "give another URL")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_SafeRedirects())
