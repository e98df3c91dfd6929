"""One command from an open archive to tables, on a local S3 server: killed twice, then without any network."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.archive import open_archive
from polarcast.data.fetch.networks import FMI, NEXRAD
from polarcast.data.notes import read_archive_note
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench.cells import SuiteFolder
from polarcast.hpc.bench.data import DataSpec, prepare_data
from polarcast.hpc.bench.fetched import FetchSpec, IngestSpec
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support import warm
from tests.support.cell_volumes import MovingCell, write_cell_volume, write_gauges
from tests.support.s3_server import S3Fault, S3Server, running_s3

pytestmark = pytest.mark.acceptance

STATION = "fiuta"
CELLS = (
    MovingCell(datetime(2024, 7, 1, 12)),
    MovingCell(datetime(2024, 7, 2, 15), 12.0, -10.0, east_km_min=-0.4, north_km_min=0.3, peak_mm_h=20.0),
)
VOLUMES, STEP_MINUTES = 7, 5
SUITE = """
task: qpe
data:
  fetch: {network: fmi, station: fiuta, start: 2024-07-01, end: 2024-07-03}
  ingest: {size: 48, heights: [1], rain: zh, step_minutes: 5}
  split: leave-one-out/1
models:
  z_r:
    {label: published, arms: [radar], set: {model: {name: power_law, coefficients: published}, data: {heights_km: [1]}}}
  fitted:
    {label: fitted, arms: [dualpol], set: {model: {name: power_law, coefficients: fitted}, data: {heights_km: [1]}}}
tables:
  main: {title: Main, metrics: [rmse, cc]}
"""


def key_of(time: datetime) -> str:
    return f"{time:%Y/%m/%d}/{STATION}/{time:%Y%m%d%H%M}_{STATION}_PVOL.h5"


def fill(s3: S3Server, folder: Path) -> None:
    """Put the volumes of both days into the bucket, and a damaged one and one that is refused after the first day's."""
    s3.make_bucket(FMI.bucket)
    for cell in CELLS:
        for number in range(VOLUMES):
            time = cell.start + timedelta(minutes=STEP_MINUTES * number)
            s3.put(FMI.bucket, key_of(time), write_cell_volume(folder / "volume.h5", cell, time, STATION).read_bytes())
    for number, content in ((VOLUMES, b"damaged" * 1000), (VOLUMES + 1, b"refused")):
        s3.put(FMI.bucket, key_of(CELLS[0].start + timedelta(minutes=STEP_MINUTES * number)), content)


@dataclass(frozen=True)
class Chain:
    """What the calls of the command left.

    Attributes:
        out: Folder of the suite.
        killed: Names of the volumes that were there when fetch was killed.
        asked: Paths of the objects that were asked for after that.
        record: `--json` of the call that finished.
        warnings: Lines on standard error of the call that was killed at ingest.
        again: `--json` of one more call.
        changed: Files of runs, shards and archive that it changed.
        connections: Connections that the last two calls tried to open.
    """

    out: Path
    killed: set[str]
    asked: set[str]
    record: dict[str, Any]
    warnings: str
    again: dict[str, Any]
    changed: list[str]
    connections: int

    @property
    def folder(self) -> SuiteFolder:
        return SuiteFolder(self.out, saved_suite(self.out).data)


def command(root: Path, url: str) -> tuple[list[str], dict[str, str]]:
    words = warm.polarcast("bench", root / "open.yaml", "--out", root / "out", "--workers", 1, "--json")
    return words, {**os.environ, "AWS_ENDPOINT_URL": url}


def killed_when(root: Path, url: str, is_time: Callable[[], bool]) -> str:
    """Start the command, and kill it at a time; return what it said."""
    words, env = command(root, url)
    with open(root / "said", "w+", encoding="utf-8") as said:
        with warm.Popen(words, stdout=said, stderr=said, env=env) as process:
            end = time.monotonic() + 300
            while not is_time():
                assert process.poll() is None, (root / "said").read_text(encoding="utf-8")
                assert time.monotonic() < end
                time.sleep(0.01)
            process.kill()
        return (root / "said").read_text(encoding="utf-8")


