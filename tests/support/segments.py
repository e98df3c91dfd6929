"""Train a run in segments: each stops at a step on every rank, and the next resumes with other settings."""

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from safetensors.torch import load_file

from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training import train as training

STEPS = 16
SETTINGS = ["model.widths=[4,8]", "match_params=false", "train.global_batch=6", f"train.steps={STEPS}",
            "train.warmup_steps=2", "train.validate_every=4", "train.checkpoint_every=2", "train.log_every=1",
            "train.threads=1", "train.average_decay=0.9"]  # fmt: skip


class Stop(Exception):
    """Stop in the middle of a run."""


def main(shards: str, folder: str, *pieces: str) -> list[str]:
    """Train the pieces in turn; each is a JSON list of the step before which to stop, then overrides."""
    for piece in pieces:
        until, *overrides = json.loads(piece)
        try:
            with mock.patch.object(training, "seed_step", stopping_at(until)):
                run_piece(shards, folder, overrides)
        except Stop:
            continue
    return os.environ.get("RANK", "0").split()


def run_piece(shards: str, folder: str, overrides: list[str]) -> RunFolder:
    run = RunFolder(Path(folder))
    training.train(load_config("demo", [f"data.shards={shards}", *SETTINGS, *overrides]), run, detect())
    return run


def stopping_at(until: int):
    whole = training.seed_step

    def seed_step(seed: int, step: int, rank: int) -> None:
        if step == until:
            raise Stop
        whole(seed, step, rank)

    return seed_step


def curve(run: RunFolder, event: str = "step") -> dict[int, dict[str, Any]]:
    return {r["step"]: r for r in run.records() if r["event"] == event}


def assert_like(run: RunFolder, alone: RunFolder, tolerance: float) -> None:
    assert run.is_trained
    for event in ("step", "validation"):
        ours, theirs = curve(run, event), curve(alone, event)
        assert list(ours) == list(theirs)
        for step, record in ours.items():
            assert record.get("samples") == theirs[step].get("samples")
            assert record["loss"] == pytest.approx(theirs[step]["loss"], rel=tolerance)
    for name, weight in load_file(run.weights_file).items():
        assert (weight - load_file(alone.weights_file)[name]).abs().max() <= tolerance
