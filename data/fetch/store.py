"""Anonymous reads from an S3 bucket by s3fs: listings, and bodies from any byte on.

s3fs and botocore retry by rules of their own, in silence. Both are told not to: here every failure is classified, a
refusal is never repeated, and a server that asks for fewer requests gets them from all threads.
"""

import asyncio
import os
import random
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from polarcast.data.errors import BadInput
from polarcast.data.secrets import redacted

CHUNK = 2**20
UNREACHABLE, BROKEN, BUSY, DENIED, ABSENT, CHANGED, OTHER = (
    "unreachable", "broken", "busy", "denied", "absent", "changed", "other",
)  # fmt: skip
"""Kinds of failures; the first three may pass."""
_MAY_PASS = (UNREACHABLE, BROKEN, BUSY)
_BUSY_CODES = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException"}
_NOT_REACHED = ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError")
_WRONG_SETTINGS = (
    "ProfileNotFound", "ConfigParseError", "InvalidEndpointConfigurationError", "InvalidProxiesConfigError",
)  # fmt: skip
_UNENCRYPTED = (None, "AES256")
"""Encryption of objects whose ETag is the MD5 of their content; others, such as by KMS, have another ETag."""
_Result = TypeVar("_Result")


class RequestFailed(Exception):
    """A request that failed.

    Attributes:
        kind: One of the kinds above.
        reason: Why, in a few words.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, " ".join(reason.split())

    @property
    def may_pass(self) -> bool:
        """Whether another try may succeed."""
        return self.kind in _MAY_PASS


class Halted(Exception):
    """The work was halted by another thread."""


@dataclass(frozen=True)
class RequestPatience:
    """How often and how patiently a request is repeated: exponential backoff with jitter.

    Attributes:
        tries: Number of tries without any progress.
        tries_unreachable: The same where no connection can be made at all.
        first_s: Shortest wait.
        longest_s: Longest wait.
        timeout_s: Longest silence of a server.
    """

    tries: int = 6
    tries_unreachable: int = 3
    first_s: float = 0.5
    longest_s: float = 30.0
    timeout_s: float = 30.0

    def is_over(self, failed: int, error: RequestFailed) -> bool:
        """Whether to give up after a number of failed tries."""
        tries = self.tries_unreachable if error.kind == UNREACHABLE else self.tries
        return not error.may_pass or failed >= tries

    def wait_s(self, failed: int) -> float:
        """Return the wait after a number of failed tries: half of it, and up to all of it by chance."""
        return random.uniform(0.5, 1.0) * min(self.longest_s, self.first_s * 2.0 ** min(failed - 1, 30))


@dataclass(frozen=True)
class RemoteBody:
    """Body of an object from a byte on.

    Attributes:
        read: Function that returns the next bytes; empty at the end.
        start: First byte that it has; 0 if the server ignores ranges.
        total: Size of the whole object in bytes.
        etag: Entity tag, without quotation marks.
        is_plain: Whether the ETag can be the MD5 of the content; not if it is encrypted by a key of its own.
    """

    read: Callable[[], bytes]
    start: int
    total: int
    etag: str
    is_plain: bool


class ObjectStore:
    """One bucket, read anonymously, by any number of threads.

    `halt` ends all requests that are under way, from any thread: they raise `Halted`.

    Attributes:
        place: URL of the server, for messages.
        retries: Number of waits before another try.
        received: Bytes of bodies that came.
    """

    def __init__(
        self, bucket: str, region: str, endpoint: str | None = None, *, connections: int = 8,
        patience: RequestPatience | None = None, page: int = 1000,
    ) -> None:  # fmt: skip
        """Make the client; no request is made.

        Args:
            bucket: Name of the bucket.
            region: AWS region of the bucket.
            endpoint: URL of another S3 server; by default AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, then AWS itself.
            connections: Most connections at a time.
            patience: How to repeat what fails.
            page: Number of keys of a listing's page.

        Raises:
            BadInput: s3fs is not installed, or the endpoint is no URL.
        """
        self.bucket, self.patience, self._page = bucket, patience or RequestPatience(), page
        given = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        self.place = redacted(given or f"https://{bucket}.s3.{region}.amazonaws.com")
        self.halted = threading.Event()
        self.retries = self.received = 0
        self._lock = threading.Lock()
        self._running: set[Future[Any]] = set()
        self._not_before = 0.0
        self._files = _file_system(given, region, connections, self.patience)

    def keys(self, prefix: str) -> list[dict[str, Any]]:
        """Return Key, Size and ETag of all objects below a prefix. Raises RequestFailed."""
        return [{**one, "ETag": one["ETag"].strip('"')} for page in self._pages(prefix) for one in page["Contents"]]

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below a prefix. Raises RequestFailed."""
        pages = self._pages(prefix, Delimiter="/")
        return [one["Prefix"][len(prefix) :].rstrip("/") for page in pages for one in page["CommonPrefixes"]]

    def has_any(self, prefix: str) -> bool:
        """Whether there is any object below a prefix. Raises RequestFailed."""
        return bool(self._listed(Prefix=prefix, MaxKeys=1).get("Contents"))

    def look_up(self, key: str) -> tuple[int, str]:
        """Return size and ETag of an object as they are now. Raises RequestFailed."""
        found = self._persistently(lambda: self._call("head_object", Key=key))
        return int(found["ContentLength"]), str(found["ETag"]).strip('"')

    @contextmanager
    def body(self, key: str, etag: str, start: int = 0) -> Iterator[RemoteBody]:
        """Request an object with an ETag from a byte on; it is not repeated if it fails, and neither are the reads.

        Raises:
            RequestFailed: The request failed, or the object has another ETag by now.
        """
        wanted = {"Range": f"bytes={start}-"} if start else {}
        response = self._call("get_object", Key=key, IfMatch=f'"{etag}"', **wanted)
        stream = response["Body"]
        try:
            first, total = _extent(response, start)
            there = str(response.get("ETag", "")).strip('"')
            if there != etag:
                raise RequestFailed(CHANGED, "it changed in the bucket")
            is_plain = response.get("ServerSideEncryption") in _UNENCRYPTED and "SSECustomerAlgorithm" not in response
            yield RemoteBody(lambda: self._counted(stream.read(CHUNK)), first, total, there, is_plain)
        finally:
            with suppress(Exception):
                self._files.loop.call_soon_threadsafe(stream.close)

    def _counted(self, call: Coroutine[Any, Any, bytes]) -> bytes:
        block: bytes = self._await(call)
        with self._lock:
            self.received += len(block)
        return block

    def rest(self, failed: int, error: RequestFailed) -> None:
        """Wait before another try; if the server is busy, all threads do. Raises Halted."""
        seconds = self.patience.wait_s(failed)
        self.retries += 1
        if error.kind == BUSY:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + seconds)
        elif self.halted.wait(seconds):
            raise Halted

    def halt(self) -> None:
        """End all requests, now and later."""
        self.halted.set()
        with self._lock:
            for future in self._running:
                future.cancel()

    def _pages(self, prefix: str, **more: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, Any] = {}
        while True:
            page = self._listed(Prefix=prefix, MaxKeys=self._page, **token, **more)
            yield {"Contents": [], "CommonPrefixes": [], **page}
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _listed(self, **arguments: Any) -> dict[str, Any]:
        return self._persistently(lambda: self._call("list_objects_v2", **arguments))

    def _persistently(self, call: Callable[[], _Result]) -> _Result:
        failed = 0
        while True:
            try:
                return call()
            except RequestFailed as error:
                failed += 1
                if self.patience.is_over(failed, error):
                    raise
                self.rest(failed, error)

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Make one request."""
        while (left := self._not_before - time.monotonic()) > 0:
            if self.halted.wait(left):
                raise Halted
        found: dict[str, Any] = self._await(self._files._call_s3(method, Bucket=self.bucket, **arguments))
        return found

    def _await(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop of s3fs, until `halt`; any error is a RequestFailed."""
        with self._lock:
            if self.halted.is_set():
                call.close()
                raise Halted
            future = asyncio.run_coroutine_threadsafe(call, self._files.loop)
            self._running.add(future)
        try:
            return future.result()
        except CancelledError:
            raise Halted from None
        except BadInput:
            raise
        except Exception as error:
            raise _failure_of(error) from error
        finally:
            future.cancel()
            with self._lock:
                self._running.discard(future)


