"""`data fetch` on the command line, from a server on this machine, up to an archive."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from polarcast.data.fetch.networks import FMI, NEXRAD
from polarcast.data.fetch.store import RequestPatience
from tests.support.s3_server import S3Fault, S3Server

Call = Callable[..., tuple[int, str, str]]
DAY = ("--from", "2016-06-01", "--to", "2016-06-02")
OTHERS = "1 other objects of these days are not taken"
FIRST, SECOND = (f"2016/06/01/KLBB/KLBB20160601_12{minute}00_V06" for minute in ("00", "06"))


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A server with two volumes and a message, at AWS_ENDPOINT_URL; tries follow each other at once."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setattr(RequestPatience, "wait_s", lambda *_: 0.01)
    s3_server.faulty.reset()
    for network in (NEXRAD, FMI):
        s3_server.make_bucket(network.bucket)
    for key in (FIRST, SECOND, f"{FIRST}_MDM"):
        s3_server.put(NEXRAD.bucket, key, key.encode() * 1000)
    s3_server.faulty.reset()
    return s3_server


def test_what_is_needed_is_told_in_one_line(polarcast_here: Call) -> None:
    code, out, said = polarcast_here("data", "fetch", "nexrad")
    assert (code, out) == (2, "")
    assert said == (
        "polarcast: polarcast data fetch nexrad: STATION, --from, --to, --out are missing — give it as in: "
        "polarcast data fetch nexrad KLBB --from 2016-05-31T12 --to 2016-06-02 --out raw\n"
    )
    said = polarcast_here("data", "fetch", "fmi", "fiuta", "--from", "2024-07-01", "--out", "raw")[2]
    assert said.startswith("polarcast: polarcast data fetch fmi: --to is missing — give it as in:")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nexrd", "KLBB", *DAY), "NETWORK: unknown network 'nexrd' — did you mean nexrad?"),
        (("nexrad", "LBB", *DAY), "STATION: no station of NEXRAD level II: 'LBB' — give a code such as KLBB"),
        (("nexrad", "KLBB", "--from", "May", "--to", "2016-06-02"), "--from: not a date or time: 'May' — give UTC as"),
        (("nexrad", "KLBB", "--from", "2016-06-02", "--to", "2016-06-01"), "--to: the period is empty"),
        (("nexrad", "KLBB", *DAY, "--endpoint", "here"), "--endpoint: no URL of an S3 server: 'here'"),
    ],
    ids=["network", "station", "date", "order", "endpoint"],
)
def test_wrong_input_is_told_in_one_line(
    polarcast_here: Call, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    code, out, said = polarcast_here("data", "fetch", *arguments, "--out", tmp_path / "raw")
    assert (code, out) == (2, "")
    assert said.startswith(f"polarcast: {line}")
    assert said.count("\n") == 1
    assert not (tmp_path / "raw").exists()


def test_an_unreachable_network_is_one_line(s3: S3Server, polarcast_here: Call, tmp_path: Path) -> None:
    arguments = ("nexrad", "KLBB", *DAY, "--out", tmp_path / "raw", "--endpoint", "http://127.0.0.1:9")
    code, out, said = polarcast_here("data", "fetch", *arguments)
    assert (code, out) == (2, "")
    assert said.startswith("polarcast: unidata-nexrad-level2 at http://127.0.0.1:9: can't be reached (")
    assert said.count("\n") == 1
    assert not (tmp_path / "raw").exists()


def test_a_call_tells_what_it_did_and_what_is_next(s3: S3Server, polarcast_here: Call, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    code, out, _ = polarcast_here("data", "fetch", "nexrad", "klbb", *DAY, "--out", raw)
    assert code == 0
    assert out.splitlines() == [
        "KLBB, NEXRAD level II, 2016-06-01 00:00 to 2016-06-02 00:00 UTC",
        f"2 volumes in {raw}/KLBB: 2 fetched (0.1 MB came), 0 there already; {OTHERS}",
        "checked: 2 by md5",
        f"next: polarcast data ingest archive {raw}/KLBB",
    ]
    code, out, _ = polarcast_here("data", "fetch", "nexrad", "KLBB", *DAY, "--out", raw, "--json")
    record = json.loads(out)
    assert (code, record["fetched"], record["known"], record["failed"]) == (0, 0, 2, {})
    assert record["plan"]["missing_bytes"] == 0


def test_a_dry_run(s3: S3Server, polarcast_here: Call, tmp_path: Path) -> None:
    code, out, _ = polarcast_here("data", "fetch", "nexrad", "KLBB", *DAY, "--dry-run", "--out", tmp_path / "raw")
    lines = out.splitlines()
    assert code == 0
    assert lines[1] == f"2 volumes, 0.1 MB; {OTHERS}"
    assert lines[2].startswith("0.1 MB to fetch: ")
    assert "per second" in lines[2]
    assert lines[3] == "nothing was written"
    assert not (tmp_path / "raw").exists()
    record = json.loads(polarcast_here("data", "fetch", "nexrad", "KLBB", *DAY, "--dry-run", "--json")[1])
    assert (record["dry_run"], record["plan"]["files"], record["plan"]["bytes"]) == (True, 2, 2 * 39_000)


def test_volumes_that_fail_are_listed(s3: S3Server, polarcast_here: Call, tmp_path: Path) -> None:
    s3.faulty.faults = [S3Fault(FIRST, status="403 AccessDenied")]
    code, out, _ = polarcast_here("data", "fetch", "nexrad", "KLBB", *DAY, "--out", tmp_path / "raw")
    assert code == 1
    assert f"failed {FIRST}: access is denied (403)" in out.splitlines()
    assert "run the same command again for those that failed" in out.splitlines()
    s3.faulty.faults = [S3Fault("_V06", status="404 NoSuchKey")]
    code, out, _ = polarcast_here("data", "fetch", "nexrad", "KLBB", *DAY, "--out", tmp_path / "other")
    assert code == 2
    assert f"failed {SECOND}: it is no longer in the bucket (404)" in out.splitlines()
    assert "next:" not in out


def test_what_changed_is_told(s3: S3Server, polarcast_here: Call, tmp_path: Path) -> None:
    arguments = ("data", "fetch", "nexrad", "KLBB", *DAY, "--out", tmp_path / "raw")
    polarcast_here(*arguments)
    s3.put(NEXRAD.bucket, FIRST, b"longer" * 10_000)
    (tmp_path / "raw" / "KLBB" / Path(SECOND).name).write_bytes(b"")
    lines = polarcast_here(*arguments)[1].splitlines()
    assert f"1 changed in the bucket since they were fetched, and were fetched again: {FIRST}" in lines
    assert f"1 were not as they had been fetched, and were fetched again: {SECOND}" in lines


def test_the_ranking_of_storms_is_told(s3: S3Server, polarcast_here: Call, tmp_path: Path) -> None:
    for day in (1, 2, 3):
        for minute in range(0, 60, 12):
            name = f"202407{day:02d}18{minute:02d}_fiuta_PVOL.h5"
            s3.put(FMI.bucket, f"2024/07/{day:02d}/fiuta/{name}", bytes(1000 * day + minute))
    period = ("--from", "2024-07-01", "--to", "2024-07-04")
    code, out, _ = polarcast_here(
        "data", "fetch", "fmi", "fiuta", *period, "--storms", "1", "--hours", "1", "--dry-run"
    )
    assert code == 0
    assert "windows of 1 h, the wettest first" in out
    rows = [line.split("│")[1:-1] for line in out.splitlines() if "2024-07-0" in line and "│" in line]
    assert [(row[0].strip(), row[1].strip(), row[5].strip()) for row in rows] == [
        ("2024-07-03 18:00", "5", "yes"), ("2024-07-02 18:00", "5", ""), ("2024-07-01 18:00", "5", ""),
    ]  # fmt: skip
    assert "ranked by size only" in out
    code, out, _ = polarcast_here(
        "data", "fetch", "fmi", "fiuta", *period, "--storms", "9", "--hours", "1", "--dry-run"
    )  # fmt: skip
    assert "3 windows a day apart have volumes without gaps, fewer than 9" in out


@pytest.mark.real_data
def test_a_real_volume_from_a_bucket_to_an_archive(
    s3: S3Server, polarcast_here: Call, tmp_path: Path, shared_data: Path
) -> None:
    path = shared_data / "dualpol_volume" / "KLBB20160601_150025_V06"
    s3.put(NEXRAD.bucket, f"2016/06/01/KLBB/{path.name}", path.read_bytes())
    s3.faulty.faults = [S3Fault(path.name, times=1, status="503 SlowDown"), S3Fault(path.name, times=1, cut=2**21)]
    period = ("--from", "2016-06-01T15", "--to", "2016-06-01T16")
    assert polarcast_here("data", "fetch", "nexrad", "KLBB", *period, "--out", tmp_path / "raw")[0] == 0
    assert (tmp_path / "raw" / "KLBB" / path.name).read_bytes() == path.read_bytes()
    small = ("--variables", "zh,zdr", "--heights", "3", "--size", "32", "--spacing-km", "4", "--rain", "none")
    archive = tmp_path / "archive"
    assert polarcast_here("data", "ingest", archive, tmp_path / "raw" / "KLBB", *small, "--workers", "1")[0] == 0
    code, out, _ = polarcast_here("data", "check", archive, "--workers", "1")
    assert (code, "FAIL" in out) == (0, False)
