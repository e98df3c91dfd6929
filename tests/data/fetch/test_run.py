"""Whole calls: what is there is skipped, what fails is told, what is killed is resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.fetch.manifest import FetchManifest
from polarcast.data.fetch.networks import FMI, NEXRAD, RemoteFile, period_of
from polarcast.data.fetch.run import FetchSettings, fetch, preview
from polarcast.data.fetch.store import UNREACHABLE, Halted, ObjectStore, RequestFailed
from polarcast.data.fetch.transfer import part_of
from polarcast.data.files import sole_writer
from tests.data.fetch.conftest import QUICK
from tests.support.polar_files import Rays, write_odim_rays
from tests.support.s3_server import S3Fault, S3Server

NAMES = [f"KLBB20160601_12{minute:02d}00_V06" for minute in range(0, 30, 6)]
# Tests that run in the background inherit an ignored SIGINT.
_START = (
    "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('polarcast.hpc.cli', run_name='__main__')"
)


def key_of(name: str) -> str:
    return f"2016/06/01/KLBB/{name}"


def content_of(name: str) -> bytes:
    return sha256(name.encode()).digest() * 3000


@pytest.fixture
def settings(s3: S3Server) -> FetchSettings:
    """Settings for a bucket with five volumes."""
    for name in NAMES:
        s3.put(NEXRAD.bucket, key_of(name), content_of(name))
    s3.faulty.reset()
    return FetchSettings(NEXRAD, "KLBB", period_of("2016-06-01", "2016-06-02"), endpoint=s3.url, patience=QUICK)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "raw"


def volumes(out: Path) -> list[str]:
    """Names of all files of the station's folder, hidden ones too."""
    return sorted(path.name for path in (out / "KLBB").iterdir())


def served(s3: S3Server) -> int:
    """Bytes of objects that were sent, without listings."""
    return sum(count for path, count in s3.faulty.served.items() if path.count("/") > 2)


def test_all_volumes_come_and_are_recorded(settings: FetchSettings, out: Path) -> None:
    stages: list[tuple[str, int, int]] = []
    report = fetch(out, settings, lambda stage, done, total, _: stages.append((stage, done, total)))
    assert volumes(out) == NAMES
    assert report.fetched == sorted(report.fetched, key=report.fetched.index)
    assert sorted(report.fetched) == [key_of(name) for name in NAMES]
    assert (report.known, report.failed, dict(report.checked)) == ([], {}, {"md5": 5})
    assert report.received == report.plan.total_bytes == sum(len(content_of(name)) for name in NAMES)
    noted = json.loads((out / "fetched.json").read_text(encoding="utf-8"))
    assert sorted(noted["files"]) == [f"KLBB/{name}" for name in NAMES]
    for name in NAMES:
        assert (out / "KLBB" / name).read_bytes() == content_of(name)
        assert noted["files"][f"KLBB/{name}"]["sha256"] == sha256(content_of(name)).hexdigest()
        assert noted["files"][f"KLBB/{name}"]["key"] == key_of(name)
    assert (stages[0][0], stages[-1]) == ("days listed", ("files", 5, 5))


def test_the_folder_is_one_that_ingest_takes(settings: FetchSettings, out: Path) -> None:
    from polarcast.data.ingest.run import files_of

    fetch(out, settings)
    assert files_of([out / "KLBB"]) == [out / "KLBB" / name for name in NAMES]


def test_a_second_call_skips_what_is_intact(settings: FetchSettings, out: Path, s3: S3Server) -> None:
    fetch(out, settings)
    before, record = served(s3), (out / "fetched.json").stat().st_mtime_ns
    report = fetch(out, settings)
    assert sorted(report.known) == [key_of(name) for name in NAMES]
    assert (report.fetched, served(s3)) == ([], before)
    assert (out / "fetched.json").stat().st_mtime_ns == record


def test_new_volumes_are_added(settings: FetchSettings, out: Path, s3: S3Server) -> None:
    fetch(out, replace(settings, every=2))
    assert volumes(out) == NAMES[::2]
    report = fetch(out, settings)
    assert sorted(report.fetched) == [key_of(name) for name in NAMES[1::2]]
    assert len(FetchManifest(out).files) == 5


