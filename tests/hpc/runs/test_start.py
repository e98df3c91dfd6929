"""Fine-tuning: a run that starts from the weights of another one."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig, StartRun
from polarcast.hpc.distributed.world import World, detect
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.training.budget import training_budget
from polarcast.hpc.training.train import train
from tests.support import warm

SMALL = [
    "model.widths=[4,8]", "match_params=false", "train.steps=6", "train.validate_every=2", "train.global_batch=2",
    "train.micro_batch=2", "train.threads=1", "train.warmup_steps=0",
]  # fmt: skip
NET = ["model.name=diffusion", "model.steps=2"]


def configured(shards: Manifest, *overrides: str) -> RunConfig:
    return load_config("demo", [f"data.shards={shards.folder}", *SMALL, *NET, *overrides])


def trained(shards: Manifest, folder: Path, *overrides: str) -> RunFolder:
    run = RunFolder(folder)
    train(configured(shards, *overrides), run, detect({}))
    return run


def tensors(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run.weights_file)


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def base(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose kept weights are a moving average, and whose normalization was fitted to these shards."""
    return trained(shards, tmp_path_factory.mktemp("base") / "run", "train.average_decay=0.9")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Shards of other storms on another grid."""
    root = tmp_path_factory.mktemp("others")
    write_archive(root / "archive", 6, size=48, seed=11, preset="tiny", frames=3)
    return write_shards(open_archive(root / "archive"), root / "shards", split="0.5/0.25/0.25")


@pytest.fixture(scope="module")
def tuned(others: Manifest, base: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(others, tmp_path_factory.mktemp("tuned") / "run", f"train.start_from={base.path}", "train.steps=4")


class TestTraining:
    def test_without_learning_nothing_changes_neither_weights_nor_normalization(
        self, others: Manifest, base: RunFolder, tmp_path: Path
    ) -> None:
        still = trained(others, tmp_path / "run", f"train.start_from={base.path}", "train.learning_rate=0")
        assert are_equal(tensors(still), tensors(base))
        fresh = trained(others, tmp_path / "fresh", "train.learning_rate=0")
        name = next(name for name in tensors(fresh) if name.endswith("mean"))
        assert not torch.equal(tensors(fresh)[name], tensors(base)[name]), "these data would give the same"

    def test_first_validation_is_that_of_the_started_weights(
        self, shards: Manifest, base: RunFolder, tmp_path: Path
    ) -> None:
        """The weights that `load_model` gives are the ones to start from, not the last ones."""
        still = trained(shards, tmp_path / "run", f"train.start_from={base.path}", "train.learning_rate=0")
        kept = {r["step"]: r["loss"] for r in base.records() if r["event"] == "validation"}[base.best_step()]
        losses = [r["loss"] for r in still.records() if r["event"] == "validation"]
        assert losses == pytest.approx([kept] * 3, rel=1e-6)
        parts = load_model(base, World()).state_dict()
        assert are_equal(dict(parts), tensors(still))

    def test_learning_moves_the_weights(self, base: RunFolder, tuned: RunFolder) -> None:
        assert not are_equal(tensors(tuned), tensors(base))

    @pytest.mark.multiprocess
    def test_processes_start_from_the_same_weights(self, others: Manifest, base: RunFolder, tmp_path: Path) -> None:
        words = [f"data.shards={others.folder}", *SMALL, *NET, f"train.start_from={base.path}", "train.micro_batch=1"]
        run = RunFolder(tmp_path / "two")
        command = [sys.executable, "-m", "polarcast.hpc.cli", "train", "demo", *words, "train.learning_rate=0"]
        two = warm.Popen([*command, "--out", str(run.path), "--processes", "2"], stdout=subprocess.DEVNULL)
        assert two.wait(240) == 0
        assert [r["world_size"] for r in run.records() if r["event"] == "start"] == [2]
        assert are_equal(tensors(run), tensors(base))

    def test_resumed_from_its_own_checkpoint_without_the_run_it_started_from(
        self, others: Manifest, base: RunFolder, tuned: RunFolder, tmp_path: Path
    ) -> None:
        copied = Path(shutil.copytree(base.path, tmp_path / "base"))
        config = configured(others, f"train.start_from={copied}", "train.steps=4")
        run = RunFolder(tmp_path / "run")

        def stop_after_three(step: int, of: int, loss: float) -> None:
            if step == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(config, run, detect({}), stop_after_three)
        assert [path.name for path in run.checkpoints.glob("step-*")] == ["step-00000002"]
        shutil.rmtree(copied)
        train(run.config(), run, detect({}))
        assert are_equal(tensors(run), tensors(tuned))

    def test_killed_before_its_first_checkpoint_it_needs_the_same_weights(
        self, others: Manifest, base: RunFolder, tmp_path: Path
    ) -> None:
        copied = Path(shutil.copytree(base.path, tmp_path / "base"))
        run = RunFolder(tmp_path / "run")
        run.start(configured(others, f"train.start_from={copied}"))
        shutil.copy(trained(others, tmp_path / "other", "seed=3").weights_file, copied / "model.safetensors")
        with pytest.raises(BadInput, match="the weights to start from have changed"):
            train(run.config(), run, detect({}))
        with pytest.raises(BadInput, match=r"another configuration: train\.start_from=weights "):
            train(configured(others, f"train.start_from={copied}"), run, detect({}))

    def test_model_on_a_base_starts_with_its_base(self, shards: Manifest, base: RunFolder, tmp_path: Path) -> None:
        on_base = ["model.name=post_process", "model.samples=2", f"base={base.path}"]
        built = load_config("demo", [f"data.shards={shards.folder}", *SMALL, *on_base, "train.steps=2"])
        train(built, RunFolder(tmp_path / "built"), detect({}))
        words = [*on_base, f"train.start_from={tmp_path / 'built'}", "train.learning_rate=0"]
        again = load_config("demo", [f"data.shards={shards.folder}", *SMALL, *words])
        train(again, RunFolder(tmp_path / "again"), detect({}))
        assert are_equal(tensors(RunFolder(tmp_path / "again")), tensors(RunFolder(tmp_path / "built")))


class TestRecord:
    def test_provenance_and_card_name_the_run_and_its_weights(
        self, shards: Manifest, others: Manifest, base: RunFolder, tuned: RunFolder
    ) -> None:
        start = tuned.config().start
        assert start is not None
        expected = {
            "model": "diffusion", "run": str(base.path), "config": digest(base.config()), "weights": start.weights,
        }  # fmt: skip
        card = json.loads((tuned.path / "card.json").read_text())
        assert json.loads(tuned.provenance_file.read_text())["started_from"] == card["started_from"] == expected
        assert start.weights in (tuned.path / "card.md").read_text()
        of_base = json.loads((base.path / "card.json").read_text())
        assert of_base["started_from"] is None
        assert "started_from" not in json.loads(base.provenance_file.read_text())
        assert (of_base["grid"], card["grid"], start.grid) == ([32, 32], [48, 48], [32, 32])
        # Six steps at 32 × 32 before, four steps at 48 × 48 now.
        own = training_budget(resolve(tuned.config().with_start(None)), others.shape)
        assert card["run_flops"] == of_base["run_flops"] + own
        assert own > 0

    def test_digest_depends_on_the_weights_and_not_on_the_folder(
        self, shards: Manifest, others: Manifest, base: RunFolder, tmp_path: Path
    ) -> None:
        moved = shutil.copytree(base.path, tmp_path / "moved")
        other = trained(shards, tmp_path / "other", "seed=5")
        same = [digest(configured(others, f"train.start_from={path}")) for path in (base.path, moved)]
        assert len(set(same)) == 1
        assert digest(configured(others, f"train.start_from={other.path}")) not in same
        assert digest(configured(others)) not in same
        assert digest(configured(others, "train.start_from=null")) == digest(configured(others))

    def test_stored_configuration_is_whole(self, base: RunFolder, tuned: RunFolder, tmp_path: Path) -> None:
        """It can be read where the other run is not, and another run can start from this one."""
        config = load_config(tuned.path / "config.yaml")
        assert (config, digest(config)) == (tuned.config(), digest(tuned.config()))
        next_one = load_config(tuned.path / "config.yaml", [f"train.start_from={tuned.path}"])
        assert next_one.start is not None
        assert next_one.start.config == tuned.config()
        assert next_one.start.config.start is not None
        folders = {"run": "", "config": "", "weights": 3}
        with pytest.raises(BadInput, match="expected the folder of a run"):
            load_config("demo", {"train": {"start_from": folders}})

    def test_weights_are_looked_up_where_a_suite_did_not_know_them(
        self, others: Manifest, base: RunFolder, tuned: RunFolder, tmp_path: Path
    ) -> None:
        known = configured(others, f"train.start_from={base.path}", "train.steps=4")
        waiting = known.with_start(StartRun(str(base.path), base.config()))
        assert digest(waiting) != digest(known)
        run = RunFolder(tmp_path / "run", trust=True)
        run.start(waiting)
        train(waiting, run, detect({}))
        assert run.config().start == StartRun(str(base.path), base.config(), known.start.weights)  # type: ignore[union-attr]
        assert are_equal(tensors(run), tensors(tuned))
        written = run.config_file.read_text()
        run.start(waiting)  # as a suite does when it is run again
        assert run.config_file.read_text() == written


MISMATCHES = {
    "model.name": ["model.name=unet"],
    "model.widths": ["model.widths=[4,12]"],
    "model.prediction": ["model.prediction=eps"],
    "data.variables": ["arm=radar"],
    "arm": ["arm=placebo"],
    "data.heights_km": ["data.heights_km=[1.0]"],
    "data.context": ["data.context=1"],
}


class TestRefusals:
    @pytest.mark.parametrize("key", MISMATCHES)
    def test_other_nets_and_inputs(
        self, others: Manifest, base: RunFolder, tmp_path: Path, polarcast_here: Callable[..., tuple[int, str, str]],
        key: str,
    ) -> None:  # fmt: skip
        words = [w for w in [*SMALL, *NET] if key != "model.name" or not w.startswith("model.steps")]
        more = [f"data.shards={others.folder}", *words, *MISMATCHES[key], f"train.start_from={base.path}"]
        code, _, said = polarcast_here("train", "demo", *more, "--out", tmp_path / "run")
        assert (code, said.count("\n")) == (2, 1), said
        assert said.startswith(f"polarcast: {key}: the run to start from has "), said
        assert not (tmp_path / "run").exists()

    def test_settings_of_losses_and_samplers_may_differ(self, others: Manifest, base: RunFolder) -> None:
        resolve(configured(others, f"train.start_from={base.path}", "model.steps=5", "model.heavy_weight=0.1"))

    def test_runs_that_are_not_trained(self, others: Manifest, base: RunFolder, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="not a run: it has no config"):
            configured(others, f"train.start_from={tmp_path}")
        half = Path(shutil.copytree(base.path, tmp_path / "half"))
        (half / "model.safetensors").unlink()
        with pytest.raises(BadInput, match="to start from is not fully trained"):
            configured(others, f"train.start_from={half}")
        with pytest.raises(BadInput, match="power_law has no training"):
            load_config("demo", ["model.name=power_law", f"train.start_from={base.path}"])

    def test_damaged_weights(self, others: Manifest, base: RunFolder, tmp_path: Path) -> None:
        damaged = Path(shutil.copytree(base.path, tmp_path / "damaged"))
        (damaged / "model.safetensors").write_bytes(b"no weights")
        with pytest.raises(BadInput, match="damaged"):
            trained(others, tmp_path / "run", f"train.start_from={damaged}")
        assert not (tmp_path / "run").exists()

    def test_stored_folder(self, tuned: RunFolder, tmp_path: Path) -> None:
        """A stored configuration holds the run; a folder in it could be anywhere on another machine."""
        copied = Path(shutil.copytree(tuned.path, tmp_path / "run"))
        (copied / "config.yaml").write_text("train: {start_from: /somewhere}\n")
        with pytest.raises(BadInput, match=r"train.start_from: names a folder"):
            RunFolder(copied).config()


def test_model_is_built_as_before(base: RunFolder, tuned: RunFolder) -> None:
    """The start adds nothing to the net: a finished run does not need the one it started from."""
    names = set(build_model(resolve(tuned.config())).state_dict())
    assert names == set(build_model(resolve(base.config())).state_dict())
