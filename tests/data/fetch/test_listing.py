"""Listings of a station, and what is said where there is nothing."""

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.fetch.listing import list_volumes
from polarcast.data.fetch.networks import FMI, NEXRAD, period_of
from tests.data.fetch.conftest import Open
from tests.support.s3_server import S3Fault, S3Server


def put_day(s3: S3Server, day: str, times: list[str], station: str = "KLBB", suffix: str = "_V06") -> None:
    prefix = f"{day[:4]}/{day[4:6]}/{day[6:]}/{station}/"
    for time in times:
        s3.put(NEXRAD.bucket, f"{prefix}{station}{day}_{time}{suffix}", time.encode())


def test_volumes_of_the_period_in_the_order_of_time(s3: S3Server, opened: Open) -> None:
    put_day(s3, "20160531", ["115959", "120000", "235959"])
    put_day(s3, "20160601", ["000000", "120000"])
    put_day(s3, "20160601", ["000000"], suffix="_V06_MDM")
    put_day(s3, "20160601", ["000000"], station="KLBX")
    put_day(s3, "20160602", ["000000"])
    found = list_volumes(opened(), NEXRAD, "KLBB", period_of("2016-05-31T12", "2016-06-02"))
    assert [f"{file.time:%d %H:%M:%S}" for file in found.files] == [
        "31 12:00:00", "31 23:59:59", "01 00:00:00", "01 12:00:00",
    ]  # fmt: skip
    assert found.files[0].size == 6
    assert (found.files[0].name, found.files[0].variant) == ("KLBB20160531_120000_V06", "_V06")
    assert found.others == ("2016/06/01/KLBB/KLBB20160601_000000_V06_MDM",)


def test_a_volume_that_is_there_twice_is_taken_once(s3: S3Server, opened: Open) -> None:
    put_day(s3, "20160601", ["120000", "120600"])
    put_day(s3, "20160601", ["120000"], suffix="_V06.gz")
    found = list_volumes(opened(), NEXRAD, "KLBB", period_of("2016-06-01", "2016-06-02"))
    assert [file.variant for file in found.files] == ["_V06", "_V06"]
    assert found.others == ("2016/06/01/KLBB/KLBB20160601_120000_V06.gz",)


def test_all_pages_are_read(s3: S3Server, opened: Open) -> None:
    put_day(s3, "20160601", [f"12{minute:02d}00" for minute in range(11)])
    found = list_volumes(opened(page=3), NEXRAD, "KLBB", period_of("2016-06-01", "2016-06-02"))
    assert [file.time.minute for file in found.files] == list(range(11))
    listings = [request for request in s3.faulty.requests if "list-type" in request and "2016%2F06" in request]
    assert len(listings) == 4


def test_fmi(s3: S3Server, opened: Open) -> None:
    for name in ("202407010000_fiuta_PVOL.h5", "202407010005_fiuta_PVOL.h5"):
        s3.put(FMI.bucket, f"2024/07/01/fiuta/{name}", b"hdf")
    found = list_volumes(opened(FMI), FMI, "fiuta", period_of("2024-07-01", "2024-07-02"))
    assert [file.time.minute for file in found.files] == [0, 5]


def said(s3: S3Server, opened: Open, station: str, start: str, end: str) -> str:
    with pytest.raises(BadInput) as caught:
        list_volumes(opened(), NEXRAD, station, period_of(start, end))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_hours_without_volumes_tell_those_of_the_day(s3: S3Server, opened: Open) -> None:
    put_day(s3, "20160601", ["120000", "130000"])
    text = said(s3, opened, "KLBB", "2016-06-01T14", "2016-06-02")
    assert "no volumes of KLBB from 2016-06-01 14:00 to 2016-06-02 00:00 UTC" in text
    assert "there are some from 2016-06-01 12:00 to 2016-06-01 13:00" in text


def test_days_without_volumes_tell_the_nearest_ones(s3: S3Server, opened: Open) -> None:
    put_day(s3, "20160530", ["120000"])
    put_day(s3, "20160604", ["120000"])
    text = said(s3, opened, "KLBB", "2016-06-01", "2016-06-02")
    assert text.endswith("the nearest days with some that were found: 2016-05-30 and 2016-06-04")


def test_an_unknown_station_tells_those_of_the_day(s3: S3Server, opened: Open) -> None:
    for station in ("KLBB", "KAMA", "KFDX"):
        put_day(s3, "20160601", ["120000"], station=station)
    assert said(s3, opened, "KLBA", "2016-06-01", "2016-06-02").endswith("nor near it — did you mean KLBB?")
    assert said(s3, opened, "PHWA", "2016-06-01", "2016-06-02").endswith("stations of 2016-06-01: KAMA, KFDX, KLBB")


def test_a_day_without_any_station_tells_the_years(s3: S3Server, opened: Open) -> None:
    put_day(s3, "19910605", ["120000"])
    put_day(s3, "20260605", ["120000"])
    text = said(s3, opened, "KLBB", "1985-06-01", "1985-06-02")
    assert text.endswith("nor of any station on 1985-06-01 — the bucket has the years 1991 to 2026")


def test_names_that_are_no_volumes_are_told(s3: S3Server, opened: Open) -> None:
    put_day(s3, "20160601", ["120000"], suffix="_V06_MDM")
    text = said(s3, opened, "KLBB", "2016-06-01", "2016-06-02")
    assert "but 1 other objects, such as 2016/06/01/KLBB/KLBB20160601_120000_V06_MDM" in text


def test_a_bucket_that_can_not_be_listed(s3: S3Server, opened: Open) -> None:
    s3.faulty.faults = [S3Fault(status="403 AccessDenied")]
    text = said(s3, opened, "KLBB", "2016-06-01", "2016-06-02")
    assert "can't be listed: access is denied (403) — the archive may have moved" in text
    assert len(s3.faulty.requests) == 1
    s3.faulty.faults = [S3Fault(times=2, status="503 SlowDown")]
    put_day(s3, "20160601", ["120000"])
    assert list_volumes(opened(), NEXRAD, "KLBB", period_of("2016-06-01", "2016-06-02")).files


def test_a_network_that_is_not_there(s3: S3Server, opened: Open) -> None:
    with pytest.raises(BadInput, match=r"unidata-nexrad-level2 at http://127\.0\.0\.1:9: can't be reached"):
        list_volumes(
            opened(endpoint="http://127.0.0.1:9"), NEXRAD, "KLBB", period_of("2016-06-01", "2016-06-02")
        )  # fmt: skip


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://here", "http://"])
def test_an_endpoint_that_is_no_url(opened: Open, endpoint: str) -> None:
    with pytest.raises(BadInput, match="no URL of an S3 server"):
        opened(endpoint=endpoint)
