"""Training in bfloat16 on a CPU: finite losses, close to those of single precision."""

from pathlib import Path

import numpy as np
import pytest
import torch

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.training.backends import factory
from tests.hpc.training.test_engine import configure, losses, train_here


@pytest.mark.parametrize("model", ["unet", "diffusion"])
def test_losses_in_bfloat16_are_near_those_in_single_precision(shards: Manifest, tmp_path: Path, model: str) -> None:
    curves = []
    for precision in ("fp32", "bf16"):
        settings = [f"model.name={model}", "model.widths=[8,16]", f"train.precision={precision}", "train.steps=20"]
        config = configure(shards, *settings, "train.validate_every=20", "train.validate_windows=2")
        curves.append(list(losses(train_here(config, tmp_path / precision)).values()))
    single, half = np.array(curves)
    assert single.shape == (20,)
    assert np.isfinite(curves).all()
    assert (single != half).any()
    assert np.abs(half / single - 1).max() < 0.05


@pytest.mark.parametrize(
    ("precision", "device", "machine", "has_bf16", "expected"),
    [
        ("bf16", "cpu", "x86_64", False, True),
        ("bf16", "cpu", "x86_64", True, False),
        ("bf16", "cpu", "aarch64", False, False),
        ("fp32", "cpu", "x86_64", False, False),
        ("auto", "cpu", "x86_64", False, False),
        ("bf16", "cuda", "x86_64", False, False),
    ],
)
def test_a_cpu_without_bf16_is_told(monkeypatch, precision, device, machine, has_bf16, expected) -> None:
    monkeypatch.setattr(factory.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert factory.emulates_bf16(TrainConfig(precision=precision), torch.device(device)) is expected
