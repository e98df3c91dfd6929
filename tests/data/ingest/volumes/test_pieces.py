"""Volumes in pieces: a sweep or a moment a file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.ingest.formats import read_raw, read_volume
from polarcast.data.ingest.plan_volumes import INCOMPLETE
from polarcast.data.ingest.run import IngestSettings, ingest
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.ingest.volumes.gridding import Grid
from polarcast.data.ingest.volumes.pieces import Header, SweepHeader, grouped, grouping
from polarcast.data.ingest.volumes.volume import RadarSite, find_names
from polarcast.data.notes import event_notes
from tests.support.polar_files import GATE_M, GATES, Rays, code_of, write_odim_rays

pytestmark = pytest.mark.usefixtures("one_process")

SITE = RadarSite(50.0, 8.0, 100.0, "NOD:xxtst")
START = np.datetime64("2021-07-04T12:00:00", "s")
EVEN = np.arange(5.0, 360, 10)


def header(
    minute: float, *parts: tuple[float, str], site: RadarSite = SITE, gate_m: float = 250.0, task: str = ""
) -> Header:
    elevations = sorted({elevation for elevation, _ in parts})
    at = START + np.timedelta64(round(60 * minute), "s")
    names = {e: {name: "" for elevation, name in parts if elevation == e} for e in elevations}
    sweeps = (SweepHeader(e, "azimuth_surveillance", 360, 400, gate_m, at, names[e], task=task) for e in elevations)
    return Header("ODIM HDF5", site, "C", tuple(sweeps))


def test_single_sweeps_are_joined_until_an_elevation_returns() -> None:
    angles = (0.5, 1.5, 3.0)
    headers = [header(5 * n + i, (angle, "DBZH")) for n in range(3) for i, angle in enumerate(angles)]
    assert grouped(headers) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_single_moments_are_joined() -> None:
    both = (0.5, 10.0)
    headers = [header(m, *((angle, name) for angle in both)) for m in (0, 5) for name in ("DBZH", "ZDR", "RHOHV")]
    assert grouped(headers) == [[0, 1, 2], [3, 4, 5]]


def test_whole_volumes_stand_alone() -> None:
    headers = [header(m, (0.5, "DBZH"), (3.0, "DBZH"), (0.5, "ZDR"), (3.0, "ZDR")) for m in (0, 1, 2)]
    assert grouped(headers) == [[0], [1], [2]]


def test_a_pause_and_another_radar_start_a_volume() -> None:
    other = RadarSite(50.0, 8.0, 100.0, "NOD:other")
    far = RadarSite(50.5, 8.0, 100.0, "")
    headers = [
        header(0, (0.5, "DBZH")), header(7, (1.5, "DBZH")), header(0, (1.5, "DBZH"), site=other),
        header(0, (1.5, "DBZH"), site=far),
    ]  # fmt: skip
    assert grouped(headers) == [[0], [1], [2], [3]]


def test_names_of_one_radar_in_different_systems_are_of_one_radar() -> None:
    headers = [header(0, (0.5, "DBZH")), header(0, (0.5, "ZDR"), site=RadarSite(50.00002, 8.0, 100.0, "WMO:10000"))]
    assert grouped(headers) == [[0, 1]]


@pytest.mark.parametrize("code", ["NOD:XXTST ", "nod: xxtst", "NOD:xxtst"])
def test_names_in_other_letters_are_of_one_radar(code: str) -> None:
    headers = [header(0, (0.5, "DBZH")), header(1, (1.5, "DBZH"), site=RadarSite(50.0, 8.0, 100.0, code))]
    assert grouped(headers) == [[0, 1]]


def test_files_without_a_place_are_joined_by_their_name() -> None:
    sites = [RadarSite(np.nan, np.nan, np.nan, code) for code in ("a", "A", "b")]
    headers = [header(i, (0.5 + i, "DBZH"), site=site) for i, site in enumerate(sites)]
    assert grouped(headers) == [[0, 1], [2]]


def test_files_without_a_time_do_not_disturb_the_others() -> None:
    headers = [header(m, (0.5 + m, "DBZH")) for m in (2, 1, 0)]
    nat = np.datetime64("NaT", "s")
    unknown = [Header(one.kind, SITE, "C", (replace(one.sweeps[0], start=nat),)) for one in headers]
    mixed = [one for pair in zip(unknown, headers, strict=True) for one in pair]
    assert grouped(mixed) == [[5, 3, 1], [0], [2], [4]]


@given(st.permutations(range(8)))
def test_files_of_one_nominal_time_are_one_volume_also_with_two_cuts(order: list[int]) -> None:
    """Volumes of four files with their nominal time: two cuts at 0.5°; the second lacks all that the first has."""
    first = [header(0, (angle, "DBZH")) for angle in (0.5, 0.5, 1.5, 3.0)]
    second = [header(5, (angle, name)) for angle in (6.0, 10.0) for name in ("DBZH", "ZDR")]
    headers = [[*first, *second][i] for i in order]
    assert [{order[i] for i in group} for group in grouped(headers)] == [{0, 1, 2, 3}, {4, 5, 6, 7}]


def test_volumes_of_one_time_are_not_joined_but_scans_are() -> None:
    volume = [(0.5, "DBZH"), (3.0, "DBZH")]
    assert grouped([header(0, *volume), header(0, *volume)]) == [[0], [1]]
    assert grouped([header(0, *volume, task="A"), header(0, *volume, task="B")]) == [[0, 1]]
    assert grouped([header(0, *volume), header(0, (0.5, "ZDR"), (3.0, "ZDR"))]) == [[0, 1]]


@pytest.mark.parametrize(
    "other", [{"task": "Doppler"}, {"gate_m": 500.0}, {}], ids=["another task", "other gates", "the next sweep"]
)
def test_a_second_cut_at_an_elevation_is_of_the_same_volume(other: dict[str, Any]) -> None:
    headers = [
        one
        for volume in (0, 5)
        for i, angle in enumerate((0.5, 1.5, 3.0))
        for one in (header(volume + 0.8 * i, (angle, "DBZH")), header(volume + 0.8 * i + 0.4, (angle, "DBZH"), **other))
    ]
    assert grouped(headers) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


@pytest.mark.parametrize("other", [{"task": "Doppler"}, {"gate_m": 500.0}])
def test_a_scan_of_another_task_within_a_minute_is_of_the_same_volume(other: dict[str, Any]) -> None:
    angles = (0.5, 1.5)
    headers = [header(0.3 * i, (angle, "DBZH")) for i, angle in enumerate(angles)]
    headers += [header(0.6 + 0.3 * i, (angle, "DBZH"), **other) for i, angle in enumerate(angles)]
    assert grouped(headers) == [[0, 1, 2, 3]]
    later = [header(5 + 0.3 * i, (angle, "DBZH")) for i, angle in enumerate(angles)]
    assert grouped([*headers, *later]) == [[0, 1, 2, 3], [4, 5]]


@given(st.data(), st.sampled_from([0.5, 0.8, 1.5, 5.5]))
def test_a_precipitation_scan_between_volumes_is_of_the_one_before(data: st.DataObject, angle: float) -> None:
    """Every 5 minutes a volume of ten sweeps and a scan of another task, a moment and a sweep a file."""
    angles = (5.5, 4.5, 3.5, 2.5, 1.5, 0.5, 8.0, 12.0, 17.0, 25.0)
    headers = [
        header(5 * n + 0.4 * i, (one, name), task="volume" if i < len(angles) else "precipitation")
        for n in range(3)
        for i, one in enumerate((*angles, angle))
        for name in ("DBZH", "ZDR")
    ]
    order = data.draw(st.permutations(range(len(headers))))
    found = [{order[i] for i in group} for group in grouped([headers[i] for i in order])]
    assert found == [set(range(22 * n, 22 * n + 22)) for n in range(3)]


def test_a_second_cut_does_not_join_volumes() -> None:
    """A volume of one sweep a minute and a half, or one whose last elevation is the next one's first."""
    assert grouped([header(m, (0.5, "DBZH")) for m in (0, 1.5, 3)]) == [[0], [1], [2]]
    headers = [header(0.5 * i, (angle, "DBZH")) for i, angle in enumerate((0.5, 1.5, 3.0) * 3)]
    assert grouped(headers) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@given(st.permutations(range(12)))
