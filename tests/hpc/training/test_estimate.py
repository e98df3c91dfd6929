"""Estimated parameters, FLOPs and memory match those of real steps."""

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from polarcast.data.batch import Batch
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.config.schema import BaseRun, RunConfig
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.training import estimate
from polarcast.hpc.training.activation_checkpointing import checkpoint_activations
from polarcast.hpc.training.estimate import STAGES, Counted, count, forecast_flops, memory, smallest, training_flops
from polarcast.models.forecaster import parameter_count
from tests.support.on_ranks import on_ranks

SIZE = 64


def real_batch(config: RunConfig, samples: int) -> Batch:
    radar = torch.rand(samples, 1, len(config.variables()), 3, SIZE, SIZE) * 40
    number = torch.zeros(samples, dtype=torch.int64)
    return Batch(radar, torch.rand(samples, 1, SIZE, SIZE), number, number, config.variables(), (1.0, 3.0, 7.0))


NETS = [
    ["model.widths=[16,32,64]"],
    ["model.widths=[8,16]"],
    ["arm=radar", "model.widths=[16,24,32,48]", "match_params=false"],
]


@pytest.mark.parametrize("overrides", NETS)
def test_memory_matches_a_real_step(overrides: list[str]) -> None:
    """Compare with torch's allocator, which is independent of the estimate."""
    config = load_config("demo", overrides)
    counted, model, samples = count(resolve(config), (SIZE, SIZE)), build_model(resolve(config)), 4
    optimizer = torch.optim.AdamW(model.parameters())
    batch = real_batch(config, samples)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as forward:
        loss = model.loss(batch)
    alive = sum(event.self_cpu_memory_usage for event in forward.key_averages())
    loss.backward()
    optimizer.step()
    estimated = memory(counted, stage=0, gpus=1, micro_batch=samples)
    assert alive == pytest.approx(estimated.activations, rel=0.1)
    assert sum(p.nbytes for p in model.parameters()) == estimated.weights
    assert sum(p.grad.nbytes for p in model.parameters() if p.grad is not None) == estimated.gradients
    moments = sum(s[k].nbytes for s in optimizer.state.values() for k in ("exp_avg", "exp_avg_sq"))
    assert moments == estimated.optimizer


def test_flops_are_counted_once_for_all_runs_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    build = estimate.build_model
    monkeypatch.setattr(estimate, "build_model", lambda resolved: (made.append(resolved.run.seed), build(resolved))[1])
    net = ["model.widths=[5,7]", "match_params=false"]

    def flops(*changes: str, side: int = 32) -> tuple[int, int]:
        resolved = resolve(load_config("demo", [*net, *changes]))
        return training_flops(resolved, (side, side)), forecast_flops(resolved, (side, side))

    plain = flops()
    assert [flops(f"seed={seed}", "train.steps=7") for seed in (1, 2)] == [plain] * 2
    assert made == [0, 0]
    others = [flops(change) for change in ("arm=radar", "model.widths=[5,9]", "data.heights_km=[1.0]", "data.context=1",
                                           "model.features=[edges]", "train.checkpoint_activations=true")]  # fmt: skip
    found = [of for of, _ in (plain, *others, flops(side=64))]
    assert len(set(found)) == len(found)
    bases = [load_config("demo", [*net, f"model.widths=[4,{width}]"]) for width in (6, 8)]
    values = [
        {"match_params": False, "model": {"name": "residual_diffusion", "widths": [4, 6]}, "base": asdict(base)}
        for base in (BaseRun("", config) for config in bases)
    ]
    small, large = (forecast_flops(resolve(load_config("demo", one)), (32, 32)) for one in values)
    assert small < large


