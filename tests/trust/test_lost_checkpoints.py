"""A lost or damaged best checkpoint costs a line, not the run; damaged progress is damage, not a traceback."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.checkpoint import Progress, TrainState
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.train import train

SETTINGS = [
    "model.widths=[4,8]", "match_params=false", "train.steps=6", "train.validate_every=2", "train.global_batch=4",
    "train.keep_checkpoints=9", "train.threads=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose first checkpoint is the best, and its last the next best."""
    run, losses = RunFolder(tmp_path_factory.mktemp("trained") / "run"), iter([1.0, 3.0, 2.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.hpc.training.train.validation_loss", lambda *_: next(losses))
        train(load_config("demo", [f"data.shards={shards.folder}", *SETTINGS]), run, World())
    return run


@pytest.fixture
def unfinished(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """A run that was killed before its weights were written."""
    run = RunFolder(shutil.copytree(trained.path, tmp_path / "run"))
    run.weights_file.unlink()
    return run


def cut(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [shutil.rmtree, cut])
def test_a_lost_best_checkpoint_does_not_end_the_run(
    unfinished: RunFolder, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    lost, next_best = (unfinished.checkpoints / checkpoint.name_of(step) for step in (2, 6))
    damage(lost)
    with caplog.at_level(logging.WARNING, "polarcast"):
        train(unfinished.config(), unfinished, World())
    expected = checkpoint.evaluation_weights(next_best)
    found = load_file(unfinished.weights_file)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    [message] = [m for m in caplog.messages if "best checkpoint" in m]
    assert lost.name in message
    assert next_best.name in message
    [record] = [r for r in unfinished.records() if r["event"] == "best_lost"]
    assert (record["lost"], record["best_step"]) == (lost.name, checkpoint.step_of(next_best))
    assert json.loads((unfinished.path / "card.json").read_text())["best_step"] == checkpoint.step_of(next_best)


def test_a_checkpoint_lost_while_training_does_not_end_the_run(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr("polarcast.hpc.training.train.validation_loss", lambda *_: next(losses))
    run = RunFolder(tmp_path / "run")

    def on_step(step: int, total: int, loss: float) -> None:
        if step == total:
            shutil.rmtree(run.checkpoints / checkpoint.name_of(2))

    train(trained.config(), run, World(), on_step)
    expected = checkpoint.evaluation_weights(run.checkpoints / checkpoint.name_of(6))
    found = load_file(run.weights_file)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert run.best_step() == 6


def test_a_lost_log_does_not_end_the_run(unfinished: RunFolder) -> None:
    unfinished.log_file.unlink()
    shutil.rmtree(unfinished.checkpoints / checkpoint.name_of(2))
    progress = unfinished.checkpoints / checkpoint.name_of(6) / "progress.json"
    _rewrite(progress, json.dumps({"step": 6, "best_step": 2, "best_score": 0.5}))
    train(unfinished.config(), unfinished, World())
    assert unfinished.is_trained
    assert unfinished.best_step() == 6


def _rewrite(path: Path, content: str) -> None:
    """Change a file of a checkpoint, and its sum."""
    path.write_text(content)
    sums = json.loads(path.with_name("sums.json").read_text())
    sums[path.name] = hashlib.sha256(content.encode()).hexdigest()
    path.with_name("sums.json").write_text(json.dumps(sums))


def saved(folder: Path, step: int = 2) -> Path:
    weights = {"bias": torch.zeros(3)}
    moments = {"bias/exp_avg": torch.zeros(3), "bias/exp_avg_sq": torch.zeros(3)}
    return checkpoint.save(folder, TrainState(step, weights, {}, moments), Progress(step), keep=9)


@pytest.mark.parametrize(
    "content",
    ["[]", "5", "{", "{}", '{"step": "2"}', '{"step": 2, "best_step": null}', '{"step": 3}', '{"step": 2, "more": 1}',
     '{"step": 2, "recent_losses": ["x"]}', '{"step": 2, "recent_losses": 7}', '{"step": 2, "best_score": "low"}',
     "[" * 50_000],
)  # fmt: skip
def test_hostile_progress_is_damage(tmp_path: Path, content: str) -> None:
    older, path = saved(tmp_path, 1), saved(tmp_path, 2)
    _rewrite(path / "progress.json", content)
    assert checkpoint.newest(tmp_path) == older
    with pytest.raises(BadInput, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("sums", ["{}", "[]", "null", '{"../../secret": "0"}', '{"progress.json": 5}', "7"])
def test_hostile_sums_are_damage(tmp_path: Path, sums: str) -> None:
    older, path = saved(tmp_path, 1), saved(tmp_path, 2)
    (path / "sums.json").write_text(sums)
    assert checkpoint.newest(tmp_path) == older


def test_weights_of_another_model_are_not_a_traceback(trained: RunFolder, tmp_path: Path) -> None:
    from polarcast.hpc.runs.load import load_model

    run = RunFolder(shutil.copytree(trained.path, tmp_path / "run"))
    checkpoint.save_weights(run.weights_file, {"bias": torch.zeros(3)})
    with pytest.raises(BadInput, match="does not hold the weights of this model"):
        load_model(run, World())
    run.weights_file.write_bytes(run.weights_file.read_bytes()[:-5])
    with pytest.raises(BadInput, match="damaged"):
        load_model(run, World())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_weights_are_not_hidden_from_a_group(
    tmp_path: Path, mask: int, mode: int, request: pytest.FixtureRequest
) -> None:
    before = os.umask(mask)
    request.addfinalizer(lambda: os.umask(before))
    checkpoint.save_weights(tmp_path / "model.safetensors", {"bias": torch.zeros(3)})
    files = [tmp_path / "model.safetensors", *saved(tmp_path).iterdir()]
    assert {path.stat().st_mode & 0o777 for path in files} == {mode}