def test_the_order_of_the_files_does_not_matter(order: list[int]) -> None:
    headers = [header(6 * n + i, (angle, "DBZH")) for n in range(3) for i, angle in enumerate((0.5, 1.5, 3.0, 6.0))]
    groups = grouped([headers[i] for i in order])
    assert [{order[i] for i in group} for group in groups] == [set(range(4 * n, 4 * n + 4)) for n in range(3)]


@dataclass(frozen=True)
class Schedule:
    """What a radar repeats; times are in seconds.

    Attributes:
        order: up, down, up and down in turn, or up with other angles above in turn.
        angles, period: Number of elevations, and time of a volume.
        has_cuts: Whether a Doppler cut without ZDR follows at each elevation.
        has_rhi: Whether two RHIs are in between.
        are_moments: Whether each field has its file.
        jitter: Largest deviation of a start.
        volumes: Number of volumes.
    """

    order: str
    angles: int
    period: int
    has_cuts: bool = False
    has_rhi: bool = False
    are_moments: bool = False
    jitter: int = 0
    volumes: int = 4

    def elevations(self, volume: int) -> list[float]:
        """Return the elevations of a volume in their order."""
        other = 0.7 if self.order == "alternating" and volume % 2 else 0.0
        all_angles = [round(0.5 + 19.5 * k / (self.angles - 1) + other * (k > 1), 1) for k in range(self.angles)]
        return all_angles[::-1] if self.order == "down" or (self.order == "updown" and volume % 2) else all_angles

    def files(self, lost: float, seed: int) -> tuple[list[Header], list[int]]:
        """Return headers, in a random order, and the volume of each. A share of the files is lost."""
        random = np.random.default_rng(seed)
        step = 0.95 * self.period / (self.angles * (1 + self.has_cuts) + 2 * self.has_rhi)
        rows: list[tuple[Header, int]] = []
        for volume in range(self.volumes):
            kinds = [(e, cut) for e in self.elevations(volume) for cut in ["", "Doppler"][: 1 + self.has_cuts]]
            if self.has_rhi:
                kinds[1:1] = kinds[3:3] = [(22.5, "rhi")]
            for place, (angle, cut) in enumerate(kinds):
                names = ("DBZH",) if cut == "Doppler" else ("DBZH", "ZDR")
                for file in [(name,) for name in names] if self.are_moments else [names]:
                    second = volume * self.period + place * step + random.integers(-self.jitter, self.jitter + 1)
                    one = header(second / 60, *((angle, name) for name in file), gate_m=500.0 if cut else 250.0)
                    if cut == "rhi":
                        one = replace(one, sweeps=(replace(one.sweeps[0], mode="rhi"),))
                    if random.random() >= lost:
                        rows.append((one, volume))
        order = random.permutation(len(rows))
        return [rows[i][0] for i in order], [rows[i][1] for i in order]


