"""`polarcast coverage` on a small suite of physical baselines."""

import json
import sys
from pathlib import Path

import pytest

from tests.support import warm
from tests.support.small_suite import BASELINES, run_small_suite


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small_suite(tmp_path_factory.mktemp("suites"), BASELINES)


COMMAND = [sys.executable, "-m", "polarcast.hpc.cli"]


def coverage(folder: Path, *options: str) -> tuple[int, str, str]:
    words = [*COMMAND, "coverage", str(folder), "--workers", "1", "--trials", "20", *options]
    done = warm.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_rows_are_scores_by_events(folder: Path) -> None:
    code, out, _ = coverage(folder, "--scores", "rmse", "--scores", "nb", "--events", "10", "--events", "20", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["compared"] == "published:dualpol vs published:radar"
    assert [(row["score"], row["groups"], row["seeds"]) for row in found["rows"]] == [
        ("rmse", 10, 1), ("rmse", 20, 1), ("nb", 10, 1), ("nb", 20, 1)]  # fmt: skip
    for row in found["rows"]:
        assert 0.5 < row["covered"] <= 1
        assert row["below"] + row["above"] + row["covered"] == pytest.approx(1)


def test_models_can_be_compared_and_a_table_is_printed(folder: Path) -> None:
    options = ("--first", "published:dualpol", "--second", "fitted:dualpol", "--scores", "rmse", "--events", "10")
    code, out, _ = coverage(folder, *options)
    assert code == 0
    assert "fitted:dualpol vs published:dualpol" in out
    assert "%" in out


@pytest.mark.parametrize(("options", "words"), [
    (("--first", "nonsense"), "published:nonsense is not run in this suite"),
    (("--second", "unet:dualpol"), "unet:dualpol is not run in this suite"),
    (("--scores", "csi"), "'csi' is not a score"),
    (("--scores", "crps@threshold=99"), "choose from"),
    (("--events", "1"), "1 is too small"),
    (("--seeds", "0"), "0 is too small"),
    (("--null",), "samples need 2 runs, there are 1"),
])  # fmt: skip
def test_wrong_calls_end_in_one_line(folder: Path, options: tuple[str, ...], words: str) -> None:
    code, _, problem = coverage(folder, *options)
    assert code == 2
    assert words in problem.splitlines()[-1]


def test_a_folder_that_is_no_suite(tmp_path: Path) -> None:
    code, _, problem = coverage(tmp_path)
    assert code == 2
    assert "not a suite" in problem
