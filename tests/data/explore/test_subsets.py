"""Tests of explorations of archives that lack rain, a variable or heights: what is left out is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import Archive, open_archive, write_event
from polarcast.data.errors import BadInput
from polarcast.data.explore.content import ArchiveContent
from polarcast.data.explore.explore import explore
from polarcast.data.synth.generate import PRESETS, generate_event
from polarcast.data.synth.side_by_side import beside_preset

pytestmark = pytest.mark.acceptance

ALWAYS = {"fig_5_2.png", "frames.png", "report.json", ".lock"}
RADAR_MAPS, RAIN_MAPS = {"fig_5_1.png"}, {"fig_7_1.png", "fig_7_2.png"}


def made_archive(
    root: Path,
    variables: tuple[str, ...],
    heights: tuple[float, ...],
    rain: bool,
    stored: tuple[float, ...] = (),
    seed: int = 1,
) -> Archive:
    """Write two small events with some variables and heights, named `stored` if given."""
    for event in range(2):
        made = generate_event(PRESETS["tiny"], seed, event, 64, 8)
        names = [("zh", "zdr", "kdp").index(v) for v in variables]
        levels = [(1.0, 3.0, 7.0).index(z) for z in heights]
        radar, observed = made.radar[:, names][:, :, levels], made.observed[:, [*levels, *([3] if rain else [])]]
        label = made.rain if rain else None
        write_event(
            root, event, radar, label, variables=variables, heights_km=stored or heights, observed=observed
        )  # fmt: skip
    return open_archive(root)


@pytest.mark.parametrize(
    ("variables", "heights", "rain", "figures", "named"),
    [
        (("zh", "zdr", "kdp"), (1.0, 3.0, 7.0), False, RADAR_MAPS, ["no rain grid"]),
        (("zh", "zdr"), (3.0,), False, RADAR_MAPS, ["no KDP", "no rain grid", "no height from 6 to 8 km"]),
        (("zh",), (3.0,), False, set(), ["no ZDR", "no KDP", "no rain grid", "no height from 6 to 8 km"]),
        (("zh", "kdp"), (1.0, 7.0), True, {"fig_5_1.png", "fig_7_2.png"}, ["no height of 3 km", "no ZDR"]),
        (("zh", "zdr", "kdp"), (1.0, 3.0, 7.0), True, RADAR_MAPS | RAIN_MAPS, []),
    ],
)
def test_what_an_archive_lacks_is_left_out_and_named(
    variables: tuple[str, ...], heights: tuple[float, ...], rain: bool, figures: set[str], named: list[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    archive = made_archive(tmp_path / "a", variables, heights, rain)
    out = tmp_path / "out"
    out.mkdir()
    for name in {*RADAR_MAPS, *RAIN_MAPS, "beside.png"}:
        (out / name).write_bytes(b"of another archive")
    found = explore(archive, out)
    assert {p.name for p in out.iterdir()} == ALWAYS | figures
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in figures)
    assert len(found.left_out) == len(named)
    assert all(any(line.startswith(start) for line in found.left_out) for start in named)
    tests = " ".join(row.test for row in found.acceptance)
    assert [v.upper() in tests for v in ("zdr", "kdp")] == [v in variables for v in ("zdr", "kdp")]
    assert ("Z = a R^b" in tests, "7 km" in tests) == (rain, 7.0 in heights and len(variables) > 1)
    assert bool(found.rain_relations) == (rain and "kdp" in variables)
    assert ("not tested" in found.verdict) == (not found.rain_relations)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert report["left_out"] == list(found.left_out)


def test_an_archive_with_other_heights_is_described_at_the_height_nearest_3_km(tmp_path: Path) -> None:
    whole = made_archive(tmp_path / "whole", ("zh", "zdr"), (1.0, 3.0), False)
    other = made_archive(tmp_path / "other", ("zh", "zdr"), (1.0, 3.0), False, stored=(0.5, 2.5))
    found = [explore(a, tmp_path / f"{a.root.name}-out") for a in (whole, other)]
    assert "rows are of 2.5 km, the nearest" in found[1].left_out[0]
    assert found[0].as_record()["acceptance"] == found[1].as_record()["acceptance"]


@pytest.mark.parametrize(
    ("heights", "storm", "ground", "ice"),
    [
        ((1.0, 3.0, 7.0), 1, 0, 2), ((2.0, 4.0), 0, 0, None), ((7.0,), 0, None, 0), ((2.5, 6.0), 0, None, 1),
        ((0.5, 1.0, 1.5), 2, 0, None),
    ],
)  # fmt: skip
def test_heights_are_chosen_by_distance(
    heights: tuple[float, ...], storm: int, ground: int | None, ice: int | None
) -> None:
    content = ArchiveContent(("zh",), heights, has_rain=True)
    assert (content.storm, content.ground, content.ice) == (storm, ground, ice)


@pytest.mark.parametrize("variables", [("zh", "zdr"), ("zh",)])
@pytest.mark.parametrize("height", [1.0, 7.0])
def test_a_subset_is_compared_with_the_same_synthetic_variables_and_height(
    variables: tuple[str, ...], height: float, tmp_path: Path
) -> None:
    archive = made_archive(tmp_path / "a", variables, (height,), False, seed=0)  # the first synthetic events
    compared = beside_preset(archive, "tiny", tmp_path, synthetic_events=2)
    groups = {"echo", "scales", "growth and decay"} | ({"ice"} if height == 7 else set())
    assert {row.group for row in compared.rows} == groups | ({"ZDR", "information"} if "zdr" in variables else set())
    for row in compared.rows:
        if row.archive_events:
            assert row.archive == pytest.approx(row.median), row.quantity  # the mean of two is their median
    assert {"beside.png", "beside_frames.png"} <= {p.name for p in tmp_path.iterdir()}


def test_events_and_frames_of_other_sizes_are_refused(tmp_path: Path) -> None:
    for name, sizes in (("events", (32, 40)), ("frames", (32, 32))):
        for event, size in enumerate(sizes):
            write_event(
                tmp_path / name, event, np.ones((2, 1, 1, size, size), np.float32), None, variables=("zh",),
                heights_km=(3.0,),
            )  # fmt: skip
    last = tmp_path / "frames" / "NJU_CPOL_update2308" / "dBZ" / "3.0km" / "data_dir_001" / "frame_001.npy"
    np.save(last, np.ones((40, 40), np.float32))
    for name, where in (("events", "number of pixels"), ("frames", "40 × 40 pixels")):
        with pytest.raises(BadInput, match=where):
            explore(open_archive(tmp_path / name), tmp_path / "out")
        with pytest.raises(BadInput, match="40 × 40 pixels"):
            beside_preset(open_archive(tmp_path / name), "tiny", synthetic_events=1)