ORDERS = ("up", "down", "updown", "alternating")


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    angles, has_rhi = draw(st.integers(4, 12)), draw(st.booleans())
    has_cuts = draw(st.booleans()) and angles > 5
    step = 10 * (angles * (1 + has_cuts) + 2 * has_rhi)
    period = draw(st.integers(max(180, step), 600 if has_cuts else 900))
    has_cuts = has_cuts and period < 50 * 2 * angles
    order = draw(st.sampled_from(ORDERS))
    rest = (draw(st.booleans()), draw(st.sampled_from([0, 3])), draw(st.integers(1, 6)))
    return Schedule(order, angles, period, has_cuts, has_rhi, *rest)


def found_volumes(headers: list[Header], truth: list[int]) -> tuple[set[int], int]:
    """Return the volumes with which others are mixed, and the number of groups."""
    groups = [{truth[i] for i in group} for group in grouped(headers)]
    return {volume for group in groups if len(group) > 1 for volume in group}, len(groups)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(schedules(), st.integers(0, 2**31))
def test_volumes_of_any_schedule_are_found(schedule: Schedule, seed: int) -> None:
    headers, truth = schedule.files(0.0, seed)
    assert found_volumes(headers, truth) == (set(), schedule.volumes)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("angles", [4, 7, 12])
