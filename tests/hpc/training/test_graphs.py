"""Recorded steps: same losses and weights as plain ones, fall-back, models whose steps can be recorded."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from polarcast.data.batch import Batch
from polarcast.data.errors import WorkFailed
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.backends.ddp import DDPBackend
from polarcast.hpc.training.backends.graphed import GRAPHS, GraphedBackend, wants_graphs
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.estimate import example_batch
from polarcast.hpc.training.graphs import Recorder, StaticBatch
from polarcast.models.forecaster import Forecaster
from polarcast.models.registry import MODELS
from tests.support.graphs import CallingRecorder, FailingRecorder

SMALL: dict[str, dict[str, Any]] = {
    "furenet": {"widths": [4, 8], "squeeze": 2, "attention": True},
    "furenet_advected": {"widths": [4, 8], "squeeze": 2},
    "bagging": {"widths": [4, 8], "squeeze": 2, "loss": "balanced"},
    "simvp": {"widths": [4, 8], "halvings": 1, "depth": 1},
    "convgru": {"widths": [4, 8]},
}
BASES = {
    "latent_diffusion": "autoencoder",
    "residual_diffusion": "unet",
    "post_process": "diffusion",
    "merge": "unet",
    "residual_nowcast": "furenet",
}
TRAINED = [name for name, model in MODELS.items() if model.trained]
FIRST_GUESS = {"unet", "wf_unet", "diffusion", "combined_diffusion"}
RATES = [1e-3, 2e-3, 5e-4, 1e-3]


def configure(name: str, model: dict[str, object] | None = None, **train: object) -> RunConfig:
    settings = {"name": name, **SMALL.get(name, {"widths": [4, 8]}), **(model or {})}
    values = {"task": MODELS[name].tasks[0], "match_params": False, "data": {"heights_km": [3.0]}, "model": settings}
    return load_config("demo", {**values, "train": {"global_batch": 4, "micro_batch": 2, "threads": 1, **train}})


def made(name: str, **settings: object) -> tuple[Forecaster, Callable[..., Batch]]:
    """A small model with a base, if it needs one, and a maker of its batches, 16 × 16."""
    resolved = resolve(configure(BASES.get(name, name), settings))
    model = build_model(resolved)
    if name in BASES:
        config = MODELS[name].config(**SMALL.get(name, {"widths": [4, 8]}))
        model = MODELS[name].build(config, resolved.inputs, model)
    return model, partial(example_batch, resolved.inputs, (16, 16))


def noisy(batch: Batch, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.arange(len(batch)) + 10 * seed
    fields = batch.map(lambda field: 30 * torch.rand(field.shape, generator=generator))
    return replace(fields, sample_index=numbers)


def engine_of(name: str, recorder: type[Recorder] | None, **train: object) -> tuple[Engine, list[list[Batch]]]:
    """An engine with recorded steps, or plain ones without a recorder; and the micro-batches of four steps."""
    model, batch_of = made(name)

    def make(model: Forecaster, train: Any, micro: int, world: World) -> Any:
        if recorder:
            return GraphedBackend(model, train, train.global_batch // micro, world, recorder)
        return DDPBackend(model, train, train.global_batch // micro, world)

    engine = Engine(model, configure(BASES.get(name, name), **train).train, World(), 2, make=make)
    steps = [[noisy(batch_of(2), 2 * step + i) for i in range(2)] for step in range(4)]
    return engine, [[engine.stager.take(engine.stager.stage(batch)) for batch in batches] for batches in steps]


def trained(name: str, recorder: type[Recorder] | None, **train: object) -> tuple[list[float], dict[str, Tensor]]:
    torch.manual_seed(0)
    engine, steps = engine_of(name, recorder, **train)
    losses = [engine.step(batches, rate) for batches, rate in zip(steps, RATES, strict=True)]
    state = engine.state_dict()
    assert state is not None
    return losses, state.weights


@cache
def plain(name: str) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights of plain steps."""
    return trained(name, None, average_decay=0.9)


@pytest.mark.parametrize("recorder", [CallingRecorder, FailingRecorder])
@pytest.mark.parametrize("name", ["unet", "diffusion", "autoencoder", "furenet", "residual_nowcast"])
def test_recorded_steps_equal_plain_ones(name: str, recorder: type[Recorder]) -> None:
    losses, weights = trained(name, recorder, average_decay=0.9)
    plain_losses, plain_weights = plain(name)
    assert losses == pytest.approx(plain_losses, rel=1e-5)
    assert len(set(losses)) == len(losses)
    # A bias of the keys shifts all scores of a softmax alike: its gradient is rounding, which Adam scales up.
    for key, weight in ((k, w) for k, w in plain_weights.items() if not k.endswith("key.bias")):
        torch.testing.assert_close(weights[key], weight, rtol=1e-4, atol=1e-6, msg=key)


def test_failed_recording_changes_nothing_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    engine, steps = engine_of("unet", FailingRecorder)
    with caplog.at_level(logging.WARNING, "polarcast"):
        for batches in steps:
            engine.step(batches, 1e-3)
    reason = "operation not permitted when stream is capturing"
    assert engine.mode == reason
    assert [record.getMessage() for record in caplog.records] == [f"polarcast: steps run without CUDA graphs: {reason}"]
    assert trained("unet", FailingRecorder)[0] == pytest.approx(trained("unet", CallingRecorder)[0], rel=1e-6)


def test_model_that_samples_its_base_falls_back() -> None:
    engine, steps = engine_of("post_process", CallingRecorder)
    losses = [engine.step(batches, 1e-3) for batches in steps]
    assert "random numbers on the host" in engine.mode
    assert losses == pytest.approx(trained_at("post_process", 1e-3), rel=1e-5)


