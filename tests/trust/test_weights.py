"""A configuration that claims another model than the weights are of is refused before memory is allocated."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.training.train import train
from polarcast.models.registry import MODELS
from tests.support.finished_run import UNET, finished
from tests.trust.test_configurations import BASES, usual

HUGE = [4096, 8192, 8192]
MIB = 2**20


@contextmanager
def memory_of(mib: int) -> Iterator[None]:
    """Allow this process to map so much more memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + mib * MIB, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _widen(run: RunFolder) -> None:
    content: dict[str, Any] = yaml.safe_load(run.config_file.read_text())
    content["model"]["widths"] = HUGE
    run.config_file.write_text(yaml.safe_dump(content))


@pytest.fixture
def run(shards: Manifest, tmp_path: Path) -> RunFolder:
    return finished(shards, tmp_path / "run", *UNET)


def test_widths_that_the_weights_do_not_have_allocate_no_memory(run: RunFolder) -> None:
    load_model(run, World())
    _widen(run)
    with memory_of(500), pytest.raises(BadInput, match=r"does not hold the weights of this model \('.*' ") as refused:
        load_model(run, World())
    assert str(refused.value).isprintable()


def test_a_base_run_that_claims_other_widths_allocates_no_memory(
    run: RunFolder, shards: Manifest, tmp_path: Path
) -> None:
    _widen(run)
    overrides = ["model.name=residual_diffusion", "model.widths=[4,8]", f"base={run.path}", "match_params=false"]
    config = load_config("demo", [f"data.shards={shards.folder}", "train.threads=1", *overrides])
    with memory_of(500), pytest.raises(BadInput, match="does not hold the weights of this model"):
        train(config, RunFolder(tmp_path / "out"), World())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a\nb": torch.zeros(1)}, r"'a\\nb' is unknown"),
        ({"x" * 999: torch.zeros(1)}, r"x…"),
        ({"coefficients": torch.zeros(4)}, r"'coefficients' has the shape \(4,\), not \(3,\)"),
        ({"coefficients": None}, "'coefficients' is missing"),
    ],
)
def test_other_names_and_shapes_are_not_a_traceback(
    shards: Manifest, tmp_path: Path, change: dict[str, torch.Tensor | None], words: str
) -> None:
    run = finished(shards, tmp_path / "run", "model.name=power_law")
    weights = {**build_model(resolve(run.config())).state_dict(), **change}
    checkpoint.save_weights(run.weights_file, {name: value for name, value in weights.items() if value is not None})
    with pytest.raises(BadInput, match=words) as refused:
        load_model(run, World())
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def _overrides(name: str) -> list[str]:
    return [f"{key}={value}" for key, value in {**usual(name), "data.seen_frames": 3}.items()]


@pytest.mark.parametrize("name", MODELS)
def test_no_model_of_the_registry_is_refused_with_its_own_weights(name: str, shards: Manifest, tmp_path: Path) -> None:
    overrides = _overrides(name)
    if name in BASES:
        runs = [finished(shards, tmp_path / base, *_overrides(base)) for base in BASES[name].split(",")]
        overrides.append(f"base={','.join(str(run.path) for run in runs)}")
    run = finished(shards, tmp_path / "run", *overrides)
    resolved = resolve(run.config())
    model = build_model(resolved)
    state = torch.random.get_rng_state()
    with torch.device("meta"):
        on_meta = build_model(resolved)
    described = [{key: (value.shape, value.dtype) for key, value in m.state_dict().items()} for m in (model, on_meta)]
    assert described[0] == described[1]
    assert all(value.is_meta for value in on_meta.state_dict().values())
    loaded = load_model(run, World())
    assert torch.equal(torch.random.get_rng_state(), state)  # as after building the model alone
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)
