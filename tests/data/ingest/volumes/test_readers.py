"""Geometry and codes of sweeps, held against a direct computation: each gate's value tells the azimuth of its ray."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.formats import read_raw, read_volume
from polarcast.data.ingest.volumes.pyart_bridge import pyart_library
from polarcast.data.ingest.volumes.volume import Sweep
from tests.support.polar_files import (
    NO_DATA,
    NO_ECHO,
    Rays,
    azimuth_of,
    code_of,
    write_cfradial_rays,
    write_odim_rays,
)

_LIGHT = settings(max_examples=25, deadline=None)
EVEN = np.arange(5.0, 360, 10)
"""Azimuths of 36 rays where a file gives none."""
SECOND = Rays(10.0, np.arange(0.5, 360, 12), code_of(np.arange(0.5, 360, 12)))
"""A second elevation, without which there is no volume."""


def odim(rays: Rays, **root: Any) -> Sweep:
    with TemporaryDirectory() as folder:
        return read_volume(write_odim_rays(Path(folder) / "v.h5", [rays, SECOND], **root), ("zh",)).sweeps[0]


def cfradial(rays: Rays, attributes: dict[str, Any] | None = None, **more: np.ndarray) -> Sweep:
    with TemporaryDirectory() as folder:
        path = write_cfradial_rays(Path(folder) / "v.nc", [rays, SECOND], attributes, **more)
        return read_volume(path, ("zh",)).sweeps[0]


def assert_values_are_where_their_azimuth_is(sweep: Sweep) -> None:
    rays, gates = np.nonzero(np.isfinite(sweep.fields["zh"]))
    assert len(rays)
    told = azimuth_of(sweep.fields["zh"][rays, gates])
    assert np.abs((told - sweep.azimuth_deg[rays] + 180) % 360 - 180).max() <= 1.01
    assert (np.diff(sweep.azimuth_deg) >= 0).all()


@st.composite
def arcs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop angles of the rays of a sweep, from any azimuth, either way round, whole or a sector."""
    count, first = draw(st.integers(8, 90)), draw(st.floats(0, 360, exclude_max=True))
    turned = draw(st.sampled_from([360.0, -360.0, 200.0, -200.0]))
    edges = first + turned * np.arange(count + 1) / count
    return edges[:-1] % 360, edges[1:] % 360


