"""Training engine: losses, resuming, several processes, kills."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import WorkFailed
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.runs.checkpoint import newest
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.train import train
from polarcast.models.qpe.unet import UNet
from tests.support import warm

SETTINGS = [
    "model.widths=[4,8]", "match_params=false", "train.global_batch=4", "train.warmup_steps=2", "train.steps=12",
    "train.validate_every=4", "train.log_every=1", "train.threads=1",
]  # fmt: skip


def configure(shards: Manifest, *overrides: str) -> RunConfig:
    return load_config("demo", [f"data.shards={shards.folder}", *SETTINGS, *overrides])


def train_here(config: RunConfig, folder: Path) -> RunFolder:
    run = RunFolder(folder)
    train(config, run, detect({}))
    return run


def train_on(ranks: int, shards: Manifest, folder: Path, *overrides: str) -> RunFolder:
    arguments = ["train", "demo", f"data.shards={shards.folder}", *SETTINGS, *overrides]
    command = [sys.executable, "-m", "polarcast.hpc.cli", *arguments, "--out", folder, "--processes", ranks]
    done = warm.run([str(c) for c in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained ") == 1
    run = RunFolder(folder)
    assert [r["world_size"] for r in run.records() if r["event"] == "start"] == [ranks]
    return run


def losses(run: RunFolder) -> dict[int, float]:
    return {r["step"]: r["loss"] for r in run.records() if r["event"] == "step"}


def weights(run: RunFolder) -> bytes:
    return run.weights_file.read_bytes()


@pytest.fixture(scope="module")
def alone(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Uninterrupted run on one process."""
    return train_here(configure(shards), tmp_path_factory.mktemp("alone"))


def test_non_finite_loss_stops_the_run(shards: Manifest) -> None:
    config = configure(shards)
    model = build_model(resolve(config))
    engine = Engine(model, config.train, detect({}), 4)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    batch = build_reader(config, shards, "train").read([0, 5, 2, 3])
    with pytest.raises(WorkFailed, match="rank 0") as failed:
        engine.step([batch], 1e-3)
    assert all(f"{e:03d}-{f:03d}" in str(failed.value) for e, f in zip(batch.event, batch.frame, strict=True))


def test_exploding_loss_reports_the_step(shards: Manifest, tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match=r"^step \d+: (loss|gradients).*\d{3}-\d{3}"):
        train_here(configure(shards, "train.learning_rate=1000", "train.clip_norm=1000"), tmp_path)


def test_training_lowers_the_loss_and_keeps_the_best_step(alone: RunFolder) -> None:
    curve = list(losses(alone).values())
    assert np.mean(curve[-3:]) < np.mean(curve[:3])
    validations = [r for r in alone.records() if r["event"] == "validation"]
    best = min(validations, key=lambda r: r["loss"])
    assert [r["step"] for r in validations] == [4, 8, 12]
    assert validations[-1]["best_step"] == best["step"]
    kept = alone.checkpoints / f"step-{best['step']:08d}" / "model.safetensors"
    assert kept.read_bytes() == weights(alone)


@pytest.mark.acceptance
def test_compiled_network_has_the_same_loss_curve(shards: Manifest, alone: RunFolder, tmp_path: Path) -> None:
    compiled = train_here(configure(shards, "train.compile=true", "train.checkpoint_activations=true"), tmp_path)
    assert losses(compiled) == pytest.approx(losses(alone), rel=1e-4, abs=1e-6)


def test_run_whose_losses_are_read_late_is_the_same(
    shards: Manifest, alone: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "lags", property(lambda _: True, lambda _, value: None), raising=False)
    shown: list[float] = []
    run = RunFolder(tmp_path)
    train(configure(shards, "train.log_every=3"), run, detect({}), lambda _done, _of, loss: shown.append(loss))
    expected = losses(alone)
    assert losses(run) == {step: expected[step] for step in (3, 6, 9, 12)}
    assert weights(run) == weights(alone)
    assert shown[:5] == [expected[step] for step in (1, 1, 3, 4, 4)]


def test_finished_run_is_not_trained_again(shards: Manifest, alone: RunFolder) -> None:
    before = alone.log_file.read_bytes()
    train(configure(shards), alone, detect({}))
    assert alone.log_file.read_bytes() == before


def test_folder_of_another_run_is_rejected(shards: Manifest, alone: RunFolder, tmp_path: Path) -> None:
    config = configure(shards)
    RunFolder(tmp_path).start(config)
    with pytest.raises(Exception, match="another configuration"):
        train_here(configure(shards, "seed=5"), tmp_path)


