"""A configuration is refused in one line, or trains to finite weights; never a traceback, never nonsense."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file

from polarcast.data.errors import BadInput, WorkFailed
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.train import train
from polarcast.models.common.settings import Limits
from polarcast.models.registry import MODELS, get_model
from tests.support.finished_run import finished
from tests.support.odd_values import changes_of, leaves, nested

EXAMPLES = int(os.environ.get("POLARCAST_EXAMPLES", "3"))
"""Configurations drawn of each model."""
TINY: Mapping[str, Any] = {
    "match_params": False, "data.seen_frames": 2, "data.lead_frames": 2, "data.workers": 0, "data.heights_km": [1.0],
    "train.steps": 2, "train.global_batch": 2, "train.micro_batch": 2, "train.threads": 1, "train.validate_windows": 2,
}  # fmt: skip
SMALL: Mapping[str, Any] = {
    "widths": [4, 6], "squeeze": 2, "halvings": 1, "depth": 1, "steps": 2, "latent_channels": 1, "fields": 2,
    "samples": 1, "trees": 2, "leaves": 3, "pixels": 100, "min_leaf": 1, "particles": 20, "motion_frames": 2,
    "ar_order": 1, "views": ["raw", "edges"], "carry_back": [0],
}  # fmt: skip
"""Settings that make models small, where they have them."""
BASES = {
    "latent_diffusion": "autoencoder", "residual_diffusion": "unet", "post_process": "diffusion",
    "member_mean": "diffusion", "residual_nowcast": "furenet", "probability_matched": "furenet",
    "merge": "unet,diffusion", "stacked": "unet,diffusion", "model_mean": "unet,diffusion",
}  # fmt: skip
"""Models that others build on; several are separated by commas."""


@pytest.fixture(scope="module")
def bases(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folder of a finished base run of each model that needs one."""
    folder = tmp_path_factory.mktemp("bases")
    for name in {base for of_model in BASES.values() for base in of_model.split(",")}:
        finished(shards, folder / name, *(f"{key}={value}" for key, value in usual(name).items()))
    return {name: ",".join(str(folder / base) for base in of_model.split(",")) for name, of_model in BASES.items()}


def usual(name: str) -> dict[str, Any]:
    """Return values of a small configuration of one model, by dotted key."""
    model = get_model(name)
    known = {f"model.{key}": value for key, value in SMALL.items() if key in model.config.__dataclass_fields__}
    return {**TINY, "task": model.tasks[0], "model.name": name, **known}


