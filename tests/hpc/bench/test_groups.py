"""Groups of an archive's events in the checks of a suite, before anything is made."""

from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import write_event
from polarcast.data.errors import BadInput
from polarcast.hpc.bench.checks import check_data
from polarcast.hpc.bench.data import DataSpec


def archive_of(root: Path, days: list[int]) -> DataSpec:
    """Write one event of one radar at noon of each of these days of July."""
    field = np.ones((1, 1, 1, 8, 8), np.float32)
    for event, day in enumerate(days):
        note = {"times": [f"2021-07-{day:02d}T12:00:00"], "source": "radar"}
        write_event(root, event, field, None, variables=("zh",), heights_km=(1.0,), note=note)
    return DataSpec(archive=str(root), split="0.4/0.3/0.3")


def test_events_of_one_day_are_in_one_split_of_a_suite(tmp_path: Path) -> None:
    known = check_data(archive_of(tmp_path / "archive", [4, 4, 8, 8, 12, 12]), tmp_path / "shards")
    assert sorted(known.splits.values()) == [(0, 1), (2, 3), (4, 5)]
    assert known.groups[0] == known.groups[1] == "2021-07-04 radar"


def test_an_archive_of_too_few_groups_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="6 events of 2 groups"):
        check_data(archive_of(tmp_path / "archive", [4, 4, 4, 8, 8, 8]), tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