def _file_system(endpoint: str | None, region: str, connections: int, patience: RequestPatience) -> Any:
    """Return an s3fs file system that reads anonymously and repeats nothing."""
    if endpoint and not re.match(r"https?://[^\s/]+", endpoint):
        raise BadInput(f"no URL of an S3 server: {redacted(endpoint)!r}", "--endpoint", "give http://HOST:PORT")
    try:
        import s3fs
    except ImportError as error:
        missing = f"{error.name or 's3fs'} is not installed"
        raise BadInput(missing, "polarcast data fetch", "pip install 'polarcast[fetch]'") from None
    settings: dict[str, Any] = {
        "connect_timeout": min(10.0, patience.timeout_s),
        "read_timeout": patience.timeout_s,
        "max_pool_connections": connections,
        "retries": {"max_attempts": 0},
        "response_checksum_validation": "when_required",
    }
    if endpoint:
        settings["s3"] = {"addressing_style": "path"}
    files = s3fs.S3FileSystem(
        anon=True, endpoint_url=endpoint, client_kwargs={"region_name": region}, config_kwargs=settings,
        skip_instance_cache=True, use_listings_cache=False,
    )  # fmt: skip
    files.retries = 1
    return files


def _extent(response: dict[str, Any], asked: int) -> tuple[int, int]:
    """Return the first byte of a body and the size of the whole object."""
    length = int(response.get("ContentLength", -1))
    if not (text := response.get("ContentRange")):
        return 0, length
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", str(text))
    if not found or int(found[1]) != asked or int(found[2]) + 1 != int(found[3]):
        raise RequestFailed(BROKEN, f"the server sent another range: {text}")
    return asked, int(found[3])


