"""Several runs trained in one process equal separate ones, are resumed, stopped, and fail one by one."""

import hashlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from polarcast.data.batch import Batch
from polarcast.data.errors import Stopped, WorkFailed
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.together import Member, stack_key, train_together
from polarcast.hpc.training.together_stack import NetEngine, NetStack
from polarcast.hpc.training.train import train

SEEDS = (0, 1)
SETTINGS = [
    "model.widths=[4,8]", "match_params=false", "train.global_batch=4", "train.warmup_steps=2", "train.steps=6",
    "train.validate_every=2", "train.validate_windows=4", "train.log_every=1", "train.threads=1", "train.engine=ddp",
    "train.average_decay=0.9", "train.clip_norm=0.5",
]  # fmt: skip
NOWCAST = [
    "task=nowcast", "data.seen_frames=2", "data.lead_frames=2", "model.name=furenet", "model.squeeze=4",
    "model.scaling=standard",
]  # fmt: skip
MODELS = {
    "unet": [],
    "features": ["model.features=[edges,gradients,stretch]"],
    "placebo": ["arm=placebo", "data.flip_rotate=true"],
    "micro-batches": ["train.micro_batch=2"],
    "diffusion": ["model.name=diffusion", "model.steps=2", "model.drop=0.2", "train.steps=4"],
    "autoencoder": ["model.name=autoencoder"],
    "furenet": NOWCAST,
}


def configure(shards: Manifest, seed: int, *overrides: str) -> RunConfig:
    return load_config("demo", [f"data.shards={shards.folder}", f"seed={seed}", *SETTINGS, *overrides])


def members_of(shards: Manifest, folder: Path, *overrides: str) -> list[Member]:
    return [Member(configure(shards, seed, *overrides), RunFolder(folder / str(seed))) for seed in SEEDS]


def train_apart(shards: Manifest, folder: Path, *overrides: str) -> list[Member]:
    members = members_of(shards, folder, *overrides)
    for member in members:
        train(member.config, member.run, World())
    return members


