"""Volumes in pieces: a sweep or a moment a file."""

from pathlib import Path

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
from tests.support.polar_files import Rays, code_of, write_odim_rays

SITE = RadarSite(50.0, 8.0, 100.0, "NOD:xxtst")
START = np.datetime64("2021-07-04T12:00:00", "s")
EVEN = np.arange(5.0, 360, 10)


def header(minute: float, *parts: tuple[float, str], site: RadarSite = SITE) -> Header:
    elevations = sorted({elevation for elevation, _ in parts})
    at = START + np.timedelta64(round(60 * minute), "s")
    names = {e: {name: "" for elevation, name in parts if elevation == e} for e in elevations}
    sweeps = (SweepHeader(e, "azimuth_surveillance", 360, 400, 250.0, at, names[e]) for e in elevations)
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
