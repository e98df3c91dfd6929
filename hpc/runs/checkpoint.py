"""Write and read portable checkpoints: weights, their moving average, Adam moments and progress.

A checkpoint is a folder `step-NNNNNNNN`. It is written under a temporary name, synced, and renamed after its
`sums.json` lists the SHA-256 of every file. Tensors are stored whole, by parameter name, so the number of processes and
the ZeRO stage may change. The learning rate and all random states are functions of seed, step and rank
(`train.learning_rate`, `train.seed_step`), so the step suffices to restore them. No file is unpickled.
"""

import hashlib
import json
import logging
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polarcast.data.errors import BadInput, shown
from polarcast.data.files import open_regular, read_limited, replacing, sync_file, sync_folder, write_json
from polarcast.data.names import problem_of_name

Tensors = dict[str, Tensor]

_log = logging.getLogger("polarcast")
_SUMS = "sums.json"
_NAME = re.compile(r"step-(\d{8})")
_WEIGHTS, _AVERAGE, _MOMENTS = "model.safetensors", "average.safetensors", "optimizer.safetensors"
_PROGRESS, _ORIGIN = "progress.json", "origin.json"
_REQUIRED = (_WEIGHTS, _MOMENTS, _PROGRESS)


@dataclass
class Progress:
    """Progress of a run."""

    step: int = 0
    """Completed optimizer steps; with the global batch size, this gives the position in the data."""
    best_step: int = -1
    """Step of the best validation so far; −1 before the first validation."""
    best_score: float = float("inf")
    """Validation loss at that step."""
    recent_losses: list[float] = field(default_factory=list)
    """Last 100 losses on rank 0; the loss guard compares new losses with their median."""


@dataclass
class TrainState:
    """State of a model in training: unsharded fp32 tensors on the CPU, by parameter name."""

    step: int
    """Completed optimizer steps."""
    weights: Tensors
    """Parameters and buffers."""
    average: Tensors
    """Moving average of the weights, and buffers; empty without an average."""
    moments: Tensors
    """Adam moments, as `<parameter>/exp_avg` and `<parameter>/exp_avg_sq`."""