def test_a_volume_that_changed_in_the_bucket_is_told(settings: FetchSettings, out: Path, s3: S3Server) -> None:
    fetch(out, settings)
    s3.put(NEXRAD.bucket, key_of(NAMES[1]), b"complete by now")
    report = fetch(out, settings)
    assert report.changed == report.fetched == [key_of(NAMES[1])]
    assert (out / "KLBB" / NAMES[1]).read_bytes() == b"complete by now"
    assert FetchManifest(out).files[f"KLBB/{NAMES[1]}"].size == len(b"complete by now")


def test_a_volume_that_changes_after_the_listing_is_told(settings: FetchSettings, out: Path, s3: S3Server) -> None:
    changed = [S3Fault(NAMES[2], times=1, before=lambda: s3.put(NEXRAD.bucket, key_of(NAMES[2]), b"newer") and None)]
    s3.faulty.faults = changed
    report = fetch(out, settings)
    assert report.changed == [key_of(NAMES[2])]
    assert (out / "KLBB" / NAMES[2]).read_bytes() == b"newer"


@pytest.mark.parametrize("content", [b"", b"\0" * 96_000, b"longer" * 30_000], ids=["empty", "same size", "longer"])
def test_a_file_that_is_no_longer_as_it_came_is_repaired(settings: FetchSettings, out: Path, content: bytes) -> None:
    fetch(out, settings)
    (out / "KLBB" / NAMES[3]).write_bytes(content)
    report = fetch(out, settings)
    assert report.repaired == report.fetched == [key_of(NAMES[3])]
    assert (out / "KLBB" / NAMES[3]).read_bytes() == content_of(NAMES[3])


def test_files_that_others_put_there_are_kept(settings: FetchSettings, out: Path) -> None:
    (out / "KLBB").mkdir(parents=True)
    (out / "KLBB" / NAMES[0]).write_bytes(content_of(NAMES[0]))
    (out / "KLBB" / NAMES[1]).write_bytes(b"mine")
    (out / "KLBB" / NAMES[2]).mkdir()
    report = fetch(out, settings)
    assert report.known == [key_of(NAMES[0])]
    assert set(report.failed) == {key_of(NAMES[1]), key_of(NAMES[2])}
    assert report.failed[key_of(NAMES[1])] == "a file of other content has its name — move it away"
    assert (out / "KLBB" / NAMES[1]).read_bytes() == b"mine"
    assert sorted(FetchManifest(out).files) == [f"KLBB/{NAMES[n]}" for n in (0, 3, 4)]


def test_a_damaged_record_is_made_again(settings: FetchSettings, out: Path, s3: S3Server) -> None:
    fetch(out, settings)
    before = served(s3)
    for text in ("{", "[]", '{"files": 3}', '{"files": {"KLBB/x": {"key": 1}}}'):
        (out / "fetched.json").write_text(text, encoding="utf-8")
        assert len(fetch(out, settings).known) == 5
        assert len(FetchManifest(out).files) == 5
    assert served(s3) == before


def test_what_fails_does_not_affect_the_others(settings: FetchSettings, out: Path, s3: S3Server) -> None:
    s3.faulty.faults = [
        S3Fault(NAMES[0], status="403 AccessDenied"), S3Fault(NAMES[1], status="503 SlowDown"),
        S3Fault(NAMES[2], lies=True), S3Fault(NAMES[3], times=1, cut=1000),
    ]  # fmt: skip
    report = fetch(out, settings)
    assert report.failed == {
        key_of(NAMES[0]): "access is denied (403)",
        key_of(NAMES[1]): "the server is busy (503 SlowDown)",
        key_of(NAMES[2]): "the bytes that came are not those of the bucket's checksum",
    }
    assert volumes(out) == NAMES[3:]
    assert report.retries >= 4
    s3.faulty.faults = []
    assert len(fetch(out, settings).fetched) == 3
    assert volumes(out) == NAMES


