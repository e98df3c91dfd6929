"""The place of a radar: of the file, of the station, or as given."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.volumes.events import Scan, group_scans
from polarcast.data.ingest.volumes.site import distance_km, placed
from polarcast.data.ingest.volumes.volume import RadarSite

FILE = Path("volume")
UNKNOWN = [(0.0, 0.0), (np.nan, 8.0), (-9999.0, -9999.0), (91.0, 8.0), (50.0, np.inf)]


@pytest.mark.parametrize("place", UNKNOWN)
def test_an_unknown_place_is_that_of_the_station_or_refused(place: tuple[float, float]) -> None:
    site = placed(RadarSite(*place, 0.0, "KTLX"), None, FILE)
    assert (site.latitude, site.longitude) == pytest.approx((35.333, -97.278), abs=0.01)
    assert site.altitude_m == pytest.approx(370, abs=30)
    with pytest.raises(BadInput, match=r"no position of the radar .* --site"):
        placed(RadarSite(*place, 0.0, "nowhere"), None, FILE)


def test_a_given_place_comes_first() -> None:
    given = placed(RadarSite(50.0, 8.0, 100.0, "X"), RadarSite(10.0, 20.0, 30.0), FILE)
    assert given == RadarSite(10.0, 20.0, 30.0, "X")


def test_an_unknown_altitude_is_zero_and_longitudes_are_of_the_west() -> None:
    assert placed(RadarSite(35.0, 262.0, -9999.0), None, FILE) == RadarSite(35.0, -98.0, 0.0)


def scan(second: int, site: RadarSite) -> Scan:
    time = np.datetime64("2021-07-04T12:00:00", "s") + np.timedelta64(second, "s")
    return Scan(time, site, Path("cache"), ({"file": f"{second}", "sha256": f"{second}-{site}"},))


@given(st.floats(-0.004, 0.004), st.floats(-0.004, 0.004))
def test_places_that_differ_in_their_last_digits_are_of_one_radar(north: float, east: float) -> None:
    sites = [RadarSite(49.995, 8.005, 0.0), RadarSite(49.995 + north, 8.005 + east, 0.0)]
    groups, unused = group_scans([scan(300 * i, site) for i, site in enumerate(sites)], 15)
    assert (len(groups), unused) == (1, [])


def test_two_radars_are_two_events_also_where_they_stand_side_by_side() -> None:
    first, second, far = RadarSite(50.0, 8.0, 0.0, "A"), RadarSite(50.0, 8.0, 0.0, "B"), RadarSite(50.02, 8.0, 0.0, "A")
    assert distance_km(first, far) == pytest.approx(2.22, abs=0.01)
    groups, _ = group_scans([scan(0, first), scan(0, second), scan(0, far), scan(300, first)], 15)
    assert sorted(map(len, groups)) == [1, 1, 2]


def test_scans_of_one_second_are_told() -> None:
    site = RadarSite(50.0, 8.0, 0.0)
    groups, unused = group_scans([scan(0, site), scan(300, site), scan(300, RadarSite(50.0, 8.0001, 0.0))], 15)
    assert [len(group) for group in groups] == [2]
    assert len(unused) == 1
