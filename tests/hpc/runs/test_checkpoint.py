import errno
import json
import logging
import pickle
from pathlib import Path

import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.checkpoint import Progress, TrainState, evaluation_weights, load, newest, problem_of, save
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.async_checkpoint import AsyncCheckpointer
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.loss_guard import LossGuard

FILES = ["model.safetensors", "average.safetensors", "optimizer.safetensors", "progress.json", "origin.json"]


def held(step: int = 1) -> TrainState:
    generator = torch.Generator().manual_seed(step)
    weights = {"conv.weight": torch.randn(3, 2, 3, 3, generator=generator), "conv.bias": torch.zeros(3)}
    moments = {f"{name}/{key}": value + 1 for name, value in weights.items() for key in ("exp_avg", "exp_avg_sq")}
    return TrainState(step, weights, {name: value / 2 for name, value in weights.items()}, moments)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    written, progress = held(8), Progress(step=8, best_step=4, best_score=0.25)
    found, told = load(save(tmp_path, written, progress, keep=1, origin={"world_size": 2}))
    assert told == progress
    assert found.step == 8
    assert all(same(getattr(found, part), getattr(written, part)) for part in ("weights", "average", "moments"))
    assert json.loads((tmp_path / "step-00000008" / "origin.json").read_text()) == {"world_size": 2}


def test_the_running_mean_is_what_is_judged_where_there_is_one(tmp_path: Path) -> None:
    written = held()
    assert same(evaluation_weights(save(tmp_path / "a", written, Progress(1), keep=1)), written.average)
    written.average = {}
    assert same(evaluation_weights(save(tmp_path / "b", written, Progress(1), keep=1)), written.weights)


@pytest.mark.parametrize("file", [*FILES, "sums.json"])
@pytest.mark.parametrize("damage", ["truncated", "removed", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_with_a_word(
    tmp_path: Path, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    older = save(tmp_path, held(1), Progress(step=1), keep=5)
    victim = save(tmp_path, held(2), Progress(step=2), keep=5) / file
    content = victim.read_bytes()
    if damage == "removed":
        victim.unlink()
    else:
        middle = len(content) // 2
        victim.write_bytes(content[:middle] if damage == "truncated" else content[:-2] + b"\xff" + content[-1:])
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path) == older
    [word] = caplog.messages
    assert str(victim.parent) in word
    assert file in word


def test_a_file_that_would_run_code_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path, held(), Progress(1), keep=1)
    (path / "model.safetensors").write_bytes(pickle.dumps(held().weights))
    assert problem_of(path)
    with pytest.raises(Exception, match=r"header|Header"):
        load(path)


def test_a_kill_while_saving_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = save(tmp_path, held(1), Progress(step=1), keep=5)

    def killed(*_: object) -> None:
        raise SystemExit("killed before the rename")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(SystemExit):
            save(tmp_path, held(2), Progress(step=2), keep=5)
    assert newest(tmp_path) == older
    assert newest(save(tmp_path, held(2), Progress(step=2), keep=5).parent) == tmp_path / "step-00000002"
    assert not list(tmp_path.glob(".partial*"))


def test_a_complete_checkpoint_is_not_written_again(tmp_path: Path) -> None:
    path = save(tmp_path, held(1), Progress(step=1), keep=5)
    before = (path / "sums.json").stat()
    save(tmp_path, held(1), Progress(step=1), keep=5)
    assert (path / "sums.json").stat().st_mtime_ns == before.st_mtime_ns


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 7):
        save(tmp_path, held(step), Progress(step=step, best_step=2 if step >= 2 else -1), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000005", "step-00000006"]


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") is None


class Written:
    """An engine that has something to save."""

    guard = LossGuard(World(), 0, seen=[0.5, 0.25])

    def state_dict(self) -> TrainState:
        return held(5)


@pytest.fixture
def run(tmp_path: Path, shards: Manifest) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.start(load_config("demo", [f"data.shards={shards.folder}"]))
    folder.provenance_file.write_text('{"code": {"commit": "abc"}}')
    return folder


def test_a_checkpoint_is_reported_once_it_is_there_and_says_where_it_is_from(run: RunFolder) -> None:
    with AsyncCheckpointer(run, run.config(), World()) as saver:
        saver.save(Written(), Progress(step=5))  # type: ignore[arg-type]
    [record] = run.records()
    assert load(run.checkpoints / record["saved"])[1].recent_losses == [0.5, 0.25]
    assert (record["event"], record["step"]) == ("checkpoint", 5)
    origin = json.loads((run.checkpoints / record["saved"] / "origin.json").read_text())
    assert origin["provenance"] == {"code": {"commit": "abc"}}
    assert (origin["config"]["model"]["name"], origin["world_size"]) == ("unet", 1)


def test_a_full_disk_is_told_and_nothing_is_reported(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("polarcast.hpc.runs.checkpoint._finish", full)
    with pytest.raises(BadInput, match="No space left"), AsyncCheckpointer(run, run.config(), World()) as saver:
        saver.save(Written(), Progress(step=5))  # type: ignore[arg-type]
    assert list(run.records()) == []


def test_a_save_in_progress_ends_before_an_error_leaves_the_run(run: RunFolder) -> None:
    def fail() -> None:
        with AsyncCheckpointer(run, run.config(), World()) as saver:
            saver.save(Written(), Progress(step=5))  # type: ignore[arg-type]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert newest(run.checkpoints) is not None


def test_a_copy_is_saved_not_what_training_goes_on_to_change(shards: Manifest) -> None:
    from polarcast.hpc.runs.build import build_model, build_reader

    config = load_config("demo", [f"data.shards={shards.folder}", "model.widths=[4,8]", "match_params=false"])
    engine = Engine(build_model(resolve(config)), config.train, World(), 8)
    batch = build_reader(config, shards, "train").read(range(8))
    engine.step([batch], 1e-2)
    first = engine.state_dict()
    assert first is not None
    before = {name: value.clone() for name, value in {**first.weights, **first.moments}.items()}
    engine.step([batch], 1e-2)
    assert same({**first.weights, **first.moments}, before)
