"""Tests of the groups of events: rules by time and place, tables, and archives with and without a clock."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.archive import open_archive, write_event
from polarcast.data.errors import BadInput
from polarcast.data.groups import LONGEST_HOURS, by_source_and_day, groups_of
from polarcast.data.origins import Area, Origin, origin_of, same_place

HERE = Area("a")
SITE = {"latitude": 32.21, "longitude": 118.7, "altitude_m": 30.0}
SQUARE = {"grid": {"size": 256, "spacing_km": 1.0}}


def hour(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def origin(start: str, stop: str, place: Area = HERE) -> Origin:
    return Origin(place, hour(start), hour(stop))


def partition(names: dict[int, str]) -> set[frozenset[int]]:
    return {frozenset(e for e, name in names.items() if name == group) for group in names.values()}


def test_events_of_one_source_and_day_are_one_group() -> None:
    day = {
        0: origin("2021-07-04T01:00", "2021-07-04T02:00"),
        1: origin("2021-07-04T16:00", "2021-07-04T17:00"),
        2: origin("2021-07-05T16:00", "2021-07-05T17:00"),
        3: origin("2021-07-04T01:00", "2021-07-04T02:00", Area("b")),
    }
    assert by_source_and_day(day) == {0: "2021-07-04 a", 1: "2021-07-04 a", 2: "2021-07-05 a", 3: "2021-07-04 b"}


def test_a_storm_across_midnight_is_one_group_named_by_its_first_day() -> None:
    night = {
        0: origin("2021-07-05T00:12", "2021-07-05T02:00"),
        1: origin("2021-07-04T22:00", "2021-07-04T23:48"),
        2: origin("2021-07-06T12:00", "2021-07-06T13:00"),
    }
    assert by_source_and_day(night) == {0: "2021-07-04 a", 1: "2021-07-04 a", 2: "2021-07-06 a"}


def test_events_six_hours_apart_on_two_days_are_two_groups() -> None:
    near = {0: origin("2021-07-04T20:00", "2021-07-04T21:00"), 1: origin("2021-07-05T02:59", "2021-07-05T04:00")}
    apart = {0: near[0], 1: origin("2021-07-05T03:00", "2021-07-05T04:00")}
    assert len(set(by_source_and_day(near).values())) == 1
    assert len(set(by_source_and_day(apart).values())) == 2


def test_a_short_event_during_a_long_one_does_not_end_it() -> None:
    events = {
        0: origin("2021-07-04T01:00", "2021-07-05T21:00"),
        1: origin("2021-07-04T02:00", "2021-07-04T03:00"),
        2: origin("2021-07-05T22:00", "2021-07-05T23:00"),
    }
    assert len(set(by_source_and_day(events).values())) == 1


def test_radars_with_overlapping_areas_are_one_place() -> None:
    def radar(name: str, west: float) -> Area:
        return Area(name, (30.0, west, 32.0, west + 2))

    assert same_place(radar("a", 118.0), radar("b", 119.5))
    assert not same_place(radar("a", 118.0), radar("b", 120.0))
    assert same_place(radar("a", 179.0), radar("b", -179.5))
    assert not same_place(radar("a", 118.0), Area("b"))
    events = {n: origin("2021-07-04T01:00", "2021-07-04T02:00", radar(str(n), 110 + 1.5 * n)) for n in range(3)}
    assert set(by_source_and_day(events).values()) == {"2021-07-04 0"}


def test_two_grids_with_one_name_far_apart_are_two_groups() -> None:
    germany, japan = Area("grid at 1 km", (47, 5, 55, 15)), Area("grid at 1 km", (30, 130, 45, 145))
    events = {n: origin("2021-07-04T01:00", "2021-07-04T02:00", place) for n, place in enumerate((germany, japan))}
    assert len(set(by_source_and_day(events).values())) == 2


places = st.sampled_from([Area("a"), Area("b"), *(Area(str(w), (30, w, 32, w + 2)) for w in (100, 101.5, 103, 110))])


@st.composite
def origins(draw: st.DrawFn) -> dict[int, Origin]:
    count = draw(st.integers(1, 25))
    starts = draw(st.lists(st.integers(0, draw(st.sampled_from((62, 150, 600))) * 60), min_size=count, max_size=count))
    length = draw(st.lists(st.integers(0, 600), min_size=count, max_size=count))
    return {n: Origin(draw(places), 60 * s, 60 * (s + d)) for n, (s, d) in enumerate(zip(starts, length, strict=True))}


def reference_parts(events: dict[int, Origin]) -> set[frozenset[int]]:
    """Divide a component at its longest gap, and both parts again, minute by minute."""
    start, stop = min(o.start for o in events.values()) // 60, max(o.stop for o in events.values()) // 60
    is_dry = np.ones(stop - start, bool)  # the minutes between full minutes
    for o in events.values():
        is_dry[o.start // 60 - start : o.stop // 60 - start] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_dry, [0]])))
    gaps = [(int(b - a), -abs(int(2 * b) - len(is_dry)), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    if stop - start <= 60 * LONGEST_HOURS or not gaps:
        return {frozenset(events)}
    *_, cut = max(gaps, key=lambda gap: (gap[0], gap[1], -gap[2]))
    early = {e: o for e, o in events.items() if o.start // 60 - start < cut}
    return reference_parts(early) | reference_parts({e: o for e, o in events.items() if e not in early})


def reference_partition(events: dict[int, Origin]) -> set[frozenset[int]]:
    """Return the connected components from the matrix of all pairs, by repeated squaring, and divide long ones."""
    n = len(events)
    linked = np.eye(n, dtype=bool)
    for i, a in events.items():
        for j, b in events.items():
            gap = max(a.start, b.start) - min(a.stop, b.stop)
            linked[i, j] |= same_place(a.place, b.place) and (a.day == b.day or gap < 6 * 3600)
    for _ in range(n.bit_length()):
        linked = (linked.astype(int) @ linked.astype(int)) > 0
    components = {frozenset(np.flatnonzero(row).tolist()) for row in linked}
    return {part for component in components for part in reference_parts({e: events[e] for e in component})}


@given(origins())
def test_groups_are_connected_components_divided_at_their_longest_gaps(events: dict[int, Origin]) -> None:
    names = by_source_and_day(events)
    assert partition(names) == reference_partition(events)
    assert by_source_and_day(dict(reversed(events.items()))) == names


def test_a_record_with_rain_every_hour_is_many_groups_of_days() -> None:
    start = hour("2021-07-01T00:00")
    tiles = {2 * h + t: Origin(HERE, start + 3600 * h, start + 3600 * h + 1800) for h in range(30 * 24) for t in (0, 1)}
    groups = partition(by_source_and_day(tiles))
    assert len(groups) == 16
    for group in groups:
        first, last = min(group), max(group)
        assert group == frozenset(range(first, last + 1))
        assert 24 * 3600 < tiles[last].stop - tiles[first].start <= 3600 * LONGEST_HOURS
        assert first % 2 == 0  # tiles of one hour stay together


def test_a_record_of_days_is_divided_at_its_longest_gap() -> None:
    hours = (0, 5, 10, 15, 20, 25.5, 30, 35, 40, 45, 48)
    start = hour("2021-07-01T00:00")
    events = {n: Origin(HERE, start + int(3600 * h), start + int(3600 * h) + 1800) for n, h in enumerate(hours)}
    assert partition(by_source_and_day(events)) == {frozenset(range(5)), frozenset(range(5, 11))}
    assert set(by_source_and_day(events).values()) == {"2021-07-01 a", "2021-07-02 a"}
    short = {n: event for n, event in events.items() if n < 10}
    assert len(partition(by_source_and_day(short))) == 1


def test_one_event_of_many_days_stays_whole_with_what_it_overlaps() -> None:
    long = {0: origin("2021-07-01T00:00", "2021-07-20T00:00"), 1: origin("2021-07-09T00:00", "2021-07-09T01:00")}
    assert len(set(by_source_and_day(long).values())) == 1


def archive_of(root: Path, notes: list[dict[str, Any]]) -> Any:
    for number, note in enumerate(notes):
        field = np.ones((1, 1, 1, 8, 8), np.float32)
        write_event(root, number, field, None, variables=("zh",), heights_km=(1.0,), note=note)
    return open_archive(root)


def note(*times: str, **other: Any) -> dict[str, Any]:
    return {"times": list(times), **other}


def test_notes_of_earlier_versions_give_the_source_and_the_area() -> None:
    radar = origin_of(note("2021-07-04T12:00:00", "2021-07-04T12:06:00", site=SITE, steps=SQUARE), "here")
    assert radar is not None
    assert (radar.source, radar.stop - radar.start) == ("radar at 32.21 118.70", 360)
    south, west, north, east = radar.place.extent or (0, 0, 0, 0)
    assert ((north - south) * 111.195, (south + north) / 2) == pytest.approx((256, 32.21), rel=1e-4)
    assert (east - west) * 111.195 * np.cos(np.deg2rad(32.21)) == pytest.approx(256, rel=1e-4)
    composite = note("2021-07-04T12:00:00", read={"variable": "rain"}, pixels={"source_spacing_km": [1.0, 1.0]})
    assert (found := origin_of(composite, "here")) is not None
    assert found.place == Area("grid of rain at 1 km")
    assert origin_of({"identity": "x"}, "here") is None


def test_events_without_times_are_groups_of_their_own(tmp_path: Path) -> None:
    groups = groups_of(
        archive_of(tmp_path, [{}, note("2021-07-04T12:00:00", source="x"), note("2021-07-04T13:00:00", source="x")])
    )
    assert groups.names == {0: "000", 1: "2021-07-04 x", 2: "2021-07-04 x"}
    assert groups.record == {"rule": "source-day", "events_without_times": 1}
    assert groups.stored([0, 1]) == {}
    assert groups.stored([1, 2]) == {1: "2021-07-04 x", 2: "2021-07-04 x"}


def test_rules_by_name(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, [note("2021-07-04T12:00:00", source=s) for s in "aab"])
    assert partition(groups_of(archive).names) == {frozenset({0, 1}), frozenset({2})}
    assert set(groups_of(archive, "day").names.values()) == {"2021-07-04"}
    assert groups_of(archive, "event").are_events


def test_a_rule_by_time_needs_times(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, [{}, {}])
    assert groups_of(archive).are_events
    with pytest.raises(BadInput, match="no times"):
        groups_of(archive, "day")


def test_a_note_with_damaged_times_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"event 001 .*no valid times"):
        groups_of(archive_of(tmp_path, [{}, note("noon")]))


def test_a_table_gives_the_groups(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", [{}, {}, {}])
    table = tmp_path / "storms.csv"
    table.write_bytes("\ufeffevent, group, note\r\n002,Köln,x\r\n0, Köln\r\n1,b,\r\n".encode())
    groups = groups_of(archive, str(table))
    assert groups.names == {0: "Köln", 1: "b", 2: "Köln"}
    assert groups.record == {"rule": "table", "table": "storms.csv"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event,group\n0,a\n1,a\n", "no group of event 002"),
        ("event,group\n0,a\n", "no group of event 001 and 1 more"),
        ("event,group\n0,a\n1,a\n2,a\n9,b\n", "event 009 is not in the archive"),
        ("event,group\n0,a\n0,a\n", "listed twice"),
        ("event,group\nzero,a\n", "line 2: the event is 'zero'"),
        ("event,group\n0,\n", "line 2: the group ''"),
        ("number,storm\n0,a\n", "line 2: the event is ''"),
        ("event,group\n0,a\x07b\n", "printable"),
        (f"event,group\n0,{'a' * 300}\n", "longer than 200"),
        ('event,group\n0,"a\n', "not a CSV table"),
        ("", "no group of event 000"),
        ("event,group\n0,\udcff\n", "not a CSV table"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    archive = archive_of(tmp_path / "archive", [{}, {}, {}])
    (tmp_path / "t.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadInput, match=message) as error:
        groups_of(archive, str(tmp_path / "t.csv"))
    assert "\n" not in str(error.value)


def test_an_unknown_rule_names_the_rules(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="source-day, day, event"):
        groups_of(archive_of(tmp_path, [{}]), "week")
