"""Compare all ZeRO stages and DDP with plain torch, with and without gradient accumulation."""

from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest
from tests.support import parity
from tests.support.on_ranks import on_ranks


def assert_equal(result: dict[str, dict[str, float]], loss: float, weights: float) -> None:
    assert len(result) == 10
    assert all(way["clipped"] >= 2 for way in result.values()), "gradients were never clipped"
    assert {k: v for k, v in result.items() if v["loss"] > loss or v["weights"] > weights} == {}


def test_every_stage_matches_plain_torch(shards: Manifest) -> None:
    assert_equal(parity.main(str(shards.folder)), 1e-5, 1e-5)


def test_every_stage_matches_plain_torch_in_bfloat16(shards: Manifest) -> None:
    assert_equal(parity.main(str(shards.folder), "train.precision=bf16"), 1e-3, 1e-3)


@pytest.mark.multiprocess
def test_every_stage_matches_plain_torch_on_two_processes(shards: Manifest, tmp_path: Path) -> None:
    for result in on_ranks(2, "parity", shards.folder, out=tmp_path):
        assert_equal(result, 1e-5, 1e-5)