def finished(root: Path, url: str) -> dict[str, Any]:
    words, env = command(root, url)
    done = warm.run(words, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def stamps(out: Path) -> dict[str, int]:
    """Times of all files that are not made again from the records."""
    files = [path for name in ("cells", "raw", "data-*") for path in out.glob(f"{name}/**/*") if path.is_file()]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in files}


@contextmanager
def listening() -> Iterator[tuple[str, Callable[[], int]]]:
    """Listen at a free port; yield its URL and a function that counts the connections that were tried."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        server.setblocking(False)

        def count() -> int:
            found = 0
            with suppress(BlockingIOError):
                while True:
                    server.accept()[0].close()
                    found += 1
            return found

        yield f"http://127.0.0.1:{server.getsockname()[1]}", count


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Kill the command in fetch, and again in ingest; stop the server, let it finish, and call it once more."""
    root = tmp_path_factory.mktemp("chain")
    out = root / "out"
    (root / "open.yaml").write_text(SUITE, encoding="utf-8")
    refused = S3Fault(
        key_of(CELLS[0].start + timedelta(minutes=STEP_MINUTES * (VOLUMES + 1))), status="403 AccessDenied"
    )

    def names() -> set[str]:
        return {path.name for path in out.glob(f"raw/{STATION}/*.h5")}

    with running_s3() as s3:
        fill(s3, root)
        s3.faulty.faults = [refused, S3Fault("_PVOL.h5", seconds=0.05)]
        killed_when(root, s3.url, lambda: len(names()) >= 3)
        killed = names()
        s3.faulty.reset()
        s3.faulty.faults = [refused]
        warnings = killed_when(root, s3.url, lambda: any(out.glob("data-*/archive/.ingest/*.npz")))
        asked = {Path(path).name for path in s3.faulty.ranges}
    with listening() as (url, heard):
        record = finished(root, url)
        before = stamps(out)
        again = finished(root, url)
        changed = [name for name, stamp in stamps(out).items() if before.get(name) != stamp]
        connections = heard()
    return Chain(out, killed, asked, record, warnings, again, changed, connections)


def test_a_kill_in_fetch_loses_no_volume(chain: Chain) -> None:
    assert 3 <= len(chain.killed) < 2 * VOLUMES
    assert not chain.killed & chain.asked
    assert len(list(chain.out.glob(f"raw/{STATION}/*.h5"))) == 2 * VOLUMES + 1


def test_no_network_is_needed_once_the_volumes_are_there(chain: Chain) -> None:
    assert chain.connections == 0


def test_finished_stages_are_not_run_again(chain: Chain) -> None:
    assert chain.changed == []
    assert chain.again["tables"] == chain.record["tables"]


def test_single_failures_are_lines(chain: Chain) -> None:
    refused = [line for line in chain.warnings.splitlines() if line.startswith("polarcast: not fetched: ")]
    assert len(refused) == 1
    assert key_of(CELLS[0].start + timedelta(minutes=STEP_MINUTES * (VOLUMES + 1))) in refused[0]


def test_the_archive_has_one_event_a_day_with_the_known_rain(chain: Chain) -> None:
    archive = open_archive(chain.folder.archive)
    assert [len(frames) for frames in archive.frames.values()] == [VOLUMES, VOLUMES]
    row, column = np.mgrid[:48, :48]
    for (event, frames), cell in zip(archive.frames.items(), CELLS, strict=True):
        for frame in frames:
            time = cell.start + timedelta(minutes=STEP_MINUTES * frame)
            known = cell.rain(time, column - 24.0, 24.0 - row)
            heavy = known > 2
            got = archive.read_rain(event, frame)
            assert np.corrcoef(got[heavy], known[heavy])[0, 1] > 0.99
            assert abs(got[heavy].sum() / known[heavy].sum() - 1) < 0.05


