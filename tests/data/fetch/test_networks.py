"""Names of volumes, stations and periods."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.fetch.networks import FMI, NETWORKS, NEXRAD, Period, network_of, period_of

TIMES = st.datetimes(datetime(1991, 6, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("KLBB20160601_150025_V06", "_V06"),
        ("KLBB20160601_150025_V06.gz", "_V06.gz"),
        ("KLBB20160601_150025_V03.gz", "_V03.gz"),
        ("KLBB20160601_150025.gz", ".gz"),
        ("KLBB20160601_150025", ""),
    ],
)
def test_names_of_nexrad(name: str, variant: str) -> None:
    assert NEXRAD.volume_of(name, "KLBB") == (datetime(2016, 6, 1, 15, 0, 25, tzinfo=UTC), variant)


@pytest.mark.parametrize(
    "name",
    [
        "KLBB20160601_150025_V06_MDM", "KLBB20160601_150025_V06_MDM.gz", "KLBX20160601_150025_V06",
        "KLBB20160631_150025_V06", "KLBB20160601_250025_V06", "KLBB20160601_150025_V06.part", "index.html",
        "../KLBB20160601_150025_V06", "KLBB20160601_150025_V06\n",
    ],
)  # fmt: skip
def test_other_objects_of_nexrad(name: str) -> None:
    assert NEXRAD.volume_of(name, "KLBB") is None


def test_names_of_fmi() -> None:
    time = datetime(2020, 9, 16, 17, 35, tzinfo=UTC)
    assert FMI.volume_of("202009161735_fikor_POLARVOLUME.h5", "fikor") == (time, "_POLARVOLUME.h5")
    assert FMI.volume_of("202009161735_fikor_PVOL.h5", "fikor") == (time, "_PVOL.h5")
    assert FMI.volume_of("202009161735_fikor_pvol.h5", "fikor") == (time, "_pvol.h5")
    for name in ("202009161735_fianj_PVOL.h5", "202009161735_fikor_SCAN.h5", "20200916173500_fikor_PVOL.h5"):
        assert FMI.volume_of(name, "fikor") is None


@given(TIMES)
def test_the_time_of_a_name_is_that_of_its_writer(time: datetime) -> None:
    found = NEXRAD.volume_of(f"KTLX{time:%Y%m%d_%H%M%S}_V06", "KTLX")
    assert found is not None
    assert found[0] == time.replace(microsecond=0)
    found = FMI.volume_of(f"{time:%Y%m%d%H%M}_fivan_PVOL.h5", "fivan")
    assert found is not None
    assert found[0] == time.replace(second=0, microsecond=0)


def test_stations() -> None:
    assert NEXRAD.station(" klbb ") == "KLBB"
    assert FMI.station("FIUTA") == "fiuta"
    for network, text in ((NEXRAD, "LBB"), (NEXRAD, "K/BB"), (FMI, "uta"), (FMI, "KLBB"), (NEXRAD, "")):
        with pytest.raises(BadInput, match="no station of"):
            network.station(text)


def test_prefixes() -> None:
    assert NEXRAD.prefix(date(2016, 6, 1), "KLBB") == "2016/06/01/KLBB/"
    assert FMI.prefix(date(2024, 11, 9)) == "2024/11/09/"


def test_networks() -> None:
    assert [network_of(name.upper()) for name in NETWORKS] == [NEXRAD, FMI]
    with pytest.raises(BadInput, match="did you mean nexrad"):
        network_of("nextrad")
    with pytest.raises(BadInput, match="choose from: nexrad, fmi"):
        network_of("knmi")


def test_a_period_has_its_start_and_not_its_end() -> None:
    period = period_of("2016-05-31T12", "2016-06-02")
    assert period == Period(datetime(2016, 5, 31, 12, tzinfo=UTC), datetime(2016, 6, 2, tzinfo=UTC))
    assert period.start in period
    assert period.end not in period
    assert period.days == [date(2016, 5, 31), date(2016, 6, 1)]
    assert str(period) == "2016-05-31 12:00 to 2016-06-02 00:00 UTC"


def test_offsets_are_converted() -> None:
    assert period_of("2016-06-01T01:30+02:00", "2016-06-01T00:00Z").start == datetime(2016, 5, 31, 23, 30, tzinfo=UTC)


@given(TIMES, st.integers(1, 20 * 86_400 * 10**6), st.floats(0, 1))
def test_each_time_of_a_period_is_in_one_of_its_days(start: datetime, microseconds: int, share: float) -> None:
    period = Period(start, start + timedelta(microseconds=microseconds))
    time = start + timedelta(microseconds=min(int(share * microseconds), microseconds - 1))
    assert time in period
    assert period.days.count(time.date()) == 1
    assert all(datetime(d.year, d.month, d.day, tzinfo=UTC) < period.end for d in period.days)


@pytest.mark.parametrize(
    ("start", "end", "where", "what"),
    [
        ("soon", "2016-06-02", "--from", "not a date or time: 'soon'"),
        ("2016-06-31", "2016-07-02", "--from", "not a date or time"),
        ("2016-06-01", "2016-06-32", "--to", "not a date or time"),
        ("2016-06-02", "2016-06-01", "--to", "the period is empty"),
        ("2016-06-02", "2016-06-02", "--to", "the period is empty"),
        ("0001-01-01T00:00+05:00", "2016-06-02", "--from", "not a date or time"),
    ],
)
def test_wrong_periods_are_refused(start: str, end: str, where: str, what: str) -> None:
    with pytest.raises(BadInput, match=what) as caught:
        period_of(start, end)
    assert caught.value.where == where
