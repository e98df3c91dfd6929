from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.load import load_config, model_config
from polarcast.hpc.utils.sources import PRESETS


@pytest.mark.parametrize("preset", sorted(p.stem for p in PRESETS.glob("*.yaml")))
@pytest.mark.parametrize("arm", ["radar", "dualpol"])
def test_every_preset_is_valid_on_both_arms(preset: str, arm: str) -> None:
    config = load_config(preset, [f"arm={arm}"])
    assert config.variables() == (("zh",) if arm == "radar" else ("zh", "zdr"))


def test_overrides_win_and_keep_their_types() -> None:
    config = load_config("demo", ["train.steps=7", "model.widths=[4,8]", "train.learning_rate=1e-3", "train.steps=9"])
    assert config.train.steps == 9
    assert config.train.learning_rate == 0.001
    assert model_config(config).widths == [4, 8]


def test_stored_configuration_round_trips(tmp_path: Path) -> None:
    from polarcast.hpc.runs.folder import RunFolder

    config = load_config("demo", ["arm=radar", "model.rate_weight=0.25"])
    RunFolder(tmp_path).start(config)
    assert RunFolder(tmp_path).config() == config


def test_shards_of_a_run_may_move(tmp_path: Path) -> None:
    from polarcast.hpc.runs.folder import RunFolder

    run = RunFolder(tmp_path)
    run.start(load_config("demo", ["data.shards=/before"]))
    run.start(load_config("demo", ["data.shards=/after"]))
    assert run.config().data.shards == "/after"
    with pytest.raises(BadInput, match="another configuration"):
        run.start(load_config("demo", ["data.shards=/after", "seed=9"]))


def test_a_configuration_read_again_is_that_of_the_file_whatever_became_of_the_first(tmp_path: Path) -> None:
    from polarcast.hpc.runs.folder import RunFolder

    run = RunFolder(tmp_path)
    run.start(load_config("demo", ["train.steps=7"]))
    first = run.config()
    first.train.steps, first.model["widths"] = 8, []
    assert run.config() == load_config("demo", ["train.steps=7"])
    run.config_file.write_text(
        run.config_file.read_text(encoding="utf-8").replace("steps: 7", "steps: 9"), encoding="utf-8"
    )
    assert run.config().train.steps == 9
    run.config_file.write_bytes(b"\xff")
    with pytest.raises(BadInput, match="damaged"):
        run.config()


def test_digest_includes_settings_that_affect_results_but_not_the_shard_path() -> None:
    expected = digest(load_config("demo"))
    assert digest(load_config("demo", ["data.shards=/elsewhere"])) == expected
    for change in ("seed=1", "arm=radar", "train.steps=3", "model.widths=[8,9]", "match_params=false"):
        assert digest(load_config("demo", [change])) != expected


def test_another_model_name_drops_the_model_settings_of_the_preset() -> None:
    assert load_config("demo", ["model.name=power_law"]).model == {
        "name": "power_law", "coefficients": "published", "cap_dbz": 55.0, "cap_zdr": 4.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.step=3", ["train.step", "train.steps"]),
        ("model.width=[3]", ["model.width", "model.widths"]),
        ("trian.steps=3", ["trian", "did you mean"]),
        ("train.steps=many", ["train.steps", "'many'"]),
        ("train.steps=-1", ["train.steps", "-1"]),
        ("train.global_batch=0", ["train.global_batch", "at least 1"]),
        ("model.name=resnet", ["resnet", "unet"]),
        ("arm=lidar", ["lidar", "radar, dualpol"]),
        ("task=hail", ["hail", "qpe"]),
        ("data.variables=[zh,kdp]", ["KDP is forbidden in QPE", "zh and zdr"]),
        ("data.variables=[zh,rho]", ["rho", "zdr"]),
        ("steps", ["key=value"]),
    ],
)
def test_error_names_the_wrong_value_and_a_fix(override: str, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        load_config("demo", [override])
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content"), [("absent.yaml", None), ("list.yaml", "- 1"), ("broken.yaml", "a: [1"), ("nonsense", None)]
)
def test_unusable_source_is_rejected(tmp_path: Path, name: str, content: str | None) -> None:
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=name.split(".")[0]):
        load_config(str(tmp_path / name) if "." in name else name)
