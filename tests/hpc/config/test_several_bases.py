"""Models on top of several base runs: configuration, digest, weights, budget, forecasts."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.difference import first_difference
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config, load_stored
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import World, detect
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.training.budget import training_budget
from polarcast.hpc.training.estimate import count
from polarcast.hpc.training.train import train
from tests.support.finished_run import UNET, finished

STEPS = ["train.steps=3", "train.validate_every=3", "train.global_batch=2", "train.micro_batch=2", "train.threads=1"]


@pytest.fixture(scope="module")
def bases(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("bases")
    wf_unet = ("model.name=wf_unet", "model.features=[edges]")
    diffusion = ("model.name=diffusion", "model.steps=1")
    kinds = {"unet": (), "wf_unet": wf_unet, "diffusion": diffusion, "radar": ("arm=radar",)}
    return {name: finished(shards, folder / name, *UNET, *words) for name, words in kinds.items()}


def config_words(shards: Manifest, bases: dict[str, RunFolder], model: str, *names: str) -> list[str]:
    widths = ["model.widths=[4,8]"] if model == "merge" else []
    folders = ",".join(str(bases[name].path) for name in names)
    return [f"data.shards={shards.folder}", f"model.name={model}", f"base={folders}", *widths, *STEPS]


@pytest.fixture(scope="module")
def merged(shards: Manifest, bases: dict[str, RunFolder], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("merged") / "run")
    words = config_words(shards, bases, "merge", "unet", "wf_unet", "diffusion")
    train(load_config("demo", [*words, "data.hold_out=0.25", "data.only_held_out=true"]), run, detect({}))
    return run


def test_weights_of_all_bases_are_stored_unchanged(bases: dict[str, RunFolder], merged: RunFolder) -> None:
    own = load_file(merged.weights_file)
    for number, name in enumerate(("unet", "wf_unet", "diffusion")):
        for key, value in load_file(bases[name].weights_file).items():
            torch.testing.assert_close(own[f"base.{number}.{key}"], value, rtol=0, atol=0)
    assert any(float(value.abs().sum()) > 0 for key, value in own.items() if key == "net.head.weight")


def test_a_merge_is_scored_without_its_bases_and_resumes(shards: Manifest, merged: RunFolder) -> None:
    config = load_stored(merged.config_file)
    assert [base.config.model["name"] for base in config.bases] == ["unet", "wf_unet", "diffusion"]
    assert digest(config) == digest(merged.config())
    records = evaluate(merged, shards, merged.output)
    assert all(torch.isfinite(torch.from_numpy(sums)).all() for sums in records.sums.values())
    batch = build_reader(config, shards, "test").read([0]).to("cpu")
    model = load_model(merged, World())
    assert model.forecast(batch, members=2, seed=0).shape == (1, 2, 1, 32, 32)
    train(config, merged, detect({}))  # finished: returns at once


def test_card_has_all_bases_and_the_flops_of_all_training(merged: RunFolder) -> None:
    card = json.loads((merged.path / "card.json").read_text())
    config = merged.config()
    assert [base["model"] for base in card["base"]] == ["unet", "wf_unet", "diffusion"]
    own = count(resolve(config), (32, 32)).flops * 3 * 2
    expected = [
        count(resolve(base.config), (32, 32)).flops * base.config.train.steps * base.config.train.global_batch
        for base in config.bases
    ]
    assert card["run_flops"] == own + sum(expected)
    # A step includes the passes of the frozen bases.
    assert card["training_flops"] > sum(count(resolve(base.config), (32, 32)).flops for base in config.bases) / 4
    assert card["training_windows"] == 4
    assert "{" not in (merged.path / "card.md").read_text()


def test_a_base_that_occurs_twice_is_trained_once(
    shards: Manifest, bases: dict[str, RunFolder], tmp_path: Path
) -> None:
    on_unet = finished(
        shards, tmp_path / "residual", *UNET, "model.name=residual_diffusion", f"base={bases['unet'].path}"
    )
    words = [f"data.shards={shards.folder}", "model.name=model_mean", f"base={bases['unet'].path},{on_unet.path}"]
    budgets = [training_budget(resolve(one), (32, 32)) for one in (load_config("demo", words), on_unet.config())]
    assert budgets[0] == budgets[1]


@pytest.mark.parametrize("model", ["model_mean", "stacked"])
def test_merges_without_steps_are_fitted_and_scored(
    shards: Manifest, bases: dict[str, RunFolder], tmp_path: Path, model: str
) -> None:
    run = RunFolder(tmp_path / "run")
    train(load_config("demo", config_words(shards, bases, model, "unet", "wf_unet")), run, detect({}))
    records = evaluate(run, shards, run.output)
    assert records.protocol.members == 1
    card = json.loads((run.path / "card.json").read_text())
    assert (card["training_flops"], card["evaluations"]) == (None, None)
    assert card["forecast_flops"] > 0
    assert card["run_flops"] == training_budget(resolve(run.config()), (32, 32)) > 0


def test_digest_depends_on_each_base_and_their_order_but_not_on_their_place(
    shards: Manifest, bases: dict[str, RunFolder]
) -> None:
    both, swapped, other = (
        load_config("demo", config_words(shards, bases, "model_mean", *names))
        for names in (("unet", "wf_unet"), ("wf_unet", "unet"), ("unet", "diffusion"))
    )
    assert len({digest(config) for config in (both, swapped, other)}) == 3
    assert first_difference(both, other).startswith("base.1.model.name=wf_unet, got diffusion")
    assert first_difference(both, both) == ""
    nested = load_config("demo", {"model": {"name": "model_mean"}, "base": [str(b.run) for b in both.bases]})
    assert digest(nested) == digest(load_config("demo", ["model.name=model_mean", *_base_word(both.bases)]))


def _base_word(found: object) -> list[str]:
    return [f"base=[{','.join(base.run for base in found)}]"]  # type: ignore[attr-defined]


def test_one_base_in_a_list_is_one_base(bases: dict[str, RunFolder]) -> None:
    path = bases["diffusion"].path
    one, listed = (load_config("demo", ["model.name=member_mean", f"base={word}"]) for word in (path, f"[{path}]"))
    assert one == listed
    assert not isinstance(listed.base, list)


def test_wrong_bases_are_one_line(shards: Manifest, bases: dict[str, RunFolder], tmp_path: Path) -> None:
    unet, wf_unet = bases["unet"].path, bases["wf_unet"].path
    for words, message in (
        (["model.name=merge"], "base: merge requires two or more trained base runs"),
        (["model.name=merge", f"base={unet}"], "base: merge requires two or more trained base runs"),
        (["model.name=merge", f"base={unet},{unet}"], f"base: '{unet}' is given twice"[:40]),
        (["model.name=merge", f"base={unet},{tmp_path}"], f"{tmp_path}: not a run"),
        (["model.name=merge", f"base=[{unet},3]"], "base: expected the folder of a run, got 3"),
        (["model.name=merge", f"base=[{unet},null]"], "base: expected the folder of a run, got ''"),
        (["model.name=member_mean", f"base={unet},{wf_unet}"], "base: member_mean takes one base run, got 2"),
        ([f"base={unet},{wf_unet}"], "base: unet does not take a base run"),
    ):
        with pytest.raises(BadInput) as caught:
            load_config("demo", words)
        assert str(caught.value).startswith(message), str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_base_of_another_arm_or_without_weights_is_refused(
    shards: Manifest, bases: dict[str, RunFolder], tmp_path: Path
) -> None:
    config = load_config("demo", config_words(shards, bases, "merge", "unet", "radar"))
    with pytest.raises(BadInput, match=r"the base run has \['zh'\], this run \['zh', 'zdr'\]"):
        resolve(config)
    half = finished(shards, tmp_path / "half", *UNET, "seed=5")
    half.weights_file.unlink()
    words = config_words(shards, {**bases, "half": half}, "merge", "unet", "half")
    with pytest.raises(BadInput, match="the base run is not fully trained"):
        train(load_config("demo", words), RunFolder(tmp_path / "run"), detect({}))
    assert not (tmp_path / "run").exists()


def test_stored_folders_are_refused_in_a_list_too(merged: RunFolder, tmp_path: Path) -> None:
    stored = merged.config_file.read_text()
    (tmp_path / "config.yaml").write_text(stored[: stored.index("base:")] + "base: [runs/a, runs/b]\n")
    with pytest.raises(BadInput, match="names a folder, and stored configurations contain their base"):
        load_stored(tmp_path / "config.yaml")
