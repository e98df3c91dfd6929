"""Packed nets, and ways to change one as somebody hostile would."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from polarcast.hpc.zoo.note import NOTE

Content = dict[str, Any]


def copied(net: Path, folder: Path) -> Path:
    return Path(shutil.copytree(net, folder))


def with_note(net: Path, change: Callable[[Content], object]) -> Path:
    """Change `zoo.json`."""
    note = json.loads((net / NOTE).read_text())
    change(note)
    (net / NOTE).write_text(json.dumps(note))
    return net


def with_file(net: Path, name: str, content: bytes) -> Path:
    """Replace a file, with its size and SHA-256 in `zoo.json`: only what is in it can be wrong."""
    (net / name).write_bytes(content)
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return with_note(net, lambda note: note["files"].update({name: entry}))


class _Quiet(SimpleHTTPRequestHandler):
    """Serve a folder, but not what a fault takes away."""

    faults: dict[str, Callable[[SimpleHTTPRequestHandler], None]]
    asked: list[str]

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.asked.append(name)
        if name in self.faults:
            self.faults[name](self)
        else:
            super().do_GET()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class WebServer:
    """Web server of a folder on this machine.

    Attributes:
        url: Its URL.
        faults: Name of a file → what is done in place of sending it.
        asked: Names of the files that were asked for.
    """

    def __init__(self, url: str, handler: type[_Quiet]) -> None:
        self.url, self.faults, self.asked = url, handler.faults, handler.asked


@contextmanager
def serving(folder: Path) -> Iterator[WebServer]:
    """Serve a folder while the context is active."""
    handler = type("Handler", (_Quiet,), {"faults": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield WebServer(f"http://127.0.0.1:{server.server_port}", handler)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answers(code: int, content: bytes = b"", **headers: str) -> Callable[[SimpleHTTPRequestHandler], None]:
    """Return a fault that sends this answer."""

    def send(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(code)
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return send