def test_a_network_that_is_lost_ends_the_call(settings: FetchSettings, out: Path) -> None:
    tried = []

    def dead(store: ObjectStore, remote: RemoteFile, _: Path) -> None:
        tried.append(remote.name)
        if len(tried) > 3:
            assert store.halted.wait(20)
            raise Halted
        raise RequestFailed(UNREACHABLE, "no route")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.data.fetch.transfer._fetch", dead)
        report = fetch(out, replace(settings, workers=1))
    assert sorted(report.failed) == [key_of(name) for name in NAMES[:3]]
    assert report.not_tried == 2
    assert len(fetch(out, settings).fetched) == 5


def test_a_disk_that_is_too_small(settings: FetchSettings, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=100_000)
    monkeypatch.setattr("polarcast.data.fetch.plan.shutil.disk_usage", lambda _: usage)
    with pytest.raises(BadInput, match=r"0.5 MB are to be fetched, and 0.1 MB are free"):
        fetch(out, settings)
    assert not out.exists()


def test_a_second_process_is_refused(settings: FetchSettings, out: Path) -> None:
    with sole_writer(out), pytest.raises(BadInput, match="another process is working here"):
        fetch(out, settings)


def test_a_folder_that_is_a_file(settings: FetchSettings, out: Path) -> None:
    out.write_bytes(b"")
    with pytest.raises(BadInput, match="is not a folder"):
        fetch(out, settings)


def test_a_preview_writes_nothing(settings: FetchSettings, out: Path, s3: S3Server) -> None:
    report = preview(out, settings)
    assert not out.exists()
    assert (len(report.plan.files), report.plan.known) == (5, 0)
    assert report.plan.missing_bytes == report.plan.total_bytes == 5 * 96_000
    low, high = report.plan.seconds(4) or (0.0, 0.0)
    assert high == pytest.approx(4 * low)
    assert high > 0
    assert len(s3.faulty.ranges) == 1
    fetch(out, replace(settings, every=4))
    part_of(out / "KLBB" / NAMES[1], s3.put(NEXRAD.bucket, key_of(NAMES[1]), content_of(NAMES[1]))).write_bytes(b"ab")
    plan = preview(out, settings).plan
    assert (plan.known, plan.missing_bytes) == (2, 3 * 96_000 - 2)


def started(s3: S3Server, out: Path) -> "subprocess.Popen[str]":
    """Start the command line in a process of its own, and wait until one volume and a piece of the other came."""
    arguments = [
        "nexrad",
        "KLBB",
        "--from",
        "2016-06-01",
        "--to",
        "2016-06-02",
        "--out",
        str(out),
        "--endpoint",
        s3.url,
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", _START, "data", "fetch", *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if (out / "KLBB" / NAMES[0]).exists() and sum(part.stat().st_size for part in out.glob("KLBB/.*.part")):
            return process
        time.sleep(0.02)
    raise AssertionError(f"nothing came: {process.communicate()}")


@pytest.fixture
def slow(s3: S3Server, settings: FetchSettings) -> S3Server:
    """Two volumes of 4 MB, the second one slow."""
    for name in NAMES[2:]:
        s3.delete(NEXRAD.bucket, key_of(name))
    for name in NAMES[:2]:
        s3.put(NEXRAD.bucket, key_of(name), sha256(name.encode()).digest() * 2**17)
    s3.faulty.reset()
    s3.faulty.faults = [S3Fault(NAMES[1], seconds=0.1)]
    return s3


def test_a_killed_call_is_resumed_where_it_was(slow: S3Server, settings: FetchSettings, out: Path) -> None:
    process = started(slow, out)
    process.kill()
    process.wait()
    assert set(volumes(out)) > {NAMES[0]}
    assert not (out / "KLBB" / NAMES[1]).exists()
    (part,) = out.glob("KLBB/.*.part")
    there = part.stat().st_size
    time.sleep(0.3)  # the server sees the broken connection
    slow.faulty.reset()
    report = fetch(out, settings)
    assert volumes(out) == NAMES[:2]
    assert served(slow) == 2**22 - there
    assert slow.faulty.ranges == {f"/{NEXRAD.bucket}/{key_of(NAMES[1])}": [f"bytes={there}-"]}
    assert (report.known, report.fetched) == ([key_of(NAMES[0])], [key_of(NAMES[1])])
    assert (out / "KLBB" / NAMES[1]).read_bytes() == sha256(NAMES[1].encode()).digest() * 2**17
    assert len(FetchManifest(out).files) == 2


def test_an_interrupted_call_ends_at_once_with_one_line(slow: S3Server, settings: FetchSettings, out: Path) -> None:
    process = started(slow, out)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said.strip()) == (130, "polarcast: interrupted — run the same command to continue")
    assert [name for name in volumes(out) if not name.endswith(".part")] == [NAMES[0]]
    (part,) = out.glob("KLBB/.*.part")
    there = part.stat().st_size
    time.sleep(0.3)  # the server sees the broken connection
    slow.faulty.reset()
    fetch(out, settings)
    assert volumes(out) == NAMES[:2]
    assert served(slow) == 2**22 - there


