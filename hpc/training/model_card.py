"""Model card of a run: model, training data and cost."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from polarcast.data.files import write_json, write_text
from polarcast.data.loading.reader import Reader
from polarcast.data.secrets import redacted_tree
from polarcast.data.shards.manifest import Manifest
from polarcast.data.shards.samples import EVENT, FRAME
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.resolve import ResolvedConfig
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.runs.build import build_model, build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.start import started_from
from polarcast.hpc.training.budget import training_budget
from polarcast.hpc.training.estimate import forecast_flops, training_flops
from polarcast.models.forecaster import parameter_count

_ROWS = {
    "model": "Model", "arm": "Arm", "variables": "Variables", "heights_km": "Heights in km", "frames": "Input frames",
    "parameters": "Parameters trained", "frozen_values": "Frozen values from other runs",
    "training_flops": "FLOPs of one training step of one sample", "forecast_flops": "FLOPs of one forecast",
    "run_flops": "FLOPs of all training steps, earlier runs included",
    "evaluations": "Network evaluations of one forecast", "seed": "Seed", "steps": "Steps", "samples": "Samples drawn",
    "best_step": "Step of the kept weights", "training_events": "Training events",
    "training_windows": "Training windows", "dropped_windows": "Training windows dropped",
    "unseen_training_events": "Training events not used",
    "data": "Data (SHA-256 of the manifest)", "archive": "Archive", "base": "Base run",
    "started_from": "Started from", "grid": "Grid, y × x", "config": "Configuration",
}  # fmt: skip


def write_card(run: RunFolder, resolved: ResolvedConfig, manifest: Manifest) -> None:
    """Write card.json and card.md of a trained run."""
    card = redacted_tree(describe(run, resolved, manifest))
    write_json(run.path / "card.json", card)
    lines = [f"| {label} | {_text(card[key])} |" for key, label in _ROWS.items() if card[key] is not None]
    write_text(
        run.path / "card.md", "\n".join([f"# {card['model']}, {card['arm']}", "", "| | |", "|---|---|", *lines, ""])
    )


def describe(run: RunFolder, resolved: ResolvedConfig, manifest: Manifest) -> dict[str, Any]:
    """Collect the values of the card; None where a value does not apply."""
    config = resolved.run
    training = build_reader(config, manifest, "train")
    events = {int(e) for e in training.events()}
    return {
        **_network(resolved, manifest.shape),
        "arm": config.arm,
        "variables": list(config.variables()),
        "heights_km": list(config.data.heights_km),
        "frames": config.frames,
        "seed": config.seed,
        **_training(resolved, run),
        "training_events": len(events),
        "training_windows": len(training),
        "dropped_windows": _dropped(config, manifest, training),
        "unseen_training_events": len(manifest.splits["train"]) - len(events),
        "data": manifest.digest(),
        "archive": manifest.provenance.get("name") or manifest.provenance.get("preset"),
        "base": _base(config),
        "started_from": started_from(config),
        "grid": list(manifest.shape),
        "config": digest(config),
    }


def _network(resolved: ResolvedConfig, shape: tuple[int, int]) -> dict[str, Any]:
    model, is_trained = build_model(resolved), resolved.model.trained
    frozen = sum(value.numel() for name, value in model.state_dict().items() if name.startswith("base."))
    return {
        "model": resolved.run.model["name"],
        "parameters": parameter_count(model) if is_trained else None,
        "frozen_values": frozen or None,
        "training_flops": training_flops(resolved, shape) if is_trained else None,
        "forecast_flops": forecast_flops(resolved, shape) or None,
        "run_flops": training_budget(resolved, shape) or None,
        "evaluations": getattr(model, "evaluations", None),
    }


def _training(resolved: ResolvedConfig, run: RunFolder) -> dict[str, Any]:
    if not resolved.model.trained:
        return {"steps": None, "samples": None, "best_step": None}
    settings = resolved.run.train
    return {
        "steps": settings.steps,
        "samples": settings.steps * settings.global_batch,
        "best_step": run.best_step(),
    }


def _dropped(config: RunConfig, manifest: Manifest, training: Reader) -> dict[str, Any] | None:
    """Return the rule, number and hash of the dropped windows, by which runs that dropped the same ones are known."""
    data = config.data
    if not data.drop_poor:
        return None
    every = build_reader(replace(config, data=replace(data, drop_poor=0.0)), manifest, "train").windows
    dropped = np.setdiff1d(every.starts, training.windows.starts)
    begins = every.rows[dropped, 1 + EVENT : 2 + FRAME]
    return {"by": data.drop_by, "windows": len(dropped), "sha256": hashlib.sha256(begins.tobytes()).hexdigest()[:16]}


def _base(config: RunConfig) -> dict[str, Any] | list[dict[str, Any]] | None:
    """Return the base run, or a list of several; None without."""
    found = [
        {"model": base.config.model["name"], "run": base.run, "config": digest(base.config)} for base in config.bases
    ]
    return found if len(found) > 1 else next(iter(found), None)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
