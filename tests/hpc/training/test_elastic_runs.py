"""Elastic runs on real processes: resume and evaluate on other numbers of ranks, bad shards, staging."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import World, detect
from polarcast.hpc.evaluation.evaluate import score
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.train import train
from tests.support import warm

STEPS = 60
SETTINGS = [
    "model.widths=[4,8]", "match_params=false", "train.global_batch=6", f"train.steps={STEPS}",
    "train.validate_every=5", "train.log_every=1", "train.threads=1",
]  # fmt: skip


def train_here(shards: Path, folder: Path, *overrides: str) -> RunFolder:
    run = RunFolder(folder)
    train(load_config("demo", [f"data.shards={shards}", *SETTINGS, *overrides]), run, detect({}))
    return run


def polarcast(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "polarcast.hpc.cli", *map(str, arguments)]


def samples(run: RunFolder) -> dict[int, str]:
    return {r["step"]: r["samples"] for r in run.records() if r["event"] == "step"}


@pytest.fixture(scope="module", params=["mapped", "stream"])
def reader(request: pytest.FixtureRequest) -> str:
    return f"data.reader={request.param}"


@pytest.fixture(scope="module")
def alone(shards: Manifest, reader: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Uninterrupted run on one process, with heavy rain oversampled."""
    return train_here(shards.folder, tmp_path_factory.mktemp("alone"), reader, "data.balance=0.5")


@pytest.mark.multiprocess
def test_resume_on_fewer_ranks_within_an_epoch_draws_the_same_samples(
    shards: Manifest, alone: RunFolder, reader: str, tmp_path: Path
) -> None:
    arguments = ["train", "demo", f"data.shards={shards.folder}", *SETTINGS, reader, "data.balance=0.5"]
    command = polarcast(*arguments, "--out", tmp_path / "run", "--processes", 2)
    both = warm.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = RunFolder(tmp_path / "run")
    deadline = time.monotonic() + 120
    while len(samples(run)) < 12 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(both.pid, signal.SIGKILL)
    both.wait()
    done = len(samples(run))
    time.sleep(0.5)
    assert len(samples(run)) == done, "the ranks outlived their launcher"
    assert 12 <= len(samples(run)) < STEPS
    train_here(shards.folder, run.path, reader, "data.balance=0.5")
    started = [r for r in run.records() if r["event"] == "start"]
    assert [r["world_size"] for r in started] == [2, 1]
    assert started[1]["step"] * 6 % 16 != 0  # within an epoch of 16 training frames
    assert samples(run) == samples(alone)
    assert len(set(samples(run).values())) > STEPS // 2


@pytest.mark.multiprocess
def test_scores_are_bit_identical_on_one_two_and_three_ranks(alone: RunFolder, reader: str, tmp_path: Path) -> None:
    ranks_to_try = (1, 2, 3) if reader.endswith("mapped") else (1, 2)
    results = [scored_on(ranks, alone, tmp_path) for ranks in ranks_to_try]
    assert sum(len(table["rows"]) for table in results[0][0]) > 30
    assert all(other == results[0] for other in results[1:])


@pytest.mark.multiprocess
def test_ensemble_is_bit_identical_on_one_and_two_ranks(shards: Manifest, tmp_path: Path) -> None:
    run = train_here(
        shards.folder, tmp_path / "diffusion", "model.name=diffusion", "model.steps=2", "evaluate.members=3",
        "train.steps=2", "train.validate_every=2", "train.validate_windows=2",
    )  # fmt: skip
    one, two = (scored_on(ranks, run, tmp_path) for ranks in (1, 2))
    assert any(row["score"] == "spread_skill" and row["all"] for table in one[0] for row in table["rows"])
    assert two == one


def scored_on(ranks: int, run: RunFolder, folder: Path) -> tuple[list[dict[str, Any]], bytes, bytes]:
    """Evaluate a copy of a run on `ranks` processes; return tables, records and cases."""
    shutil.copytree(run.path, folder / str(ranks))
    copy = RunFolder(folder / str(ranks))
    command = polarcast("evaluate", copy.path, "--processes", ranks, "--scores", "all", "--json")
    done = warm.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout.strip().splitlines()[-1] if ranks > 1 else done.stdout)["tables"]
    return tables, copy.output.scores.read_bytes(), copy.output.cases.read_bytes()


def test_scores_are_the_same_for_any_batch_size(alone: RunFolder, shards: Manifest) -> None:
    config = alone.config()
    model = build_model(resolve(config))
    checkpoint.load_weights(alone.weights_file, model)
    reader = build_reader(config, shards, "test")
    found = [score(model.eval().forecast, reader, World(), size=size) for size in (1, 3, 16, 64)]
    for other in found[1:]:
        assert other.protocol == found[0].protocol
        for name, sums in found[0].sums.items():
            # Convolutions of other batch sizes may differ in the last digit; sums of counts do not.
            np.testing.assert_allclose(other.sums[name], sums, rtol=1e-5, atol=1e-5, err_msg=name)
    exact = [score(_persisting, reader, World(), size=size) for size in (1, 3, 16, 64)]
    for other in exact[1:]:
        for name, sums in exact[0].sums.items():
            np.testing.assert_array_equal(other.sums[name], sums, err_msg=name)


def _persisting(batch: Batch) -> torch.Tensor:
    """Forecast without rounding differences between batch sizes."""
    return batch.variable("zh")[:, None, :, 0] * 0.1


def damaged(shards: Manifest, folder: Path, events: int) -> Path:
    """Copy the shards, with one flipped bit in the shards of `events` training events."""
    shutil.copytree(shards.folder, folder)
    for event in shards.splits["train"][:events]:
        index = int(shards.samples[shards.samples[:, 1] == event][0, 0])
        path = folder / shards.shards[index].name
        content = bytearray(path.read_bytes())
        content[3000] ^= 1
        path.write_bytes(content)
    return folder


def test_corrupted_shard_is_skipped_and_logged(
    shards: Manifest, reader: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train_here(damaged(shards, tmp_path / "s", 1), tmp_path / "run", reader, "data.max_bad_share=0.25",
                     "data.stream.retries=0")  # fmt: skip
    records = [r for r in run.records() if r["event"] == "bad_shard"]
    assert [(r["problem"].count("SHA-256 differs"), r["lost"]) for r in records] == [(1, "25.00%")]
    assert run.is_trained


def test_too_many_bad_shards_fail_the_run(shards: Manifest, reader: str, tmp_path: Path) -> None:
    folder = damaged(shards, tmp_path / "s", 2)
    with pytest.raises(BadInput, match=r"of the training windows, data\.max_bad_share is 25"):
        train_here(folder, tmp_path / "run", reader, "data.max_bad_share=0.25", "data.stream.retries=0")


def test_verify_sizes_ignores_corrupted_bytes(shards: Manifest, tmp_path: Path) -> None:
    folder = damaged(shards, tmp_path / "s", 2)
    assert train_here(folder, tmp_path / "run", "data.verify=sizes", "data.max_bad_share=0").is_trained


def test_staged_run_draws_the_same_samples(shards: Manifest, tmp_path: Path) -> None:
    plain = train_here(shards.folder, tmp_path / "plain", "train.steps=8")
    staged = train_here(shards.folder, tmp_path / "staged", "train.steps=8", f"data.stage_to={tmp_path / 'nvme'}")
    assert samples(staged) == samples(plain)
    [copy] = (tmp_path / "nvme").iterdir()
    assert read_manifest(copy).digest() == shards.digest()
    provenance = json.loads(staged.provenance_file.read_text())
    assert provenance["data"]["digest"] == shards.digest()
