"""Volumes in pieces: a sweep or a moment a file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.ingest.formats import read_raw, read_volume
from polarcast.data.ingest.run import IngestSettings, ingest
from polarcast.data.ingest.volumes.frame import VolumeSettings
from polarcast.data.ingest.volumes.gridding import Grid
from polarcast.data.ingest.volumes.pieces import Header, SweepHeader, grouped
from polarcast.data.ingest.volumes.volume import RadarSite, find_names
from polarcast.data.notes import event_notes
from tests.support.polar_files import GATE_M, GATES, Rays, code_of, write_odim_rays

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
    settings = IngestSettings(VolumeSettings(Grid(16, 2.0, (1.0,)), ("zh",), rain="none"))
    files = pieces(tmp_path)
    report = ingest(tmp_path / "archive", files, settings)
    assert (report.events, report.failed) == ([0], {})
    [note] = event_notes(tmp_path / "archive").values()
    assert [source["file"] for source in note["sources"]] == [str(file) for file in files]
    assert note["elevations_deg"] == [0.5, 10.0]
    again = ingest(tmp_path / "archive", files, settings)
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