def test_what_was_fetched_is_told(chain: Chain) -> None:
    manifest = read_manifest(chain.folder.shards)
    told = manifest.provenance["fetched"]
    assert {key: told[key] for key in ("network", "station", "volumes", "not_fetched")} == {
        "network": "fmi", "station": STATION, "volumes": 2 * VOLUMES + 1, "not_fetched": 1,
    }  # fmt: skip
    assert told["period"] == "2024-07-01 00:00 to 2024-07-03 00:00 UTC"
    assert manifest.count_groups((0, 1)) == 2
    of_runs = [json.loads(path.read_text("utf-8")) for path in chain.out.glob("cells/*/provenance.json")]
    assert len(of_runs) == 2
    assert all(one["data"]["archive"]["fetched"] == told for one in of_runs)


def test_the_tables_have_finite_scores(chain: Chain) -> None:
    rows = chain.record["tables"]["main"]["records"]
    assert {(row["model"], row["arm"]) for row in rows if not row.get("versus")} >= {
        ("z_r", "radar"),
        ("fitted", "dualpol"),
    }
    assert rows
    assert all(np.isfinite(row["value"]) for row in rows)
    assert list((chain.out / "tables").glob("main.*"))


def test_gauges_agree_with_the_known_rain(chain: Chain, tmp_path: Path) -> None:
    places = [(-10.0, 8.0), (-6.0, 6.0), (-2.0, 5.0), (3.0, 5.0), (9.0, -8.0), (4.0, -6.0), (0.0, -2.0), (12.0, -9.0)]
    gauges = write_gauges(tmp_path / "gauges.csv", CELLS, places, minutes=10, intervals=3)
    words = warm.polarcast("evaluate", chain.out, "--archive", chain.folder.archive, "--gauges", gauges, "--json")
    done = warm.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    [result] = json.loads(done.stdout)["results"]
    assert result["pairs"] == 2 * 3 * len(places)
    scores = {name: of["pixel"] for name, of in result["scores"].items()}
    assert {"published, radar", "fitted, dualpol"} < scores.keys()
    for name in ("published, radar", "fitted, dualpol"):
        assert abs(scores[name]["bias"]["value"] - 1) < 0.15, (name, scores[name])
        assert scores[name]["cc"]["value"] > 0.95


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with running_s3() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


@pytest.mark.real_data
def test_a_real_volume_from_bucket_to_shards(s3: S3Server, shared_data: Path, tmp_path: Path) -> None:
    volume = shared_data / "dualpol_volume" / "KLBB20160601_150025_V06"
    if not volume.is_file():
        pytest.skip(f"no real volume: {volume} is absent")
    s3.make_bucket(NEXRAD.bucket)
    s3.put(NEXRAD.bucket, f"2016/06/01/KLBB/{volume.name}", volume.read_bytes())
    spec = DataSpec(
        fetch=FetchSpec("nexrad", "klbb", "2016-06-01T15:00", "2016-06-01T16:00"),
        ingest=IngestSpec(size=64, spacing_km=2.0, heights=[3.0]), split="all-test",
    )  # fmt: skip
    folder, console = SuiteFolder(tmp_path / "out", spec), stderr()
    console.quiet = True
    manifest = prepare_data(spec, folder.archive, folder.shards, 1, ProgressBoard(console), folder.raw)
    assert (tmp_path / "out" / "raw" / "KLBB" / volume.name).read_bytes() == volume.read_bytes()
    assert (manifest.variables, manifest.heights_km, manifest.shape) == (("zh", "zdr", "kdp"), (3.0,), (64, 64))
    assert manifest.splits["test"] == (0,)
    assert manifest.provenance["fetched"]["volumes"] == 1
    assert "fetched" in read_archive_note(folder.archive)
