"""Suites whose data are fetched: what they may say, what is checked before anything is made, and where data lie."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput, WorkFailed
from polarcast.data.fetch.networks import FMI
from polarcast.data.fetch.plan import FetchPlan
from polarcast.data.fetch.run import FetchReport
from polarcast.data.files import write_json
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.hpc.bench import fetched
from polarcast.hpc.bench.cells import SuiteFolder, cells_of, check_cells
from polarcast.hpc.bench.checks import check_data
from polarcast.hpc.bench.data import DataSpec, SynthSpec
from polarcast.hpc.bench.fetched import FetchSpec, IngestSpec, check_fetch, expected_volumes
from polarcast.hpc.bench.suite import Suite, load_suite
from polarcast.sweeps.space import load_space
from tests.support.s3_server import S3Fault, S3Server

Command = Callable[..., tuple[int, str, str]]

FETCH = FetchSpec("fmi", "fiuta", "2024-07-01", "2024-07-03")
MODELS = (
    "models: {z_r: {label: Z-R, set: {model: {name: power_law}, data: {heights_km: [1.0]}}}}\ntables: {t: {title: T}}\n"
)
BOTH = "data: {fetch: {network: fmi, station: fiuta, start: 2024-07-01, end: 2024-07-03}, ingest: {size: 32}}\n"


def suite_file(folder: Path, data: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(data + MODELS, encoding="utf-8")
    return str(folder / name)


def test_a_suite_says_what_to_fetch(tmp_path: Path) -> None:
    data = load_suite(suite_file(tmp_path, BOTH)).data
    assert (data.fetch, data.ingest) == (FETCH, IngestSpec(size=32))
    assert not data.is_synthetic


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("fetch: {FETCH}, synth: {events: 3}", "fetch and synth exclude each other"),
        ("archive: storms, fetch: {FETCH}", "archive and fetch exclude each other"),
        ("archive: storms, synth: {events: 3}", "archive and synth exclude each other"),
        ("ingest: {size: 32}", "ingest needs fetch"),
        ("archive: storms, ingest: {size: 32}", "ingest needs fetch"),
        ("fetch: {network: fmi}", "data.fetch.station"),
        ("fetch: {FETCH, station_id: 3}", "station_id"),
    ],
)
def test_data_have_one_source(tmp_path: Path, data: str, message: str) -> None:
    text = data.replace("FETCH", "network: fmi, station: fiuta, start: 2024-07-01, end: 2024-07-03")
    with pytest.raises(BadInput, match=message):
        load_suite(suite_file(tmp_path, f"data: {{{text}}}\n"))


def test_a_space_has_one_source(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("data: {archive: storms, synth: {events: 3}}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="archive and synth exclude each other"):
        load_space(str(tmp_path / "s.yaml"))


def test_the_file_of_a_suite_can_be_run_again(tmp_path: Path) -> None:
    """It has all keys, also those of sources that were not used."""
    suite = load_suite(suite_file(tmp_path, BOTH))
    real = replace(suite, data=DataSpec(archive="storms", synth=SynthSpec(events=3)))
    for one in (suite, real):
        (tmp_path / SUITE_FILE).write_text(OmegaConf.to_yaml(OmegaConf.structured(one)), encoding="utf-8")
        for is_stored in (False, True):
            data = load_suite(str(tmp_path / SUITE_FILE), is_stored).data
            assert data == one.data
            assert SuiteFolder(tmp_path, data).shards == SuiteFolder(tmp_path, one.data).shards


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"network": "nexrat"}, "data.fetch.network: unknown network 'nexrat' — did you mean nexrad"),
        ({"station": "KLBB"}, "data.fetch.station: no station of FMI"),
        ({"start": "yesterday"}, "data.fetch.start: not a date or time: 'yesterday'"),
        ({"end": "2024-07-01"}, "data.fetch.end: the period is empty"),
        ({"storms": -1}, "data.fetch.storms: -1 is out of range — give 0 to 1000"),
        ({"hours": 0}, "data.fetch.hours: 0 is out of range — give 1 to 48"),
        ({"every": 0}, "data.fetch.every: 0 is out of range — give 1 to 1000"),
    ],
)
def test_what_is_fetched_is_checked_before(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_data(DataSpec(fetch=replace(FETCH, **wrong)), tmp_path / "shards")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 4}, "data.ingest: size = 4"),
        ({"spacing_km": 0.0}, "data.ingest: spacing_km = 0.0"),
        ({"variables": ["zdr"]}, "data.ingest.variables: zh is not the first variable"),
        ({"heights": []}, "data.ingest.heights: heights"),
        ({"kdp": "magic"}, "data.ingest.kdp: "),
        ({"band": "Q"}, "data.ingest.band: unknown band 'Q'"),
        ({"z_r": [200.0]}, "data.ingest.z_r: no a and b"),
    ],
)
def test_how_it_is_ingested_is_checked_before(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_data(DataSpec(fetch=FETCH, ingest=replace(IngestSpec(), **wrong)), tmp_path / "shards")  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", ["s3fs", "xradar"])
def test_the_extras_are_needed(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(fetched, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(BadInput, match=rf"{missing} is not installed — .*polarcast\[fetch,ingest\]"):
        check_fetch(FETCH, IngestSpec())


def test_runs_are_checked_on_the_grid_that_will_be(tmp_path: Path) -> None:
    suite = load_suite(suite_file(tmp_path, BOTH.replace("size: 32", "size: 32, heights: [2]")))
    shards = SuiteFolder(tmp_path, suite.data).shards
    with pytest.raises(BadInput, match=r"the data have no height 1 km — choose from: 2"):
        check_cells(suite, cells_of(suite, shards), check_data(suite.data, shards))


def test_too_few_storms_for_the_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data.split: no event left"):
        check_data(DataSpec(fetch=replace(FETCH, storms=2)), tmp_path / "shards")
    assert check_data(DataSpec(fetch=replace(FETCH, storms=3)), tmp_path / "shards").splits["test"]


def test_data_that_are_not_fetched_lie_where_they_did(tmp_path: Path) -> None:
    """Suites of earlier versions find their shards: settings that those did not have change no folder."""
    synth = {"events": 240, "frames": None, "size": 256, "preset": "meiyu", "seed": 0}
    for archive in (None, "/data/storms"):
        before = {"archive": archive, "synth": synth, "split": "0.6/0.15/0.25"}
        key = hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()[:8]
        assert SuiteFolder(tmp_path, DataSpec(archive=archive)).archive == tmp_path / f"data-{key}" / "archive"


def test_archives_of_other_settings_share_the_volumes(tmp_path: Path) -> None:
    folders = [SuiteFolder(tmp_path, DataSpec(fetch=FETCH, ingest=IngestSpec(size=size))) for size in (32, 64)]
    assert folders[0].archive != folders[1].archive
    assert folders[0].raw == folders[1].raw == tmp_path / "raw"


def test_the_time_left_knows_windows_and_every(tmp_path: Path) -> None:
    assert expected_volumes(FETCH) == 48 * 12
    assert expected_volumes(replace(FETCH, storms=20, hours=3)) == 20 * 3 * 12
    assert expected_volumes(replace(FETCH, every=4)) == 48 * 3


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A bucket with six damaged volumes; the command finds it by the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    s3_server.make_bucket(FMI.bucket)
    for name in NAMES:
        s3_server.put(FMI.bucket, f"2024/07/01/fiuta/{name}", name.encode() * 100)
    s3_server.faulty.reset()
    return s3_server


NAMES = [f"2024070112{minute:02d}_fiuta_PVOL.h5" for minute in range(0, 30, 5)]


def lines(said: str) -> list[str]:
    """Lines of errors and warnings, without those of the progress."""
    return [line for line in said.splitlines() if line.startswith("polarcast: ")]


def test_nothing_that_can_be_had_is_one_line(s3: S3Server, tmp_path: Path, polarcast_here: Command) -> None:
    s3.faulty.faults = [S3Fault("_PVOL.h5", status="403 AccessDenied")]
    code, _, said = polarcast_here("bench", suite_file(tmp_path, BOTH), "--out", tmp_path / "out")
    [line] = lines(said)
    assert (code, line.startswith("polarcast: data.fetch, fiuta: none of 6 volumes could be fetched: ")) == (2, True)
    assert not list((tmp_path / "out").glob("data-*"))


def test_a_call_that_gave_up_makes_no_archive_of_a_part(s3: S3Server, tmp_path: Path, polarcast_here: Command) -> None:
    for minute in range(40):  # so many that some are left when ten in a row were refused
        s3.put(FMI.bucket, f"2024/07/01/fiuta/2024070113{minute:02d}_fiuta_PVOL.h5", b"later" * (minute + 1))
    first = tmp_path / "out" / "raw" / "fiuta" / NAMES[0]

    def wait_for_the_first() -> None:
        while not first.exists():
            time.sleep(0.01)
        time.sleep(0.05)

    refused = S3Fault("_PVOL.h5", status="403 AccessDenied", before=wait_for_the_first)
    s3.faulty.faults = [S3Fault(NAMES[0]), refused]
    code, _, said = polarcast_here("bench", suite_file(tmp_path, BOTH), "--out", tmp_path / "out")
    [line] = lines(said)
    assert (code, "volumes were not tried, because too many failed in a row" in line) == (1, True)
    assert not list((tmp_path / "out").glob("data-*"))
    assert list(first.parent.glob("*.h5")) == [first]


def test_volumes_lost_by_the_network_make_no_archive_of_a_part() -> None:
    plan = FetchPlan((), 0, 0)
    settings = fetched._settings_of(FETCH)
    lost = FetchReport(plan, fetched=["a"], failed={"b": "the connection broke", "c": "no such object"}, lost=1)
    with pytest.raises(WorkFailed, match="1 volumes were lost by the network or server"):
        fetched._check_fetched(lost, settings)
    fetched._check_fetched(replace(lost, lost=0), settings)  # what the bucket lacks is a warning


def test_a_record_names_files_in_the_folder_of_the_volumes_only(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("fiuta/a.h5", "b.h5"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_bytes(b"x")
    archive = tmp_path / "data" / "archive"
    archive.mkdir(parents=True)
    cases = (["fiuta/a.h5"], True), (["fiuta/../b.h5"], False), (["../raw/b.h5"], False), ([str(raw / "b.h5")], False)
    for files, is_known in cases:
        write_json(archive.parent / fetched.RECORD, {"files": files, "volumes": 1})
        assert bool(fetched._known_record(archive, raw)) is is_known
    write_json(archive.parent / fetched.RECORD, {"files": ["fiuta/a.h5"], "volumes": 2})
    assert fetched._known_record(archive, raw) == {}


def test_volumes_that_can_not_be_used_are_one_line(s3: S3Server, tmp_path: Path, polarcast_here: Command) -> None:
    """Fetch is finished then, and is not run again, unless the volumes were deleted since."""

    def call() -> tuple[int, str, int]:
        s3.faulty.requests.clear()
        code, _, said = polarcast_here("bench", suite_file(tmp_path, BOTH), "--out", tmp_path / "out")
        [line] = lines(said)
        return code, line, len(s3.faulty.requests)

    for requests in (8, 0):
        code, line, count = call()
        assert (code, "none of 6 volumes could be used: " in line, count) == (2, True, requests)
    shutil.rmtree(tmp_path / "out" / "raw")
    s3.faulty.faults = [S3Fault("_PVOL.h5", status="403 AccessDenied")]
    code, line, count = call()
    assert (code, "none of 6 volumes could be fetched: " in line, count) == (2, True, 8)


def test_an_archive_of_ones_own_replaces_what_is_fetched(
    archive: Archive, tmp_path: Path, polarcast_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(suite: Suite, folder: SuiteFolder, *_: object) -> None:
        assert suite.data == DataSpec(archive=str(archive.root))
        assert folder.archive == SuiteFolder(folder.path, suite.data).archive
        raise BadInput("stopped")

    monkeypatch.setattr("polarcast.hpc.bench.run.run_suite", stop)
    words = ("--archive", archive.root, "--out", tmp_path / "out")
    assert polarcast_here("bench", suite_file(tmp_path, BOTH), *words) == (2, "", "polarcast: stopped\n")
