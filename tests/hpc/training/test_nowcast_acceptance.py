"""Nowcasts of the real event, end to end, with all three variables."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from polarcast.data.archive import open_archive
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.run import Wanted, evaluate_run
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.training.train import train
from polarcast.hpc.utils.progress import ProgressBoard

pytestmark = pytest.mark.acceptance

MODELS = {"furenet": {"widths": [4, 6], "squeeze": 2}, "persistence": {}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small network and persistence, trained on synthetic storms of 32 × 32 pixels only."""
    root = tmp_path_factory.mktemp("storms")
    write_archive(root / "archive", 6, size=32, seed=5, preset="tiny", frames=21)
    write_shards(open_archive(root / "archive"), root / "shards", split="0.5/0.25/0.25")
    quick = {"steps": 20, "validate_every": 10, "global_batch": 2, "warmup_steps": 2, "threads": 1}
    for name, settings in MODELS.items():
        values = {"task": "nowcast", "model": {"name": name, **settings}, "train": quick}
        values["data"] = {"shards": str(root / "shards"), "heights_km": [3.0]}
        train(load_config("demo", values), RunFolder(root / name), World())
    return {name: root / name for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_real_event_has_five_windows_with_one_hour_of_lead_time(
    name: str, trained: dict[str, Path], real_event: Path
) -> None:
    board = ProgressBoard(Console(file=io.StringIO()))
    wanted = Wanted(("rmse", "csi@threshold=35"), "lead_time")
    tables, about = evaluate_run(trained[name], real_event, None, board, World(), wanted)
    assert about["events"] == 1
    records = read_records(Path(about["records"]))
    assert records.protocol.lead_time == tuple(range(6, 66, 6))
    pixels = 5 * 256 * 256
    counted = np.asarray(records.sums["contingency"])
    assert (counted[..., :4].sum(-1) == pixels).all()
    rows = [row for table in tables for row in table.as_record()["rows"]]
    of_scores = {row["score"]: row["values"] for row in rows}
    rmse = list(of_scores["rmse"].values())
    assert all(0 < value < 40 for value in rmse)
    if name == "persistence":
        csi = list(of_scores["csi@threshold=35"].values())
        assert csi == sorted(csi, reverse=True)
        assert csi[0] > 0.3
