"""Training without poor frames, or without as many at random."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from polarcast.data.archive import open_archive
from polarcast.data.files import read_json
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.runs.build import build_reader, build_sampler
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.train import train


@pytest.fixture(scope="module")
def storms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """24 training events of three frames."""
    root = tmp_path_factory.mktemp("storms")
    write_archive(root / "archive", 32, size=32, seed=3, preset="tiny", frames=3)
    write_shards(open_archive(root / "archive"), root / "shards", split="0.75/0.125/0.125")
    return read_manifest(root / "shards")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def configure(storms: Manifest, *overrides: str) -> RunConfig:
    return load_config(
        "demo",
        [
            f"data.shards={storms.folder}", "data.drop_poor=0.4", "model.widths=[4,8]", "match_params=false",
            "train.steps=4", "train.validate_every=4", "train.validate_windows=2", "train.global_batch=4",
            "train.micro_batch=4", "train.checkpoint_every=1", "train.threads=1", "train.log_every=1", *overrides,
        ],
    )  # fmt: skip


class _Killed(Exception):
    pass


def _kill(done: int, total: int, loss: float) -> None:
    if done == 2:
        raise _Killed


@pytest.mark.parametrize("by", ["quality", "random"])
def test_a_resumed_run_drops_the_same_windows(storms: Manifest, tmp_path: Path, by: str) -> None:
    config = configure(storms, f"data.drop_by={by}")
    whole, resumed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "resumed")
    train(config, whole, detect({}))
    with pytest.raises(_Killed):
        train(config, resumed, detect({}), _kill)
    # Another machine has an empty cache.
    for file in (tmp_path / "cache").rglob("*.npz"):
        file.unlink()
    train(config, resumed, detect({}))
    cards = [read_json(run.path / "card.json")["dropped_windows"] for run in (whole, resumed)]
    assert cards[0] == cards[1]
    assert (cards[0]["by"], cards[0]["windows"]) == (by, round(0.4 * 72))
    for name, weight in load_file(whole.weights_file).items():
        torch.testing.assert_close(weight, load_file(resumed.weights_file)[name], rtol=0, atol=0)


def test_controls_of_two_seeds_drop_different_windows(storms: Manifest) -> None:
    starts = [
        build_reader(configure(storms, f"data.drop_by={by}", f"seed={seed}"), storms, "train").windows.starts
        for by in ("quality", "random")
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert (starts[2] != starts[3]).any()
    assert {len(one) for one in starts} == {72 - round(0.4 * 72)}


def test_no_dropped_window_is_drawn_whatever_the_balance(storms: Manifest) -> None:
    """Windows are balanced by the rain of those that are left."""
    for balance in (0.0, 0.7):
        config = configure(storms, f"data.balance={balance}")
        reader = build_reader(config, storms, "train")
        drawn = build_sampler(config, reader).read(np.arange(64))
        begins = set(map(tuple, reader.windows.begins(np.arange(len(reader))).tolist()))
        assert set(zip(drawn.event.tolist(), drawn.frame.tolist(), strict=True)) <= begins
