"""Frames summed to gauges' intervals, against sums made by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.gauges.gauge import Gauge
from polarcast.data.notes import read_event_note, write_event_note
from polarcast.hpc.evaluation.gauges.pairs import Pairs, pairs_of
from polarcast.hpc.evaluation.gauges.patches import ARCHIVE, event_rates, laws_of, patches_of, read_notes
from tests.support.gauge_archive import frame_times, gauge_at, moving_rain, write_gauge_archive

T0 = np.datetime64("2020-06-01T12:00:00")
LAWS = ["Z–R", "R(ZH, ZDR)", "R(KDP)"]


def minutes(number: float) -> np.timedelta64:
    return np.timedelta64(round(60 * number), "s")


def match(root: Path, gauges: list[Gauge], names: list[str] | None = None) -> list[Pairs]:
    archive = open_archive(root)
    notes = read_notes(archive)
    laws, found = laws_of(archive, notes), patches_of(archive, notes, gauges)
    events = [event_rates(archive, event, at, notes[event], laws, (200.0, 1.6)) for event, at in found.items()]
    return pairs_of(gauges, events, {name: [name] for name in names or [ARCHIVE]}, archive.time_step_minutes)


@pytest.fixture(scope="module")
def rain() -> np.ndarray:
    return moving_rain(40, 32, seed=5)


@pytest.fixture(scope="module")
def root(rain: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gauge_archive(tmp_path_factory.mktemp("known"), [rain, rain[::-1]]).root


def test_amounts_are_sums_of_frames_in_the_interval(root: Path, rain: np.ndarray) -> None:
    ends = [T0 + minutes(m) for m in (30, 60, 120)]
    [pairs] = match(root, [gauge_at("G", 20.3, 7.9, ends, 30, [1.0, 2.0, 3.0])])
    assert pairs.gauge.tolist() == [1.0, 2.0, 3.0]
    # The frame at the end of an interval is its last one; that at its start belongs to the interval before.
    expected = [rain[a:b, 20, 8].sum() * 0.1 for a, b in ((0, 5), (5, 10), (15, 20))]
    np.testing.assert_allclose(pairs.estimates[ARCHIVE][0, 0], expected, rtol=1e-5)
    nine = np.stack([rain[a:b, 19:22, 7:10].sum(0).ravel() * 0.1 for a, b in ((0, 5), (5, 10), (15, 20))])
    np.testing.assert_allclose(pairs.estimates[ARCHIVE][0, 1], nine.mean(1), rtol=1e-5)
    best = [row[np.abs(row - mm).argmin()] for row, mm in zip(nine, pairs.gauge, strict=True)]
    np.testing.assert_allclose(pairs.estimates[ARCHIVE][0, 2], best, rtol=1e-5)
    np.testing.assert_allclose(pairs.range_km, np.hypot(16 - 20.3, 16 - 7.9), atol=1e-4)


@given(row=st.floats(-0.4, 31.4), column=st.floats(-0.4, 31.4), start=st.integers(-30, 230), length=st.integers(1, 120))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_any_interval_at_any_place(
    row: float, column: float, start: int, length: int, root: Path, rain: np.ndarray
) -> None:
    """The mean of the frames in (start, end], if there are 90% of those that there should be every 6 minutes."""
    gauge = gauge_at("G", row, column, [T0 + minutes(start + length)], length, [1.0])
    found = match(root, [gauge])
    inside = [t for t in range(40) if start < 6 * (t + 1) <= start + length]
    if len(inside) == 0 or len(inside) < 0.9 * len([t for t in range(-30, 90) if start < 6 * t <= start + length]):
        assert not found or len(found[0]) == 0
        return
    y, x = int(np.floor(row + 0.5)), int(np.floor(column + 0.5))
    near = [(a, b) for a in range(y - 1, y + 2) for b in range(x - 1, x + 2) if 0 <= a < 32 and 0 <= b < 32]
    if len(near) < 5:
        assert len(found[0]) == 0
        assert found[0].left_out == {f"few pixels of {ARCHIVE}": 1}
        return
    at = rain[inside, y, x].mean() * length / 60
    mean = np.mean([rain[inside, a, b].mean() for a, b in near]) * length / 60
    np.testing.assert_allclose(found[0].estimates[ARCHIVE][0, :2, 0], [at, mean], rtol=1e-4)


def test_intervals_that_are_no_multiple_of_the_step_keep_all_their_frames(root: Path, rain: np.ndarray) -> None:
    """Of 15 minutes, every other one has two frames of 6 minutes, the others three."""
    ends = [T0 + minutes(m) for m in (15, 30, 45, 60)]
    [pairs] = match(root, [gauge_at("G", 20, 8, ends, 15, [1.0] * 4)])
    expected = [rain[a:b, 20, 8].mean() / 4 for a, b in ((0, 2), (2, 5), (5, 7), (7, 10))]
    np.testing.assert_allclose(pairs.estimates[ARCHIVE][0, 0], expected, rtol=1e-5)


def test_laws_return_the_rain_that_the_fields_were_made_of(root: Path, rain: np.ndarray) -> None:
    gauge = gauge_at("G", 10, 10, [T0 + minutes(60)], 60, [1.0])
    [pairs] = match(root, [gauge], [ARCHIVE, *LAWS])
    truth = rain[:10, 10, 10].sum() * 0.1
    for name in (ARCHIVE, "Z–R", "R(KDP)"):
        np.testing.assert_allclose(pairs.estimates[name][0, 0], truth, rtol=1e-4)
    z = 200 * rain[:10, 10, 10] ** 1.6
    dual = (0.0058 * z**0.91 * 10 ** (-0.209 * 0.5)).sum() * 0.1
    np.testing.assert_allclose(pairs.estimates["R(ZH, ZDR)"][0, 0], dual, rtol=1e-4)


def test_flagged_and_missing_intervals_are_no_pairs(root: Path) -> None:
    ends = [T0 + minutes(m) for m in (30, 60, 90)]
    gauge = gauge_at("G", 20, 8, ends, 30, [1.0, np.nan, 3.0]).flagged(np.array([False, False, True]), "spike")
    assert [len(pairs) for pairs in match(root, [gauge])] == [1]


def test_unobserved_pixels_do_not_count(rain: np.ndarray, tmp_path: Path) -> None:
    """Of ten frames, one lost at a pixel still leaves 90%; two do not."""
    seen = np.ones((40, 2, 32, 32), np.bool_)
    seen[3, :, 10, 10] = seen[3:5, :, 20, 20] = False
    seen[:, :, 28:, :] = False
    root = write_gauge_archive(tmp_path, [rain], masks=[seen]).root
    places = {"one": (10, 10), "two": (20, 20), "edge": (27, 10), "out": (30, 10)}
    gauges = [gauge_at(name, *place, [T0 + minutes(60)], 60, [1.0]) for name, place in places.items()]
    [pairs] = match(root, gauges)
    assert [pairs.stations[i] for i in pairs.station] == ["one", "edge"]
    left = np.delete(np.arange(10), 3)
    np.testing.assert_allclose(pairs.estimates[ARCHIVE][0, 0, 0], rain[left, 10, 10].mean(), rtol=1e-5)
    six = rain[:10, 26:28, 9:12].mean()
    np.testing.assert_allclose(pairs.estimates[ARCHIVE][0, 1, 1], six, rtol=1e-5)
    assert pairs.left_out == {f"few frames of {ARCHIVE}": 2}


def test_a_gauge_on_two_grids_counts_once_on_the_nearer_one(rain: np.ndarray, tmp_path: Path) -> None:
    root = write_gauge_archive(tmp_path, [rain, 3 * rain]).root
    note = read_event_note(root, 1)
    north = note["site"]["latitude"] + 10 / 111.195
    times = [str(t) for t in frame_times(0, 40)]
    write_event_note(root, 1, {**note, "site": {**note["site"], "latitude": north}, "times": times})
    gauges = [gauge_at(f"{row}", row, 16, [T0 + minutes(60)], 60, [1.0]) for row in (8, 14, 20)]
    [pairs] = match(root, gauges)
    assert len(pairs) == 3
    truth = {row: rain[:10, row, 16].mean() for row in (14, 20)} | {8: 3 * rain[:10, 18, 16].mean()}
    found = {int(pairs.stations[s]): v for s, v in zip(pairs.station, pairs.estimates[ARCHIVE][0, 0], strict=True)}
    np.testing.assert_allclose([found[k] for k in truth], list(truth.values()), rtol=1e-4)


def test_lengths_of_intervals_are_kept_apart(root: Path) -> None:
    gauges = [gauge_at("A", 20, 8, [T0 + minutes(60)], 60, [1.0]), gauge_at("B", 9, 8, [T0 + minutes(30)], 30, [1.0])]
    assert [(pairs.minutes, pairs.stations) for pairs in match(root, gauges)] == [(30.0, ("B",)), (60.0, ("A",))]


def test_days_end_at_midnight(rain: np.ndarray, tmp_path: Path) -> None:
    root = write_gauge_archive(tmp_path, [rain]).root
    note = read_event_note(root, 0)
    times = np.datetime64("2020-06-01T22:00:00") + np.arange(1, 41) * np.timedelta64(6, "m")
    write_event_note(root, 0, {**note, "times": [str(t) for t in times]})
    ends = [np.datetime64(t) for t in ("2020-06-02T00:00:00", "2020-06-02T01:00:00")]
    [pairs] = match(root, [gauge_at("G", 20, 8, ends, 60, [1.0, 1.0])])
    assert pairs.days.astype(str).tolist() == ["2020-06-01", "2020-06-02"]


def test_laws_that_would_be_circular_or_lack_something_are_left_out(rain: np.ndarray, tmp_path: Path) -> None:
    archive = write_gauge_archive(tmp_path / "a", [rain[:3]], variables=("zh", "kdp"))
    found = laws_of(archive, read_notes(archive))
    assert list(found.relations) == ["Z–R", "R(KDP)"]
    assert found.left_out == ("R(ZH, ZDR) is left out: the archive has no zdr",)
    unknown = laws_of(archive, {0: {"times": []}})
    assert list(unknown.relations) == ["Z–R"]
    derived = laws_of(archive, {0: {"derived": {"zh": "Z = 200 R^1.6 of the rain rate"}}})
    assert not derived.relations
    assert "derived, not measured" in derived.left_out[0]


def test_gauges_elsewhere_and_events_without_place_or_time(root: Path, rain: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no gauge of 1 lies on the grid"):
        match(root, [gauge_at("G", 40, 8, [T0], 60, [1.0])])
    other = write_gauge_archive(tmp_path, [rain[:3]]).root
    note = read_event_note(other, 0)
    write_event_note(other, 0, {k: v for k, v in note.items() if k != "times"})
    with pytest.raises(BadInput, match="no times"):
        match(other, [gauge_at("G", 20, 8, [T0], 60, [1.0])])
    write_event_note(other, 0, {k: v for k, v in note.items() if k != "site"})
    with pytest.raises(BadInput, match="place on the Earth is not known"):
        match(other, [gauge_at("G", 20, 8, [T0], 60, [1.0])])