def save(
    folder: Path, state: TrainState, progress: Progress, keep: int, origin: Mapping[str, Any] | None = None
) -> Path:
    """Write a checkpoint and delete those no longer needed. Call this on one process only.

    Args:
        folder: Folder of the run's checkpoints.
        state: State of the model.
        progress: Step of the checkpoint, and the best step so far.
        keep: Number of newest checkpoints to keep, in addition to the best one.
        origin: Configuration, provenance and world size, for human readers.

    Returns:
        Folder of the checkpoint.
    """
    final = folder / name_of(progress.step)
    if not problem_of(final):
        return final
    for leftover in folder.glob(".partial_*"):
        shutil.rmtree(leftover)
    partial = folder / f".partial_{final.name}"
    partial.mkdir(parents=True)
    try:
        _write_parts(partial, state, progress, origin or {})
        _finish(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _prune(folder, keep, progress.best_step)
    return final


def newest(folder: Path) -> Path | None:
    """Return the newest valid checkpoint, or None; log a warning for each invalid one that is skipped."""
    for path in reversed(_all(folder)):
        if not (problem := problem_of(path)):
            return path
        _log.warning("polarcast: %s: %s; using the previous checkpoint", path, problem)
    return None


def best(folder: Path, losses: Mapping[int, float]) -> Path | None:
    """Return the valid checkpoint with the lowest validation loss, or None if none is valid.

    Args:
        folder: Folder of the run's checkpoints.
        losses: Step → validation loss. Checkpoints of other steps come last, the newest of them first.
    """
    ranked = sorted(_all(folder), key=lambda path: (losses.get(step_of(path), math.inf), -step_of(path)))
    return next((path for path in ranked if not problem_of(path)), None)


def problem_of(path: Path) -> str:
    """Return what is wrong with a checkpoint; empty if it is valid."""
    try:
        sums = dict(json.loads(read_limited(path / _SUMS).decode()))
    except (OSError, ValueError, TypeError, RecursionError):
        return f"{_SUMS} is missing or damaged"
    for name in (*_REQUIRED, *sums):
        if name not in sums or problem_of_name(name):
            return f"{_SUMS} is damaged"
        try:
            if _sha256(path / name) != sums[name]:
                return f"{name} is damaged"
        except OSError:
            return f"{name} is missing"
    return "" if _read_progress(path) else f"{_PROGRESS} is damaged"


def load(path: Path) -> tuple[TrainState, Progress]:
    """Read a checkpoint. Raises BadInput if it is damaged."""
    with _readable(path):
        if not (progress := _read_progress(path)):
            raise ValueError(_PROGRESS)
        average = load_file(path / _AVERAGE) if (path / _AVERAGE).exists() else {}
        return TrainState(progress.step, load_file(path / _WEIGHTS), average, load_file(path / _MOMENTS)), progress


def name_of(step: int) -> str:
    """Return the folder name of the checkpoint at a step."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """Return the step of a checkpoint, from the name of its folder."""
    return int(path.name.removeprefix("step-"))


def evaluation_weights(path: Path) -> Tensors:
    """Read the weights to evaluate: the moving average if there is one, else the weights."""
    return load_file(path / (_AVERAGE if (path / _AVERAGE).exists() else _WEIGHTS))


def load_weights(path: Path, model: nn.Module) -> None:
    """Load the weights of a file into a model. Raises BadInput if it is damaged, or holds those of another model."""
    with _readable(path):
        weights = load_file(path)
    restore_weights(model, weights, path)


def check_weights(path: Path, model: nn.Module) -> None:
    """Compare names and shapes in a file with those of a model, which may be on the meta device. Reads no values.

    Raises:
        BadInput: the file is damaged, or holds the weights of another model.
    """
    with _readable(path), safe_open(path, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.offset_keys()}
    if difference := _first_difference(shapes, model.state_dict()):
        raise _of_another_model(path, f" ({difference})")


def restore_weights(model: nn.Module, weights: Tensors, where: Path) -> None:
    """Load weights, which were read from `where`, into a model. Raises BadInput if they are those of another model."""
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise _of_another_model(where) from None


def _of_another_model(where: Path, why: str = "") -> BadInput:
    return BadInput(f"does not hold the weights of this model{why}", where, "restore it, or train again")


def _first_difference(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, Tensor]) -> str:
    """Return the first difference of shapes from those of a model; empty if there is none."""
    for name in sorted(shapes.keys() | expected.keys()):
        if name not in expected:
            return f"{shown(name)} is unknown"
        if name not in shapes:
            return f"{shown(name)} is missing"
        needed = tuple(expected[name].shape)
        if shapes[name] != needed and expected[name].numel():  # an empty tensor takes its shape from the file
            return f"{shown(name)} has the shape {shown(shapes[name])}, not {needed}"
    return ""


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights to a file atomically."""
    with replacing(path) as partial:
        _save_tensors(partial, {k: v.detach().cpu().contiguous() for k, v in weights.items()})


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise BadInput(f"damaged ({error})", path, "restore it from a copy, or train again") from None


def _save_tensors(path: Path, tensors: Tensors) -> None:
    """Write tensors with the mode that other new files have: `save_file` makes files that only this user can read."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save_file(tensors, path)
    path.chmod(mode)


def _read_progress(path: Path) -> Progress | None:
    """Read the progress of a checkpoint; None if it is damaged."""
    try:
        progress = Progress(**json.loads(read_limited(path / _PROGRESS).decode()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    numbers = (progress.best_score, *progress.recent_losses) if isinstance(progress.recent_losses, list) else ("",)
    is_valid = progress.step == step_of(path) and type(progress.best_step) is int
    return progress if is_valid and all(type(number) in (int, float) for number in numbers) else None


def _write_parts(partial: Path, state: TrainState, progress: Progress, origin: Mapping[str, Any]) -> None:
    for name, tensors in ((_WEIGHTS, state.weights), (_AVERAGE, state.average), (_MOMENTS, state.moments)):
        if tensors:
            _save_tensors(partial / name, tensors)
    (partial / _PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")
    (partial / _ORIGIN).write_text(json.dumps(dict(origin), indent=1), encoding="utf-8")


def _finish(partial: Path, final: Path) -> None:
    write_json(partial / _SUMS, {p.name: _sha256(p) for p in sorted(partial.iterdir())})
    for path in partial.iterdir():
        sync_file(path)
    sync_folder(partial)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    sync_folder(final.parent)


def _sha256(path: Path) -> str:
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _prune(folder: Path, keep: int, best_step: int) -> None:
    for path in _all(folder)[: -max(1, keep)]:
        if path.name != name_of(best_step):
            shutil.rmtree(path)


def _all(folder: Path) -> list[Path]:
    """Return all checkpoints, whether valid or not, from the oldest to the newest."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))
