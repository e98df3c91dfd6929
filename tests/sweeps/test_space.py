"""Validation of search spaces."""

from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.utils.console import stderr
from polarcast.sweeps.drive import begin
from polarcast.sweeps.space import SPACES, load_space

PARAMETERS = "parameters: {train.learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}"


def space_file(folder: Path, text: str) -> str:
    (folder / "mine.yaml").write_text(text)
    return str(folder / "mine.yaml")


@pytest.mark.parametrize("name", sorted(path.stem for path in SPACES.glob("*.yaml")))
def test_bundled_spaces_are_valid_on_both_arms(name: str) -> None:
    space = load_space(name, paired=True)
    assert space.arms == ("radar", "dualpol")
    assert {space.config({}, arm).arm for arm in space.arms} == set(space.arms)


def test_point_becomes_a_configuration_that_scores_the_objective(tmp_path: Path) -> None:
    space = load_space(
        space_file(tmp_path, f"objective: validation/csi@threshold=10\n{PARAMETERS}"), ["data.shards=here"]
    )
    config = space.config({"train.learning_rate": 0.005, "model.widths": [4, 8]}, "radar")
    assert config.train.learning_rate == 0.005
    assert config.model["widths"] == [4, 8]
    assert config.train.validate_scores == ["csi@threshold=10"]
    assert (config.arm, config.data.shards) == ("radar", "here")


def test_a_point_overrides_the_former_name_of_its_key(tmp_path: Path) -> None:
    text = "set: {data: {thicken_db: 3}}\nparameters: {data.concentration_jitter_db: {choice: [0.0, 1.0]}}"
    space = load_space(space_file(tmp_path, text), ["data.shards=here"])
    found = [space.config({"data.concentration_jitter_db": v}).data.concentration_jitter_db for v in (0.0, 1.0)]
    assert found == [0.0, 1.0]


def test_relative_shards_are_found_from_the_folder_of_a_trial(
    shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shards.folder.parent)
    space = load_space(space_file(tmp_path, PARAMETERS), [f"data.shards={shards.folder.name}"])
    begun = begin(tmp_path / "sweep", space, False, stderr())
    assert begun.config({}).data.shards == str(shards.folder.resolve())
    assert begin(tmp_path / "sweep", space, True, stderr()) == begun


@pytest.mark.parametrize(
    ("objective", "smaller"),
    [("loss", True), ("rmse", True), ("csi@threshold=10", False), ("cc", False), ("crps", True)],
)
def test_direction_of_objective(tmp_path: Path, objective: str, smaller: bool) -> None:
    space = load_space(space_file(tmp_path, f"objective: validation/{objective}\n{PARAMETERS}"))
    assert space.smaller_is_better == smaller


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"objective: test/rmse\n{PARAMETERS}", "'test/rmse' is not a validation score .*validation/rmse"),
        (f"objective: rmse\n{PARAMETERS}", "'rmse' is not a validation score"),
        (f"objective: validation/nb\n{PARAMETERS}", "nb can't be optimized"),
        (f"objective: validation/hk_gain@threshold=10,window=9\n{PARAMETERS}", "hk_gain.* can't be optimized"),
        (f"objective: validation/csi@threshold=*\n{PARAMETERS}", "many scores"),
        (f"objective: validation/rsme\n{PARAMETERS}", "unknown metric 'rsme'"),
        (f"search: magic\n{PARAMETERS}", "choose from: optuna, random, grid"),
        ("parameters: {}", "no parameters to search"),
        ("parameters: {train.learning_rat: {uniform: [0.1, 1]}}", "did you mean train.learning_rate"),
        ("parameters: {model.widths: {choice: [[4, 8], [a]]}}", "is not accepted"),
        ("parameters: {model.rain_transform: {choice: [log1p, magic]}}", "'magic' is not accepted"),
        ("parameters: {data.crop: {integer: [1, 2], when: {data.flip_rotate: true}}}", "not defined before it"),
        ("trails: 3", "trails"),
    ],
)
def test_invalid_space_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_space(space_file(tmp_path, text))


def test_unknown_space_error_lists_the_bundled_ones() -> None:
    with pytest.raises(BadInput, match="choose from: diffusion, furenet, qpe_unet, tiny"):
        load_space("tinny")
