"""Models on top of a base run: weights, digests, held-out events, model cards."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.perf.sampler import SETTINGS, measure_sampler
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.train import train

SMALL = [
    "model.widths=[4,8]", "match_params=false", "train.steps=4", "train.validate_every=2", "train.global_batch=2",
    "train.micro_batch=2", "train.threads=1",
]  # fmt: skip


def trained(shards: Manifest, folder: Path, *overrides: str, settings: list[str] = SMALL) -> RunFolder:
    run = RunFolder(folder)
    train(load_config("demo", [f"data.shards={shards.folder}", *settings, *overrides]), run, detect({}))
    return run


@pytest.fixture(scope="module")
def base(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(shards, tmp_path_factory.mktemp("base") / "diffusion", "model.name=diffusion", "model.steps=2")


@pytest.fixture(scope="module")
def built(shards: Manifest, base: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("built") / "post"
    return trained(shards, folder, "model.name=post_process", "model.samples=2", f"base={base.path}")


def test_base_weights_are_stored_unchanged(base: RunFolder, built: RunFolder) -> None:
    expected, own = load_file(base.weights_file), load_file(built.weights_file)
    for name, value in expected.items():
        torch.testing.assert_close(own[f"base.{name}"], value, rtol=0, atol=0)
    assert any(not name.startswith("base.") for name in own)


def test_base_weights_are_not_trained(base: RunFolder, built: RunFolder) -> None:
    model = build_model(resolve(built.config()))
    assert not any(name.startswith("base.") for name, _ in model.named_parameters())
    started = next(r for r in built.records() if r["event"] == "start")
    assert started["parameters"] == sum(p.numel() for p in model.parameters())


def test_evaluation_does_not_need_the_base_run(
    shards: Manifest, base: RunFolder, built: RunFolder, tmp_path: Path
) -> None:
    expected = evaluate(built, shards, built.output)
    hidden = base.path.rename(base.path.with_name("elsewhere"))
    try:
        shutil.copytree(built.path, tmp_path / "alone")
        alone = RunFolder(tmp_path / "alone")
        found = evaluate(alone, shards, alone.output)
    finally:
        hidden.rename(base.path)
    for name, sums in expected.sums.items():
        assert (found.sums[name] == sums).all()


def test_ensemble_scores_are_reproducible(shards: Manifest, base: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "mean"
    run = trained(
        shards, folder, "model.name=member_mean", "model.samples=2", f"base={base.path}", "evaluate.members=3",
        settings=["train.threads=1"],
    )  # fmt: skip
    one, two = (evaluate(run, shards, run.output) for _ in range(2))
    assert one.protocol.members == 3
    assert (one.sums["spread"][..., 1] > 0).all()
    assert all((two.sums[name] == sums).all() for name, sums in one.sums.items())


def test_digest_includes_the_base_but_not_its_path(shards: Manifest, base: RunFolder, tmp_path: Path) -> None:
    other = trained(shards, tmp_path / "other", "model.name=diffusion", "model.steps=2", "seed=1")
    digests = {digest(load_config("demo", ["model.name=member_mean", f"base={run.path}"])) for run in (base, other)}
    assert len(digests) == 2
    moved = Path(shutil.copytree(base.path, tmp_path / "moved"))
    assert digest(load_config("demo", ["model.name=member_mean", f"base={moved}"])) in digests


def test_invalid_base_runs_are_rejected(shards: Manifest, base: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a run"):
        load_config("demo", ["model.name=member_mean", f"base={tmp_path}"])
    with pytest.raises(BadInput, match="requires a trained base run"):
        load_config("demo", ["model.name=member_mean"])
    with pytest.raises(BadInput, match="does not take a base run"):
        load_config("demo", [f"base={base.path}"])
    half = Path(shutil.copytree(base.path, tmp_path / "half"))
    (half / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="not fully trained"):
        trained(shards, tmp_path / "run", "model.name=member_mean", f"base={half}", settings=["train.threads=1"])
    unet = trained(shards, tmp_path / "unet")
    with pytest.raises(BadInput, match="makes no samples"):
        trained(shards, tmp_path / "again", "model.name=member_mean", f"base={unet.path}", settings=["train.threads=1"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["half", "unet"], "a rejected start left files"


def test_held_out_events_are_used_by_one_model_only(shards: Manifest) -> None:
    def events(*overrides: str) -> set[int]:
        config = load_config("demo", [f"data.shards={shards.folder}", *overrides])
        return set(build_reader(config, shards, "train").events().tolist())

    kept, held_out = events("data.hold_out=0.25"), events("data.hold_out=0.25", "data.only_held_out=true")
    assert kept | held_out == events()
    assert not kept & held_out
    assert len(held_out) == 1
    config = load_config("demo", [f"data.shards={shards.folder}", "data.hold_out=0.25"])
    assert set(build_reader(config, shards, "test").events().tolist()) == set(shards.splits["test"])


def test_context_frames_are_model_inputs(shards: Manifest, tmp_path: Path) -> None:
    run = trained(shards, tmp_path / "run", "data.context=2", "arm=radar")
    config = run.config()
    assert build_model(resolve(config)).net.stem.in_channels == 3 * 3  # type: ignore[union-attr]
    assert len(evaluate(run, shards, run.output).events) == 2


def test_model_card_describes_model_and_data(shards: Manifest, base: RunFolder, built: RunFolder) -> None:
    card = json.loads((built.path / "card.json").read_text())
    model = build_model(resolve(built.config()))
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert card["frozen_values"] == sum(v.numel() for v in load_file(base.weights_file).values())
    assert card["base"] == {"model": "diffusion", "run": str(base.path), "config": digest(base.config())}
    assert (card["training_events"], card["training_windows"], card["samples"]) == (4, 16, 8)
    assert card["evaluations"] == 2 * json.loads((base.path / "card.json").read_text())["evaluations"] == 4
    assert card["forecast_flops"] > 0
    assert card["best_step"] in (2, 4)
    assert card["data"] == shards.digest()
    text = (built.path / "card.md").read_text()
    assert "| Parameters trained |" in text
    assert "None" not in text


def test_samplers_are_compared_with_100_steps(base: RunFolder, shards: Manifest, tmp_path: Path) -> None:
    measured = measure_sampler(base, members=2, windows=3)
    crps = {row.name: row.value for row in measured.rows if row.name.startswith("CRPS")}
    assert len(crps) == 1 + len(SETTINGS)
    assert measured.ratios["CRPS, dpm, 8 steps / ddim, 100 steps"] == pytest.approx(
        crps["CRPS, dpm, 8 steps"] / crps["CRPS, ddim, 100 steps"]
    )
    assert "2 members, 3 validation windows" in measured.notes["run"]
    # More steps of the same solver give a result closer to the reference.
    differences = [abs(measured.ratios[f"CRPS, ddim, {n} steps / ddim, 100 steps"] - 1) for n in (4, 50)]
    assert differences[1] < differences[0]
    with pytest.raises(BadInput, match="draws no samples"):
        measure_sampler(trained(shards, tmp_path / "unet"), members=2, windows=3)
