"""A real S3 server on this machine, moto's, behind a middleware that is slow, fails, cuts and lies on demand."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any

REGION = "us-east-1"
_PIECE = 2**16
_keys: dict[str, set[str]] = {}
"""Objects of each bucket. Servers of one process share them, as moto keeps them by process."""


@dataclass
class S3Fault:
    """What goes wrong with some requests.

    Attributes:
        part: Text in the path and query of the requests that it concerns.
        times: Number of requests that it concerns.
        status: Answer with this status instead, such as `503 SlowDown`.
        cut: Close the connection after this number of bytes of the body.
        lies: Send other bytes, as many as there are.
        seconds: Wait for so long before each 64 KiB of the body.
        ignores_range: Send the whole object whatever is asked for.
        headers: Headers to add.
        before: Called before the request is answered.
    """

    part: str = ""
    times: int = 10**9
    status: str = ""
    cut: int | None = None
    lies: bool = False
    seconds: float = 0.0
    ignores_range: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None


class FaultyS3:
    """WSGI application around moto's.

    Attributes:
        faults: What goes wrong; the first that concerns a request counts.
        requests: Path and query of each request.
        ranges: Range of each request of an object, empty for a whole one, by path.
        served: Bytes of bodies of objects by path.
    """

    def __init__(self, application: Any) -> None:
        self._application, self._lock = application, threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget faults and requests."""
        self.faults: list[S3Fault] = []
        self.requests: list[str] = []
        self.ranges: dict[str, list[str]] = {}
        self.served: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD") or path.startswith("/moto-api"):
            return self._application(environ, start_response)
        with self._lock:
            self.requests.append(f"{path}?{query}")
            fault = next((f for f in self.faults if f.times > 0 and f.part in f"{path}?{query}"), S3Fault())
            fault.times -= 1
            if path.count("/") > 2:
                self.ranges.setdefault(path, []).append(environ.get("HTTP_RANGE", ""))
        if fault.before:
            fault.before()
        if fault.status:
            return _refusal(fault.status, start_response)
        if fault.ignores_range:
            environ.pop("HTTP_RANGE", None)
        answer: dict[str, Any] = {}
        body = b"".join(self._application(environ, lambda status, headers, *_: answer.update(s=status, h=headers)))
        start_response(answer["s"], [*answer["h"], *fault.headers.items()])
        return self._body(path, body, fault)

    def _body(self, path: str, body: bytes, fault: S3Fault) -> Iterator[bytes]:
        sent = bytes(255 - byte for byte in body) if fault.lies else body
        sent = sent if fault.cut is None else sent[: fault.cut]
        for start in range(0, len(sent), _PIECE):
            if fault.seconds:
                time.sleep(fault.seconds)
            piece = sent[start : start + _PIECE]
            with self._lock:
                self.served[path] += len(piece)
            yield piece


def _refusal(status: str, start_response: Callable[..., Any]) -> list[bytes]:
    number, _, code = status.partition(" ")
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    start_response(f"{number} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


class S3Server:
    """Running server; its objects are put and deleted by these methods alone.

    Attributes:
        url: Its endpoint.
        faulty: Its middleware.
    """

    def __init__(self, url: str, faulty: FaultyS3) -> None:
        import boto3
        from botocore.config import Config

        self.url, self.faulty = url, faulty
        self._client = boto3.client(
            "s3", endpoint_url=url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test",
            config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip

    def make_bucket(self, bucket: str) -> None:
        """Make an empty bucket; empty it if it is there."""
        if bucket not in _keys:
            self._client.create_bucket(Bucket=bucket)
            _keys[bucket] = set()
        for key in list(_keys[bucket]):
            self.delete(bucket, key)

    def put(self, bucket: str, key: str, content: bytes) -> str:
        """Put an object in one part; return its ETag, the MD5 of the content."""
        _keys[bucket].add(key)
        answer = self._client.put_object(Bucket=bucket, Key=key, Body=content, ACL="public-read")
        etag = str(answer["ETag"]).strip('"')
        assert etag == md5(content).hexdigest()
        return etag

    def put_in_parts(self, bucket: str, key: str, parts: list[bytes]) -> str:
        """Put an object in parts, each of at least 5 MiB but the last; return its ETag."""
        where = {"Bucket": bucket, "Key": key}
        _keys[bucket].add(key)
        upload = self._client.create_multipart_upload(**where, ACL="public-read")["UploadId"]
        tags = []
        for number, part in enumerate(parts, 1):
            answer = self._client.upload_part(**where, UploadId=upload, PartNumber=number, Body=part)
            tags.append({"PartNumber": number, "ETag": answer["ETag"]})
        done = self._client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": tags})
        return str(done["ETag"]).strip('"')

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=bucket, Key=key)
        _keys[bucket].discard(key)


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """Run a server on a free port, until the end of the `with`."""
    from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    faulty = FaultyS3(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faulty, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield S3Server(f"http://127.0.0.1:{server.server_port}", faulty)
    finally:
        server.shutdown()
        server.server_close()