@pytest.mark.parametrize("overrides", NETS)
def test_activation_memory_of_recomputed_blocks_matches_the_peak_of_a_real_step(overrides: list[str]) -> None:
    """Compare with the peak memory of the backward pass, which also includes gradients."""
    config = load_config("demo", [*overrides, "train.checkpoint_activations=true"])
    model, samples = build_model(resolve(config)), 4
    checkpoint_activations(model)
    batch = real_batch(config, samples)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as forward:
        loss = model.loss(batch)
    held = sum(event.self_cpu_memory_usage for event in forward.key_averages())
    estimated = memory(count(resolve(config), (SIZE, SIZE)), 0, 1, samples).activations
    plain = memory(count(resolve(load_config("demo", overrides)), (SIZE, SIZE)), 0, 1, samples).activations
    assert held < estimated < plain
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as backward:
        loss.backward()
    peak = peak_of(backward) + held
    gradients = sum(p.nbytes for p in model.parameters())
    assert peak == pytest.approx(estimated, rel=0.25, abs=gradients)


def peak_of(profiled: profile) -> int:
    """Return the peak memory above the initial one, in bytes, from the records of the allocator."""
    changes = [(e.start_ns(), e.nbytes()) for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for _, change in sorted(changes):
        held += change
        most = max(most, held)
    return most


def test_flops_match_the_convolutions() -> None:
    config = load_config("demo", ["model.widths=[4,8]"])
    model = build_model(resolve(config))
    forward = 0

    def add(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal forward
        assert isinstance(module, torch.nn.Conv2d)
        forward += 2 * out[0].numel() * module.in_channels * module.kernel_size[0] ** 2

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(add)
    model.loss(real_batch(config, 1))
    counted = count(resolve(config), (SIZE, SIZE))
    # The backward pass costs twice the forward pass, except in the first layer, whose input needs no gradient.
    assert 2.7 * forward < counted.flops <= 3 * forward
    assert counted.parameters == parameter_count(model)


counts = st.builds(Counted, st.integers(1, 10**9), st.integers(1, 10**12), st.integers(1, 10**9), st.just(1))


@given(counts, st.integers(2, 64), st.integers(1, 8), st.booleans(), st.booleans())
def test_higher_stage_never_needs_more_memory(
    counted: Counted, gpus: int, micro: int, average: bool, offload: bool
) -> None:
    totals = [memory(counted, stage, gpus, micro, average, offload).total for stage in STAGES]
    # Shards are rounded up by a few bytes.
    assert all(higher <= lower + 16 for lower, higher in pairwise(totals))
    assert memory(counted, 1, gpus, micro, average, offload=True).optimizer == 0


@pytest.mark.multiprocess
def test_optimizer_memory_matches_the_estimate_at_every_stage(shards: Manifest, tmp_path: Path) -> None:
    for measured in on_ranks(2, "held_bytes", shards.folder, out=tmp_path):
        for stage, record in enumerate(measured):
            config = load_config("demo", record["overrides"])
            estimated = memory(count(resolve(config), shards.shape), stage, 2, 4)
            assert record["optimizer"] == pytest.approx(estimated.optimizer, rel=0.02)
            assert record["weights"] == pytest.approx(estimated.weights, rel=0.02)


@given(counts, st.sampled_from([1, 6, 16, 32]), st.floats(1e6, 1e11))
def test_smallest_fit_fits_and_is_minimal(counted: Counted, batch: int, gpu_bytes: float) -> None:
    found = smallest(counted, batch, gpu_bytes)
    divisors = [n for n in range(1, batch + 1) if batch % n == 0]
    fewer = [n for n in divisors if not found or n < found.gpus]
    assert all(memory(counted, stage, n, 1).total > gpu_bytes for n in fewer for stage in STAGES)
    if found:
        assert found.memory.total <= gpu_bytes
        assert found.gpus in divisors
        assert (batch // found.gpus) % found.micro_batch == 0
        assert all(memory(counted, s, found.gpus, 1).total > gpu_bytes for s in range(found.stage))


def test_estimate_command_prints_text_and_json(polarcast_here: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = polarcast_here("estimate", "demo", "--size", 64)
    assert code == 0
    assert "GPU-hours" in out
    code, out, _ = polarcast_here("estimate", "demo", "--size", 64, "--json")
    record = json.loads(out)
    assert (code, record["fit"]["gpus"]) == (0, 1)
    assert record["gpu_hours"] > 0