def test_lost_files_mix_no_volumes(order: str, angles: int) -> None:
    """Without the first one, which tells where the cycle begins if nothing else does."""
    for period in (240, 300, 600, 900):
        schedule = Schedule(order, angles, period, jitter=2, volumes=6)
        for seed in range(3):
            headers, truth = schedule.files(0.05, seed)
            mixed, _ = found_volumes(headers, truth)
            assert not mixed, (schedule, seed)


def singles(
    step: float, period: float, angles: tuple[float, ...], volumes: int = 4, tasks: tuple[str, ...] = ("",)
) -> list[Header]:
    """Sweeps of volumes; minutes."""
    return [
        header(period * v + step * k, (angle, "DBZH"), (angle, "ZDR"), task=tasks[v % len(tasks)])
        for v in range(volumes)
        for k, angle in enumerate(angles)
    ]


def lengths(headers: list[Header]) -> list[int]:
    groups = grouped(headers)
    assert sorted(i for group in groups for i in group) == list(range(len(headers)))
    return [len(group) for group in groups]


@pytest.mark.parametrize("tasks", [("A", "B"), ("VOL1", "VOL2", "VOL3", "VOL4")], ids=["two tasks", "numbered tasks"])
@pytest.mark.parametrize("period", [2.5, 4.0])
def test_volumes_of_tasks_in_turn_are_not_joined(tasks: tuple[str, ...], period: float) -> None:
    assert lengths(singles(0.7, period, (0.5, 2.0, 5.0), tasks=tasks)) == [3, 3, 3, 3]


def test_volumes_of_two_tables_of_elevations_are_not_joined() -> None:
    for tables in (
        ((6.5, 4.0, 2.4, 1.4, 0.4), (7.5, 5.0, 3.2, 1.4, 0.4)),
        ((0.4, 1.4, 2.4, 4.0, 6.5), (0.4, 1.4, 3.2, 5.0, 7.5)),
        ((0.4, 2.4, 6.5), (1.4, 4.0, 8.5)),
    ):
        headers = [header(5 * v + 0.75 * k, (e, "DBZH")) for v in range(4) for k, e in enumerate(tables[v % 2])]
        assert lengths(headers) == [len(tables[0])] * 4


def test_a_lost_sweep_is_known_by_the_cycle() -> None:
    """Volumes of four sweeps, one a minute, every 5 minutes; the first one of two volumes is lost, and two more."""
    whole = singles(1.0, 5.0, (0.5, 2.0, 5.0, 9.0))
    assert lengths([one for k, one in enumerate(whole) if k not in (4, 8, 11, 13)]) == [4, 3, 2, 3]


def test_volumes_may_take_a_quarter_of_an_hour() -> None:
    assert lengths(singles(1.25, 15.0, tuple(range(1, 13)), volumes=2)) == [12, 12]
    assert lengths(singles(1.25, 15.0, tuple(range(1, 13)), volumes=1)) == [12]
    assert lengths(singles(7.0, 15.0, (0.5, 3.0), volumes=6)) == [2] * 6


def test_an_rhi_is_no_repeat() -> None:
    sweeps = [header(0.5 * k, ((0.5, 22.0, 2.0, 22.0, 5.0, 22.0, 9.0)[k % 7], "DBZH")) for k in range(14)]
    rhis = [replace(one, sweeps=(replace(one.sweeps[0], mode="rhi"),)) if k % 7 % 2 else one
            for k, one in enumerate(sweeps)]  # fmt: skip
    assert lengths(rhis) == [7, 7]
    assert lengths(rhis[:7]) == [7]
    assert lengths(rhis[1:2]) == [1]


