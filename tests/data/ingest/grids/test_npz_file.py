"""Tests of npz files as gridded sequences: coordinates, names of packing, unknown keys."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.geometry import KM_PER_DEGREE
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from tests.support.grid_files import SMALL, speckle, whole, write_npz

DATA = speckle((2, 36, 40))
"""First row north, first column west."""
NORTH = 50 + np.arange(36)[::-1] / KM_PER_DEGREE
EAST = 8 + np.arange(40) / (KM_PER_DEGREE * 0.64)
Y, X = np.arange(36)[::-1] - 17.5, np.arange(40) - 19.5
KEYS: dict[str, dict[str, np.ndarray]] = {
    "y and x in km": {"y": Y, "x": X},
    "y and x in m": {"y": 1000 * Y, "x": 1000 * X},
    "y alone": {"y": Y},
    "lat and lon": {"lat": NORTH, "lon": EAST},
    "latitude and longitude": {"latitude": NORTH, "longitude": EAST},
    "lat and lon of the pixels": dict(zip(("lat", "lon"), np.meshgrid(NORTH, EAST, indexing="ij"), strict=True)),
    "indices beside latitudes": {"y": np.arange(36), "x": np.arange(40), "lat": NORTH, "lon": EAST},
}


def _turned(keys: dict[str, np.ndarray], south_first: bool, from_east: bool) -> dict[str, np.ndarray]:
    """Return coordinates of the data with rows or columns in the other order; indices stay."""
    out = {}
    for key, values in keys.items():
        is_row = key in ("y", "lat", "latitude")
        turned = values if values.dtype.kind == "i" else values[:: -1 if (south_first if is_row else from_east) else 1]
        if values.ndim == 2:
            turned = values[:: -1 if south_first else 1, :: -1 if from_east else 1]
        out[key] = turned
    return out


@pytest.mark.parametrize("way", KEYS)
@pytest.mark.parametrize(("south_first", "from_east"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_coordinates_tell_north_and_west(
    way: str, south_first: bool, from_east: bool, order: Any, tmp_path: Path
) -> None:
    from_east = from_east and way != "y alone"
    stored = DATA[:, :: -1 if south_first else 1, :: -1 if from_east else 1]
    keys = _turned(KEYS[way], south_first, from_east)
    path = write_npz(tmp_path / "a.npz", np.asarray(stored, order=order), **keys)
    np.testing.assert_array_equal(whole(path), DATA)
    note = open_source(path, SMALL).note
    assert note["north"] != "first row, as stored"
    assert (note["columns"] == "west first, assumed") == (way == "y alone")
    window = open_source(path, SMALL).read([1], slice(3, 9), slice(5, 30))
    np.testing.assert_array_equal(window[0], DATA[1, 3:9, 5:30])


def test_latitudes_and_longitudes_tell_the_place(tmp_path: Path) -> None:
    for name, keys in (("lat", {"lat": NORTH, "lon": EAST}), ("back", {"lat": NORTH[::-1], "lon": EAST})):
        geometry = open_source(write_npz(tmp_path / f"{name}.npz", DATA, dx_km=None, **keys), SMALL).geometry
        assert geometry.corner == pytest.approx((NORTH[0], EAST[0]))
        assert geometry.spacing == pytest.approx((1 / KM_PER_DEGREE, 1 / (KM_PER_DEGREE * 0.64)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"y": np.arange(36.0), "x": np.arange(40.0)}, r"whether its first row is north — say it: --rows north-first"),
        ({"y": Y, "x": X, "dx_km": None}, r"the unit of y is not known — write dx_km, or give --spacing-km"),
        ({"y": Y / 100, "x": X / 100}, r"y has steps of 0\.01, and pixels are 1 km — write y in km or m"),
        ({"y": Y[:-1]}, r"y of float64 has the shape \(35,\), and frames \(36, 40\)"),
        ({"y": np.broadcast_to(Y[:, None], (36, 40))}, r"y of float64 has the shape \(36, 40\)"),
        ({"lat": NORTH.astype("U9")}, r"lat of <U9 has the shape"),
        ({"y": Y, "lat": NORTH[::-1]}, r"the y axis and the latitude of the rows disagree about north"),
        ({"lat": NORTH, "lat0": 50.0, "lon0": 8.0, "dlat": -0.01, "dlon": 0.01}, r"both 'lat0' and 'lat'"),
        ({"gain": 0.5}, r"the key 'gain' is not known — keys that are read: data, time, units, scale"),
        ({"crs": np.arange(3)}, r"the key 'crs' is not known"),
        ({"scale": 0.5, "scale_factor": 0.5}, r"both 'scale' and 'scale_factor' — write one of them"),
        ({"nodata": 255, "missing_value": 255}, r"both 'nodata' and 'missing_value'"),
        ({"scale_factor": np.ones(2)}, r"scale_factor is .*one number"),
        ({"_FillValue": "none"}, r"_FillValue is .*one number"),
    ],
)
def test_what_is_not_clear_is_one_line(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", DATA, **keys)
    with pytest.raises(BadInput, match=message) as caught:
        open_source(path, SMALL)
    assert "\n" not in str(caught.value)


def test_rows_can_be_said_of_indices(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", DATA, y=np.arange(36), x=np.arange(40))
    for rows, expected in (("north-first", DATA), ("south-first", DATA[:, ::-1])):
        np.testing.assert_array_equal(whole(path, GridSettings(rows=rows)), expected)


@pytest.mark.parametrize("code", ["_FillValue", "missing_value", "nodata"])
def test_names_of_packing_of_cf_are_read(code: str, tmp_path: Path) -> None:
    codes = np.round((DATA + 32) * 2).astype("u1")
    codes[:, :8] = 255
    keys = {code: 255, "scale_factor": 0.5, "add_offset": -32.0}
    values = whole(write_npz(tmp_path / "a.npz", codes, **keys))
    assert np.isnan(values[:, :8]).all()
    np.testing.assert_allclose(values[:, 8:], codes[:, 8:] * 0.5 - 32)


def test_several_codes_are_missing_values(tmp_path: Path) -> None:
    data = DATA.copy()
    data[:, :4], data[:, 4:8], data[:, 8:12] = -50, -51, -52
    path = write_npz(tmp_path / "a.npz", data, missing_value=np.array([-50.0, -51.0]), _FillValue=-52.0)
    values = whole(path)
    assert np.isnan(values[:, :12]).all()
    np.testing.assert_array_equal(values[:, 12:], data[:, 12:])


def test_text_may_be_anything(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", DATA, meta="a composite", source=np.array(["a", "b"]), description=b"radar")
    np.testing.assert_array_equal(whole(path), DATA)
