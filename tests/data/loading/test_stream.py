"""Streaming of shards from any location: retries after failures, and warnings about stalls."""

import logging
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.data.loading import stream as module
from polarcast.data.loading.reader import Reader, open_reader
from polarcast.data.shards import fetch
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.source import ShardSource
from tests.support.marked_shards import all_to_train, marked_shards, samples_of

SHORT_PAUSE = Patience(retries=2, first_pause_seconds=0.01, stall_seconds=60)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Three shards of one event each."""
    return marked_shards(tmp_path_factory.mktemp("local"), (4, 3, 5))


def streamed(location: str, patience: Patience = SHORT_PAUSE) -> Reader:
    manifest = all_to_train(read_manifest(location))
    return open_reader(manifest, "train", variables=("zh",), heights_km=(3.0,), patience=patience)


@pytest.fixture
def server(local: Manifest) -> Iterator[str]:
    """URL of an HTTP server of the shards."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(local.folder))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def same(one: Reader, other: Reader) -> bool:
    a, b = (reader.read(range(len(reader))) for reader in (one, other))
    return torch.equal(a.radar, b.radar) and torch.equal(a.rain_rate, b.rain_rate) and samples_of(a) == samples_of(b)


def test_streams_and_files_give_equal_batches(local: Manifest, server: str) -> None:
    files = open_reader(local, "train", variables=("zh",), heights_km=(3.0,))
    for location in (str(local.folder), f"file:{local.folder}", f"pipe:cat {local.folder}/{{name}}", server):
        assert same(streamed(location), files), location


def test_a_flaky_source_is_retried(local: Manifest, tmp_path: Path) -> None:
    script = tmp_path / "flaky.sh"
    script.write_text(
        f"""
        case $1 in manifest.json) cat {local.folder}/$1; exit;; esac
        echo x >> {tmp_path}/$1.tries
        case $(wc -l < {tmp_path}/$1.tries) in
            1) exit 7;;
            2) head -c 2000 {local.folder}/$1;;
            *) cat {local.folder}/$1;;
        esac
        """
    )
    reader = streamed(f"pipe:sh {script} {{name}}")
    assert len(samples_of(reader.read(range(len(reader))))) == 12
    assert {len(p.read_text().split()) for p in tmp_path.glob("*.tries")} == {3}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("false", "exit 1"),
        ("head -c 3000 {folder}/{{name}}", r"3000 bytes, expected \d+ from the manifest"),
        ("cat {folder}/{{name}} {folder}/{{name}}", r"bytes, expected \d+ from the manifest"),
        ("tr a b < {folder}/{{name}}", "SHA-256 differs"),
    ],
)
def test_error_for_a_failing_source_names_the_shard_and_the_reason(local: Manifest, command: str, message: str) -> None:
    broken = f"test {{name}} = manifest.json && cat {local.folder}/{{name}} || " + command.format(folder=local.folder)
    reader = streamed(f"pipe:{broken}")
    with pytest.raises(BadInput, match=message) as error:
        reader.read([0])
    assert "shard-000000.tar" in str(error.value)
    assert "3 attempts" in str(error.value)


def test_a_stalled_source_is_reported_and_retried(
    local: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetch, "_WARN_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(fetch, "_POLL_SECONDS", 0.05)
    first = tmp_path / "tried"
    script = tmp_path / "stalling.sh"
    script.write_text(
        f"if [ $1 != manifest.json ] && mkdir {first} 2>/dev/null; then sleep 300; fi; cat {local.folder}/$1"
    )
    reader = streamed(f"pipe:sh {script} {{name}}", Patience(retries=1, first_pause_seconds=0.01, stall_seconds=0.6))
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "polarcast"):
        assert samples_of(reader.read([0, 1])) == [(0, 0), (0, 1)]
    assert time.monotonic() - started < 60
    assert [("waiting" in m, "again" in m) for m in caplog.messages] == [(True, False), (False, True)]
    assert all("shard-000000.tar" in message for message in caplog.messages)


def test_shards_that_are_not_expected_are_dropped(local: Manifest) -> None:
    reader = streamed(str(local.folder))
    frames = reader.frames
    assert isinstance(frames, module.StreamedFrames)
    frames.expect({0, 1})
    reader.read([0, 5])
    assert set(frames._loads) == {0, 1}
    frames.expect({2})
    assert set(frames._loads) == {2}
    assert samples_of(reader.read([0, 11])) == [(0, 0), (2, 4)]


def test_only_the_requested_fields_of_the_split_are_kept(shards: Manifest) -> None:
    reader = open_reader(shards, "test", variables=("zdr",), heights_km=(3.0,), patience=SHORT_PAUSE)
    reader.read(range(len(reader)))
    frames = reader.frames
    assert isinstance(frames, module.StreamedFrames)
    kept = [v for load in frames._loads.values() for v in load.values.result().values()]
    assert sum(v.nbytes for v in kept) <= len(reader) * 2 * 32 * 32 * 2  # zdr at one height, and the rain
    assert all(isinstance(v, np.ndarray) for v in kept)


def test_a_url_source_has_file_urls_but_no_local_folder() -> None:
    assert ShardSource("https://host/x").url("a.tar") == "https://host/x/a.tar"
    assert ShardSource("pipe:aws s3 cp s3://b/{name} -").url("a.tar") == "pipe:aws s3 cp s3://b/a.tar -"
    with pytest.raises(BadInput, match=r"data\.reader=stream"):
        ShardSource("https://host/x").folder  # noqa: B018 — a property that raises
