"""Stacked steps equal those of separate engines, for every model that is trained in steps."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from polarcast.data.batch import Batch
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import ResolvedConfig, resolve
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training.backends.ddp import DDPBackend
from polarcast.hpc.training.backends.graphed import GRAPHS
from polarcast.hpc.training.engine import Engine
from polarcast.hpc.training.estimate import example_batch
from polarcast.hpc.training.graphs import RecordedStep
from polarcast.hpc.training.together_stack import NetEngine, NetStack
from polarcast.models.forecaster import Forecaster
from polarcast.models.registry import MODELS
from tests.support.graphs import CallingRecorder

NETS, RATES = 3, (1e-3, 2e-3, 5e-4)
SMALL: dict[str, dict[str, Any]] = {
    "furenet": {"squeeze": 2, "attention": True},
    "furenet_advected": {"squeeze": 2, "loss": "balanced"},
    "bagging": {"squeeze": 2},
    "convgru": {"loss": "sharp"},
    "simvp": {"halvings": 1, "depth": 1},
    "diffusion": {"drop": 0.3},
}
BASES = {
    "latent_diffusion": "autoencoder", "residual_diffusion": "unet", "residual_nowcast": "furenet", "merge": "unet",
}  # fmt: skip
NOT_STACKED = {"post_process"}
STACKED = [name for name, model in MODELS.items() if model.trained and name not in NOT_STACKED]


@cache
def resolved_for(name: str, **train: object) -> ResolvedConfig:
    settings = {"name": name, "widths": [4, 8], **SMALL.get(name, {})}
    values = {"task": MODELS[name].tasks[0], "match_params": False, "data": {"heights_km": [3.0]}, "model": settings}
    defaults = {"global_batch": 4, "micro_batch": 2, "threads": 1, "average_decay": 0.9, "clip_norm": 0.5}
    return resolve(load_config("demo", {**values, "train": {**defaults, **train}}))


def net(name: str, seed: int) -> Forecaster:
    """A small model with a base, if it needs one, both with weights of the seed."""
    resolved = resolved_for(BASES.get(name, name))
    base = build_model(replace(resolved, run=replace(resolved.run, seed=seed)))
    if name not in BASES:
        return base
    settings = MODELS[name].config(**{"widths": [4, 8], **SMALL.get(name, {})})
    return MODELS[name].build(settings, resolved.inputs, base)


def batch_of(name: str, seed: int, samples: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = resolved_for(BASES.get(name, name)).inputs
    zeros = example_batch(inputs, (16, 16), samples)
    noise = zeros.map(lambda field: (30 * torch.rand(field.shape, generator=generator)).half())
    return replace(noise, sample_index=torch.arange(samples) + 100 * seed)


def engines_of(name: str, **train: object) -> tuple[list[Engine], NetStack, list[NetEngine]]:
    """Separate engines, and a stack of the same nets with its engines."""
    settings, world = resolved_for(BASES.get(name, name), **train).run.train, World()
    stack = NetStack(NETS, settings, world, 2)
    together = [NetEngine(stack, slot, net(name, slot), settings, world, 2) for slot in range(NETS)]
    make = lambda model, config, micro, world: DDPBackend(model, config, 2, world)  # noqa: E731
    return [Engine(net(name, seed), settings, world, 2, make=make) for seed in range(NETS)], stack, together


def _assert_equal_moments(together: list[NetEngine], alone: list[Engine]) -> None:
    """Compare each value of the moments: from equal weights, they are equal but for rounding."""
    for ours, theirs in zip(together, alone, strict=True):
        mine, separate = ours.state_dict(), theirs.state_dict()
        assert mine
        assert separate
        for key, moment in separate.moments.items():
            scale = float(moment.abs().max()) + 1e-3
            torch.testing.assert_close(mine.moments[key], moment, rtol=0, atol=5e-4 * scale, msg=key)


@pytest.mark.parametrize("name", STACKED)
def test_stacked_steps_equal_separate_ones(name: str) -> None:
    alone, stack, together = engines_of(name)
    for step, rate in enumerate(RATES):
        drawn = [[batch_of(name, 50 * step + 10 * number + i) for i in range(2)] for number in range(NETS)]
        expected = [engine.step(batches, rate) for engine, batches in zip(alone, drawn, strict=True)]
        losses, norms = stack.step(drawn, rate)
        parts = zip(together, drawn, losses, norms, strict=True)
        assert [e.complete(b, of, norm) for e, b, of, norm in parts] == pytest.approx(expected, rel=1e-5)
        if step == 0:
            _assert_equal_moments(together, alone)
    assert len(set(expected)) == NETS
    for ours, theirs in zip(together, alone, strict=True):
        mine, separate = ours.state_dict(), theirs.state_dict()
        assert mine
        assert separate
        assert mine.step == separate.step
        # After several steps, rounding may put a value on the other side of a ReLU: a few entries move then.
        for key, moment in separate.moments.items():
            assert (mine.moments[key] - moment).norm() <= 0.01 * moment.norm() + 1e-6, key
        assert mine.average.keys() == separate.average.keys()
        assert mine.weights.keys() == separate.weights.keys()


@pytest.mark.parametrize("name", ["unet", "furenet"])
def test_state_of_one_net_is_restored_into_a_stack(name: str) -> None:
    _, stack, together = engines_of(name)
    for step, rate in enumerate(RATES):
        stack.step([[batch_of(name, 10 * step + n + i) for i in range(2)] for n in range(NETS)], rate)
    for engine in together:
        engine.steps_done = len(RATES)
    settings = resolved_for(name).run.train
    again = NetStack(NETS, settings, World(), 2)
    states = [engine.state_dict() for engine in together]
    restored = [NetEngine(again, slot, net(name, 7), settings, World(), 2, s) for slot, s in enumerate(states)]
    drawn = [[batch_of(name, 90 + n + i) for i in range(2)] for n in range(NETS)]
    assert again.step(drawn, 1e-3) == stack.step(drawn, 1e-3)
    for engine, before in zip(restored, together, strict=True):
        engine.steps_done = before.steps_done = len(RATES) + 1
        ours, theirs = engine.state_dict(), before.state_dict()
        assert ours
        assert theirs
        for part in ("weights", "average", "moments"):
            for key, value in getattr(theirs, part).items():
                assert torch.equal(getattr(ours, part)[key], value), key


@pytest.mark.parametrize("name", ["unet", "furenet", "diffusion"])
def test_stacked_steps_can_be_recorded(name: str) -> None:
    """The recorded step reads fixed buffers; here, a recording calls its function again."""
    _, plain, _ = engines_of(name)
    _, recorded, _ = engines_of(name)
    backend = recorded.backend
    for step, rate in enumerate(RATES):
        drawn = [[batch_of(name, 50 * step + 10 * n + i) for i in range(2)] for n in range(NETS)]
        if not step:
            backend._begin()
            first = recorded.joined([batches[0] for batches in drawn])
            parts = (backend._add_gradients, backend._step, backend._changing, CallingRecorder())
            backend._recorded, backend.mode = RecordedStep(first, *parts), GRAPHS
        losses, norms = recorded.step(drawn, rate)
        expected = plain.step(drawn, rate)
        assert losses == expected[0]
        assert norms == expected[1]


def test_a_model_that_makes_its_random_numbers_itself_is_not_stacked() -> None:
    resolved = resolved_for("diffusion")
    settings = MODELS["post_process"].config(widths=[4, 8])
    model = MODELS["post_process"].build(settings, resolved.inputs, build_model(resolved))
    stack = NetStack(1, resolved.run.train, World(), 2)
    stack.adopt(0, model)
    with pytest.raises(RuntimeError, match="random numbers"):
        stack.joined([batch_of("diffusion", 0)])


def test_nets_of_different_shapes_are_not_stacked() -> None:
    stack = NetStack(2, resolved_for("unet").run.train, World(), 2)
    stack.adopt(0, net("unet", 0))
    with pytest.raises(ValueError, match="shapes"):
        stack.adopt(1, net("wf_unet", 0))
