"""Resume a run at other ZeRO stages, with other engines, and on other numbers of ranks."""

import json
from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.runs.folder import RunFolder
from tests.support import segments
from tests.support.on_ranks import on_ranks


def piece(until: int, *overrides: str) -> str:
    return json.dumps([until, *overrides])


def stage(number: int, *more: str) -> list[str]:
    return [f"train.zero_stage={number}", *more]


@pytest.fixture(scope="module")
def alone(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Uninterrupted run on one process at stage 0."""
    return segments.run_piece(str(shards.folder), str(tmp_path_factory.mktemp("alone")), [])


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_resuming_at_the_same_stage_is_bit_identical(shards: Manifest, tmp_path: Path, number: int) -> None:
    uninterrupted = segments.run_piece(str(shards.folder), str(tmp_path / "uninterrupted"), stage(number))
    pieces = [piece(until, *stage(number)) for until in (3, 7, 10, 99)]
    segments.main(str(shards.folder), str(tmp_path / "run"), *pieces)
    run = RunFolder(tmp_path / "run")
    assert [r["step"] for r in run.records() if r["event"] == "start"] == [0, 2, 6, 10]
    segments.assert_like(run, uninterrupted, 0.0)


def test_run_resumes_at_other_stages_and_with_other_engines(shards: Manifest, alone: RunFolder, tmp_path: Path) -> None:
    ways = [(2, stage(1)), (4, stage(3)), (6, stage(2)), (8, stage(0)), (10, stage(3)), (12, ["train.engine=ddp"]),
            (14, stage(2, "train.micro_batch=2")), (99, stage(1, "train.offload_optimizer=true"))]  # fmt: skip
    segments.main(str(shards.folder), str(tmp_path), *(piece(until + 1, *way) for until, way in ways))
    run = RunFolder(tmp_path)
    starts = [r for r in run.records() if r["event"] == "start"]
    assert [r["step"] for r in starts] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert [r["zero_stage"] for r in starts] == [1, 3, 2, 0, 3, 0, 2, 1]
    segments.assert_like(run, alone, 1e-5)


@pytest.mark.multiprocess
def test_run_resumes_on_other_numbers_of_ranks_and_stages(shards: Manifest, alone: RunFolder, tmp_path: Path) -> None:
    run, folder = RunFolder(tmp_path / "run"), str(tmp_path / "run")
    on_ranks(2, "segments", shards.folder, folder, piece(3, *stage(2)), piece(5, *stage(3)), out=tmp_path)
    segments.main(str(shards.folder), folder, piece(7, *stage(1)), piece(9, *stage(3)))
    on_ranks(2, "segments", shards.folder, folder, piece(11, *stage(1)), piece(13, *stage(0)), piece(99, *stage(3)),
             out=tmp_path)  # fmt: skip
    starts = [r for r in run.records() if r["event"] == "start"]
    assert [(r["step"], r["world_size"], r["zero_stage"]) for r in starts] == [
        (0, 2, 2), (2, 2, 3), (4, 1, 1), (6, 1, 3), (8, 2, 1), (10, 2, 0), (12, 2, 3)
    ]  # fmt: skip
    segments.assert_like(run, alone, 1e-5)
