"""Real processes: killed and continued on another number of ranks, scored on any, on shards that are not all sound."""

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
    """An undisturbed run of one process, with heavy rain drawn more often."""
    return train_here(shards.folder, tmp_path_factory.mktemp("alone"), reader, "data.balance=0.5")


@pytest.mark.multiprocess
def test_two_ranks_killed_within_an_epoch_and_continued_on_one_draw_the_same_samples(
    shards: Manifest, alone: RunFolder, reader: str, tmp_path: Path
) -> None:
    arguments = ["train", "demo", f"data.shards={shards.folder}", *SETTINGS, reader, "data.balance=0.5"]
    command = polarcast(*arguments, "--out", tmp_path / "run", "--processes", 2)
    both = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = RunFolder(tmp_path / "run")
    deadline = time.monotonic() + 120
    while len(samples(run)) < 12 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(both.pid, signal.SIGKILL)
    both.wait()
    done = len(samples(run))
    time.sleep(0.5)
    assert len(samples(run)) == done, "the ranks have outlived their launcher"
    assert 12 <= len(samples(run)) < STEPS
    train_here(shards.folder, run.path, reader, "data.balance=0.5")
    started = [r for r in run.records() if r["event"] == "start"]
    assert [r["world_size"] for r in started] == [2, 1]
    assert started[1]["step"] * 6 % 16 != 0  # of 16 training frames: within an epoch
    assert samples(run) == samples(alone)
    assert len(set(samples(run).values())) > STEPS // 2


@pytest.mark.multiprocess
def test_scores_are_the_same_to_the_last_digit_on_one_two_and_three_ranks(
    alone: RunFolder, reader: str, tmp_path: Path
) -> None:
    ranks_to_try = (1, 2, 3) if reader.endswith("mapped") else (1, 2)
    seen = [scored_on(ranks, alone, tmp_path) for ranks in ranks_to_try]
    assert sum(len(table["rows"]) for table in seen[0][0]) > 30
    assert all(other == seen[0] for other in seen[1:])


@pytest.mark.multiprocess
def test_an_ensemble_drawn_at_random_is_the_same_on_one_and_two_ranks(shards: Manifest, tmp_path: Path) -> None:
    run = train_here(
        shards.folder, tmp_path / "diffusion", "model.name=diffusion", "model.steps=2", "evaluate.members=3",
        "train.steps=2", "train.validate_every=2", "train.validate_windows=2",
    )  # fmt: skip
    one, two = (scored_on(ranks, run, tmp_path) for ranks in (1, 2))
    assert any(row["score"] == "spread_skill" and row["all"] for table in one[0] for row in table["rows"])
    assert two == one


def scored_on(ranks: int, run: RunFolder, folder: Path) -> tuple[list[dict[str, Any]], bytes, bytes]:
    """Tables, records and cases of a copy of a run, scored by so many processes."""
    shutil.copytree(run.path, folder / str(ranks))
    copy = RunFolder(folder / str(ranks))
    command = polarcast("evaluate", copy.path, "--processes", ranks, "--scores", "all", "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
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
            # Convolutions of larger batches may round their last digit differently; sums of counts don't see it.
            np.testing.assert_allclose(other.sums[name], sums, rtol=1e-5, atol=1e-5, err_msg=name)
    exact = [score(_persisting, reader, World(), size=size) for size in (1, 3, 16, 64)]
    for other in exact[1:]:
        for name, sums in exact[0].sums.items():
            np.testing.assert_array_equal(other.sums[name], sums, err_msg=name)


def _persisting(batch: Batch) -> torch.Tensor:
    """Forecasts that are the same to the bit in whatever batch they come."""
    return batch.variable("zh")[:, None, :, 0] * 0.1


def damaged(shards: Manifest, folder: Path, events: int) -> Path:
    """A copy of the shards in which one bit is wrong in the shards of so many training events."""
    shutil.copytree(shards.folder, folder)
    for event in shards.splits["train"][:events]:
        index = int(shards.samples[shards.samples[:, 1] == event][0, 0])
        path = folder / shards.shards[index].name
        content = bytearray(path.read_bytes())
        content[3000] ^= 1
        path.write_bytes(content)
    return folder


def test_a_run_leaves_out_a_shard_whose_bytes_have_changed_and_tells(
    shards: Manifest, reader: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train_here(damaged(shards, tmp_path / "s", 1), tmp_path / "run", reader, "data.max_bad_share=0.25",
                     "data.stream.retries=0")  # fmt: skip
    told = [r for r in run.records() if r["event"] == "bad_shard"]
    assert [(r["problem"].count("SHA-256 differs"), r["lost"]) for r in told] == [(1, "25.00%")]
    assert run.is_trained


def test_too_many_bad_shards_fail_the_run(shards: Manifest, reader: str, tmp_path: Path) -> None:
    folder = damaged(shards, tmp_path / "s", 2)
    with pytest.raises(BadInput, match=r"of the training windows, data\.max_bad_share is 25"):
        train_here(folder, tmp_path / "run", reader, "data.max_bad_share=0.25", "data.stream.retries=0")


def test_only_sizes_are_looked_at_where_that_is_asked_for(shards: Manifest, tmp_path: Path) -> None:
    folder = damaged(shards, tmp_path / "s", 2)
    assert train_here(folder, tmp_path / "run", "data.verify=sizes", "data.max_bad_share=0").is_trained


def test_a_staged_run_reads_the_copy_and_draws_the_same(shards: Manifest, tmp_path: Path) -> None:
    plain = train_here(shards.folder, tmp_path / "plain", "train.steps=8")
    staged = train_here(shards.folder, tmp_path / "staged", "train.steps=8", f"data.stage_to={tmp_path / 'nvme'}")
    assert samples(staged) == samples(plain)
    [copy] = (tmp_path / "nvme").iterdir()
    assert read_manifest(copy).digest() == shards.digest()
    provenance = json.loads(staged.provenance_file.read_text())
    assert provenance["data"]["digest"] == shards.digest()