def middle_of(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Return the direction between two directions by the sum of their unit vectors."""
    vectors = np.exp(1j * np.deg2rad(starts)) + np.exp(1j * np.deg2rad(stops))
    return np.rad2deg(np.angle(vectors)) % 360


@given(arcs())
@_LIGHT
def test_rays_of_odim_lie_between_their_start_and_stop(angles: tuple[np.ndarray, np.ndarray]) -> None:
    starts, stops = angles
    codes = code_of(middle_of(starts, stops))
    sweep = odim(Rays(0.5, starts, codes, how={"startazA": starts, "stopazA": stops}))
    assert_values_are_where_their_azimuth_is(sweep)
    assert len(sweep.azimuth_deg) == len(starts)


@given(arcs())
@_LIGHT
def test_angles_of_odim_2_0_are_read(angles: tuple[np.ndarray, np.ndarray]) -> None:
    starts, stops = angles
    text = ",".join(f"{start}:{stop}" for start, stop in zip(starts, stops, strict=True)) + ","
    assert_values_are_where_their_azimuth_is(
        odim(Rays(0.5, starts, code_of(middle_of(starts, stops)), how={"azangles": np.bytes_(text)}))
    )


@pytest.mark.parametrize("how", [{"startazA": np.arange(37.0)}, {"startazA": np.bytes_("0,10")}, {"stopazA": EVEN}])
def test_angles_in_another_form_are_not_replaced_by_even_ones(how: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="angles of the rays in a form that is not known"):
        odim(Rays(0.5, EVEN, code_of(EVEN), how=how))


@pytest.mark.parametrize("times", [np.zeros(36), np.arange(36.0), np.full(36, np.nan)])
def test_times_of_rays_that_are_not_set_are_those_of_the_scan(times: np.ndarray, tmp_path: Path) -> None:
    rays = Rays(0.5, EVEN, code_of(EVEN), how={"startazT": times, "stopazT": times})
    volume = read_volume(write_odim_rays(tmp_path / "v.h5", [rays, SECOND]), ("zh",))
    assert str(volume.time) == "2021-07-04T12:34:56"


@given(st.integers(8, 90), st.floats(-2, 2), st.sampled_from(["astart", "north", "sector"]))
@_LIGHT
def test_even_rays_of_odim_start_where_the_file_tells(count: int, first: float, told_by: str) -> None:
    width = 120.0 if told_by == "sector" else 360.0
    first = 0.0 if told_by == "north" else first
    azimuths = first + (np.arange(count) + 0.5) * width / count
    where = {"startaz": first % 360, "stopaz": (first + width) % 360} if told_by == "sector" else {}
    how = {"astart": first} if told_by == "astart" else {}
    assert_values_are_where_their_azimuth_is(odim(Rays(0.5, azimuths, code_of(azimuths), where=where, how=how)))


@given(st.data(), st.lists(st.integers(0, 359), min_size=8, max_size=60))
@_LIGHT
def test_rays_of_cfradial_may_have_any_order_gaps_and_duplicates(data: st.DataObject, degrees: list[int]) -> None:
    azimuths = np.array(data.draw(st.permutations(degrees)), float) + 0.5
    sweep = cfradial(Rays(0.5, azimuths, code_of(azimuths)))
    assert_values_are_where_their_azimuth_is(sweep)
    assert len(sweep.azimuth_deg) == len(degrees)


@given(st.data(), st.integers(12, 60))
@_LIGHT
def test_flagged_rays_and_rays_without_angles_are_left_out(data: st.DataObject, count: int) -> None:
    azimuths = (np.arange(count) + 0.5) * 360 / count
    codes = code_of(azimuths)
    kinds = np.array(data.draw(st.lists(st.sampled_from("....tn"), min_size=count, max_size=count)))
    kinds[:2] = "."
    codes[kinds == "t"] = 200
    given_azimuths = np.where(kinds == "n", np.nan, azimuths)
    flags = np.concatenate([kinds == "t", np.zeros(len(SECOND.azimuths), bool)]).astype("i1")
    sweep = cfradial(Rays(0.5, given_azimuths, codes), antenna_transition=flags)
    assert_values_are_where_their_azimuth_is(sweep)
    assert len(sweep.azimuth_deg) == (kinds == ".").sum()


@given(st.data())
@_LIGHT
def test_no_data_is_unseen_and_no_echo_is_seen(data: st.DataObject) -> None:
    azimuths = EVEN
    codes = code_of(azimuths)
    kinds = np.array(data.draw(st.lists(st.sampled_from("ved"), min_size=codes.size, max_size=codes.size)))
    kinds = kinds.reshape(codes.shape)
    codes[kinds == "e"], codes[kinds == "d"] = NO_ECHO, NO_DATA
    sweep = odim(Rays(0.5, azimuths, codes))
    np.testing.assert_array_equal(np.isfinite(sweep.fields["zh"]), kinds == "v")
    if (kinds == "e").any():
        assert sweep.unseen is not None
        np.testing.assert_array_equal(sweep.unseen, kinds == "d")


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"_FillValue": None, "missing_value": np.uint8(255)},
        {"_FillValue": None, "valid_max": np.uint8(254)},
        {"_FillValue": None, "valid_range": np.array([0, 254], np.uint8)},
        {"_FillValue": None, "valid_range": np.array([-32.0, 95.0])},
        {"_FillValue": None, "missing_value": np.int16(255)},
        {"_FillValue": None, "missing_value": np.float32(255)},
    ],
)
def test_missing_data_of_cf_are_found_however_they_are_declared(attributes: dict[str, Any]) -> None:
    azimuths = EVEN
    codes = code_of(azimuths)
    codes[:9] = NO_DATA
    sweep = cfradial(Rays(0.5, azimuths, codes), attributes)
    np.testing.assert_array_equal(np.isfinite(sweep.fields["zh"]), codes != NO_DATA)
    assert_values_are_where_their_azimuth_is(sweep)


def test_a_huge_code_for_no_echo_is_no_value(tmp_path: Path) -> None:
    """DWD writes the largest double; compared in float32 it would be infinite, and so would every difference."""
    import h5py

    azimuths = EVEN
    path = write_odim_rays(tmp_path / "v.h5", [Rays(0.5, azimuths, code_of(azimuths)), SECOND])
    with h5py.File(path, "r+") as file:
        file["dataset1/data1/what"].attrs["undetect"] = 1.7976931348623157e308
    assert_values_are_where_their_azimuth_is(read_volume(path, ("zh",)).sweeps[0])


def test_a_sweep_in_which_the_radar_failed_is_left_out(tmp_path: Path) -> None:
    azimuths = EVEN
    broken = Rays(5.0, azimuths, code_of(azimuths), how={"malfunc": np.bytes_("True")})
    good = Rays(0.5, azimuths, code_of(azimuths))
    volume = read_volume(write_odim_rays(tmp_path / "v.h5", [good, broken, SECOND]), ("zh",))
    assert [round(float(sweep.elevation_deg[0]), 1) for sweep in volume.sweeps] == [0.5, 10.0]
    assert volume.left_out == {"sweeps: malfunction of the radar (how/malfunc)": 1}
    with pytest.raises(BadInput, match="all sweeps are marked: malfunction"):
        read_volume(write_odim_rays(tmp_path / "b.h5", [broken, broken]), ("zh",))


@pytest.mark.parametrize(("name", "called"), [("COMP", "composite"), ("ELEV", "RHI"), ("CVOL", "Cartesian volume")])
def test_other_objects_of_odim_are_not_supported_and_not_damaged(name: str, called: str, tmp_path: Path) -> None:
    path = write_odim_rays(tmp_path / "v.h5", [SECOND], object=np.bytes_(name))
    with pytest.raises(BadInput, match=f"an ODIM {called} .* is not supported"):
        read_raw(path)


def test_repeated_sweeps_without_reflectivity_do_not_count_against_echo(tmp_path: Path) -> None:
    """Formats with one table for all sweeps fill the Doppler cut's reflectivity with missing data."""
    azimuths = EVEN
    codes = code_of(azimuths)
    blank, half = np.full_like(codes, NO_DATA), codes.copy()
    half[:, 12:] = NO_DATA
    sweeps = [Rays(0.5, azimuths, codes), Rays(0.6, azimuths, blank), Rays(0.5, azimuths, half), SECOND]
    volume = read_volume(write_cfradial_rays(tmp_path / "v.nc", sweeps), ("zh",))
    assert len(volume.sweeps) == 3
    assert volume.sweeps[0].unseen is None
    unseen = volume.sweeps[1].unseen
    assert unseen is not None
    assert unseen[:, 12:].all()
    assert not unseen[:, :12].any()


@pytest.mark.parametrize(("first", "step"), [(0, 2), (1, 4), (3, 4)])
def test_fields_of_coarser_rays_are_read_on_theirs(first: int, step: int) -> None:
    azimuths = np.arange(0.5, 360, 3)
    codes = np.full((120, 24), NO_DATA, np.uint8)
    codes[first::step] = code_of(azimuths)[first::step]
    sweep = cfradial(Rays(0.5, azimuths, codes))
    assert len(sweep.azimuth_deg) == len(range(first, 120, step))
    assert np.isfinite(sweep.fields["zh"]).all()
    assert_values_are_where_their_azimuth_is(sweep)


def test_fields_of_coarser_gates_are_read_on_theirs() -> None:
    """A field of 2 km in a table of 1 km: every other gate is fill, and no evidence against echo."""
    azimuths = np.arange(0.5, 360, 3)
    codes = code_of(azimuths)
    codes[:, 1::2] = NO_DATA
    sweep = cfradial(Rays(0.5, azimuths, codes))
    np.testing.assert_allclose(sweep.range_m, 500 + 2000 * np.arange(12))
    assert np.isfinite(sweep.fields["zh"]).all()


def test_a_sweep_without_any_echo_is_a_sweep(tmp_path: Path) -> None:
    azimuths = EVEN
    dry = Rays(5.0, azimuths, np.full((36, 24), NO_DATA, np.uint8))
    volume = read_volume(write_cfradial_rays(tmp_path / "v.nc", [Rays(0.5, azimuths, code_of(azimuths)), dry]), ("zh",))
    assert len(volume.sweeps) == 2


@given(st.floats(-500, 30e3), st.sampled_from([100.0, 250.0, 1000.0]))
@settings(max_examples=10, deadline=None)
def test_gates_of_universal_format_start_where_py_art_reads_them(start: float, spacing: float) -> None:
    """Kilometres and metres of the start are two numbers in the header."""
    pyart = pyart_library()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "v.uf"
        radar = pyart.testing.make_empty_ppi_radar(20, 36, 2)
        radar.range["data"] = (round(start) + spacing * (np.arange(20) + 0.5)).astype(np.float32)
        radar.range["meters_to_center_of_first_gate"] = float(radar.range["data"][0])
        radar.range["meters_between_gates"] = spacing
        radar.elevation["data"] = np.repeat([0.5, 10.0], 36)
        radar.fixed_angle["data"] = np.array([0.5, 10.0])
        values = np.tile(np.arange(20.0), (72, 1))
        radar.fields = {"reflectivity": {"data": np.ma.masked_less(values, 3), "units": "dBZ"}}
        pyart.io.write_uf(str(path), radar, uf_field_names={"reflectivity": "DZ"})
        theirs, ours = pyart.io.read_uf(str(path), file_field_names=True), read_raw(path).sweeps
        assert len(ours) == 2
        for number, sweep in enumerate(ours):
            rays = theirs.get_slice(number)
            np.testing.assert_allclose(sweep.range_m, theirs.range["data"], atol=0.01)
            np.testing.assert_allclose(sweep.range_m, radar.range["data"], atol=1)
            np.testing.assert_allclose(sweep.azimuth_deg, theirs.azimuth["data"][rays])
            expected = np.ma.filled(theirs.fields["DZ"]["data"][rays].astype(float), np.nan)
            np.testing.assert_allclose(sweep.moments["DBTH"].values, expected, rtol=1e-6)
