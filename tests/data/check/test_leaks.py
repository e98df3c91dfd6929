"""Tests of leaks between splits: tiles of one composite, events near in time, manifests of earlier versions."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from polarcast.data.archive import Archive, open_archive
from polarcast.data.check.archive import check_archive
from polarcast.data.check.findings import Finding
from polarcast.data.check.leaks import check_leaks
from polarcast.data.check.shards import check_shards
from polarcast.data.errors import BadInput
from polarcast.data.groups import groups_of
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.run import IngestSettings, ingest
from polarcast.data.notes import event_notes, write_event_note
from polarcast.data.origins import Area, Origin
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.hpc.cli.data import app
from tests.support.grid_files import speckle, write_npz
from tests.support.marked_shards import marked_shards

SPLIT = "0.7/0.1/0.2"
DAY = 24 * 3600


@pytest.fixture(scope="module")
def composite(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Ingest one 2-hour sequence of 128 by 192 km as six tiles of 64 km."""
    root = tmp_path_factory.mktemp("composite")
    sequence = write_npz(root / "two_hours.npz", speckle((21, 128, 192)))
    report = ingest(root / "archive", [sequence], IngestSettings(sequences=GridSettings(tile=64)))
    assert report.events == list(range(6))
    return open_archive(root / "archive")


