"""Drive a headless Chromium over its debugging pipe: open a page, press keys, look at it, collect its errors."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

_SECONDS = 120
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-extensions",
    "--disable-background-networking", "--remote-debugging-pipe",
)  # fmt: skip
_CODES = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, "Space": 32}
_TEXTS = {"Enter": "\r", "Space": " "}


class Browser:
    """A running browser."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out, self._in = to_browser, from_browser
        self._waiting = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the browser, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._events.append(answer)

    def wait_for(self, event: str, session: str) -> dict[str, Any]:
        """Return the parameters of the next event of this name."""
        while True:
            for position, one in enumerate(self._events):
                if one.get("method") == event and one.get("sessionId") == session:
                    return dict(self._events.pop(position)["params"])
            self._events.append(self._read())

    def events(self, session: str) -> list[dict[str, Any]]:
        """Return the events of a page so far, without those that were waited for."""
        return [one for one in self._events if one.get("sessionId") == session]

    def open(self, file: Path, view: str = "", *, width: int = 1280, height: int = 900, **media: bool) -> "BrowserPage":
        """Open a file in a new page, and wait until it is loaded. See `BrowserPage.show_as` for `media`."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = BrowserPage(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        page.resize(width, height)
        page.show_as(**media)
        self.call("Page.navigate", session, url=f"file://{file.resolve()}" + (f"#{view}" if view else ""))
        self.wait_for("Page.loadEventFired", session)
        return page

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._waiting:
            ready, *_ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(self._in, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self._waiting += part
        message, self._waiting = self._waiting.split(b"\0", 1)
        return dict(json.loads(message))


class BrowserPage:
    """A page in a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, such as Enter or ArrowRight."""
        text = {"text": _TEXTS[key]} if key in _TEXTS else {}
        known = {"key": _TEXTS.get(key, key).replace("\r", "Enter"), "code": key, "windowsVirtualKeyCode": _CODES[key]}
        self._call("Input.dispatchKeyEvent", type="keyDown", **known, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", **known)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window a size in CSS pixels."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def show_as(self, *, dark: bool = False, print_media: bool = False) -> None:
        """Show the page as a system in dark mode, or as on paper."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media="print" if print_media else "", features=[scheme])

    def pdf(self) -> bytes:
        """Return the page as a PDF file."""
        answer = self._call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return base64.b64decode(answer["data"])

    def picture(self, *, whole: bool = False) -> bytes:
        """Return what is seen, or the whole page, as a PNG file."""
        return base64.b64decode(self._call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    @property
    def problems(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and requests to other places than the page itself."""
        self.run("0")
        found = []
        for event in self._browser.events(self._session):
            method, parameters = event["method"], event["params"]
            if method == "Runtime.exceptionThrown" or (
                method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert")
            ):
                found.append(json.dumps(parameters))
            elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                found.append(parameters["entry"]["text"])
            elif method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(
                ("file:", "data:", "about:")
            ):
                found.append(f"request: {parameters['request']['url']}")
        return found

    def close(self) -> None:
        """Close the page."""
        self._call("Page.close")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)


@contextmanager
def running_browser(folder: Path) -> Iterator[Browser]:
    """Run a browser with its profile in a folder; skip the test if none is installed."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or pytest.skip("no browser: install chromium")
    theirs_in, to_browser = os.pipe()
    from_browser, theirs_out = os.pipe()
    # The browser reads from 3 and writes to 4. From numbers above, neither can overwrite the other.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
    command = f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}'
    process = subprocess.Popen(
        ["bash", "-c", command, "browser", str(program), *_OPTIONS, f"--user-data-dir={folder}"],
        pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for end in (theirs_in, theirs_out, *ends):
        os.close(end)
    browser = Browser(to_browser, from_browser)
    try:
        yield browser
    finally:
        with suppress(OSError, AssertionError):
            browser.call("Browser.close")
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for end in (to_browser, from_browser):
            os.close(end)