def storm(path: Path, share: float) -> bytes:
    """A volume whose lowest sweep has 40 dBZ in a share of its rays."""
    codes = np.zeros((36, 24), np.uint8)
    codes[: round(36 * share)] = 144
    return write_odim_rays(path, [Rays(0.5, np.arange(5.0, 360, 10), codes)]).read_bytes()


def test_the_wettest_windows(s3: S3Server, out: Path, tmp_path: Path) -> None:
    """Four days; day 2 has the largest volumes without strong echo (insects), day 3 the storm, day 1 a damaged one."""
    dry, wet = storm(tmp_path / "dry.h5", 0), storm(tmp_path / "wet.h5", 0.5)
    of_day = {1: b"damaged" * 3000, 2: dry + bytes(30_000), 3: wet + bytes(20_000), 4: storm(tmp_path / "some.h5", 0.1)}
    for day, content in of_day.items():
        for minute in range(0, 60, 15):
            hour = 12 if day < 4 else 13
            name = f"202407{day:02d}{hour}{minute:02d}_fiuta_PVOL.h5"
            s3.put(FMI.bucket, f"2024/07/{day:02d}/fiuta/{name}", content + bytes([minute]))
    s3.faulty.reset()
    period = period_of("2024-07-01", "2024-07-05")
    settings = FetchSettings(FMI, "fiuta", period, storms=2, hours=1, workers=2, endpoint=s3.url, patience=QUICK)
    seen = preview(out, settings)
    assert [w.period.start.day for w in seen.storms if w.is_chosen] == [2, 3]
    assert not out.exists()
    report = fetch(out, settings)
    assert [w.period.start.day for w in report.storms] == [3, 4, 2, 1]
    assert [w.share for w in report.storms] == [pytest.approx(0.5, abs=0.02), pytest.approx(0.11, abs=0.02), 0.0, None]
    assert "not a radar volume" in report.storms[3].problem
    names = sorted(path.name[6:12] for path in (out / "fiuta").iterdir())
    assert names == ["031200", "031215", "031230", "031245", "041300", "041315", "041330", "041345"]
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == [
        "fetched.json",
        "fiuta",
        "storms.json",
    ]
    ranking = json.loads((out / "storms.json").read_text(encoding="utf-8"))["windows"]
    assert [(w["start"], w["chosen"]) for w in ranking][:2] == [
        ("2024-07-03T12:00Z", True), ("2024-07-04T13:00Z", True),
    ]  # fmt: skip
    before = served(s3)
    again = fetch(out, settings)
    assert len(again.known) == 8
    assert served(s3) - before == len(of_day[1]) + 1  # only what could not be read is looked at again


def test_the_reader_is_needed_for_storms(settings: FetchSettings, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polarcast.data.fetch.run.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="xradar is not installed — pip install"):
        fetch(out, replace(settings, storms=3))


def test_s3fs_is_needed(settings: FetchSettings, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(BadInput, match=r"s3fs is not installed — pip install 'polarcast\[fetch\]'"):
        fetch(out, settings)
    assert not os.path.lexists(out)
