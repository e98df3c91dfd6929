"""`polarcast perf gpu`: its table, its file, and one line without a GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from polarcast.data.errors import BadInput
from polarcast.hpc.cli.perf import app
from polarcast.hpc.perf.gpu import NOT_MEASURED, RESULT, TINY_CASES, measure_gpu
from polarcast.hpc.perf.gpu_table import COLUMNS, gpu_table


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("perf")
    rounds: list[int] = []
    measured = measure_gpu(1, 1, out / "new", on_cpu=True, on_round=rounds.append)
    assert rounds == list(range(2 * len(TINY_CASES)))
    assert json.loads((out / "new" / RESULT).read_text()) == json.loads(json.dumps(measured))
    return measured


def test_every_network_is_measured(found: dict[str, Any]) -> None:
    assert [row["name"] for row in found["rows"]] == [case.name for case in TINY_CASES]
    for row in found["rows"]:
        assert row["plain_ms"] > 0
        assert row["samples_per_second"] == pytest.approx(1e3 * row["batch"] / row["plain_ms"])
        assert 0 <= row["waiting"] < 1
        assert (row["graphs_ms"], row["graphs"], row["mfu"]) == (None, "there is no GPU", None)
    assert found["rows"][0]["together_gain"] > 0


def test_table_says_what_was_not_measured(found: dict[str, Any]) -> None:
    table = gpu_table(found)
    cells = [list(column.cells) for column in table.columns]
    assert [column.header for column in table.columns] == list(COLUMNS)
    assert cells[-1][1] == NOT_MEASURED
    assert cells[-1][0].startswith("2: ")
    assert "there is no GPU" in str(table.caption)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["gpu", "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, BadInput)
    assert "no NVIDIA GPU found" in str(done.exception)
    assert not (tmp_path / "out").exists()
