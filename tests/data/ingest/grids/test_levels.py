"""Tests of gridded sequences with zh, zdr and kdp at several heights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.events import plan, read_piece
from polarcast.data.ingest.grids.levels import between_levels, levels_around
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from tests.support.grid_files import dualpol, events_of, save, speckle

LEVELS = [0.5, 1.0, 2.0, 4.0]
SHAPE = (2, 4, 40, 40)
ZH = speckle(SHAPE)
ZDR = speckle(SHAPE, -1, 4)[:, ::-1]
KDP = speckle(SHAPE, -0.5, 3)[..., ::-1]
FIELDS = {"zh": ZH, "zdr": ZDR, "kdp": KDP}
INNER = np.s_[4:36, 4:36]
"""The centred tile of 32 in 40 pixels."""


def _settings(**changes: Any) -> GridSettings:
    return GridSettings(**{"tile": 32, "min_echo_pixels": 1, "heights_km": (1.0, 3.0), **changes})


def test_the_levels_around_each_height_are_interpolated(tmp_path: Path) -> None:
    event = events_of(save(dualpol(FIELDS, LEVELS), tmp_path / "a.nc"), _settings())[0]
    assert (event.variables, event.heights_km, event.rain) == (("zh", "zdr", "kdp"), (1.0, 3.0), None)
    for number, values in enumerate(FIELDS.values()):
        np.testing.assert_array_equal(event.radar[:, number, 0], values[:, 1][:, *INNER])
        middle = (values[:, 2] + values[:, 3])[:, *INNER] / 2
        np.testing.assert_allclose(event.radar[:, number, 1], middle, rtol=1e-5, atol=1e-6)
    heights = event.note["read"]["heights"]
    assert heights == {"axis": "z", "above": "above sea level", "interpolated_km": [3.0]}
    assert event.note["read"]["variables"]["kdp"] == "kdp in degrees/km"


def test_levels_in_any_order_are_the_same(tmp_path: Path) -> None:
    content = dualpol(FIELDS, LEVELS)
    up = events_of(save(content, tmp_path / "up.nc"), _settings())[0]
    down = events_of(save(content.isel(z=slice(None, None, -1)), tmp_path / "down.nc"), _settings())[0]
    np.testing.assert_allclose(down.radar, up.radar, rtol=1e-6)


def test_zdr_and_kdp_have_values_where_zh_has_echo(tmp_path: Path) -> None:
    zh = ZH.copy()
    zh[..., :20] = -32  # no echo
    zh[..., 30:] = np.nan  # no data
    event = events_of(save(dualpol({**FIELDS, "zh": zh}, LEVELS), tmp_path / "a.nc"), _settings())[0]
    assert not event.radar[..., :16].any()
    assert not event.radar[..., 26:].any()
    assert (event.radar[:, 1:, :, :, 16:26] != 0).any((0, 2, 3, 4)).all()
    assert event.observed is not None
    assert event.observed[..., :26].all()
    assert not event.observed[..., 26:].any()


@pytest.mark.parametrize("height", [0.25, 4.5])
def test_heights_beyond_the_levels_are_refused(height: float, tmp_path: Path) -> None:
    path = save(dualpol(FIELDS, LEVELS), tmp_path / "a.nc")
    with pytest.raises(BadInput, match=rf"no data at {height} km: its levels are 0.5 to 4 km.*--heights"):
        open_source(path, _settings(heights_km=(1.0, height)))


NAMED = {
    "names of Py-ART": ("reflectivity", "differential_reflectivity", "specific_differential_phase"),
    "names of ODIM": ("DBZH", "ZDR", "KDP"),
    "corrected before raw": ("corrected_reflectivity", "corrected_differential_reflectivity", "corrected_KDP"),
}


@pytest.mark.parametrize("names", NAMED.values(), ids=NAMED)
def test_variables_are_found_by_their_names(names: tuple[str, str, str], tmp_path: Path) -> None:
    units = dict(zip(names, ("dBZ", "dB", "deg km-1"), strict=True))
    fields = dict(zip(names, FIELDS.values(), strict=True))
    path = save(dualpol({"DBZ": ZH - 5, **fields}, LEVELS, DBZ="dBZ", **units), tmp_path / "a.nc")
    event = events_of(path, _settings())[0]
    assert [text.split()[0] for text in event.note["read"]["variables"].values()] == list(names)


def test_variables_are_found_by_their_standard_names(tmp_path: Path) -> None:
    content = dualpol({"a": ZH, "b": ZDR, "c": KDP}, LEVELS, a="dBZ", b="dB", c="degrees/km")
    standard = ("equivalent_reflectivity_factor", "log_differential_reflectivity_hv", "specific_differential_phase_hv")
    for name, text in zip("abc", standard, strict=True):
        content[name].attrs["standard_name"] = text
    assert events_of(save(content, tmp_path / "a.nc"), _settings())[0].variables == ("zh", "zdr", "kdp")


def test_names_and_rain_can_be_given(tmp_path: Path) -> None:
    rain = np.abs(speckle(SHAPE, 0, 30))
    content = dualpol({"A": ZH, "B": ZDR, "KDP": KDP, "R": rain}, LEVELS, A="dBZ", B="dB", KDP="deg/km", R="mm/h")
    path = save(content, tmp_path / "a.nc")
    event = events_of(path, _settings(names=(("zdr", "B"), ("zh", "A"))))[0]
    assert (event.variables, event.rain) == (("zh", "zdr", "kdp"), None)
    event = events_of(path, _settings(names=(("rain_rate", "R"), ("zh", "A"))))[0]
    assert event.variables == ("zh", "kdp")
    assert event.rain is not None
    np.testing.assert_array_equal(event.rain, rain[:, 1][:, *INNER])
    assert "derived" not in event.note
    assert event.observed is not None
    assert event.observed.shape[1] == 3  # two heights and the ground
    with pytest.raises(BadInput, match=r"no variable 'C'.*choose from: A, B, KDP, R"):
        open_source(path, _settings(names=(("kdp", "C"),)))
    with pytest.raises(BadInput, match=r"no variable 'vel'.*zh, zdr, kdp, rain_rate"):
        _settings(names=(("vel", "C"),))


def test_one_name_gives_one_variable(tmp_path: Path) -> None:
    path = save(dualpol(FIELDS, LEVELS), tmp_path / "a.nc")
    event = events_of(path, _settings(variable="zh"))[0]
    assert (event.variables, event.heights_km) == (("zh",), (1.0, 3.0))


@pytest.mark.parametrize(
    ("name", "units", "convert"),
    [
        ("zdr", "1", lambda v: 10 ** (v.astype(float) / 10)),
        ("kdp", "rad/km", lambda v: np.deg2rad(v.astype(float))),
        ("zh", "mm6 m-3", lambda v: 10 ** (v.astype(float) / 10)),
    ],
)
def test_units_are_converted(name: str, units: str, convert: Any, tmp_path: Path) -> None:
    path = save(dualpol({**FIELDS, name: convert(FIELDS[name])}, LEVELS, **{name: units}), tmp_path / "a.nc")
    event = events_of(path, _settings(heights_km=(1.0,)))[0]
    for number, values in enumerate(FIELDS.values()):
        np.testing.assert_allclose(event.radar[:, number, 0], values[:, 1][:, *INNER], rtol=1e-4, atol=1e-5)


def test_unknown_units_are_refused(tmp_path: Path) -> None:
    path = save(dualpol(FIELDS, LEVELS, kdp="parsec"), tmp_path / "a.nc")
    with pytest.raises(BadInput, match="KDP in units 'parsec'"):
        open_source(path, _settings())


def test_files_without_levels_have_all_variables_too(tmp_path: Path) -> None:
    content = dualpol(FIELDS, LEVELS).isel(z=1)
    event = events_of(save(content, tmp_path / "a.nc"), _settings(height_km=0.5))[0]
    assert (event.variables, event.heights_km) == (("zh", "zdr", "kdp"), (0.5,))
    np.testing.assert_array_equal(event.radar[:, 2, 0], KDP[:, 1][:, *INNER])


@given(
    lower=st.one_of(st.just(np.nan), st.just(-np.inf), st.floats(-10, 60)),
    upper=st.one_of(st.just(np.nan), st.just(-np.inf), st.floats(-10, 60)),
    share=st.floats(0, 1),
)
def test_interpolation_in_height_is_linear_over_echo(lower: float, upper: float, share: float) -> None:
    out = float(between_levels(np.full((1, 1), lower, np.float32), np.full((1, 1), upper, np.float32), share)[0, 0])
    ends = [(np.float32(lower), 1 - share), (np.float32(upper), share)]
    seen = sum(weight for value, weight in ends if not np.isnan(value))
    echo = sum(weight for value, weight in ends if np.isfinite(value))
    if seen < 0.499:
        assert np.isnan(out)
    elif echo > 0 and echo >= 0.501 * seen:
        expected = sum(float(value) * weight for value, weight in ends if np.isfinite(value) and weight) / echo
        assert out == pytest.approx(expected, abs=1e-4)
    elif echo < 0.499 * seen and seen > 0.501:
        assert out == -np.inf


@given(levels=st.lists(st.integers(0, 150), min_size=2, max_size=12, unique=True), height=st.integers(0, 150))
def test_the_levels_around_a_height_are_the_nearest(levels: list[int], height: int) -> None:
    values = np.array(levels) / 10
    if not min(levels) <= height <= max(levels):
        with pytest.raises(BadInput, match="no data at"):
            levels_around(values, height / 10, Path("a"))
        return
    found = levels_around(values, height / 10, Path("a"))
    assert values[found.lower] == max(v for v in values if v <= height / 10 + 1e-6)
    assert values[found.upper] == min(v for v in values if v >= height / 10 - 1e-6)
    place = values[found.lower] + found.share * (values[found.upper] - values[found.lower])
    assert place == pytest.approx(height / 10)


@pytest.mark.real_data
def test_real_volumes_of_one_time_each_are_one_event(shared_data: Path) -> None:
    """CPOL, C band: medians of strong echo (Z > 45 dBZ) at 2 km are those of its tropical squall lines."""
    settings = GridSettings(heights_km=(2.0,))
    source = open_source(sorted((shared_data / "gridded_dualpol").glob("*.nc")), settings)
    pieces, dropped = plan(source, settings)
    assert (len(source.times), len(pieces), dict(dropped)) == (3, 1, {})
    event = read_piece(pieces[0], settings)
    assert (event.variables, len(event.times)) == (("zh", "zdr", "kdp"), 4)
    zh, zdr, kdp = event.radar[:, :, 0].swapaxes(0, 1)
    strong = zh > 45
    assert np.median(kdp[strong]) == pytest.approx(1.15, abs=0.15)
    assert np.median(zdr[strong]) == pytest.approx(2.0, abs=0.2)
    # The squall line is in the west of the radar, and moves west.
    assert np.nonzero(zh[0] > 45)[1].mean() < 100
