"""One S3 server for all tests of a process; each test begins with an empty bucket and no faults."""

from collections.abc import Callable, Iterator

import pytest

from polarcast.data.fetch.networks import FMI, NEXRAD, RadarNetwork
from polarcast.data.fetch.store import ObjectStore, RequestPatience
from tests.support.s3_server import S3Server

QUICK = RequestPatience(tries=4, tries_unreachable=2, first_s=0.01, longest_s=0.05, timeout_s=2.0)
Open = Callable[..., ObjectStore]


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    s3_server.faulty.reset()
    for network in (NEXRAD, FMI):
        s3_server.make_bucket(network.bucket)
    s3_server.faulty.reset()
    return s3_server


@pytest.fixture
def opened(s3: S3Server) -> Iterator[Open]:
    """Return a function that opens a bucket of the server; all are halted at the end."""
    stores: list[ObjectStore] = []

    def open_one(network: RadarNetwork = NEXRAD, **more: object) -> ObjectStore:
        settings = {"endpoint": s3.url, "patience": QUICK, **more}
        stores.append(ObjectStore(network.bucket, network.region, **settings))  # type: ignore[arg-type]
        return stores[-1]

    yield open_one
    for store in stores:
        store.halt()
