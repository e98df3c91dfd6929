"""ODIM sweeps however their attributes, angles, codes and fields are written, held against a direct computation."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.formats import read_raw, read_volume
from polarcast.data.ingest.odim import clock
from polarcast.data.ingest.volumes.pieces import Header
from polarcast.data.ingest.volumes.volume import Volume
from tests.support.polar_files import GATE_M, GATES, NO_DATA, NO_ECHO, Rays, code_of, write_odim_rays

EVEN = np.arange(5.0, 360, 10)
CODES = code_of(EVEN)
SECOND = Rays(10.0, EVEN, CODES)
"""A second elevation, without which there is no volume."""
CODING = {"gain": 0.5, "offset": -32.0, "nodata": float(NO_DATA), "undetect": float(NO_ECHO)}
_LIGHT = settings(max_examples=60, deadline=None)
Edit = Callable[[Any], None]


def write(path: Path, edit: Edit = lambda file: None, first: Rays | None = None) -> Path:
    write_odim_rays(path, [first or Rays(0.5, EVEN, CODES), SECOND])
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def read(folder: Path, edit: Edit, wanted: tuple[str, ...] = ("zh",)) -> Volume:
    return read_volume(write(folder / "v.h5", edit), wanted)


def setting(place: str, **attributes: Any) -> Edit:
    """Return an edit that writes attributes into a group, or removes those that are None."""

    def edit(file: Any) -> None:
        group = file.require_group(place)
        for name, value in attributes.items():
            if value is None:
                del group.attrs[name]
            else:
                group.attrs[name] = value

    return edit


def add_field(file: Any, place: str, name: str, codes: np.ndarray, **where: Any) -> None:
    """Add a field of codes, gain 0.1 and offset −5; `where` stands at its own level."""
    group = file.require_group(place)
    group.require_group("what").attrs.update({**CODING, "quantity": np.bytes_(name), "gain": 0.1, "offset": -5.0})
    group["data"] = codes
    if where:
        group.require_group("where").attrs.update(where)


@dataclass(frozen=True)
class Written:
    """A sweep as written.

    Attributes:
        centres: (a,) azimuth of the centre of each ray in the order of the file.
        kinds: (a, r) v for a value, e for no echo, d for no data.
        level: Group in which the coding stands.
        angles: Attributes of the angles.
        angles_at: Group of the angles.
        as_floats: Whether dBZ are stored, with NaN that is not declared as no data.
    """

    centres: np.ndarray
    kinds: np.ndarray
    level: str
    angles: dict[str, Any]
    angles_at: str
    as_floats: bool

    def edit(self, file: Any) -> None:
        for key in CODING:
            del file["dataset1/data1/what"].attrs[key]
        file.require_group(self.angles_at).attrs.update(self.angles)
        coding = {"nodata": -9999.0, "undetect": -64.0} if self.as_floats else CODING
        file.require_group(self.level).attrs.update(coding)
        codes = code_of(self.centres)
        codes[self.kinds == "e"], codes[self.kinds == "d"] = NO_ECHO, NO_DATA
        stored = codes
        if self.as_floats:
            without = np.where(self.kinds == "e", np.float32(-64), np.float32(np.nan))
            stored = np.where(self.kinds == "v", codes * np.float32(0.5) - 32, without)
        del file["dataset1/data1/data"]
        file["dataset1/data1/data"] = stored
        for name in ("nrays", "nbins"):
            del file["dataset1/where"].attrs[name]


@st.composite
def sweeps(draw: st.DrawFn) -> Written:
    count, first = draw(st.integers(12, 72)), draw(st.floats(0, 359))
    way = draw(st.sampled_from(["both", "starts", "texts", "pairs", "astart", "startaz"]))
    is_per_ray = way in ("both", "starts", "texts", "pairs")
    turn = draw(st.sampled_from([360.0, -360.0])) if is_per_ray else 360.0
    step = turn / count
    starts = first + step * np.arange(count)
    if is_per_ray:
        gone = draw(st.integers(0, count // 3))
        starts = np.roll(starts[: count - gone], draw(st.integers(0, count - 1)))
    if way in ("both", "texts", "pairs") and draw(st.booleans()):
        starts = np.array(draw(st.permutations(starts.tolist())))
    begin, end = starts % 360, (starts + step) % 360
    angles: dict[str, Any] = {
        "both": {"startazA": begin, "stopazA": end},
        "starts": {"startazA": begin},
        "texts": {key: np.bytes_(",".join(map(str, a))) for key, a in (("startazA", begin), ("stopazA", end))},
        "pairs": {"azangles": np.bytes_(",".join(f"{a}:{b}" for a, b in zip(begin, end, strict=True)))},
        "astart": {"astart": first},
        "startaz": {"startaz": first % 360, "stopaz": first % 360},
    }[way]
    at = "dataset1/where" if way == "startaz" else f"dataset1/{draw(st.sampled_from(['where', 'how', 'data1/how']))}"
    kinds = np.array(draw(st.lists(st.sampled_from("vvved"), min_size=GATES, max_size=GATES)))
    turned = [np.roll(kinds, draw(st.integers(0, GATES - 1))) for _ in range(len(starts))]
    turned[0][:2] = "e", "v"
    level = draw(st.sampled_from(["what", "dataset1/what", "dataset1/data1/what"]))
    return Written((starts + step / 2) % 360, np.stack(turned), level, angles, at, draw(st.booleans()))


def apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs((first - second + 180) % 360 - 180)


@given(sweeps())
@_LIGHT
def test_every_value_is_at_its_place_and_every_gate_without_data_is_unseen(written: Written) -> None:
    with TemporaryDirectory() as folder:
        sweep = read(Path(folder), written.edit).sweeps[0]
    rays = apart(sweep.azimuth_deg[None], written.centres[:, None]).argmin(1)
    assert apart(sweep.azimuth_deg[rays], written.centres).max() < 1e-3
    assert sorted(rays.tolist()) == list(range(len(sweep.azimuth_deg)))
    expected = np.where(written.kinds == "v", code_of(written.centres) * 0.5 - 32, np.nan)
    np.testing.assert_array_equal(sweep.fields["zh"][rays], expected.astype(np.float32))
    assert sweep.unseen is not None
    np.testing.assert_array_equal(sweep.unseen[rays], written.kinds == "d")


@pytest.mark.parametrize("name", [*CODING, "quantity"])
@pytest.mark.parametrize("level", ["what", "dataset1/what"])
def test_attributes_of_the_coding_may_stand_higher_and_the_nearest_comes_first(
    name: str, level: str, tmp_path: Path
) -> None:
    codes = CODES.copy()
    codes[:9], codes[9:18] = NO_ECHO, NO_DATA
    plain = Rays(0.5, EVEN, codes)
    expected = read_volume(write(tmp_path / "a.h5", first=plain), ("zh",)).sweeps[0]

    def edit(file: Any) -> None:
        value = file["dataset1/data1/what"].attrs[name]
        del file["dataset1/data1/what"].attrs[name]
        setting(level, **{name: value})(file)
        if level != "what":
            setting("what", **{name: np.bytes_("7")})(file)

    found = read_volume(write(tmp_path / "b.h5", edit, plain), ("zh",)).sweeps[0]
    np.testing.assert_array_equal(found.fields["zh"], expected.fields["zh"])
    np.testing.assert_array_equal(found.unseen, expected.unseen)


def test_numbers_may_be_text(tmp_path: Path) -> None:
    text = {name: np.bytes_(str(value)) for name, value in CODING.items()}
    sweep = read(tmp_path, setting("dataset1/data1/what", **text)).sweeps[0]
    np.testing.assert_array_equal(sweep.fields["zh"], CODES * np.float32(0.5) - 32)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"gain": None}, "DBZH can't be used: integers without what/gain"),
        ({"gain": None, "offset": None}, "integers without what/gain and what/offset"),
        ({"gain": 0.0}, "DBZH can't be used: gain 0 and offset -32"),
        ({"gain": np.nan}, "DBZH can't be used: gain nan"),
        ({"offset": np.bytes_("unknown")}, "DBZH can't be used: offset is 'unknown'"),
        ({"nodata": np.bytes_("none")}, "DBZH can't be used: nodata is 'none'"),
    ],
)
def test_a_field_whose_coding_is_not_clear_is_not_used(
    attributes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    def edit(file: Any) -> None:
        for number in (1, 2):
            setting(f"dataset{number}/data1/what", **attributes)(file)

    with pytest.raises(BadInput, match=message):
        read(tmp_path, edit)


def test_another_field_whose_coding_is_not_clear_is_told(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        add_field(file, "dataset1/data2", "ZDR", CODES)
        file["dataset1/data2/what"].attrs["gain"] = 0.0

    volume = read(tmp_path, edit)
    assert volume.left_out == {"ZDR: gain 0 and offset -5 (what/gain, what/offset)": 1}
    with pytest.raises(BadInput, match=r"ZDR can't be used: gain 0 .* remove it from --variables"):
        read_volume(tmp_path / "v.h5", ("zh", "zdr"))


def floats(stored: np.ndarray, **coding: float | None) -> Edit:
    def edit(file: Any) -> None:
        del file["dataset1/data1/data"]
        file["dataset1/data1/data"] = stored.astype("f4")
        setting("dataset1/data1/what", **{"gain": None, "offset": None, **coding})(file)

    return edit


def test_undeclared_nan_is_unseen_only_where_the_file_tells_no_echo(tmp_path: Path) -> None:
    stored = np.full((36, GATES), 20.0)
    stored[:9] = np.nan
    sweep = read(tmp_path, floats(stored, nodata=-9999.0, undetect=-64.0)).sweeps[0]
    assert sweep.unseen is None
    stored[9:18] = -64
    sweep = read(tmp_path, floats(stored, nodata=-9999.0, undetect=-64.0)).sweeps[0]
    assert sweep.unseen is not None
    np.testing.assert_array_equal(sweep.unseen, np.isnan(stored))
    np.testing.assert_array_equal(np.isfinite(sweep.fields["zh"]), stored == 20)


def test_a_sweep_of_undeclared_nan_is_unseen_if_another_sweep_tells_no_echo(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        floats(np.full((36, GATES), np.nan), nodata=-9999.0, undetect=-64.0)(file)

    [blank, _] = read_raw(write(tmp_path / "a.h5", edit)).sweeps
    assert not np.any(blank.moments["DBZH"].unseen)

    def edit_both(file: Any) -> None:
        edit(file)
        file["dataset2/data1/data"][:9] = NO_ECHO

    [blank, _] = read_raw(write(tmp_path / "b.h5", edit_both)).sweeps
    assert np.all(blank.moments["DBZH"].unseen)


def test_one_code_for_no_data_and_no_echo_tells_neither_and_nan_beside_it_is_unseen(tmp_path: Path) -> None:
    stored = np.full((36, GATES), 20.0)
    stored[:9] = np.nan
    for code in (np.nan, -64.0):
        stored[:9] = code
        sweep = read(tmp_path, floats(stored, nodata=code, undetect=code)).sweeps[0]
        assert sweep.unseen is None
        assert np.isnan(sweep.fields["zh"][:9]).all()
    stored[9:18] = np.nan
    sweep = read(tmp_path, floats(stored, nodata=-64.0, undetect=-64.0)).sweeps[0]
    assert sweep.unseen is not None
    np.testing.assert_array_equal(sweep.unseen, np.isnan(stored))


@pytest.mark.parametrize(
    "edit",
    [
        setting("dataset3/what", product=np.bytes_("RHI")),
        setting("dataset3/how", scan_mode=np.bytes_("RHI")),
        setting("dataset3/where", az_angle=30.0),
        setting("dataset3/how", startelA=np.linspace(0, 60, 36), stopelA=np.linspace(1, 61, 36)),
        setting("dataset3/how", elangles=np.linspace(0, 60, 36)),
    ],
)
def test_an_rhi_in_a_volume_is_no_ppi(edit: Edit, tmp_path: Path) -> None:
    path = write_odim_rays(tmp_path / "v.h5", [Rays(0.5, EVEN, CODES), SECOND, Rays(3.0, EVEN, CODES)])
    with h5py.File(path, "r+") as file:
        edit(file)
    assert [sweep.mode for sweep in read_raw(path).sweeps] == ["azimuth_surveillance"] * 2 + ["rhi"]
    assert len(read_volume(path, ("zh",)).sweeps) == 2


@pytest.mark.parametrize(
    ("place", "name", "told"),
    [
        ("where", "elangle", "no elevation (where/elangle)"),
        ("where", "rscale", "no spacing of the gates (where/rscale)"),
        ("", "data1", "no data in the dataset"),
    ],
)
def test_a_sweep_that_lacks_what_it_needs_is_left_out_and_told(
    place: str, name: str, told: str, tmp_path: Path
) -> None:
    path = write_odim_rays(tmp_path / "v.h5", [Rays(0.5, EVEN, CODES), Rays(3.0, EVEN, CODES), SECOND])
    with h5py.File(path, "r+") as file:
        group = file["dataset2"]
        if place:
            del group[place].attrs[name]
        else:
            del group[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = read_raw(path)
        assert [sweep.flaw for sweep in Header.of(raw).sweeps] == ["", told, ""]
        volume = read_volume(path, ("zh",))
    assert [sweep.flaw for sweep in raw.sweeps] == ["", told, ""]
    assert volume.left_out == {f"sweeps: {told}": 1}
    assert len(volume.sweeps) == 2


def test_a_file_without_sweeps_is_not_damaged(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"an ODIM polar volume without sweeps \(no dataset1\) — leave the file out"):
        read_raw(write_odim_rays(tmp_path / "v.h5", []))


RANGE_CODES = np.repeat(np.arange(20, 20 + 2 * GATES, dtype=np.uint8)[None], 36, 0)
"""Codes (36, 48) that tell the number of their gate, on gates of half the usual spacing."""


@pytest.mark.parametrize("count", [7, 2 * GATES, 2 * GATES - 9])
def test_a_field_of_another_number_of_gates_is_where_its_gates_are(count: int, tmp_path: Path) -> None:
    codes = RANGE_CODES[:, :count]
    sweep = read(tmp_path, lambda file: add_field(file, "dataset1/data2", "ZDR", codes)).sweeps[0]
    expected = np.full((36, GATES), np.nan)
    common = min(count, GATES)
    expected[:, :common] = codes[:, :common] * 0.1 - 5
    np.testing.assert_allclose(sweep.fields["zdr"], expected, rtol=1e-5)
    assert sweep.fields["zh"].shape == expected.shape
    unseen = read_raw(tmp_path / "v.h5").sweeps[0].moments["ZDR"].unseen
    np.testing.assert_array_equal(unseen, np.isnan(expected))


@pytest.mark.parametrize("step", [0.5, 2.0, 3.0, 0.25])
@pytest.mark.parametrize("starts_km", [0.0, 2.0])
def test_fields_of_another_spacing_are_put_onto_the_finest_gates(step: float, starts_km: float, tmp_path: Path) -> None:
    count = int(GATES / step)
    codes = np.repeat(np.arange(20, 20 + count, dtype=np.uint8)[None], 36, 0)
    where = {"rscale": GATE_M * step, "rstart": starts_km}
    volume = read(tmp_path, lambda file: add_field(file, "dataset1/data2", "ZDR", codes, **where))
    sweep = volume.sweeps[0]
    assert np.diff(sweep.range_m).mean() == pytest.approx(GATE_M * min(step, 1))
    gate = np.floor((sweep.range_m - 1000 * starts_km) / (GATE_M * step)).astype(int)
    there = (gate >= 0) & (gate < count)
    expected = np.where(there, (20 + gate) * 0.1 - 5, np.nan)
    np.testing.assert_allclose(sweep.fields["zdr"][0], expected, rtol=1e-5)
    np.testing.assert_array_equal(sweep.fields["zh"], np.repeat((CODES * 0.5 - 32)[:, :1], len(gate), 1))


def test_fields_in_a_dataset_each_are_one_sweep(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        for number in (1, 2):
            file.copy(f"dataset{number}", f"dataset{number + 2}")
            del file[f"dataset{number + 2}/data1"]
            add_field(file, f"dataset{number + 2}/data1", "ZDR", CODES)
        setting("dataset3/how", startazA=(EVEN[::-1] - 5), stopazA=(EVEN[::-1] + 5))(file)
        file["dataset3/data1/data"][...] = CODES[::-1]

    volume = read(tmp_path, edit, ("zh", "zdr"))
    assert len(volume.sweeps) == 2
    for sweep in volume.sweeps:
        np.testing.assert_allclose(sweep.fields["zdr"], CODES * 0.1 - 5, rtol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        setting("dataset3/what", starttime=np.bytes_("123700")),
        setting("dataset3/how", task=np.bytes_("B")),
        setting("dataset3/where", elangle=0.8),
    ],
)
def test_fields_of_another_time_scan_or_elevation_are_another_sweep(other: Edit, tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        setting("dataset1/how", task=np.bytes_("A"))(file)
        file.copy("dataset1", "dataset3")
        del file["dataset3/data1"]
        add_field(file, "dataset3/data1", "ZDR", CODES)
        other(file)

    raw = read_raw(write(tmp_path / "v.h5", edit))
    assert [sorted(sweep.moments) for sweep in raw.sweeps] == [["DBZH"], ["DBZH"], ["ZDR"]]


def test_fields_in_other_letters_are_the_same(tmp_path: Path) -> None:
    volume = read(tmp_path, setting("dataset2/data1/what", quantity=np.bytes_("dbzh")))
    assert len(volume.sweeps) == 2


def test_a_field_with_rays_unlike_the_others_is_not_used(tmp_path: Path) -> None:
    volume = read(tmp_path, lambda file: add_field(file, "dataset1/data2", "ZDR", CODES[:3]))
    assert volume.left_out == {"ZDR: rays or gates unlike those of DBZH": 1}


@pytest.mark.parametrize(
    ("version", "rstart", "first_m"),
    [
        ("V2_2", 0.5, 1000), ("V2_2", 2, 2500), ("V2_2", 500, 1000), ("V2_3", 1, 1500),
        ("V2_4", 500, 1000), ("V2_4", 0, 500),
    ],
)  # fmt: skip
def test_the_start_of_the_gates_is_in_km_or_plainly_in_metres(
    version: str, rstart: float, first_m: float, tmp_path: Path
) -> None:
    def edit(file: Any) -> None:
        file.attrs["Conventions"] = np.bytes_(f"ODIM_H5/{version}")
        setting("dataset1/where", rstart=rstart)(file)

    assert read(tmp_path, edit).sweeps[0].range_m[0] == pytest.approx(first_m)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"rstart": 50.0}, "gates from 50 km or m on"),
        ({"rscale": 1.0}, "gates 1 m apart .* write their spacing in metres"),
        ({"rscale": np.bytes_("wide")}, "rscale is 'wide'"),
        ({"nrays": GATES, "nbins": 36}, "a table of 36 × 24 for 24 rays and 36 gates"),
    ],
)
def test_what_is_not_clear_is_asked(attributes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        read(tmp_path, setting("dataset1/where", **attributes))


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        (b"20210704", b"123456", "2021-07-04T12:34:56"),
        (b"20210704", b"1234", "2021-07-04T12:34:00"),
        (b"20161231", b"235960", "2017-01-01T00:00:00"),
        ("2021-07-04", "12:34:56Z", "2021-07-04T12:34:56"),
        (np.int64(20210704), np.int64(3456), "2021-07-04T00:34:56"),
        (b"20200631", b"123456", "NaT"),
        (b"20210704", b"256000", "NaT"),
        (b"04072021", b"123456", "NaT"),
        (b"19700101", b"000000", "NaT"),
        (None, b"123456", "NaT"),
        (b"yesterday", b"noon", "NaT"),
    ],
)
def test_a_date_and_time_is_read_or_unknown(date: Any, time: Any, expected: str) -> None:
    found = clock(date, time)
    assert np.isnat(found) if expected == "NaT" else found == np.datetime64(expected)


@pytest.mark.parametrize(("scan", "expected"), [(b"20200631", "12:34:56"), (b"20210704", "12:40:00")])
def test_a_scan_without_a_valid_date_has_the_time_of_the_file(scan: bytes, expected: str, tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        for number in (1, 2):
            setting(f"dataset{number}/what", startdate=np.bytes_(scan), starttime=np.bytes_("124000"))(file)

    assert str(read(tmp_path, edit).time) == f"2021-07-04T{expected}"


def test_no_valid_time_at_all_is_told(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        setting("what", date=np.bytes_("unknown"))(file)
        for number in (1, 2):
            setting(f"dataset{number}/what", startdate=np.bytes_("unknown"))(file)

    with pytest.raises(BadInput, match="no time of the rays"):
        read(tmp_path, edit)


def test_a_place_may_be_text(tmp_path: Path) -> None:
    text = {"lat": np.bytes_("33.7° S".encode()), "lon": np.bytes_("151.2"), "height": "195 m"}
    site = read(tmp_path, setting("where", **text)).site
    assert (site.latitude, site.longitude, site.altitude_m) == (-33.7, 151.2, 195.0)
    with pytest.raises(BadInput, match=r"no position of the radar .* --site"):
        read(tmp_path, setting("where", lat="33°42'10\""))


@pytest.mark.real_data
def test_a_real_scan_has_its_own_time_where_that_of_the_file_is_wrong(shared_data: Path) -> None:
    path = shared_data / "volumes_in_pieces" / "odim_one_sweep_a_file" / "terrey_10.h5"
    [sweep] = read_raw(path).sweeps
    assert np.datetime64("2018-12-20T06:04:30") < sweep.start < np.datetime64("2018-12-20T06:04:44")


@pytest.mark.parametrize("name", ["POLARVOLUME", ""])
def test_an_object_with_a_name_of_its_own_is_read_if_it_has_sweeps(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, setting("what", object=np.bytes_(name)))
    plain = read(tmp_path, lambda file: None)
    np.testing.assert_array_equal(found.sweeps[0].fields["zh"], plain.sweeps[0].fields["zh"])


def test_an_unknown_object_without_sweeps_is_not_supported(tmp_path: Path) -> None:
    def edit(file: Any) -> None:
        file["what"].attrs["object"] = np.bytes_("LIGHTNING")
        for number in (1, 2):
            del file[f"dataset{number}/where"].attrs["elangle"]

    with pytest.raises(BadInput, match=r"an ODIM unknown object \(LIGHTNING\) is not supported"):
        read(tmp_path, edit)
