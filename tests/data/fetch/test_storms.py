"""The search for the wettest windows: by size, then by the share of strong echo."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.fetch.networks import Period, RemoteFile
from polarcast.data.fetch.storms import StormWindow, candidate_windows, look_at, strong_share, wettest
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.volume import RadarSite
from tests.support.polar_files import Rays, write_odim_rays

START = datetime(2016, 5, 1, tzinfo=UTC)
GATES_KM = np.arange(0.5, 200.0)


def season(days: int, sizes: dict[int, int], minutes: int = 10, usual: int = 1000) -> list[RemoteFile]:
    """Volumes every some minutes; `sizes` by hour of the season for hours that are not usual."""
    times = [START + timedelta(minutes=m) for m in range(0, days * 1440, minutes)]
    hours = [int((time - START) / timedelta(hours=1)) for time in times]
    return [
        RemoteFile(f"K{time:%d%H%M}", sizes.get(h, usual), "e", time, "_V06")
        for time, h in zip(times, hours, strict=True)
    ]


def whole(days: int) -> Period:
    return Period(START, START + timedelta(days=days))


def starts(windows: list[StormWindow]) -> list[float]:
    return [(window.period.start - START) / timedelta(hours=1) for window in windows]


def test_windows_with_the_largest_volumes_come_first() -> None:
    sizes = {**dict.fromkeys((30, 31, 32), 3000), **dict.fromkeys((100, 101, 102), 5000), 101: 5500}
    found = candidate_windows(season(6, sizes), whole(6), hours=3, storms=1)
    assert starts(found)[:2] == [100, 30]
    assert found[0].size_ratio == pytest.approx((5 + 5.5 + 5) / 3)
    assert len(found[0].files) == 18
    assert found[0].sample.time == START + timedelta(hours=101, minutes=30)
    assert len(found) == 3


def test_windows_are_a_day_apart() -> None:
    sizes = dict.fromkeys(range(40, 60), 9000)
    found = candidate_windows(season(5, sizes), whole(5), hours=3, storms=4)
    times = sorted(starts(found))
    assert all(b - a >= 24 for a, b in pairwise(times))
    assert len(found) <= 5


def test_hours_with_a_gap_are_no_window() -> None:
    files = [
        file for file in season(2, {10: 9000}) if not timedelta(hours=10.4) < file.time - START < timedelta(hours=11)
    ]
    found = candidate_windows(files, whole(2), hours=1, storms=2)
    assert 10 not in starts(found)
    with pytest.raises(BadInput, match="no 3 hours of the period have volumes without gaps of 15 minutes"):
        candidate_windows(season(2, {}, minutes=20), whole(2), hours=3, storms=1)
    with pytest.raises(BadInput, match="no 5 hours"):
        candidate_windows(season(1, {}), Period(START, START + timedelta(hours=4)), hours=5, storms=1)


def test_variants_have_sizes_of_their_own() -> None:
    """Gzipped files of a rainy day are smaller than others of a dry one."""
    first = [
        RemoteFile(file.key, file.size // 4, file.etag, file.time, "_V06.gz") for file in season(2, {20: 3000})
    ]  # fmt: skip
    second = [
        RemoteFile(f.key, f.size, f.etag, f.time + timedelta(days=2), "_V06") for f in season(2, {})
    ]  # fmt: skip
    found = candidate_windows([*first, *second], whole(4), hours=1, storms=1)
    assert starts(found)[0] == 20
    assert found[0].size_ratio == pytest.approx(3)


def window(start: int, share: float | None, ratio: float = 1.0) -> StormWindow:
    at = START + timedelta(days=start)
    file = RemoteFile(f"K{start}", 10, "e", at)
    return StormWindow(Period(at, at + timedelta(hours=3)), (file,), ratio, share)


def test_the_share_of_strong_echo_decides_and_then_the_size() -> None:
    given_ = [window(0, 0.01, 9.0), window(1, 0.2), window(2, None, 99.0), window(3, 0.2, 1.5)]
    ranked = wettest(given_, 2)
    assert [w.period.start.day for w in ranked] == [4, 2, 1, 3]
    assert [w.is_chosen for w in ranked] == [True, True, False, False]
    assert ranked[0].as_record()["share_35_dbz"] == 0.2


def sweep(zh: np.ndarray, elevation: float = 0.5, **fields: np.ndarray) -> RawSweep:
    rays = len(zh)
    moments = {"DBZH": Moment(zh), **{name.upper(): Moment(values) for name, values in fields.items()}}
    return RawSweep(
        np.full(rays, elevation), np.arange(rays) * 360 / rays, 1000 * GATES_KM,
        np.full(rays, np.datetime64("2016-05-01T00:00:00", "ms")), moments,
    )  # fmt: skip


def volume(*sweeps: RawSweep) -> RawVolume:
    return RawVolume("test", RadarSite(50.0, 8.0, 100.0), sweeps)


@given(st.floats(15, 140), st.floats(1, 100))
def test_the_share_is_that_of_the_area(near: float, width: float) -> None:
    """A quarter of the rays has 40 dBZ in a ring, whose area is π (far² − near²) of π (150² − 10²)."""
    far = min(near + width, 150.0)
    zh = np.full((36, len(GATES_KM)), np.nan)
    zh[:9, (near <= GATES_KM) & (far >= GATES_KM)] = 40.0
    expected = 0.25 * (far**2 - near**2) / (150**2 - 10**2)
    assert strong_share(volume(sweep(zh))) == pytest.approx(expected, abs=0.25 * 2 * 150 / (150**2 - 10**2))


def test_what_is_not_strong_rain() -> None:
    weak, strong = np.full((10, len(GATES_KM)), 34.9), np.full((10, len(GATES_KM)), 35.0)
    assert strong_share(volume(sweep(weak))) == 0
    assert strong_share(volume(sweep(strong))) == 1
    assert strong_share(volume(sweep(strong, rhohv=0.89 + 0 * weak))) == 0
    assert strong_share(volume(sweep(strong, rhohv=0.91 + 0 * weak))) == 1
    near = np.where(GATES_KM < 10, 60.0, np.nan) + np.zeros((10, 1))
    assert strong_share(volume(sweep(near))) == 0


def test_the_lowest_sweep_counts_and_of_two_the_one_with_rhohv() -> None:
    weak, strong = np.full((10, len(GATES_KM)), 10.0), np.full((10, len(GATES_KM)), 50.0)
    assert strong_share(volume(sweep(strong, 3.0), sweep(weak, 0.5))) == 0
    assert strong_share(volume(sweep(weak, 0.5), sweep(strong, 0.6, rhohv=0.99 + 0 * weak))) == 1
    with pytest.raises(BadInput, match="no sweep with reflectivity"):
        strong_share(volume())


def test_a_file_is_looked_at(tmp_path: Path) -> None:
    codes = np.zeros((36, 24), np.uint8)
    codes[:9] = round((40 + 32) / 0.5)  # 24 gates of 1 km
    path = write_odim_rays(tmp_path / "volume.h5", [Rays(0.5, np.arange(5.0, 360, 10), codes)])
    assert look_at(path) == pytest.approx(0.25)
    (tmp_path / "text").write_bytes(b"no radar")
    with pytest.raises(BadInput, match="not a radar volume"):
        look_at(tmp_path / "text")


@pytest.mark.real_data
def test_a_real_volume_has_some_strong_echo(shared_data: Path) -> None:
    """Sampled by Py-ART: the share of the gates' area of the first sweep, without RhoHV's mask as upper bound."""
    from polarcast.data.ingest.volumes.pyart_bridge import pyart_library

    path = shared_data / "dualpol_volume" / "KLBB20160601_150025_V06"
    radar = pyart_library().io.read_nexrad_archive(str(path), scans=[0])
    rays = radar.get_slice(0)
    km = radar.range["data"] / 1000
    chosen = (km >= 10) & (km <= 150)
    zh = np.ma.filled(radar.fields["reflectivity"]["data"][rays], -99)[:, chosen]
    rho = np.ma.filled(radar.fields["cross_correlation_ratio"]["data"][rays], 1)[:, chosen]
    weight = np.broadcast_to(km[chosen], zh.shape)
    expected = float(weight[(zh >= 35) & (rho >= 0.9)].sum() / weight.sum())
    assert look_at(path) == pytest.approx(expected, rel=0.02, abs=1e-5)