def _failure_of(error: Exception) -> RequestFailed:
    """Classify an error of s3fs, botocore or aiohttp."""
    cause: BaseException | None = error
    while cause is not None and not hasattr(cause, "response"):
        cause = cause.__cause__
    answer = getattr(cause, "response", None)
    if isinstance(answer, dict):
        return _failure_of_answer(answer)
    name = type(error).__name__
    if name in _NOT_REACHED:
        return RequestFailed(UNREACHABLE, _short(_cause_of(error)))
    if name in _WRONG_SETTINGS:
        raise BadInput(_short(error), "AWS settings", "correct the file or variable that says so") from None
    if isinstance(error, ValueError) and "endpoint" in str(error).lower():
        raise BadInput(_short(error), "--endpoint", "give http://HOST:PORT") from None
    return RequestFailed(BROKEN, f"the connection broke ({_short(error)})")


def _cause_of(error: Exception) -> Exception:
    """Return the error of the operating system or of aiohttp that botocore's error hides."""
    inner = getattr(error, "kwargs", {}).get("error")
    inner = getattr(inner, "os_error", None) or inner
    return inner if isinstance(inner, Exception) and str(inner) else error


def _failure_of_answer(answer: dict[str, Any]) -> RequestFailed:
    """Classify the answer of a server."""
    said = answer.get("Error", {})
    code, status = str(said.get("Code", "")), int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _BUSY_CODES or status >= 500 or status == 429:
        return RequestFailed(BUSY, f"the server is busy ({status} {code})")
    if status == 403:
        return RequestFailed(DENIED, "access is denied (403)")
    if status == 404:
        return RequestFailed(ABSENT, "no such bucket (404)" if code == "NoSuchBucket" else "it is not there (404)")
    if status in (412, 416):
        return RequestFailed(CHANGED, "it changed in the bucket")
    return RequestFailed(OTHER, f"the server refused ({status} {code} {said.get('Message', '')})")


def _short(error: Exception) -> str:
    text = redacted(" ".join(str(error).split()) or type(error).__name__)
    return text if len(text) <= 160 else f"{text[:160]}…"