@pytest.mark.parametrize("name", MODELS)
def test_no_configuration_trains_to_weights_that_are_not_finite(
    name: str, shards: Manifest, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    # Counting the FLOPs for the model card takes longer than the training.
    monkeypatch.setattr("polarcast.hpc.training.train.write_card", lambda *_: None)

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(changes=changes_of(name))
    def refused_or_trained(changes: dict[str, Any]) -> None:
        values = nested({**usual(name), "data.shards": str(shards.folder), "base": bases.get(name), **changes})
        with tempfile.TemporaryDirectory() as folder:
            run = RunFolder(Path(folder) / "run")
            if refusal := refusal_of(values, run):
                assert refusal.isprintable(), refusal
                assert len(refusal) < 1000
                return
            for key, tensor in load_file(run.weights_file).items():
                assert not tensor.is_floating_point() or torch.isfinite(tensor).all(), key

    refused_or_trained()


def refusal_of(values: Mapping[str, Any], run: RunFolder) -> str:
    """Train a run, and return the message if it is refused."""
    try:
        train(load_config("demo", values), run, World())
    except (BadInput, WorkFailed) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed: must be at least 0, got -1"),
        ("model.widths=[]", "model.widths: must not be empty"),
        ("model.widths=[0]", "model.widths: must be at least 1, got 0"),
        ("model.widths=[-8,16]", "model.widths: must be at least 1, got -8"),
        ("model.widths=[100000000]", "model.widths: must be at most 16384"),
        ("model.widths=[1,", "override: 'model.widths=[1,'"),
        ("model.widths[0]=4", "model.widths: got {'0': 4} — give a list"),
        ("model.widths=[[4]]", "model.widths: must hold single values"),
        ("model.scaling=standard", "model.scaling: unknown value 'standard' — choose from: range, frame"),
        ("model=", "model: got None — give settings, such as model.name=…"),
        ("model=unet", "model: got 'unet' — give settings"),
        ("model.name=", "model.name: unknown model None"),
        ("data=1", "data: got 1 — give settings"),
        ("data.heights_km=[]", "data.heights_km: must not be empty"),
        ("data.heights_km=[1,1]", "data.heights_km: has 1.0 more than once"),
        ("data.heights_km=[nan]", "data.heights_km: must be a finite number"),
        ("data.variables=[zh,zh]", "data.variables: has 'zh' more than once"),
        ("data.variables=[]", "data.variables: must not be empty"),
        ("data.shards=${nope}", "data.shards: Interpolation key 'nope' not found"),
        ("data.stream.stall_seconds=0", "data.stream.stall_seconds: must be above 0"),
        ("data.context=1000000", "data.context: must be at most 1000"),
        ("train.steps=0", "train.steps: must be at least 1, got 0"),
        ("train.learning_rate=nan", "train.learning_rate: must be a finite number, got nan"),
        ("train.learning_rate=1e400", "train.learning_rate: must be a finite number, got inf"),
        ("train.average_decay=nan", "train.average_decay: must be a finite number, got nan"),
        ("train.heartbeat_seconds=inf", "train.heartbeat_seconds: must be a finite number"),
        ("train.validate_scores=[nope]", "train.validate_scores: unknown metric 'nope'"),
        ("evaluate.members=-3", "evaluate.members: must be at least 1, got -3"),
        ("evaluate.members=100000000", "evaluate.members: must be at most 10000"),
        ("base=3", "base: expected the folder of a run, got 3"),
        ("base={a: 1}", "base: expected the folder of a run, got {'a': 1}"),
        ("base={run: x, config: 3}", "base: expected the folder of a run"),
        ("x\ny=3", "configuration: unknown key 'x\\ny'"),
    ],
)
def test_no_nonsense_of_the_command_line_is_accepted(override: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_config("demo", [override])
    assert str(caught.value).startswith(message)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("sprog", "ar_order", 0), ("sprog", "levels", 2), ("sprog", "threshold", 0.036), ("anvil", "motion_frames", 1),
        ("steps", "spacing_km", -1.0), ("steps", "step_minutes", 0.0), ("bagging", "views", ["raw", "fog"]),
        ("bagging", "views", []), ("simvp", "widths", [8]), ("simvp", "halvings", 0), ("simvp", "depth", 0),
        ("furenet", "squeeze", 0), ("furenet", "loss", "l2"), ("furenet_advected", "carry", "zdr"),
        ("furenet_advected", "carry_back", [0, -1]), ("furenet_advected", "carry_back", []),
        ("boosting", "objective", "l1"), ("boosting", "rain_transform", "cube"), ("boosting", "pixels", 0),
        ("boosting", "leaves", 1), ("power_law", "coefficients", "mine"), ("power_law", "cap_dbz", float("nan")),
        ("attainable", "noise", [0.8]), ("attainable", "noise", [0.8, 0.0, 0.2]), ("autoencoder", "widths", []),
        ("diffusion", "steps", 0), ("diffusion", "drop", 2.0), ("diffusion", "sampler", "euler"),
        ("diffusion", "noise_shift", float("inf")), ("combined_diffusion", "fields", 0), ("unet", "rate_scale", 0.0),
        ("unet", "rate_weight", -1.0), ("unet", "heavy_power", -0.5), ("extrapolation", "motion_frames", 1),
        ("sprog", "threshold", 0.0), ("probability_matched", "mean_of", 0),
    ],
)  # fmt: skip
def test_no_nonsense_in_the_settings_of_a_model_is_accepted(model: str, key: str, value: object) -> None:
    with pytest.raises(BadInput, match=rf"^model\.{key}: "):
        load_config("demo", {"task": get_model(model).tasks[0], "model": {"name": model, key: value}})


@pytest.mark.parametrize("source", [None, 3, [], b"demo", {"model": None}, {"data": object()}, {1: 2}, {"train": []}])
def test_no_source_but_a_preset_a_file_or_values_is_accepted(source: Any) -> None:
    with pytest.raises(BadInput) as caught:
        load_config(source)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("overrides", ["train.steps=3", 3, [3], [None], {"a": object()}])
def test_no_overrides_but_texts_and_values_are_accepted(overrides: Any) -> None:
    with pytest.raises(BadInput):
        load_config("demo", overrides)


@pytest.mark.parametrize("kind", [RunConfig, *(model.config for model in MODELS.values())])
def test_no_number_of_the_schema_is_without_limits(kind: type[Any]) -> None:
    for key, field in leaves(kind):
        limits: Limits = field.metadata.get("limits", Limits())
        if "int" in str(field.type) or "float" in str(field.type):
            assert limits.least is not None or limits.above is not None, key
            assert limits.most is not None or limits.below is not None, key


def test_what_a_user_may_write_stays_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "mine")
    overrides = [
        "data.shards=pipe:aws s3 cp s3://${oc.env:BUCKET}/{name} -",
        "train.micro_batch=auto",
        "seed=4294967296",
    ]
    config = load_config("demo", overrides)
    assert config.data.shards == "pipe:aws s3 cp s3://mine/{name} -"
    assert load_config("demo", ["data.shards=\\${HOME}/x"]).data.shards == "${HOME}/x"


@pytest.mark.parametrize("change", [{"arm": "radar"}, {"data.context": 1}, {"data.heights_km": [1.0, 3.0]}])
def test_no_base_is_given_other_inputs_than_it_reads(bases: dict[str, str], change: dict[str, Any]) -> None:
    config = load_config("demo", nested({**usual("post_process"), "base": bases["post_process"], **change}))
    with pytest.raises(BadInput, match="the base run has"):
        resolve(config)


def test_no_network_is_trained_by_batch_statistics_of_one_pixel(shards: Manifest, tmp_path: Path) -> None:
    single = {"model.widths": [4] * 5, "train.global_batch": 1, "train.micro_batch": 1}
    values = nested({**usual("furenet"), "data.shards": str(shards.folder), **single})
    assert refusal_of(values, RunFolder(tmp_path / "run")).startswith("model.widths: one pixel of one sample")