@pytest.mark.parametrize("volumes", [1, 2, 4])
def test_a_rescan_of_the_lowest_sweep_is_of_its_volume(volumes: int) -> None:
    cuts = ((0, 0.5, 2), (16, 0.5, 1), (32, 1.5, 2), (48, 1.5, 1), (64, 3.0, 2), (140, 0.5, 2), (156, 0.5, 1),
            (170, 5.0, 2), (190, 8.0, 2), (210, 12.0, 2))  # fmt: skip
    headers = [
        header((270 * v + second) / 60, *((angle, name) for name in ("DBZH", "ZDR")[:names]))
        for v in range(volumes)
        for second, angle, names in cuts
    ]
    assert lengths(headers) == [10] * volumes


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_the_sweep_at_the_seam_of_up_and_down_is_of_the_next_volume(step: float) -> None:
    angles = (0.5, 2.0, 5.0, 9.0, 9.0, 5.0, 2.0, 0.5)
    headers = [header(step * k, (angles[k % 8], "DBZH")) for k in range(16)]
    assert grouped(headers) == [list(range(4 * v, 4 * v + 4)) for v in range(4)]


def test_volumes_of_a_drifting_cycle_are_found() -> None:
    headers, minute = [], 0.0
    for v in range(30):
        headers += [header(minute + 0.4 * k, (0.5 + k, "DBZH")) for k in range(9) if (v, k) not in ((3, 0), (4, 8))]
        minute += 4.5 + 0.1 * np.sin(v)
    assert lengths(headers) == [9, 9, 9, 8, 8, *[9] * 25]


def test_a_last_volume_that_still_arrives_is_told() -> None:
    whole = singles(1.0, 5.0, (0.5, 2.0, 5.0, 9.0), volumes=3)
    assert grouping(whole).incomplete == frozenset()
    assert grouping(whole[:10]).incomplete == {2}
    assert grouping(whole[2:]).incomplete == frozenset()
    assert grouping(whole[:4]).incomplete == frozenset()


def test_a_volume_that_still_arrives_is_left_for_the_next_run(tmp_path: Path) -> None:
    chosen = IngestSettings(VolumeSettings(Grid(16, 2.0, (1.0,)), ("zh",), rain="none"))
    files = [tmp_path / f"{v}{k}.h5" for v in range(3) for k in range(4)]
    for n, file in enumerate(files):
        write_odim_rays(file, [Rays((0.5, 4.0, 10.0, 16.0)[n % 4], EVEN, code_of(EVEN))])
        with h5py.File(file, "r+") as content:
            content["dataset1/what"].attrs["starttime"] = np.bytes_(f"12{5 * (n // 4) + n % 4:02d}00")
    out = tmp_path / "archive"
    first = ingest(out, files[:6], chosen)
    assert (first.events, first.dropped_from) == ([0], {INCOMPLETE: [str(file) for file in files[4:6]]})
    second = ingest(out, files, chosen)
    assert (second.events, len(second.known), second.dropped_from, second.failed) == ([1], 4, {}, {})
    notes = event_notes(out)
    assert [len(notes[event]["volumes"]) for event in (0, 1)] == [1, 2]
    assert all(one["elevations_deg"] == [0.5, 4.0, 10.0, 16.0] for note in notes.values() for one in note["volumes"])


def pieces(folder: Path) -> list[Path]:
    """A volume of two elevations, each in a file of its own, whose rays are in another order."""
    turned = np.roll(EVEN, 7)
    sweeps = [Rays(0.5, EVEN, code_of(EVEN)), Rays(10.0, turned, code_of(turned), how={"startazA": turned - 5})]
    return [write_odim_rays(folder / f"{n}.h5", [rays]) for n, rays in enumerate(sweeps)]


def test_pieces_give_the_same_volume_as_one_file(tmp_path: Path) -> None:
    sweeps = [Rays(0.5, EVEN, code_of(EVEN)), Rays(10.0, EVEN, code_of(EVEN))]
    whole = read_volume(write_odim_rays(tmp_path / "whole.h5", sweeps), ("zh",))
    joined = read_volume(pieces(tmp_path), ("zh",))
    for one, two in zip(whole.sweeps, joined.sweeps, strict=True):
        np.testing.assert_allclose(one.azimuth_deg, two.azimuth_deg, atol=1e-4)
        np.testing.assert_array_equal(one.fields["zh"], two.fields["zh"])


