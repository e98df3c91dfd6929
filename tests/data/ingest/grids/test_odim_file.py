"""Tests of composites in ODIM HDF5 as gridded sequences."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.source import open_source
from polarcast.data.ingest.jobs import is_gridded
from tests.support.grid_files import SMALL, events_of, speckle, whole

CODES = np.round((speckle((40, 48)) + 32) * 2).astype("u1")
CODES[:, :8] = 255
CODES[:, 8:16] = 0
PLANE = {"projdef": b"+proj=stere +lat_0=90", "xscale": 1000.0, "yscale": 1000.0}
SEEN = CODES[:, 16:] * 0.5 - 32


def composite(
    path: Path, codes: np.ndarray = CODES, minute: int = 0, where: dict[str, Any] | None = None, **what: Any
) -> Path:
    """Write an ODIM composite of one image; attributes with value None are omitted."""
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("ODIM_H5/V2_2")
        root = {"object": "COMP", "date": "20210704", "time": f"12{minute:02d}00", "source": "ORG:247"}
        _set(file.create_group("what"), {key: np.bytes_(value) for key, value in root.items()})
        _set(file.create_group("where"), PLANE if where is None else where)
        image = file.create_group("dataset1/data1")
        image["data"] = codes
        given = {"quantity": np.bytes_("DBZH"), "gain": 0.5, "offset": -32.0, "nodata": 255.0, "undetect": 0.0, **what}
        _set(image.create_group("what"), given)
    return path


def _set(group: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        if value is not None:
            group.attrs[name] = value


def test_nodata_is_no_data_and_undetect_no_echo(tmp_path: Path) -> None:
    path = composite(tmp_path / "a.h5")
    assert is_gridded(path)
    source = open_source(path, SMALL)
    assert source.times.tolist() == [np.datetime64("2021-07-04T12:00:00").tolist()]
    values = whole(path)[0]
    assert np.isnan(values[:, :8]).all()
    assert np.isneginf(values[:, 8:16]).all()
    np.testing.assert_allclose(values[:, 16:], SEEN)
    assert source.geometry.spacing == (1.0, 1.0)


@pytest.mark.parametrize(
    ("dtype", "nodata", "undetect"), [("f8", 1.797e308, -1.797e308), ("f4", 3.4028235e38, -8888000.0)]
)
def test_huge_codes_are_compared_as_stored(dtype: str, nodata: float, undetect: float, tmp_path: Path) -> None:
    values = np.where(CODES == 255, nodata, np.where(CODES == 0, undetect, CODES.astype(dtype))).astype(dtype)
    path = composite(tmp_path / "a.h5", values, nodata=nodata, undetect=undetect)
    np.testing.assert_array_equal(whole(path), whole(composite(tmp_path / "b.h5")))


def test_one_code_for_both_is_no_data(tmp_path: Path) -> None:
    values = whole(composite(tmp_path / "a.h5", undetect=255.0))[0]
    assert np.isnan(values[:, :8]).all()
    np.testing.assert_allclose(values[:, 8:16], -32)


def test_nan_for_both_and_nan_that_is_not_declared_are_no_data(tmp_path: Path) -> None:
    stored = np.where(CODES == 255, np.nan, CODES * 0.5 - 32).astype("f4")
    missing = {"gain": None, "offset": None}
    both = whole(composite(tmp_path / "a.h5", stored, nodata=np.nan, undetect=np.nan, **missing))[0]
    np.testing.assert_array_equal(both, stored)
    values = whole(composite(tmp_path / "b.h5", stored, nodata=-9999.0, undetect=-32.0, **missing))[0]
    np.testing.assert_array_equal(values, np.where(CODES == 0, -np.inf, stored))


@pytest.mark.parametrize("level", ["what", "dataset1/what"])
def test_the_coding_may_stand_at_a_higher_level_and_be_text(level: str, tmp_path: Path) -> None:
    path = composite(tmp_path / "a.h5", gain=None, offset=None, nodata=None, undetect=None)
    with h5py.File(path, "r+") as file:
        texts = {"gain": "0.5", "offset": "-32", "nodata": "255.0", "undetect": "0"}
        _set(file.require_group(level), {name: np.bytes_(text) for name, text in texts.items()})
    np.testing.assert_array_equal(whole(path), whole(composite(tmp_path / "b.h5")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": None}, "integers without what/gain .* --scale 0.5 --offset -32"),
        ({"gain": 0.0}, "gain 0 and offset -32"),
        ({"undetect": np.bytes_("none")}, "undetect is 'none'"),
    ],
)
def test_a_coding_that_is_not_clear_is_asked(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        open_source(composite(tmp_path / "a.h5", **change), SMALL)


def test_a_coding_that_the_file_lacks_can_be_given(tmp_path: Path) -> None:
    path = composite(tmp_path / "a.h5", gain=None, offset=None)
    found = whole(path, GridSettings(scale=0.5, offset=-32.0))
    np.testing.assert_array_equal(found, whole(composite(tmp_path / "b.h5")))


def test_an_invalid_nominal_time_is_replaced_by_that_of_the_data(tmp_path: Path) -> None:
    path = composite(tmp_path / "a.h5", startdate=np.bytes_("20210704"), starttime=np.bytes_("115500"))
    with h5py.File(path, "r+") as file:
        file["what"].attrs["date"] = np.bytes_("20210732")
    assert open_source(path, SMALL).times.tolist() == [np.datetime64("2021-07-04T11:55:00", "s").tolist()]
    with h5py.File(path, "r+") as file:
        file["dataset1/data1/what"].attrs["startdate"] = np.bytes_("unknown")
    with pytest.raises(BadInput, match=r"what/date and what/time are '20210732120000'"):
        open_source(path, SMALL)


def test_files_of_one_time_each_are_joined(tmp_path: Path) -> None:
    files = [composite(tmp_path / f"{m}.h5", np.roll(CODES, m // 6, axis=0), m) for m in (6, 0, 12)]
    source = open_source(files, SMALL)
    assert len(source.times) == 3
    frames = source.read(range(3), slice(0, 40), slice(0, 48))
    np.testing.assert_allclose(frames[1:, :, 16:], [np.roll(SEEN, k, axis=0) for k in (1, 2)])


def test_a_composite_in_degrees_has_its_corners(tmp_path: Path) -> None:
    where = {"projdef": b"+proj=longlat", "LL_lon": 10.0, "LL_lat": 50.0, "UR_lon": 14.8, "UR_lat": 54.0}
    geometry = open_source(composite(tmp_path / "a.h5", where=where), SMALL).geometry
    assert geometry.extent == pytest.approx((50.0, 10.0, 54.0, 14.8))
    assert not geometry.south_first


@pytest.mark.parametrize(
    ("quantity", "extra", "factor"),
    [("RATE", {}, 1.0), ("ACRR", {"startdate": b"20210704", "starttime": b"120000", "enddate": b"20210704",
                                  "endtime": b"121500"}, 4.0)],
)  # fmt: skip
def test_rain_is_in_mm_per_hour(quantity: str, extra: dict[str, bytes], factor: float, tmp_path: Path) -> None:
    path = composite(tmp_path / "a.h5", quantity=np.bytes_(quantity), gain=0.1, offset=0.0, **extra)
    values = whole(path)[0]
    np.testing.assert_allclose(values[:, 16:], CODES[:, 16:] * 0.1 * factor, rtol=1e-5)
    assert (values[:, 8:16] == 0).all()


def test_the_event_is_that_of_the_image(tmp_path: Path) -> None:
    codes = np.where(CODES == 255, np.uint8(150), CODES)
    files = tuple(composite(tmp_path / f"{m}.h5", codes, m) for m in (0, 6))
    event = events_of(files, SMALL)[0]
    expected = np.where(codes == 0, 0, codes * 0.5 - 32)[4:36, 8:40]
    np.testing.assert_allclose(event.radar[0, 0, 0], expected)
    assert event.note["read"]["layout"] == "ODIM HDF5"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantity": np.bytes_("QIND")}, "no image of reflectivity or rain.*choose from: QIND"),
        ({"quantity": np.bytes_("ACRR")}, "no accumulation time|can't be read"),
        ({"where": {"projdef": b"+proj=stere"}}, "no where/yscale.*--spacing-km"),
        ({"codes": np.zeros((2, 3, 4))}, "has the shape"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        open_source(composite(tmp_path / "a.h5", **change), SMALL)


def test_rows_can_be_given(tmp_path: Path) -> None:
    path = composite(tmp_path / "a.h5")
    turned = whole(path, GridSettings(rows="south-first"))
    np.testing.assert_array_equal(turned, whole(path)[:, ::-1])


def _two_heights(path: Path, heights: tuple[float, float] = (500.0, 2000.0)) -> Path:
    """Write CAPPIs at two heights; the second has other values."""
    composite(path, product=np.bytes_("CAPPI"), prodpar=heights[0])
    with h5py.File(path, "a") as file:
        file.copy("dataset1", "dataset2")
        file["dataset2/data1/what"].attrs["prodpar"] = heights[1]
        file["dataset2/data1/data"][:] = 100
    return path


def test_images_at_several_heights_are_chosen_by_height_or_asked_for(tmp_path: Path) -> None:
    path = _two_heights(tmp_path / "a.h5")
    ask = r"dataset1 \(CAPPI at 0.5 km\), dataset2 \(CAPPI at 2 km\).*--variable dataset1 or --height-km 0.5"
    with pytest.raises(BadInput, match=ask):
        open_source(path, SMALL)
    for chosen in ({"height_km": 2.0}, {"variable": "dataset2"}):
        source = open_source(path, GridSettings(**chosen))  # type: ignore[arg-type]
        np.testing.assert_array_equal(source.read([0], slice(0, 40), slice(16, 48)), np.full((1, 40, 32), 18.0))
        assert source.note["product"] == "CAPPI at 2 km"


def test_images_without_heights_are_asked_for(tmp_path: Path) -> None:
    path = composite(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.copy("dataset1", "dataset2")
    with pytest.raises(BadInput, match=r"2 images of DBZH: dataset1, dataset2 — choose one: --variable dataset1$"):
        open_source(path, SMALL)