def test_stopped_run_resumes_bit_identically(shards: Manifest, alone: RunFolder, tmp_path: Path) -> None:
    class Stop(Exception):
        """Raised by the test in the middle of a run."""

    def stop(done: int, *_: object) -> None:
        if done == 7:
            raise Stop

    config, run = configure(shards), RunFolder(tmp_path)
    with pytest.raises(Stop):
        train(config, run, detect({}), stop)
    assert newest(run.checkpoints) == run.checkpoints / "step-00000004"
    train(config, run, detect({}))
    assert losses(run) == losses(alone)
    assert weights(run) == weights(alone)


@pytest.mark.multiprocess
@pytest.mark.parametrize("micro", [4, 1])
def test_two_ranks_have_the_same_loss_curve_as_one(
    shards: Manifest, alone: RunFolder, tmp_path: Path, micro: int
) -> None:
    together = train_on(2, shards, tmp_path / "run", f"train.micro_batch={micro}")
    expected = losses(alone)
    assert losses(together) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert len(expected) == 12


@pytest.mark.multiprocess
def test_two_ranks_validate_every_window_once(shards: Manifest, alone: RunFolder, tmp_path: Path) -> None:
    together = train_on(2, shards, tmp_path / "run")
    scores = [[r["loss"] for r in run.records() if r["event"] == "validation"] for run in (alone, together)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)


def test_validation_loss_is_the_mean_over_the_selected_windows(
    shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[list[tuple[int, int]]] = []

    def validation_loss(model: UNet, batch: Batch) -> torch.Tensor:
        scored.append(list(zip(batch.event.tolist(), batch.frame.tolist(), strict=True)))
        return batch.event.float().mean()

    monkeypatch.setattr(UNet, "validation_loss", validation_loss)
    run = train_here(configure(shards, "train.steps=1", "train.validate_windows=3"), tmp_path / "run")
    windows = [window for batch in scored for window in batch]
    assert len(windows) == len(set(windows)) == 3
    assert len({event for event, _ in windows}) > 1
    logged = [r["loss"] for r in run.records() if r["event"] == "validation"]
    assert logged == pytest.approx([np.mean([event for event, _ in windows])])


@pytest.mark.multiprocess
def test_run_of_two_ranks_resumes_on_one(shards: Manifest, alone: RunFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_on(2, shards, run, "train.steps=12")
    (run / "model.safetensors").unlink()
    for path in (run / "checkpoints").glob("step-*"):
        if path.name != "step-00000004":
            (path / "sums.json").unlink()
    continued = train_here(configure(shards), run)
    assert losses(continued) == pytest.approx(losses(alone), rel=1e-5, abs=1e-7)


@pytest.mark.multiprocess
def test_no_op_is_compiled_at_run_time(shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    train_on(2, shards, tmp_path / "run", "train.steps=1")
    assert not list((tmp_path / "extensions").rglob("*"))


@pytest.fixture
def victim(shards: Manifest, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Long run in a separate process, to be killed."""
    arguments = [
        "train",
        "demo",
        f"data.shards={shards.folder}",
        *SETTINGS,
        "train.steps=400",
        "--out",
        tmp_path / "run",
    ]
    command = [sys.executable, "-m", "polarcast.hpc.cli", *map(str, arguments)]
    process = warm.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


@pytest.mark.multiprocess
def test_run_resumes_from_its_last_checkpoint_after_sigkill(
    shards: Manifest, tmp_path: Path, victim: subprocess.Popen[bytes]
) -> None:
    run = RunFolder(tmp_path / "run")
    deadline = time.monotonic() + 120
    while len(list(run.records())) < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    saved = newest(run.checkpoints)
    assert saved is not None
    before = json.loads((saved / "progress.json").read_text())["step"]
    config = configure(shards, "train.steps=400")
    steps: list[int] = []
    train(config, run, detect({}), lambda done, *_: steps.append(done))
    assert steps[0] == before + 1
    assert list(losses(run)) == list(range(1, 401))


@pytest.mark.multiprocess
def test_run_in_use_by_another_process_is_rejected(
    shards: Manifest, tmp_path: Path, victim: subprocess.Popen[bytes]
) -> None:
    while not (tmp_path / "run" / "log.jsonl").exists():
        time.sleep(0.05)
    arguments = ["train", "demo", f"data.shards={shards.folder}", *SETTINGS, "--out", tmp_path / "run"]
    done = warm.run(
        [sys.executable, "-m", "polarcast.hpc.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "another process is working here" in done.stderr
