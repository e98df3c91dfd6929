"""Tests of an archive beside a preset: equal storms have no row off, an altered radar has exactly its own."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from polarcast.data.archive import HEIGHTS_KM, VARIABLES, open_archive, write_event
from polarcast.data.explore.content import ArchiveContent
from polarcast.data.explore.profile import EventProfile
from polarcast.data.notes import write_archive_note
from polarcast.data.synth.generate import PRESETS, generate_event, write_archive
from polarcast.data.synth.side_by_side import RULE, Beside, beside_preset, compare, judge, profile_of
from polarcast.hpc.cli.app import app

pytestmark = pytest.mark.acceptance

EVENTS, SIZE, FRAMES = 8, 64, 10
CONTENT = ArchiveContent(VARIABLES, HEIGHTS_KM, has_rain=False)
Change = Callable[[np.ndarray], None]


def profiles(seed: int, change: Change = lambda radar: None) -> list[EventProfile]:
    """Measure events of the preset `tiny`, altered as by another radar."""
    found = []
    for event in range(EVENTS):
        made = generate_event(PRESETS["tiny"], seed, event, SIZE, FRAMES)
        change(made.radar)
        found.append(profile_of(made.radar, made.observed[:, 1], CONTENT))
    return found


@pytest.fixture(scope="module")
def synthetic() -> list[EventProfile]:
    return profiles(0)


def off(rows: Sequence[Beside]) -> set[str]:
    return {row.quantity for row in rows if row.is_off}


def shift_zdr(radar: np.ndarray) -> None:
    radar[:, 1][radar[:, 0] != 0] -= 0.4


def scale_kdp(radar: np.ndarray) -> None:
    radar[:, 2] *= 0.4


def roughen_zdr(radar: np.ndarray) -> None:
    echo = radar[:, 0] != 0
    radar[:, 1][echo] += 0.35 * np.random.default_rng(0).standard_normal(echo.sum())


# Other storms of the preset: by RULE, a row is off by chance once in some hundred rows (see the simulation below).
@pytest.mark.parametrize("seed", [5, 6])
def test_an_archive_beside_its_own_preset_has_no_row_off(synthetic: list[EventProfile], seed: int) -> None:
    rows = compare(profiles(seed), synthetic)
    assert sum(row.is_off is not None for row in rows) > 60
    assert off(rows) == set()


@pytest.mark.parametrize(
    ("change", "expected", "possible"),
    [
        (
            shift_zdr,
            {"ZDR at 10-20 dBZ, median (dB)", "ZDR at 20-30 dBZ, median (dB)", "ZDR at 30-40 dBZ, median (dB)",
             "bias of ZDR in light rain, 20-22 dBZ (dB)"},
            ("ZDR at ", "bias of ZDR", "7 km median ZDR"),
        ),
        (
            scale_kdp,
            {"KDP at 30-40 dBZ, median (deg/km)", "KDP at 10-20 dBZ, 99% (deg/km)",
             "roughness of KDP at 20-30 dBZ (deg/km)", "noise of KDP in weak echo, 10-25 dBZ (deg/km)"},
            ("KDP at ", "roughness of KDP", "noise of KDP", "7 km median KDP"),
        ),
        (
            roughen_zdr,
            {"roughness of ZDR at 10-20 dBZ (dB)", "roughness of ZDR at 20-30 dBZ (dB)",
             "ZDR at 10-20 dBZ, 1% (dB)", "ZDR at 10-20 dBZ, 99% (dB)"},
            ("roughness of ZDR", *(f"ZDR at {a}-{a + 10} dBZ, {q}" for a in range(10, 60, 10) for q in ("1%", "99%"))),
        ),
    ],
)  # fmt: skip
def test_an_altered_radar_is_named_in_exactly_its_rows(
    synthetic: list[EventProfile], change: Change, expected: set[str], possible: tuple[str, ...]
) -> None:
    found = off(compare(profiles(5, change), synthetic))
    assert expected <= found
    assert all(name.startswith(possible) for name in found)


def test_rows_are_off_by_chance_as_rarely_as_said() -> None:
    rng = np.random.default_rng(0)
    share = {}
    for events in (1, 3, 8):
        judged = [judge("", "", rng.normal(0, 9, events), rng.normal(0, 9, 8)).is_off for _ in range(1500)]
        share[events] = np.mean([bool(j) for j in judged])
    assert share[1] < 0.04
    assert share[3] < 0.02
    assert share[8] < 0.01
    shifted = [judge("", "", rng.normal(36, 9, 8), rng.normal(0, 9, 8)).is_off for _ in range(300)]
    assert np.mean([bool(j) for j in shifted]) > 0.8


Values = st.lists(st.floats(-1e3, 1e3) | st.just(np.nan), min_size=1, max_size=12)


@given(archive=Values, synthetic=Values)
def test_a_mean_within_the_range_is_never_off_and_few_values_are_not_judged(
    archive: list[float], synthetic: list[float]
) -> None:
    row = judge("group", "q (dB)", archive, synthetic)
    made = [v for v in synthetic if np.isfinite(v)]
    real = [v for v in archive if np.isfinite(v)]
    assert (row.archive_events, row.synthetic_events) == (len(real), len(made))
    assert (row.is_off is None) == (len(made) < 5 or not real)
    if row.is_off:
        assert not min(made) - 0.01 <= float(np.mean(real)) <= max(made) + 0.01
        assert row.sentence.startswith("q (dB): ")
        assert ("few events" in row.sentence) == (len(real) < 5)
    json.dumps(row.as_record(), allow_nan=False)


def test_a_preset_compared_with_its_own_events_gives_equal_statistics(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", 5, size=64, seed=0, preset="tiny", frames=8)
    rows = {}
    for workers in (1, 2):
        done: list[int] = []
        compared = beside_preset(
            open_archive(tmp_path / "a"), "tiny", synthetic_events=5, workers=workers, on_event=done.append
        )
        assert done == list(range(1, 11))
        rows[workers] = [row.as_record() for row in compared.rows]
    assert rows[1] == rows[2]
    assert compared.off == []
    for row in compared.rows:
        assert row.least <= row.archive + 1e-9 or np.isnan(row.archive)
        assert row.archive <= row.greatest + 1e-9 or np.isnan(row.archive)
        assert row.archive_events == row.synthetic_events


def test_what_is_not_observed_does_not_count(tmp_path: Path) -> None:
    values = []
    for name in ("clean", "spoiled"):
        made = generate_event(PRESETS["tiny"], 2, 0, 64, 8)
        observed = made.observed[:, :3].copy()
        observed[:, :, :, :20] = False
        radar = np.where(observed[:, None], made.radar, 0 if name == "clean" else 61.5).astype(np.float32)
        write_event(tmp_path / name, 0, radar, None, observed=observed)
        compared = beside_preset(open_archive(tmp_path / name), "tiny", synthetic_events=1)
        values.append([row.as_record() for row in compared.rows])
    assert values[0] == values[1]


def test_frames_of_another_step_and_spacing_are_compared_in_minutes_and_km(tmp_path: Path) -> None:
    """The same fields, declared as 2 km and 12 min apart, move as fast and live twice as long at twice the scale."""
    rows = {}
    for spacing, step in ((1.0, 6.0), (2.0, 12.0)):
        root = tmp_path / f"{spacing:g}"
        made = generate_event(PRESETS["tiny"], 2, 0, 128, 14)
        write_event(root, 0, made.radar[:, :, 1:2], None, heights_km=(3.0,))
        write_archive_note(root, {"spacing_km": spacing, "time_step_min": step})
        compared = beside_preset(open_archive(root), "tiny", synthetic_events=1)
        rows[spacing] = {row.quantity: row.archive for row in compared.rows}, list(compared.left_out)
    (fine, nothing), (coarse, left_out) = rows[1.0], rows[2.0]
    assert nothing == []
    assert coarse["speed of motion (m/s)"] == pytest.approx(fine["speed of motion (m/s)"])
    assert coarse["lifetime at 32 km (min)"] == pytest.approx(2 * fine["lifetime at 16 km (min)"])
    assert coarse["ZDR at 20-30 dBZ, median (dB)"] == fine["ZDR at 20-30 dBZ, median (dB)"]
    assert not any("roughness" in name or "correlation" in name or "change of ZH" in name for name in coarse)
    assert any("pixels of 2 km" in line for line in left_out)
    assert any("every 12 min" in line for line in left_out)


@pytest.mark.parametrize("preset", ["tiny", "any-radar"])
def test_the_command_prints_and_records_what_is_off(tmp_path: Path, preset: str) -> None:
    root, out = tmp_path / "a", tmp_path / "out"
    for event in range(3):
        made = generate_event(PRESETS["tiny"], 3, event, 64, 8)
        made.radar[:, 1][made.radar[:, 0] != 0] -= 2.5
        write_event(root, event, made.radar, None, observed=made.observed[:, :3])
    arguments = ["data", "explore", str(root), str(out), "--beside", preset, "--beside-events", "5", "--workers", "1"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    assert "no rain grid" in words
    assert " ".join(RULE.split()) in words
    report = json.loads((out / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    told = report["beside"]
    assert any(sentence.startswith("ZDR at 20-30 dBZ, median (dB): -2.") for sentence in told["off"])
    assert all(" ".join(sentence.split()) in words for sentence in told["off"])
    assert f"{len(told['off'])} of " in words
    assert {row["quantity"] for row in told["rows"] if row["is_off"]} == {s.split(": ")[0] for s in told["off"]}
    assert {"beside.png", "beside_frames.png"} <= {p.name for p in out.iterdir()}
    as_json = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(as_json.stdout, parse_constant=pytest.fail)["beside"] == told