@pytest.fixture(scope="module")
def apart(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> list[Member]:
    """Runs of the U-Net, trained one by one."""
    return train_apart(shards, tmp_path_factory.mktemp("apart"))


def trained_together(members: Sequence[Member]) -> list[Member]:
    train_together(members)
    assert [member.failure for member in members] == [None] * len(members)
    return list(members)


def records(run: RunFolder, event: str) -> dict[int, dict[str, object]]:
    return {record["step"]: record for record in run.records() if record["event"] == event}


def assert_same_losses(ours: RunFolder, theirs: RunFolder, tolerance: float = 2e-4) -> None:
    for event in ("step", "validation"):
        mine, separate = records(ours, event), records(theirs, event)
        assert list(mine) == list(separate)
        for step, record in mine.items():
            assert record["loss"] == pytest.approx(separate[step]["loss"], rel=tolerance)
            assert record.get("samples") == separate[step].get("samples")


def assert_same_weights(ours: RunFolder, theirs: RunFolder, tolerance: float = 2e-4) -> None:
    kept = [load_file(run.weights_file) for run in (ours, theirs)]
    assert kept[0].keys() == kept[1].keys()
    is_normalized = any(name.endswith("norm.running_mean") for name in kept[0])
    for name, weight in kept[0].items():
        # Batch normalization cancels this bias: its gradient is rounding, which Adam scales up.
        if not (is_normalized and name.endswith(("first.bias", "norm.running_mean"))):
            torch.testing.assert_close(weight, kept[1][name], rtol=0, atol=tolerance, msg=name)


def files_of(run: RunFolder) -> list[str]:
    return sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*"))


@pytest.mark.parametrize("name", MODELS)
def test_runs_trained_together_equal_separate_ones(shards: Manifest, tmp_path: Path, name: str) -> None:
    together = trained_together(members_of(shards, tmp_path / "together", *MODELS[name]))
    apart = train_apart(shards, tmp_path / "apart", *MODELS[name])
    for ours, theirs in zip(together, apart, strict=True):
        tolerance = 5e-3 if name == "furenet" else 2e-4
        assert_same_losses(ours.run, theirs.run, tolerance)
        assert_same_weights(ours.run, theirs.run, tolerance)
        assert files_of(ours.run) == files_of(theirs.run)
        assert ours.run.config_file.read_text() == theirs.run.config_file.read_text()
    started = [records(member.run, "start")[0] for member in together]
    assert [record["together"] for record in started] == [len(SEEDS)] * len(SEEDS)
    losses = [records(member.run, "step")[4]["loss"] for member in together]
    assert len(set(losses)) == len(SEEDS)


def test_runs_trained_together_in_bfloat16_are_close_to_separate_ones(shards: Manifest, tmp_path: Path) -> None:
    overrides = [*MODELS["furenet"], "train.precision=bf16", "train.steps=4"]
    together = trained_together(members_of(shards, tmp_path / "together", *overrides))
    for ours, theirs in zip(together, train_apart(shards, tmp_path / "apart", *overrides), strict=True):
        mine, separate = records(ours.run, "step"), records(theirs.run, "step")
        for step, record in mine.items():
            assert record["loss"] == pytest.approx(separate[step]["loss"], rel=0.02)


def test_gradients_are_clipped_by_the_norm_of_each_net(shards: Manifest) -> None:
    """A net with far larger gradients does not shorten the steps of another."""
    config = configure(shards, 0, "train.clip_norm=0.1")
    models = [build_model(resolve(config)) for _ in range(2)]
    stack = NetStack(2, config.train, World(), 1)
    engines = [NetEngine(stack, slot, model, config.train, World(), 4) for slot, model in enumerate(models)]
    with torch.no_grad():
        next(models[1].parameters()).mul_(1000)
    batch = build_reader(config, shards, "train").read([0, 1, 2, 3])
    _, norms = stack.step([[batch], [batch]], 1e-3)
    alone = Engine(build_model(resolve(config)), config.train, World(), 4)
    alone.step([batch], 1e-3)
    assert norms[1] > 10 * norms[0] > config.train.clip_norm
    ours, theirs = engines[0].state_dict(), alone.state_dict()
    assert ours
    assert theirs
    for name, moment in theirs.moments.items():
        torch.testing.assert_close(ours.moments[name], moment, rtol=1e-3, atol=1e-6)


def stop_at(members: Sequence[Member], step: int) -> None:
    """Send this process SIGTERM when the first member has made a step."""

    def on_step(done: int, *_: object) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    members[0].on_step = on_step


def test_stopped_runs_continue_together(shards: Manifest, tmp_path: Path) -> None:
    stopped = members_of(shards, tmp_path / "together")
    stop_at(stopped, 3)
    with pytest.raises(Stopped, match="saved step 3"):
        train_together(stopped)
    assert all((member.run.checkpoints / "step-00000003").is_dir() for member in stopped)
    assert not any(member.run.is_trained for member in stopped)
    together = trained_together(members_of(shards, tmp_path / "together"))
    whole = trained_together(members_of(shards, tmp_path / "whole"))
    for ours, theirs in zip(together, whole, strict=True):
        assert records(ours.run, "step").keys() == records(theirs.run, "step").keys()
        assert ours.run.weights_file.read_bytes() == theirs.run.weights_file.read_bytes()


def test_nets_that_are_behind_catch_up_first(shards: Manifest, apart: list[Member], tmp_path: Path) -> None:
    stopped = members_of(shards, tmp_path / "together")
    stop_at(stopped, 4)
    with pytest.raises(Stopped):
        train_together(stopped)
    # A kill fell between the checkpoints of two members.
    (stopped[1].run.checkpoints / "step-00000004" / "sums.json").unlink()
    together = trained_together(members_of(shards, tmp_path / "together"))
    starts = [[r["step"] for r in m.run.records() if r["event"] == "start"] for m in together]
    assert starts == [[0, 4], [0, 2, 4]]
    for ours, theirs in zip(together, apart, strict=True):
        assert_same_losses(ours.run, theirs.run)
        assert_same_weights(ours.run, theirs.run)


def test_finished_runs_are_left_alone(shards: Manifest, tmp_path: Path) -> None:
    members = members_of(shards, tmp_path)
    train(members[0].config, members[0].run, World())
    log, weights = members[0].run.log_file.read_bytes(), members[0].run.weights_file.read_bytes()
    trained_together(members_of(shards, tmp_path))
    assert (members[0].run.log_file.read_bytes(), members[0].run.weights_file.read_bytes()) == (log, weights)
    assert all(member.run.is_trained for member in members)


def test_a_run_that_fails_does_not_keep_the_others(shards: Manifest, apart: list[Member], tmp_path: Path) -> None:
    stopped = members_of(shards, tmp_path)
    stop_at(stopped, 2)
    with pytest.raises(Stopped):
        train_together(stopped)
    spoil(stopped[1].run.checkpoints / "step-00000002")
    members = members_of(shards, tmp_path)
    train_together(members)
    assert isinstance(members[1].failure, WorkFailed)
    assert "step 3" in str(members[1].failure)
    assert [member.run.is_trained for member in members] == [True, False]
    assert_same_losses(members[0].run, apart[0].run)


def spoil(path: Path) -> None:
    """Put a NaN into the weights of a checkpoint, which stays valid otherwise."""
    weights = load_file(path / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, path / "model.safetensors")
    sums = json.loads((path / "sums.json").read_text())
    sums["model.safetensors"] = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    (path / "sums.json").write_text(json.dumps(sums))


def test_memory_that_is_taken_meanwhile_does_not_change_the_micro_batch(
    shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack and its nets must take the same one."""
    available = iter([10**12])
    monkeypatch.setattr("polarcast.hpc.training.micro_batch._available_bytes", lambda: next(available, 0))
    members = trained_together(members_of(shards, tmp_path, "train.micro_batch=auto", "train.steps=2"))
    assert [records(member.run, "start")[0]["micro_batch"] for member in members] == [4, 4]


def test_a_model_that_cannot_be_stacked_is_trained_one_by_one(
    shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from polarcast.models.qpe.unet import UNet

    whole = UNet.loss

    def loss(self: UNet, batch: Batch) -> torch.Tensor:
        if not batch.radar.is_meta:
            float(batch.radar.sum())  # reads a value, which vmap hides
        return whole(self, batch)

    monkeypatch.setattr(UNet, "loss", loss)
    members = trained_together(members_of(shards, tmp_path, "train.steps=2"))
    assert ["trained one by one" in record.message for record in caplog.records] == [True]
    assert not any("together" in records(member.run, "start")[0] for member in members)


def test_only_runs_that_differ_in_their_seed_share_a_stack(shards: Manifest, tmp_path: Path) -> None:
    assert stack_key(configure(shards, 0)) == stack_key(configure(shards, 7))
    others = [configure(shards, 0, change) for change in ("arm=radar", "model.widths=[4,9]", "train.steps=9")]
    assert stack_key(configure(shards, 0)) not in {stack_key(other) for other in others}
    with pytest.raises(ValueError, match="seed"):
        train_together([Member(config, RunFolder(tmp_path)) for config in (configure(shards, 0), others[0])])


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["unet", "diffusion", "furenet"])
def test_runs_trained_together_on_a_gpu_equal_separate_ones(shards: Manifest, tmp_path: Path, name: str) -> None:
    overrides = [*MODELS[name], "train.precision=fp32"]
    together = trained_together(members_of(shards, tmp_path / "together", *overrides))
    for ours, theirs in zip(together, train_apart(shards, tmp_path / "apart", *overrides), strict=True):
        mine, separate = records(ours.run, "step"), records(theirs.run, "step")
        for step, record in mine.items():
            assert record["loss"] == pytest.approx(separate[step]["loss"], rel=2e-3)
