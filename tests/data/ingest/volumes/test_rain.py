"""Rain grids: laws of every relation, published coefficients, and what archives and events tell of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.ingest.run import IngestSettings, ingest
from polarcast.data.ingest.volumes.events import Scan as GriddedScan
from polarcast.data.ingest.volumes.events import save_gridded, to_event
from polarcast.data.ingest.volumes.frame import VolumeSettings, grid_volume
from polarcast.data.ingest.volumes.gridding import Grid, GriddedVolume
from polarcast.data.ingest.volumes.pyart_bridge import pyart_library
from polarcast.data.ingest.volumes.rain import (
    MOST_DBZ,
    MOST_ZDR,
    RAIN_OF_ZH_ZDR,
    RELATIONS,
    archive_description,
    check_band,
    rain_description,
    rain_rate,
)
from polarcast.data.ingest.volumes.volume import RadarSite
from polarcast.models.qpe.power_law import BRINGI_CHANDRASEKAR, PowerLawConfig
from tests.support.radar_files import Blob, Scan, write_cfradial1

pytestmark = pytest.mark.usefixtures("one_process")

ZR = (200.0, 1.6)
EACH = pytest.mark.parametrize("relation", sorted(RELATIONS))
INPUT = {"kdp": "kdp", "a": "ah", "zh": "zh", "zh_zdr": "zh"}
"""Field that the rain rises with."""
COARSE = VolumeSettings(Grid(16, 6.0, (1.0,)))


def _rate(relation: str, zh: float = 40, zdr: float = 1, kdp: float = 1, ah: float = 0.1, band: str = "C") -> float:
    fields = {
        name: np.array([value], np.float32) for name, value in locals().items() if name in ("zh", "zdr", "kdp", "ah")
    }
    return float(rain_rate(relation, fields, band, ZR)[0])


@EACH
@given(values=arrays.arrays(np.float32, (4, 3), elements=st.floats(-50, 80, width=32)), band=st.sampled_from("SC"))
def test_there_is_no_rain_without_echo_and_never_negative_rain(relation: str, values: np.ndarray, band: str) -> None:
    fields = dict(zip(("zh", "zdr", "kdp", "ah"), values, strict=True))
    assert (rain_rate(relation, fields, band, ZR) >= 0).all()
    nothing = {name: np.full(3, np.nan, np.float32) for name in fields}
    assert not rain_rate(relation, nothing, band, ZR).any()


@EACH
@settings(max_examples=50)
@given(ends=st.tuples(st.floats(0, 1), st.floats(0, 1)), band=st.sampled_from("SC"))
def test_rain_rises_with_what_it_is_computed_from(relation: str, ends: tuple[float, float], band: str) -> None:
    name = INPUT[relation]
    most = {"zh": MOST_DBZ, "kdp": 5.0, "ah": 2.0}[name]
    low, high = (_rate(relation, **{name: most * end}, band=band) for end in sorted(ends))
    assert low <= high
    assert _rate(relation, **{name: 0.2 * most}, band=band) < _rate(relation, **{name: 0.9 * most}, band=band)


@given(zdr=st.tuples(st.floats(-1, 6), st.floats(-1, 6)), band=st.sampled_from("SC"))
def test_rain_falls_with_zdr_because_large_drops_are_fewer(zdr: tuple[float, float], band: str) -> None:
    small, large = sorted(zdr)
    assert _rate("zh_zdr", zdr=large, band=band) <= _rate("zh_zdr", zdr=small, band=band)
    assert _rate("zh_zdr", zdr=3, band=band) < _rate("zh_zdr", zdr=1, band=band)


@given(rate=st.floats(0.1, 90), a=st.floats(50, 500), b=st.floats(1.2, 2))
def test_the_z_r_relation_is_inverted(rate: float, a: float, b: float) -> None:
    zh = 10 * np.log10(a * rate**b)
    found = rain_rate("zh", {"zh": np.array([zh], np.float32)}, None, (a, b))[0]
    limit = (10 ** (MOST_DBZ / 10) / a) ** (1 / b)
    assert found == pytest.approx(min(rate, limit), rel=1e-3)


@pytest.mark.parametrize("relation", ["zh", "zh_zdr"])
def test_hail_is_limited(relation: str) -> None:
    assert _rate(relation, zh=75, zdr=1) == _rate(relation, zh=MOST_DBZ, zdr=1)
    assert _rate("zh_zdr", zdr=9) == _rate("zh_zdr", zdr=MOST_ZDR)


@pytest.mark.parametrize("band", "SCX")
def test_coefficients_are_those_of_pyart(band: str) -> None:
    tables = pyart_library().retrieve.qpe
    for relation, name, table in (("kdp", "kdp", tables._coeff_rkdp_table()), ("a", "ah", tables._coeff_ra_table())):
        a, b = table[band]
        assert _rate(relation, **{name: 0.7}, band=band) == pytest.approx(a * 0.7**b, rel=1e-5)


def test_the_relation_at_c_band_is_that_of_the_power_law_model() -> None:
    assert RAIN_OF_ZH_ZDR["C"] == BRINGI_CHANDRASEKAR
    limits = PowerLawConfig()
    assert (limits.cap_dbz, limits.cap_zdr) == (MOST_DBZ, MOST_ZDR)


@pytest.mark.parametrize("relation", ["zh", "zh_zdr", "a", "kdp"])
def test_relations_agree_in_moderate_rain(relation: str) -> None:
    """Rain of 10 mm/h at C band has about 40 dBZ, 1.1 dB, 0.3 deg/km and 0.027 dB/km."""
    assert 5 < _rate(relation, zh=40, zdr=1.1, kdp=0.3, ah=0.027) < 20


def test_a_relation_without_coefficients_for_a_band_is_refused() -> None:
    with pytest.raises(BadInput, match="--rain: zh_zdr has no coefficients for X band"):
        check_band("zh_zdr", "X")
    for relation, band in (("zh_zdr", "C"), ("kdp", "X"), ("zh", None), ("none", "X")):
        check_band(relation, band)


@EACH
@pytest.mark.parametrize("band", "SC")
def test_the_description_has_the_numbers_and_is_no_gauge(relation: str, band: str) -> None:
    text = rain_description(relation, band, (300.0, 1.4))
    assert text.endswith("a product of the radar, not a gauge")
    numbers = {"kdp": {"S": "50.7", "C": "29.7", "X": "15.81"}, "a": {"S": "3100", "C": "250", "X": "45.5"},
               "zh_zdr": {"S": "0.0067", "C": "0.0058"}}  # fmt: skip
    assert numbers[relation][band] in text if relation in numbers else "Z = 300 R^1.4" in text


def test_archives_tell_their_relations_apart() -> None:
    texts = [archive_description(relation, ZR) for relation in RELATIONS]
    texts += [archive_description("zh", (300.0, 1.4)), archive_description("none", ZR)]
    assert len(set(texts)) == len(texts)
    assert archive_description("kdp", ZR) == "product of KDP"
    assert all(text.startswith("product of ") for text in texts[:-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rain": "gauge"}, r"unknown rain grid 'gauge'.*kdp, a, zh_zdr, zh, none"),
        ({"rain": "zh_zdr", "variables": ("zh", "kdp")}, "needs zdr"),
        ({"zr": (0.0, 1.6)}, "no Z–R relation"),
        ({"zr": (200.0, float("nan"))}, "no Z–R relation"),
    ],
)
def test_settings_that_give_no_rain_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(COARSE, **changes)


@pytest.mark.parametrize(("rain", "fields"), [("a", ("zh", "zdr", "kdp")), ("a", ("zh",))])
def test_specific_attenuation_needs_a_phase(tmp_path: Path, rain: str, fields: tuple[str, ...]) -> None:
    path = write_cfradial1(tmp_path / "v.nc", Scan(elevations=(0.5, 3.0), rays=60, gates=60, fields=fields))
    with pytest.raises(BadInput, match="needs the differential phase"):
        grid_volume([path], replace(COARSE, variables=fields, rain=rain))


def test_specific_attenuation_needs_a_level_in_rain(tmp_path: Path) -> None:
    site = {"latitude": 46.0, "longitude": 7.0, "altitude": 3100.0}
    path = write_cfradial1(tmp_path / "v.nc", Scan(elevations=(0.5, 3.0), rays=60, gates=60, site=site))
    with pytest.raises(BadInput, match=r"the lowest level, 4100 m above sea level, is above the rain .* 4000 m"):
        grid_volume([path], replace(COARSE, rain="a"))


def _event(path: Path, scan: Scan, chosen: VolumeSettings) -> tuple[GriddedVolume, object]:
    gridded = grid_volume([write_cfradial1(path / "v.nc", scan)], chosen)
    save_gridded(gridded, path / "cache.npz")
    return gridded, to_event([GriddedScan(gridded.time, RadarSite(0, 0, 0), path / "cache.npz", ())], chosen)


@EACH
def test_the_rain_of_an_event_is_its_lowest_level(tmp_path: Path, relation: str) -> None:
    blobs = (Blob(45, 30, 14, zh=45, kdp=1.5), Blob(200, 35, 12))
    scan = Scan(elevations=(0.5, 2.0, 5.0), rays=90, gates=120, blobs=blobs)
    chosen = VolumeSettings(Grid(16, 6.0, (1.0, 3.0)), rain=relation)
    gridded, event = _event(tmp_path, scan, chosen)
    assert event.radar.shape[1] == 3
    assert event.variables == ("zh", "zdr", "kdp")
    lowest = dict(zip(gridded.variables, gridded.radar[:, 0], strict=True))
    np.testing.assert_array_equal(event.rain[0], np.nan_to_num(rain_rate(relation, lowest, "C", ZR)))
    assert 1 < event.rain.max() < 200
    assert not event.rain[0][np.isnan(lowest["zh"])].any()
    assert event.note["rain"] == rain_description(relation, "C", ZR)
    assert ("specific_attenuation" in event.note["steps"]) == (relation == "a")


def test_pixels_whose_zdr_is_missing_are_not_observed_on_the_ground(tmp_path: Path) -> None:
    chosen = replace(COARSE, rain="zh_zdr", variables=("zh", "zdr"))
    radar = np.full((2, 1, 16, 16), np.nan, np.float32)
    radar[0, 0, 4:8, 4:8] = 40
    radar[1, 0, 4:8, 4:6] = 1
    covered = np.ones((1, 16, 16), bool)
    note = {"band": "C", "elevations_deg": [], "steps": {"read": {"left_out": {}}, "mask": {"taken_out": {}}}}
    gridded = GriddedVolume(np.datetime64("2021-07-04T12:00:00"), radar, covered, chosen.gridded, note)
    save_gridded(gridded, tmp_path / "cache.npz")
    event = to_event([GriddedScan(gridded.time, RadarSite(0, 0, 0), tmp_path / "cache.npz", ())], chosen)
    assert event.observed is not None
    assert event.observed[0, 0].all()
    assert not event.observed[0, 1, 4:8, 6:8].any()
    assert event.observed[0, 1].sum() == 256 - 8
    assert not event.rain[0, 4:8, 6:8].any()
    assert event.rain[0, 4:8, 4:6].min() > 5


@pytest.mark.acceptance
def test_archives_of_different_relations_are_not_mixed(tmp_path: Path) -> None:
    blobs = (Blob(45, 30, 14, zh=45, kdp=1.5),)
    path = write_cfradial1(tmp_path / "v.nc", Scan(elevations=(0.5, 2.0, 5.0), rays=90, gates=120, blobs=blobs))
    chosen, out = replace(COARSE, rain="zh_zdr", attenuation="linear"), tmp_path / "archive"
    assert ingest(out, [path], IngestSettings(chosen)).events == [0]
    note = json.loads((out / "archive.json").read_text("utf-8"))
    assert note["rain"].startswith("product of ZH and ZDR: R = 0.0067 Z^0.927")
    assert open_archive(out).event_note(0)["steps"]["attenuation"]["method"].startswith("linear")
    for other in (replace(chosen, rain="zh"), replace(chosen, rain="none"), replace(chosen, kdp="maesaka")):
        with pytest.raises(BadInput, match=r"made with other settings: (rain|kdp) is '\w+' in the archive, '\w+' now"):
            ingest(out, [path], IngestSettings(other))
    # An archive of an earlier version, whose attenuation was yes or no.
    del note["settings"]["kdp"], note["settings"]["zr"]
    note["settings"]["attenuation"] = True
    (out / "archive.json").write_text(json.dumps(note), "utf-8")
    assert ingest(out, [path], IngestSettings(chosen)).known == [str(path)]
    with pytest.raises(BadInput, match="attenuation is 'linear' in the archive, 'none' now"):
        ingest(out, [path], IngestSettings(replace(chosen, attenuation="none")))
