"""CfRadial files as programs write them: geometry of rays, corrections, codes, sweeps, times and units."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.formats import format_of, read_raw, read_volume
from polarcast.data.ingest.volumes.readers.ray_geometry import on_common_range
from polarcast.data.ingest.volumes.volume import Sweep, Volume
from tests.support.polar_files import GATE_M, GATES, NO_DATA, NO_ECHO, Rays, code_of, write_cfradial_rays

AZIMUTHS = np.arange(5.0, 360, 10)
LOW, HIGH = (Rays(elevation, AZIMUTHS, code_of(AZIMUTHS)) for elevation in (0.5, 10.0))
COUNT = 2 * len(AZIMUTHS)
NEAR = np.repeat(np.arange(40, 40 + GATES, dtype=np.uint8)[None], len(AZIMUTHS), 0)
"""Codes that tell the gate."""
Edit = Callable[[netCDF4.Dataset], None]


def volume_of(path: Path, edit: Edit, rays: tuple[Rays, ...] = (LOW, HIGH), **settings: Any) -> Volume:
    write_cfradial_rays(path / "v.nc", rays, **settings)
    with netCDF4.Dataset(path / "v.nc", "r+") as file:
        file.set_auto_maskandscale(False)
        edit(file)
    return read_volume(path / "v.nc", ("zh",))


def put(file: netCDF4.Dataset, name: str, values: Any, dims: tuple[str, ...] = (), **attributes: Any) -> None:
    values = np.asarray(values)
    variable = file.createVariable(name, values.dtype, dims)
    variable.setncatts(attributes)
    variable[...] = values


def refuse(path: Path, match: str, edit: Edit, **settings: Any) -> None:
    with pytest.raises(BadInput, match=match) as caught:
        volume_of(path, edit, **settings)
    assert "\n" not in str(caught.value)


def gates_at(sweep: Sweep, metres: np.ndarray) -> np.ndarray:
    """Return zh of the first ray at the gate whose centre is nearest to each range."""
    return sweep.fields["zh"][0][np.abs(sweep.range_m[:, None] - metres).argmin(0)]


@pytest.mark.parametrize("units", ["meters", "km", "", "km without units"])
def test_rays_tell_where_their_gates_are(units: str, tmp_path: Path) -> None:
    """The second sweep has gates of 500 m, which only the geometry of its rays tells."""
    spacing = np.repeat([GATE_M, GATE_M / 2], len(AZIMUTHS))
    unit = 1000.0 if "km" in units else 1.0
    units = "" if "without" in units else units

    def edit(file: netCDF4.Dataset) -> None:
        put(file, "ray_gate_spacing", spacing / unit, ("time",), units=units)
        put(file, "ray_start_range", (spacing / 2) / unit, ("time",), units=units)

    sweeps = volume_of(tmp_path, edit).sweeps
    np.testing.assert_allclose(sweeps[0].range_m, (np.arange(GATES) + 0.5) * GATE_M)
    np.testing.assert_allclose(sweeps[1].range_m, (np.arange(GATES) + 0.5) * GATE_M / 2)


def test_a_range_of_each_ray_is_that_of_its_sweep(tmp_path: Path) -> None:
    ranges = (np.arange(GATES) + 0.5) * np.repeat([GATE_M, GATE_M / 2], len(AZIMUTHS))[:, None]

    def edit(file: netCDF4.Dataset) -> None:
        file.renameVariable("range", "other")
        put(file, "range", ranges.astype("f4"), ("time", "range"), units="meters")

    for sweep, expected in zip(volume_of(tmp_path, edit).sweeps, ranges[:: len(AZIMUTHS)], strict=True):
        np.testing.assert_allclose(sweep.range_m, expected)


def test_a_range_of_each_sweep_is_read(tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        file.renameVariable("range", "other")
        ranges = (np.arange(GATES) + 0.5) * np.array([[GATE_M], [GATE_M / 2]])
        put(file, "range", ranges.astype("f4"), ("sweep", "range"), units="meters")

    first, second = volume_of(tmp_path, edit).sweeps
    np.testing.assert_allclose(first.range_m, 2 * second.range_m)


def test_rays_of_one_sweep_with_other_gates_are_put_on_those_of_most(tmp_path: Path) -> None:
    """Each value tells its range: the first ten rays have gates of 500 m, and reach half as far."""
    spacing = np.full(COUNT, GATE_M)
    spacing[:10] = GATE_M / 2

    def edit(file: netCDF4.Dataset) -> None:
        put(file, "ray_gate_spacing", spacing, ("time",), units="meters")
        put(file, "ray_start_range", spacing / 2, ("time",), units="meters")
        centres = (np.arange(GATES) + 0.5) * spacing[:, None]
        file["DBZ"][:] = np.floor(centres / GATE_M).astype(np.uint8) + 40

    sweep = volume_of(tmp_path, edit, attributes={"_Undetect": np.uint8(NO_ECHO)}).sweeps[0]
    np.testing.assert_allclose(sweep.range_m, (np.arange(GATES) + 0.5) * GATE_M)
    told = (sweep.fields["zh"] + 32) / 0.5 - 40
    expected = np.where(
        (np.arange(36) < 10)[:, None] & (sweep.range_m > GATES * GATE_M / 2), np.nan, np.floor(sweep.range_m / GATE_M)
    )
    np.testing.assert_array_equal(told, expected)
    [moment] = read_raw(tmp_path / "v.nc").sweeps[0].moments.values()
    np.testing.assert_array_equal(moment.unseen, np.isnan(expected))


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 40)), min_size=2, max_size=6))
@settings(max_examples=50, deadline=None)
def test_the_gate_of_a_ray_is_the_one_that_contains_the_range(geometry: list[tuple[int, int]]) -> None:
    spacing, start = (np.array(part, float) for part in zip(*geometry, strict=True))
    rows = 100 * (start[:, None] + spacing[:, None] * (np.arange(30) + 0.5))
    found = on_common_range(rows)
    assert (np.abs(rows - found.metres).max(1) < 1e-3).any()
    if found.gates is not None:
        for row, width, gates in zip(rows, 100 * spacing, found.gates, strict=True):
            inside = (found.metres >= row[0] - width / 2) & (found.metres < row[-1] + width / 2)
            np.testing.assert_array_equal(gates >= 0, inside)
            assert (np.abs(row[gates[inside]] - found.metres[inside]) <= width / 2).all()


@pytest.mark.parametrize(("place", "kind"), [("", "f4"), ("", "per ray"), ("georef_correction", "f4")])
def test_corrections_are_added(place: str, kind: str, tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        into = file.createGroup(place) if place else file
        dims = ("time",) if kind == "per ray" else ()
        for name, number, units in (("azimuth", 30.0, "degrees"), ("elevation", 0.25, "degrees"), ("range", 0.5, "km")):
            values = np.full(COUNT, number, "f4") if dims else np.float32(number)
            put(into, f"{name}_correction", values, dims, units=units)

    turned = tuple(Rays(rays.elevation - 0.25, (AZIMUTHS - 30) % 360, rays.codes) for rays in (LOW, HIGH))
    volume = volume_of(tmp_path, edit, turned)
    plain = volume_of(tmp_path, lambda _: None)
    for ours, expected in zip(volume.sweeps, plain.sweeps, strict=True):
        np.testing.assert_allclose(ours.azimuth_deg, expected.azimuth_deg, atol=1e-4)
        np.testing.assert_allclose(ours.elevation_deg, expected.elevation_deg, atol=1e-4)
        np.testing.assert_allclose(ours.range_m, expected.range_m + 500)
        np.testing.assert_array_equal(ours.fields["zh"], expected.fields["zh"])
    assert volume.left_out["rays moved by azimuth_correction (30 degrees)"] == COUNT


@pytest.mark.parametrize("value", [0.0, -9999.0, np.nan])
def test_no_correction_is_added_where_none_is_given(value: float, tmp_path: Path) -> None:
    volume = volume_of(tmp_path, lambda file: put(file, "azimuth_correction", np.float32(value), units="degrees"))
    np.testing.assert_allclose(volume.sweeps[0].azimuth_deg, AZIMUTHS)
    assert volume.left_out == {}


def test_corrections_that_were_applied_are_not_added_again(tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        put(file, "azimuth_correction", np.float32(30), units="degrees")
        put(file, "georefs_applied", np.ones(COUNT, "i1"), ("time",))

    assert volume_of(tmp_path, edit).left_out == {}
    np.testing.assert_array_equal(volume_of(tmp_path, edit).sweeps[0].fields["zh"], 0.5 * LOW.codes - 32)


@pytest.mark.parametrize("told_by", ["platform_is_mobile", "platform_type"])
def test_azimuths_relative_to_a_moving_platform_are_refused(told_by: str, tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        put(file, "heading", np.full(COUNT, 90, "f4"), ("time",), units="degrees")
        file.setncattr(told_by, "true" if told_by == "platform_is_mobile" else "ship")

    def applied(file: netCDF4.Dataset) -> None:
        edit(file)
        put(file, "georefs_applied", np.ones(COUNT, "i1"), ("time",))

    refuse(tmp_path, r"relative to a moving platform \(heading 90°\).*georefs_applied", edit)
    np.testing.assert_allclose(volume_of(tmp_path, applied).sweeps[0].azimuth_deg, AZIMUTHS)


@pytest.mark.parametrize("state", ["false", "parked to the north"])
def test_a_platform_that_stands_or_heads_north_is_read(state: str, tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        heading = 90 if state == "false" else 360
        put(file, "heading", np.full(COUNT, heading, "f4"), ("time",), units="degrees")
        file.platform_is_mobile, file.platform_type = ("false" if state == "false" else "true"), "vehicle"

    np.testing.assert_allclose(volume_of(tmp_path, edit).sweeps[0].azimuth_deg, AZIMUTHS)


@pytest.mark.parametrize("units", [None, "meters"])
@pytest.mark.parametrize("gate", [1.0, 2.0])
def test_ranges_in_km_that_claim_metres_are_asked_about(units: str | None, gate: float, tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        file["range"][:] = (np.arange(GATES) + 0.5) * gate
        if units:
            file["range"].units = units

    refuse(tmp_path, "the gates reach .* m, as if they were in km — write the range in metres", edit)


def test_short_ranges_of_an_x_band_radar_are_read(tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        file["range"][:] = 3600 + (np.arange(GATES) + 0.5) * 60

    assert volume_of(tmp_path, edit).sweeps[0].range_m[0] == 3630


@pytest.mark.parametrize("name", ["_Undetect", "_undetect"])
def test_undetected_gates_were_seen_and_filled_ones_were_not(name: str, tmp_path: Path) -> None:
    codes = code_of(AZIMUTHS)
    codes[::3], codes[1::3] = NO_ECHO, NO_DATA
    volume = volume_of(
        tmp_path, lambda _: None, (Rays(0.5, AZIMUTHS, codes), HIGH), attributes={name: np.uint8(NO_ECHO)}
    )
    sweep = volume.sweeps[0]
    assert sweep.unseen is not None
    np.testing.assert_array_equal(sweep.unseen, codes == NO_DATA)
    np.testing.assert_array_equal(np.isnan(sweep.fields["zh"]), (codes == NO_DATA) | (codes == NO_ECHO))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_values_and_what_is_unseen_follow_the_attributes(data: st.DataObject) -> None:
    """Against a direct computation of each gate, for any codes, packing and valid range."""
    from tempfile import TemporaryDirectory

    fill, undetect = data.draw(st.lists(st.integers(0, 255), min_size=2, max_size=2, unique=True))
    limits = sorted(data.draw(st.lists(st.integers(0, 255), min_size=2, max_size=2, unique=True)))
    scale, offset = data.draw(st.sampled_from([0.25, 0.3])), data.draw(st.sampled_from([-20.0, 0.0]))
    as_text = data.draw(st.booleans())
    codes = np.array(data.draw(st.lists(st.integers(0, 255), min_size=GATES, max_size=GATES)), np.uint8)
    stored = np.repeat(codes[None], len(AZIMUTHS), 0)
    stored[0, :2] = fill, undetect
    attributes: dict[str, Any] = {
        "_FillValue": None, "missing_value": str(fill) if as_text else np.uint8(fill), "_Undetect": np.uint8(undetect),
        "scale_factor": str(scale) if as_text else scale, "add_offset": str(offset) if as_text else offset,
        "valid_range": np.array(limits, np.uint8),
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        path = write_cfradial_rays(Path(folder) / "v.nc", [Rays(0.5, AZIMUTHS, stored), HIGH], attributes)
        moment = read_raw(path).sweeps[0].moments["DBZ"]
    is_valid = (stored >= limits[0]) & (stored <= limits[1]) & (stored != fill) & (stored != undetect)
    np.testing.assert_allclose(moment.values, np.where(is_valid, stored * scale + offset, np.nan), rtol=1e-6)
    assert moment.unseen is not None
    np.testing.assert_array_equal(moment.unseen, ~is_valid & (stored != undetect))


@pytest.mark.parametrize("code", [-99.0, -99.9, -999.0, -9999.0])
@pytest.mark.parametrize(("name", "fill"), [("PHIDP", 60.0), ("KDP", 1.0)])
def test_codes_that_the_file_does_not_declare_are_missing_and_counted(
    name: str, fill: float, code: float, tmp_path: Path
) -> None:
    values = (fill + np.random.default_rng(0).normal(0, 0.3, (COUNT, GATES))).astype("f4")
    is_code = np.random.default_rng(1).random(values.shape) < 0.1

    def edit(file: netCDF4.Dataset) -> None:
        put(file, name, np.where(is_code, np.float32(code), values), ("time", "range"), units="")

    volume = volume_of(tmp_path, edit)
    field = np.concatenate([sweep.fields[name.lower()] for sweep in volume.sweeps])
    np.testing.assert_array_equal(field, np.where(is_code, np.nan, values))
    assert sum(volume.left_out.values()) == is_code.sum()
    told = " ".join(volume.left_out)
    assert f"{name.lower()} of {code:g}, taken as missing" in told or f"{name.lower()} beyond its range" in told


def test_a_code_in_units_of_packed_data_is_missing(tmp_path: Path) -> None:
    """Programs write `missing_value = -999.f` beside bytes or words that hold dBZ packed."""
    code = 0.5 * float(LOW.codes[3, 0]) - 32
    volume = volume_of(tmp_path, lambda _: None, attributes={"_FillValue": None, "missing_value": np.float32(code)})
    np.testing.assert_array_equal(np.isnan(volume.sweeps[0].fields["zh"]), LOW.codes == LOW.codes[3, 0])


SPLITS: dict[str, Edit] = {
    "only the ends": lambda file: file.renameVariable("sweep_start_ray_index", "other"),
    "only the starts": lambda file: file.renameVariable("sweep_end_ray_index", "other"),
    "neither": lambda file: [file.renameVariable(f"sweep_{e}_ray_index", e) for e in ("start", "end")] and None,
    "a number for each ray": lambda file: (
        [file.renameVariable(f"sweep_{e}_ray_index", e) for e in ("start", "end")]
        and put(file, "sweep_number", np.repeat([0, 1], len(AZIMUTHS)), ("time",))
    ),
    "ends are the next starts": lambda file: file["sweep_end_ray_index"].__setitem__(slice(None), [36, 72]),
}


@pytest.mark.parametrize("way", SPLITS)
def test_sweeps_are_told_without_their_index(way: str, tmp_path: Path) -> None:
    volume = volume_of(tmp_path, SPLITS[way])
    assert format_of(tmp_path / "v.nc") == "CfRadial 1"
    assert [sweep.elevation_deg.tolist() for sweep in volume.sweeps] == [[0.5] * 36, [10.0] * 36]
    np.testing.assert_array_equal(volume.sweeps[1].fields["zh"], 0.5 * HIGH.codes - 32)


def test_two_turns_at_one_elevation_are_two_sweeps_and_the_way_between_is_none(tmp_path: Path) -> None:
    between = np.array([1.0, 4.0, 7.0])
    way = tuple(Rays(elevation, np.array([0.0]), code_of(np.array([0.0]))) for elevation in between)
    write_cfradial_rays(tmp_path / "v.nc", [LOW, LOW, *way, HIGH])
    with netCDF4.Dataset(tmp_path / "v.nc", "r+") as file:
        SPLITS["neither"](file)
    sweeps = read_raw(tmp_path / "v.nc").sweeps
    assert [(len(sweep.azimuth_deg), sweep.elevation) for sweep in sweeps] == [(36, 0.5), (36, 0.5), (36, 10.0)]


def test_an_index_of_rays_that_are_not_there_is_named(tmp_path: Path) -> None:
    refuse(
        tmp_path, "sweeps of rays that the file does not have.*sweep_start_ray_index",
        lambda file: file["sweep_end_ray_index"].__setitem__(slice(None), [40, 80]),
    )  # fmt: skip


def test_a_sweep_that_xradar_writes_alone_is_read(tmp_path: Path) -> None:
    """Its rays are along the azimuth, and `sweep_number` and `sweep_mode` are variables of the file."""
    import xradar

    write_cfradial_rays(tmp_path / "v.nc", [LOW, HIGH])
    with netCDF4.Dataset(tmp_path / "v.nc", "r+") as file:
        put(file, "fixed_angle", np.array([0.5, 10.0]), ("sweep",))
        put(file, "sweep_number", np.arange(2), ("sweep",))
        file.createDimension("characters", 8)
        put(file, "sweep_mode", np.full((2, 8), b"\0", "S1"), ("sweep", "characters"))
    tree = xradar.io.open_cfradial1_datatree(tmp_path / "v.nc")
    tree["sweep_1"].to_dataset().to_netcdf(tmp_path / "one.nc")
    [sweep] = read_raw(tmp_path / "one.nc").sweeps
    assert (sweep.elevation, sweep.range_m[-1]) == (10.0, (GATES - 0.5) * GATE_M)
    np.testing.assert_allclose(sweep.azimuth_deg, AZIMUTHS)
    np.testing.assert_array_equal(sweep.moments["DBZ"].values, 0.5 * HIGH.codes - 32)


def _text(file: netCDF4.Dataset, name: str, text: str) -> None:
    file.createDimension("length", 32)
    put(file, name, netCDF4.stringtochar(np.array([text.encode().ljust(32, b"\0")], "S32"))[0], ("length",))


def _no_times(file: netCDF4.Dataset) -> None:
    file["time"][:] = np.nan
    _text(file, "time_coverage_start", "2020-06-01T12:00:00Z")


def _no_variable(file: netCDF4.Dataset) -> None:
    file.renameVariable("time", "other")
    file.time_coverage_start = "2020-06-01T12:00:00Z"


def _rounded(file: netCDF4.Dataset) -> None:
    file["time"].units = "seconds since 1970-01-01T00:00:00Z"
    file["time"][:] = np.float64(np.float32(1591012800.0))
    _text(file, "time_coverage_start", "2020-06-01T12:00:00Z")


@pytest.mark.parametrize("edit", [_no_times, _no_variable, _rounded])
def test_rays_without_a_time_have_the_start_of_the_file(edit: Edit, tmp_path: Path) -> None:
    assert str(volume_of(tmp_path, edit).time) == "2020-06-01T12:00:00"


def test_times_of_rays_that_are_rounded_to_minutes_are_refused(tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        file["time"].units = "seconds since 1970-01-01T00:00:00Z"
        file["time"][:] = (1591012800 + np.linspace(0, 300, COUNT)).astype("f4")

    refuse(tmp_path, "times in float32 to 128 s only — write them in float64", edit)


@pytest.mark.parametrize("name", ["fixed_angle", "sweep_fixed_angle"])
def test_rays_without_elevation_have_the_one_of_their_sweep(name: str, tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        file.renameVariable("elevation", "other")
        put(file, name, np.array([0.7, 9.0]), ("sweep",), units="degrees")

    assert [sweep.elevation_deg.tolist() for sweep in volume_of(tmp_path, edit).sweeps] == [
        [np.float32(0.7)] * 36, [9.0] * 36,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["elevation", "azimuth", "range"])
def test_a_coordinate_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    refuse(tmp_path, f"rays without {name} — write the variable", lambda file: file.renameVariable(name, "other"))


def test_words_for_the_start_and_the_units_of_the_altitude_are_no_reason_to_refuse(tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        file.time_coverage_start, file["altitude"].units = "unknown", "meters above mean sea level"

    volume = volume_of(tmp_path, edit)
    assert (str(volume.time), volume.site.altitude_m) == ("2021-07-04T12:34:56", 100.0)


@pytest.mark.parametrize(("value", "units"), [(5.6e9, "s-1"), (5.6, "GHz"), (5600.0, "MHz"), (5.6, ""), (5.6e9, "")])
def test_a_frequency_tells_the_band(value: float, units: str, tmp_path: Path) -> None:
    assert volume_of(tmp_path, lambda file: put(file, "frequency", value, units=units)).band == "C"


def test_places_are_read_in_their_units(tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        file["latitude"].units, file["longitude"].units, file["altitude"].units = "degrees_south", "deg", "km"
        file["altitude"][...] = 0.1

    site = volume_of(tmp_path, edit).site
    assert (site.latitude, site.longitude, site.altitude_m) == pytest.approx((-50.0, 8.0, 100.0))


def test_a_negative_latitude_in_degrees_south_is_asked_about(tmp_path: Path) -> None:
    def edit(file: netCDF4.Dataset) -> None:
        file["latitude"].units = "degrees_south"
        file["latitude"][...] = -50.0

    refuse(tmp_path, "latitude of -50 in degrees_south.*degrees_north", edit)