@pytest.fixture(scope="module")
def by_hand(composite: Archive, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Write shards whose splits divide the tiles."""
    return write_shards(composite, tmp_path_factory.mktemp("hand") / "shards", split=SPLIT, group_by="event")


def leaks(manifest: Manifest) -> list[Finding]:
    return [finding for finding in check_leaks(manifest) if not finding.ok]


def test_the_tiles_of_one_sequence_are_one_group_in_one_split(composite: Archive, tmp_path: Path) -> None:
    manifest = write_shards(composite, tmp_path / "shards")
    assert manifest.splits == {"train": (), "validation": (), "test": tuple(range(6))}
    assert set(manifest.groups.values()) == {"2021-07-04 grid at 1 km"}
    assert manifest.provenance["groups"] == {"rule": "source-day"}
    assert read_manifest(tmp_path / "shards").groups == manifest.groups
    with pytest.raises(BadInput, match="6 events of one group can't fill train, validation and test"):
        write_shards(composite, tmp_path / "divided", split=SPLIT)
    assert not (tmp_path / "divided").exists()


def test_tiles_across_splits_are_a_leak(by_hand: Manifest) -> None:
    assert all(by_hand.splits.values())
    found = [finding for finding in check_shards(read_manifest(by_hand.folder)) if not finding.ok]
    assert [finding.where for finding in found] == ["leaks"] * 3
    first = f"{by_hand.splits['train'][0]:03d}"
    assert "a leak between train and validation: events of one time and place, " in found[0].found
    assert f"event {first}" in found[0].found
    assert "2021-07-04 00:00–02:00 UTC" in found[0].found


def test_the_command_reports_the_leak_and_fails(by_hand: Manifest) -> None:
    result = CliRunner().invoke(app, ["check", str(by_hand.folder), "--fast", "--json"])
    assert result.exit_code == 1
    assert "a leak between train and test" in result.output


def test_shards_of_an_earlier_version_are_checked_by_the_notes_of_their_archive(
    by_hand: Manifest, composite: Archive, tmp_path: Path
) -> None:
    content = json.loads((by_hand.folder / "manifest.json").read_text())
    del content["origins"], content["provenance"]["groups"]
    content |= {"format": "polarcast-shards/3", "run_columns": content["run_columns"][:6]}
    for shard in content["shards"]:
        shard["runs"] = [run[:6] for run in shard["runs"]]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    older = read_manifest(tmp_path)
    assert (older.groups, older.origins) == ({}, {})
    assert older.digest() == by_hand.digest()
    assert len(leaks(older)) == 3
    moved = replace(older, provenance={**older.provenance, "root": str(tmp_path / "gone")})
    assert [(f.ok, "no times" in f.found) for f in check_leaks(moved)] == [(True, True)]


def test_an_archive_of_an_earlier_version_is_grouped_by_its_notes(composite: Archive, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(composite.root, tmp_path / "archive")
    for number, note in event_notes(composite.root).items():
        write_event_note(tmp_path / "archive", number, {k: v for k, v in note.items() if k not in ("source", "extent")})
    older = write_shards(open_archive(tmp_path / "archive"), tmp_path / "shards")
    assert older.count_groups(range(6)) == 1


def manifest_of(tmp_path: Path, origins: dict[int, Origin], **groups: Any) -> Manifest:
    """Return shards of three events, one in each split, observed at these times and places."""
    made = marked_shards(tmp_path, (3, 3, 3))
    splits = {"train": (0,), "validation": (1,), "test": (2,)}
    return replace(made, splits=splits, origins=origins, **groups)


def at(start: float, stop: float, place: str = "a") -> Origin:
    return Origin(Area(place), int(3600 * start), int(3600 * stop))


def test_events_apart_in_time_or_place_are_no_leak(tmp_path: Path) -> None:
    found = check_leaks(manifest_of(tmp_path, {0: at(0, 2), 1: at(8, 9), 2: at(0, 2, "b")}))
    assert [(f.ok, f.severity) for f in found] == [(True, "ok")]
    assert "less than 6 hours apart" in found[0].found


def test_events_cut_at_a_gap_are_a_possible_leak(tmp_path: Path) -> None:
    found = check_leaks(manifest_of(tmp_path, {0: at(0, 2), 1: at(2.3, 3), 2: at(40, 41)}))
    assert [(f.where, f.severity) for f in found] == [("leaks", "warning")]
    assert "1 of train and 1 of validation: event 000 and event 001" in found[0].found


def test_a_group_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    found = check_leaks(manifest_of(tmp_path, {}, groups={0: "storm", 1: "other", 2: "storm"}))
    assert [f.found.partition(": shard")[0] for f in found if not f.ok] == [
        "a leak between train and test: the group storm is in both"
    ]


def test_events_without_times_are_said_to_be_unchecked(tmp_path: Path) -> None:
    found = check_leaks(manifest_of(tmp_path, {0: at(0, 2)}))
    assert all(f.ok for f in found)
    assert "2 of 3 events have no times" in found[0].found


def test_the_check_of_an_archive_counts_the_groups(composite: Archive) -> None:
    found = next(f for f in check_archive(composite) if f.where == "groups")
    assert found.found.startswith("6 events of 1 group by source and day: too few for train, validation, test")


def test_a_storm_ingested_in_two_parts_across_midnight_is_one_group(tmp_path: Path) -> None:
    """The second file is ingested later, and connects to the first: groups are found when the archive is sharded."""
    data, minutes = speckle((4, 64, 64)), (np.arange(4) * 6 * 60).astype("timedelta64[s]")
    starts = ("2021-07-04T23:00", "2021-07-06T12:00", "2021-07-08T12:00", "2021-07-05T01:00")
    files = [tmp_path / folder / "part.npz" for folder in "abcd"]
    for number, (file, start) in enumerate(zip(files, starts, strict=True)):
        file.parent.mkdir()
        write_npz(file, data + number, time=np.datetime64(start, "s") + minutes)
    settings = IngestSettings(sequences=GridSettings(tile=64))
    ingest(tmp_path / "archive", files[:3], settings)
    assert groups_of(open_archive(tmp_path / "archive")).are_events
    ingest(tmp_path / "archive", files[3:], settings)
    manifest = write_shards(open_archive(tmp_path / "archive"), tmp_path / "shards", split="0.4/0.3/0.3")
    assert manifest.group_of(0) == manifest.group_of(3) == "2021-07-04 grid at 1 km"
    assert manifest.count_groups(range(4)) == 3
    assert next(members for members in manifest.splits.values() if 0 in members) == (0, 3)
    assert all(f.ok and f.severity == "ok" for f in check_leaks(manifest))


def test_groups_change_the_digest_and_single_events_do_not(composite: Archive, by_hand: Manifest) -> None:
    without = replace(by_hand, groups={}, origins={})
    assert without.digest() == by_hand.digest()
    assert replace(by_hand, groups=dict.fromkeys(range(6), "a")).digest() != by_hand.digest()
    assert by_hand.group_of(3) == "003"


def test_the_command_prints_groups_where_they_are_fewer_than_events(composite: Archive, tmp_path: Path) -> None:
    table = tmp_path / "halves.csv"
    table.write_text("event,group\n" + "".join(f"{event},half {event % 3}\n" for event in range(6)))

    def printed(name: str, *options: str) -> str:
        command = ["shard", str(composite.root), str(tmp_path / name), "--workers", "1", *options]
        return " ".join(CliRunner().invoke(app, command).output.split())

    halves = printed("halves", "--split", "0.4/0.3/0.3", "--groups", str(table))
    assert halves.endswith("events: train 2, validation 2, test 2; groups: train 1, validation 1, test 1")
    assert "; groups" not in printed("alone", "--groups", "event")
    assert "three groups of events can't be split: all events are test events" in printed("default")
