"""Portable checkpoints: weights and optimizer moments by parameter name, and the position in the data.

A checkpoint is a folder `step-NNNNNNNN`, written under another name, synced, and renamed once its `sums.json` lists
every file's SHA-256. It does not know which world size wrote it. Random states are not part of it: every step seeds
its own (`train.seed_step`), so the position says it all.
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polarcast.hpc.files import sync_folder, write_json

_SUMS = "sums.json"
_NAME = re.compile(r"step-(\d{8})")
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Optimizer steps done; with the global batch it is the position in the data."""
    best_step: int = -1
    """Step of the best validation so far; −1 before the first."""
    best_score: float = float("inf")
    """Validation loss at that step."""


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, keep: int) -> Path:
    """Write a checkpoint and drop the ones no longer needed; for one process of the world.

    Args:
        folder: Where the run's checkpoints are.
        model: Parameters and buffers to keep.
        optimizer: Its moments, kept by parameter name.
        progress: The step the checkpoint belongs to, and which is the best so far.
        keep: How many of the newest stay, besides the best.
    """
    final = folder / f"step-{progress.step:08d}"
    partial = folder / f".partial_{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(_tensors(model), partial / "model.safetensors")
    save_file(_moments(model, optimizer), partial / "optimizer.safetensors")
    (partial / "progress.json").write_text(json.dumps(asdict(progress)))
    write_json(partial / _SUMS, {p.name: _sha256(p) for p in sorted(partial.iterdir())})
    for path in partial.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    sync_folder(folder)
    _prune(folder, keep, progress.best_step)
    return final


def newest(folder: Path) -> Path | None:
    """The newest checkpoint whose files are all there and undamaged; None without one."""
    found = sorted((p for p in folder.glob("step-*") if _NAME.fullmatch(p.name)), reverse=True)
    return next((p for p in found if is_complete(p)), None)


def is_complete(path: Path) -> bool:
    """Whether every file of a checkpoint has the sum that was written with it."""
    try:
        sums = json.loads((path / _SUMS).read_text())
        return all(_sha256(path / name) == value for name, value in sums.items())
    except (OSError, ValueError):
        return False


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Put a checkpoint's state into a model and its optimizer; returns how far the run had come."""
    model.load_state_dict(load_file(path / "model.safetensors"))
    moments = load_file(path / "optimizer.safetensors")
    for name, parameter in model.named_parameters():
        if f"{name}/step" in moments:
            optimizer.state[parameter] = {k: _like(moments[f"{name}/{k}"], parameter, k) for k in _MOMENTS}
    return Progress(**json.loads((path / "progress.json").read_text()))


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of a file into a model."""
    model.load_state_dict(load_file(path))


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights in one step."""
    partial = path.with_name(f".{path.name}")
    save_file(_tensors(model), partial)
    os.replace(partial, path)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": optimizer.state[parameter][key].detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key in _MOMENTS
        if parameter in optimizer.state
    }


def _like(value: Tensor, parameter: Tensor, key: str) -> Any:
    # Adam keeps its step counter on the CPU.
    return value if key == "step" else value.to(parameter.device)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _prune(folder: Path, keep: int, best_step: int) -> None:
    found = sorted(p for p in folder.glob("step-*") if _NAME.fullmatch(p.name))
    for path in found[: -max(1, keep)]:
        if path.name != f"step-{best_step:08d}":
            shutil.rmtree(path)
