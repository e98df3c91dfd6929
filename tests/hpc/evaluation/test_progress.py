"""The progress of an evaluation counts windows."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation import evaluate as evaluation
from polarcast.hpc.evaluation.run import evaluate_records
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support.finished_run import BASELINE, finished


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_an_evaluation_counts_its_windows_and_not_batches(
    shards: Manifest, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished(shards, tmp_path / "run", *BASELINE)
    windows = len(build_reader(run.config(), shards, "test", observed=True))
    assert windows > 4
    monkeypatch.setattr(evaluation, "scoring_batch", lambda _: size)
    done: list[int] = []
    text = io.StringIO()
    with ProgressBoard(Console(file=text)) as board:
        monkeypatch.setattr(board, "_log_progress", lambda line: done.append(int(line.split()[1])))
        evaluate_records(run, None, None, board, World())
    assert f"evaluate: {windows} windows …" in text.getvalue()
    assert done == sorted({min(windows, n) for n in range(size, windows + size, size)})