def test_rays_of_two_files_are_joined_by_their_azimuth_not_by_their_rank(tmp_path: Path) -> None:
    """Angles 0.4° off: the ray at 359.8° is the first of one file and the last of the other."""
    azimuths = np.arange(0.2, 360, 10)
    codes = np.repeat(np.arange(20, 56, dtype=np.uint8)[:, None], GATES, 1)
    starts = {key: (azimuths - 0.4 + side) % 360 for key, side in (("startazA", -5), ("stopazA", 5))}
    one = [Rays(angle, azimuths, codes, how={"astart": -4.8}) for angle in (0.5, 10.0)]
    two = [Rays(angle, azimuths, codes, how=starts) for angle in (0.5, 10.0)]
    paths = [write_odim_rays(tmp_path / f"{n}.h5", sweeps) for n, sweeps in enumerate((one, two))]
    with h5py.File(paths[1], "r+") as file:
        for number in (1, 2):
            file[f"dataset{number}/data1/what"].attrs["quantity"] = np.bytes_("RHOHV")
            file[f"dataset{number}/data1/what"].attrs.update({"gain": 0.01, "offset": 0.0})
    volume = read_volume(paths, ("zh", "rhohv"))
    assert len(volume.sweeps) == 2
    for sweep in volume.sweeps:
        np.testing.assert_allclose(sweep.fields["rhohv"], codes * 0.01, rtol=1e-5)
        np.testing.assert_allclose(sweep.fields["zh"], codes * 0.5 - 32)


def test_a_field_of_other_gates_in_another_file_is_joined(tmp_path: Path) -> None:
    sweeps = [Rays(angle, EVEN, code_of(EVEN)) for angle in (0.5, 10.0)]
    paths = [write_odim_rays(tmp_path / f"{n}.h5", sweeps) for n in range(2)]
    with h5py.File(paths[1], "r+") as file:
        for number in (1, 2):
            coding = {"quantity": np.bytes_("ZDR"), "gain": 0.1, "offset": -5.0}
            file[f"dataset{number}/data1/what"].attrs.update(coding)
            file[f"dataset{number}/where"].attrs["rscale"] = 2 * GATE_M
            del file[f"dataset{number}/data1/data"]
            file[f"dataset{number}/data1/data"] = np.tile(np.arange(20, 20 + GATES // 2, dtype=np.uint8), (36, 1))
    volume = read_volume(paths, ("zh", "zdr"))
    expected = np.tile(np.repeat(np.arange(20, 20 + GATES // 2), 2) * 0.1 - 5, (36, 1))
    for sweep in volume.sweeps:
        np.testing.assert_allclose(sweep.fields["zdr"], expected, rtol=1e-5)
        np.testing.assert_allclose(sweep.fields["zh"], code_of(EVEN) * 0.5 - 32)


def test_pieces_become_one_event(tmp_path: Path) -> None:
    chosen = IngestSettings(VolumeSettings(Grid(16, 2.0, (1.0,)), ("zh",), rain="none"))
    files = pieces(tmp_path)
    report = ingest(tmp_path / "archive", files, chosen)
    assert (report.events, report.failed) == ([0], {})
    [note] = event_notes(tmp_path / "archive").values()
    assert [source["file"] for source in note["sources"]] == [str(file) for file in files]
    assert note["elevations_deg"] == [0.5, 10.0]
    again = ingest(tmp_path / "archive", files, chosen)
    assert (again.events, len(again.known)) == ([], 2)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "volumes", "fields"),
    [
        ("swiss_sweeps", 1, ("zh", "zdr", "phidp", "rhohv")),
        ("belgian_moments", 2, ("zh", "rhohv")),
        ("rainbow", 1, ("zh", "zdr", "kdp", "phidp", "rhohv")),
        ("odim_one_sweep_a_file", 6, ("zh", "zdr", "phidp", "rhohv")),
    ],
)
def test_real_pieces_are_joined(folder: str, volumes: int, fields: tuple[str, ...], shared_data: Path) -> None:
    files = sorted((shared_data / "volumes_in_pieces" / folder).iterdir())
    headers = [Header.of(read_raw(file)) for file in files]
    groups = grouped(headers)
    assert len(groups) == volumes
    assert sorted(i for group in groups for i in group) == list(range(len(files)))
    for group in groups:
        moments = {name for i in group for sweep in headers[i].sweeps for name in sweep.moments}
        assert set(find_names(sorted(moments))) == set(fields)
