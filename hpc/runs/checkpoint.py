"""Portable checkpoints: weights, their running mean and Adam's moments by parameter name, and the position in the data.

A checkpoint is a folder `step-NNNNNNNN`, written under another name, synced, and renamed once its `sums.json` lists
every file's SHA-256. It does not know how many processes wrote it or at which ZeRO stage. The learning rate and
all random states are functions of seed, step and rank (`train.learning_rate`, `train.seed_step`): the position says
them all. Nothing in it is ever unpickled.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polarcast.data.files import replacing, sync_file, sync_folder, write_json

Tensors = dict[str, Tensor]

_log = logging.getLogger("polarcast")
_SUMS = "sums.json"
_NAME = re.compile(r"step-(\d{8})")
_WEIGHTS, _AVERAGE, _MOMENTS = "model.safetensors", "average.safetensors", "optimizer.safetensors"
_PROGRESS, _ORIGIN = "progress.json", "origin.json"


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Optimizer steps done; with the global batch it is the position in the data."""
    best_step: int = -1
    """Step of the best validation so far; −1 before the first."""
    best_score: float = float("inf")
    """Validation loss at that step."""
    recent_losses: list[float] = field(default_factory=list)
    """Of rank 0, by which a loss is known to have exploded."""


@dataclass
class TrainState:
    """What a checkpoint keeps of a model: whole, on the CPU, fp32, by parameter name."""

    step: int
    """Steps of the optimizer that led there."""
    weights: Tensors
    """Parameters and buffers."""
    average: Tensors
    """The same of the running mean; empty without one."""
    moments: Tensors
    """Adam's, as `<parameter>/exp_avg` and `<parameter>/exp_avg_sq`."""


def save(
    folder: Path, state: TrainState, progress: Progress, keep: int, origin: Mapping[str, Any] | None = None
) -> Path:
    """Write a checkpoint and drop the ones no longer needed; for one process of the world.

    Args:
        folder: Where the run's checkpoints are.
        state: The model's state.
        progress: The step it belongs to, and which is the best so far.
        keep: How many of the newest stay, besides the best.
        origin: Configuration, provenance and world that led there, to be read by people.
    """
    final = folder / name_of(progress.step)
    if not problem_of(final):  # it was saved before
        return final
    for left in folder.glob(".partial_*"):
        shutil.rmtree(left)
    partial = folder / f".partial_{final.name}"
    partial.mkdir(parents=True)
    for name, tensors in ((_WEIGHTS, state.weights), (_AVERAGE, state.average), (_MOMENTS, state.moments)):
        if tensors:
            save_file(tensors, partial / name)
    (partial / _PROGRESS).write_text(json.dumps(asdict(progress)))
    (partial / _ORIGIN).write_text(json.dumps(dict(origin or {}), indent=1))
    _finish(partial, final)
    _prune(folder, keep, progress.best_step)
    return final


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all there and undamaged, None without one; says which it passes over."""
    for path in sorted((p for p in folder.glob("step-*") if _NAME.fullmatch(p.name)), reverse=True):
        if not (problem := problem_of(path)):
            return path
        _log.warning("polarcast: %s: %s; the checkpoint before it is taken", path, problem)
    return None


def problem_of(path: Path) -> str:
    """What is wrong with a checkpoint; empty for nothing."""
    try:
        sums = json.loads((path / _SUMS).read_text())
    except (OSError, ValueError):
        return f"{_SUMS} is missing or damaged"
    for name, value in sums.items():
        try:
            if _sha256(path / name) != value:
                return f"{name} is damaged"
        except OSError:
            return f"{name} is missing"
    return ""


def load(path: Path) -> tuple[TrainState, Progress]:
    """Read a checkpoint back."""
    progress = Progress(**json.loads((path / _PROGRESS).read_text()))
    average = load_file(path / _AVERAGE) if (path / _AVERAGE).exists() else {}
    return TrainState(progress.step, load_file(path / _WEIGHTS), average, load_file(path / _MOMENTS)), progress


def name_of(step: int) -> str:
    """Name of the checkpoint of a step."""
    return f"step-{step:08d}"


def evaluation_weights(path: Path) -> Tensors:
    """The weights a checkpoint is judged by: the running mean where there is one."""
    return load_file(path / (_AVERAGE if (path / _AVERAGE).exists() else _WEIGHTS))


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of a file into a model."""
    model.load_state_dict(load_file(path))


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights in one step."""
    with replacing(path) as partial:
        save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, partial)


def _finish(partial: Path, final: Path) -> None:
    write_json(partial / _SUMS, {p.name: _sha256(p) for p in sorted(partial.iterdir())})
    for path in partial.iterdir():
        sync_file(path)
    sync_folder(partial)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    sync_folder(final.parent)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _prune(folder: Path, keep: int, best_step: int) -> None:
    found = sorted(p for p in folder.glob("step-*") if _NAME.fullmatch(p.name))
    for path in found[: -max(1, keep)]:
        if path.name != name_of(best_step):
            shutil.rmtree(path)