def trained_at(name: str, rate: float) -> list[float]:
    engine, steps = engine_of(name, None)
    return [engine.step(batches, rate) for batches in steps]


def test_resumed_run_continues_with_recorded_steps() -> None:
    torch.manual_seed(0)
    whole, steps = engine_of("unet", CallingRecorder)
    losses = [whole.step(batches, 1e-3) for batches in steps[:2]]
    saved = whole.state_dict()
    losses += [whole.step(batches, 1e-3) for batches in steps[2:]]
    make = partial(GraphedBackend, make_recorder=CallingRecorder)
    model, _ = made("unet")
    resumed = Engine(model, configure("unet").train, World(), 2, saved, lambda m, t, n, w: make(m, t, 2, w))
    assert [resumed.step(batches, 1e-3) for batches in steps[2:]] == losses[2:]
    assert resumed.mode == GRAPHS


def test_losses_read_with_the_next_step_are_the_same() -> None:
    torch.manual_seed(0)
    engine, steps = engine_of("unet", CallingRecorder)
    late = [engine.step(batches, rate, wait=False) for batches, rate in zip(steps, RATES, strict=True)]
    engine.settle()
    expected, _ = trained("unet", CallingRecorder)
    assert late == [expected[0], expected[0], *expected[1:3]]
    assert list(engine.guard.recent)[-2:] == pytest.approx([expected[3]] * 2, rel=0.5)
    assert len(engine.guard.recent) == 8


def test_non_finite_loss_read_late_names_its_own_step_and_samples() -> None:
    engine, steps = engine_of("unet", CallingRecorder)
    broken = [batch.map(lambda field: field * float("nan")) for batch in steps[1]]
    engine.step(steps[0], 1e-3, wait=False)
    engine.step(broken, 1e-3, wait=False)
    with pytest.raises(WorkFailed, match=r"^step 2: loss nan on rank 0"):
        engine.step(steps[2], 1e-3, wait=False)


def test_state_is_not_saved_before_the_last_loss_is_checked() -> None:
    engine, steps = engine_of("unet", None)
    engine.step(steps[0], 1e-3)
    engine.step([batch.map(lambda field: field * float("nan")) for batch in steps[1]], 1e-3, wait=False)
    with pytest.raises(WorkFailed, match=r"^step 2"):
        engine.state_dict()


def test_batch_of_another_shape_is_not_copied_into_the_buffers() -> None:
    _, batch_of = made("unet")
    static = StaticBatch(batch_of(2))
    with pytest.raises(ValueError, match="recorded step"):
        static.fill(batch_of(1))


@pytest.mark.parametrize(
    ("train", "size", "reason"),
    [
        ({"graphs": True}, 1, "there is no GPU"),
        ({"graphs": "auto"}, 1, ""),
        ({"graphs": False}, 1, ""),
    ],
)
def test_without_a_gpu_no_graph_is_tried(
    train: dict[str, Any], size: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "polarcast"):
        assert not wants_graphs(configure("unet", **train).train, World(size=size))
    assert [reason in record.getMessage() for record in caplog.records] == [True] * bool(reason)


GPU_CASES = [
    ({}, 1, ""),
    ({}, 2, "several processes"),
    ({"zero_stage": 1}, 1, "ZeRO stage 1"),
    ({"checkpoint_activations": True}, 1, "checkpoint_activations"),
]


@pytest.mark.parametrize(("train", "size", "reason"), GPU_CASES)
def test_settings_that_prevent_graphs_are_named(
    train: dict[str, Any], size: int, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polarcast.hpc.training.backends.graphed.device_of", lambda _world: "cuda:0")
    with caplog.at_level(logging.WARNING, "polarcast"):
        assert wants_graphs(configure("unet", graphs=True, **train).train, World(size=size)) == (not reason)
    assert reason in caplog.text


class _HostTransfers(TorchDispatchMode):
    """Copies between the CPU and the device of the model, which a CUDA graph can't contain."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        kinds = {tensor.device.type for tensor in tensors if tensor.ndim or "copy" in str(function)}
        if len(kinds) > 1 or ("_local_scalar_dense" in str(function) and "meta" in kinds):
            self.found.append(str(function))
        return result


class _HostConstants(TorchFunctionMode):
    """Tensors on the device made of Python numbers, which are copied from the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        if name in ("new_tensor", "tensor", "as_tensor", "from_numpy") and result.is_meta:
            self.found.append(name)
        return result


def test_models_that_can_have_a_first_guess_are_tried_with_it() -> None:
    assert {name for name in TRAINED if hasattr(MODELS[name].config(), "first_guess")} == FIRST_GUESS


@pytest.mark.parametrize(
    ("name", "first_guess"), [*((name, False) for name in TRAINED), *((name, True) for name in sorted(FIRST_GUESS))]
)
def test_training_step_needs_nothing_of_the_host(name: str, first_guess: bool) -> None:
    """Hold which models a CUDA graph can contain, without a GPU: the meta device has no values to wait for."""
    with torch.device("meta"):
        model, batch_of = made(name, **({"first_guess": "power_law"} if first_guess else {}))
        batch = batch_of(2)
    numbers = model.loss_numbers(batch)
    if name == "post_process":
        assert numbers is None
        return
    assert numbers is not None
    batch = replace(batch, random=numbers).to("meta")
    with _HostConstants() as constants, _HostTransfers() as transfers:
        model.loss(batch).backward()
    assert constants.found + transfers.found == []
