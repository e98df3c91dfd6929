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


def make_state(step: int = 1) -> TrainState:
    generator = torch.Generator().manual_seed(step)
    weights = {"conv.weight": torch.randn(3, 2, 3, 3, generator=generator), "conv.bias": torch.zeros(3)}
    moments = {f"{name}/{key}": value + 1 for name, value in weights.items() for key in ("exp_avg", "exp_avg_sq")}
    return TrainState(step, weights, {name: value / 2 for name, value in weights.items()}, moments)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    written, progress = make_state(8), Progress(step=8, best_step=4, best_score=0.25)
    found, restored = load(save(tmp_path, written, progress, keep=1, origin={"world_size": 2}))
    assert restored == progress
    assert found.step == 8
    assert all(same(getattr(found, part), getattr(written, part)) for part in ("weights", "average", "moments"))
    assert json.loads((tmp_path / "step-00000008" / "origin.json").read_text()) == {"world_size": 2}


def test_evaluation_uses_the_moving_average_if_there_is_one(tmp_path: Path) -> None:
    written = make_state()
    assert same(evaluation_weights(save(tmp_path / "a", written, Progress(1), keep=1)), written.average)
    written.average = {}
    assert same(evaluation_weights(save(tmp_path / "b", written, Progress(1), keep=1)), written.weights)


@pytest.mark.parametrize("file", [*FILES, "sums.json"])
@pytest.mark.parametrize("damage", ["truncated", "removed", "flipped"])
def test_damaged_checkpoint_is_skipped_with_a_warning(
    tmp_path: Path, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    older = save(tmp_path, make_state(1), Progress(step=1), keep=5)
    victim = save(tmp_path, make_state(2), Progress(step=2), keep=5) / file
    content = victim.read_bytes()
    if damage == "removed":
        victim.unlink()
    else:
        middle = len(content) // 2
        victim.write_bytes(content[:middle] if damage == "truncated" else content[:-2] + b"\xff" + content[-1:])
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path) == older
    [message] = caplog.messages
    assert str(victim.parent) in message
    assert file in message


def test_pickled_weights_are_rejected(tmp_path: Path) -> None:
    path = save(tmp_path, make_state(), Progress(1), keep=1)
    (path / "model.safetensors").write_bytes(pickle.dumps(make_state().weights))
    assert problem_of(path)
    with pytest.raises(Exception, match=r"header|Header"):
        load(path)


def test_kill_while_saving_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = save(tmp_path, make_state(1), Progress(step=1), keep=5)

    def killed(*_: object) -> None:
        raise SystemExit("killed before the rename")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(SystemExit):
            save(tmp_path, make_state(2), Progress(step=2), keep=5)
    assert newest(tmp_path) == older
    assert newest(save(tmp_path, make_state(2), Progress(step=2), keep=5).parent) == tmp_path / "step-00000002"
    assert not list(tmp_path.glob(".partial*"))


def test_complete_checkpoint_is_not_written_again(tmp_path: Path) -> None:
    path = save(tmp_path, make_state(1), Progress(step=1), keep=5)
    before = (path / "sums.json").stat()
    save(tmp_path, make_state(1), Progress(step=1), keep=5)
    assert (path / "sums.json").stat().st_mtime_ns == before.st_mtime_ns


def test_newest_and_best_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(1, 7):
        save(tmp_path, make_state(step), Progress(step=step, best_step=2 if step >= 2 else -1), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000005", "step-00000006"]


def test_newest_is_none_without_checkpoints(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") is None


class FakeEngine:
    """Engine with a fixed state to save."""

    guard = LossGuard(World(), 0, recent=[0.5, 0.25])

    def state_dict(self) -> TrainState:
        return make_state(5)


@pytest.fixture
def run(tmp_path: Path, shards: Manifest) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.start(load_config("demo", [f"data.shards={shards.folder}"]))
    folder.provenance_file.write_text('{"code": {"commit": "abc"}}')
    return folder


def test_checkpoint_is_logged_after_writing_and_records_its_origin(run: RunFolder) -> None:
    with AsyncCheckpointer(run, run.config(), World()) as saver:
        saver.save(FakeEngine(), Progress(step=5))  # type: ignore[arg-type]
    [record] = run.records()
    assert load(run.checkpoints / record["saved"])[1].recent_losses == [0.5, 0.25]
    assert (record["event"], record["step"]) == ("checkpoint", 5)
    origin = json.loads((run.checkpoints / record["saved"] / "origin.json").read_text())
    assert origin["provenance"] == {"code": {"commit": "abc"}}
    assert (origin["config"]["model"]["name"], origin["world_size"]) == ("unet", 1)


def test_full_disk_raises_and_nothing_is_logged(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("polarcast.hpc.runs.checkpoint._finish", full)
    with pytest.raises(BadInput, match="No space left"), AsyncCheckpointer(run, run.config(), World()) as saver:
        saver.save(FakeEngine(), Progress(step=5))  # type: ignore[arg-type]
    assert list(run.records()) == []


def test_pending_save_completes_before_an_error_propagates(run: RunFolder) -> None:
    def fail() -> None:
        with AsyncCheckpointer(run, run.config(), World()) as saver:
            saver.save(FakeEngine(), Progress(step=5))  # type: ignore[arg-type]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert newest(run.checkpoints) is not None


def test_saved_state_is_a_copy(shards: Manifest) -> None:
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
