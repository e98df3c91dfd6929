"""Pack a finished run as a net of the zoo: configuration, weights, provenance and card, without places or secrets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import CONTROL, BadInput, shown
from polarcast.data.files import checked_output, new_folder
from polarcast.data.folder_kind import is_new
from polarcast.data.names import checked_name
from polarcast.data.secrets import redacted
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.resolve import input_spec
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, device_of
from polarcast.hpc.runs.checkpoint import save_weights
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.utils.versions import package_versions
from polarcast.hpc.zoo.card import card_page, make_card, provenance_of
from polarcast.hpc.zoo.net import ZooRun, check_kind, facts_of, portable
from polarcast.hpc.zoo.note import (
    CARD,
    CARD_PAGE,
    LIMITS,
    NOT_STATED,
    NOTE,
    PROVENANCE,
    WEIGHTS,
    ZooNote,
    file_entry,
    read_file,
)
from polarcast.models.forecaster import Forecaster

_LONGEST_LINE = 500
_SMALL = 1024
"""Number of values from which a tensor is worth halving."""
_ONLY_IN_CARD = ("config", "stored_as")
_PROBES = ((1, 49), (2, 50), (4, 52), (8, 56), (16, 48), (32, 96), (64, 64), (128, 128))
"""Factor → side in pixels that has this one, and no larger power of two."""


@dataclass(frozen=True)
class PackOptions:
    """What its author says of a net.

    Attributes:
        name: Its name; that of the folder by default.
        about: One line about it.
        license: Licence of the weights.
        not_for: What it is not for, one line each.
        beside: Folders of runs whose scores stand beside its own.
        half: Whether to store weights as 16-bit floats, which take half the space.
    """

    name: str | None = None
    about: str = ""
    license: str = NOT_STATED
    not_for: Sequence[str] = ()
    beside: Sequence[Path] = ()
    half: bool = False


def pack(run: RunFolder, out: Path, options: PackOptions | None = None) -> ZooRun:
    """Pack a finished run into a new folder, completely or not at all.

    Args:
        run: Finished run.
        out: Folder to make; there may be an empty one.
        options: Name, licence, and other lines of the card.

    Returns:
        The net, verified.

    Raises:
        BadInput: the run is not finished or forecasts nothing by itself, a file is larger than those of nets, a line
            can't be stored, or the folder is not new.
    """
    options = options or PackOptions()
    if not is_new(checked_output(out, is_folder=True)):
        raise BadInput("exists and is not empty", out, "choose another folder")
    name = checked_name(options.name or out.absolute().name, "--name" if options.name else out)
    for option, line in (("--about", options.about), ("--license", options.license)):
        _check_line(option, line)
    for line in options.not_for:
        _check_line("--not-for", line)
    config = run.config()
    check_kind(config, run.path)
    model = load_model(run, World())
    facts = {**_facts(run, config, model), "name": name, "about": options.about, "license": options.license}
    weights = model.state_dict()
    if options.half:
        weights, facts["stored_as"] = _halved(weights, run.path), "float16"
    card = make_card(run, facts, [RunFolder(path) for path in options.beside], options.not_for)
    with new_folder(out) as partial:
        _write(partial, run, weights, card, facts)
    return ZooRun(out)


def _halved(weights: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """Return weights as 16-bit floats; small tensors, such as biases and statistics of the data, stay as they are.

    Raises:
        BadInput: a weight is beyond the range of 16-bit floats.
    """
    large = {name: value for name, value in weights.items() if value.is_floating_point() and value.numel() >= _SMALL}
    if beyond := [name for name, value in large.items() if not value.half().isfinite().all()]:
        raise BadInput(f"{beyond[0]} is beyond the range of 16-bit floats", where, "leave out --half")
    return {**weights, **{name: value.half() for name, value in large.items()}}


def _facts(run: RunFolder, config: RunConfig, model: Forecaster) -> dict[str, Any]:
    """Return what `zoo.json` says, and the digest of the configuration."""
    archive = provenance_of(run)["data"]["archive"]
    known = {} if "adopted" in archive else {"spacing_km": "spacing_km", "step_minutes": "time_step_min"}
    found = {key: archive.get(name) for key, name in known.items()}
    return {
        **facts_of(config),
        "sides_multiple_of": _sides(model, config, run.path),
        "spacing_km": _positive(found.get("spacing_km")),
        "step_minutes": _positive(found.get("step_minutes")),
        "polarcast": package_versions(("polarcast",))["polarcast"],
        "config": digest(config),
    }


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _write(partial: Path, run: RunFolder, weights: Mapping[str, Tensor], card: Any, facts: dict[str, Any]) -> None:
    """Write all files of a net; `zoo.json` last."""
    RunFolder(partial).write_config(portable(run.config()))
    save_weights(partial / WEIGHTS, weights)
    texts = {PROVENANCE: _json(provenance_of(run)), CARD: _json(card), CARD_PAGE: card_page(card)}
    for file, text in texts.items():
        (partial / file).write_text(text, encoding="utf-8")
    files = {}
    for file, most in LIMITS.items():
        size = (partial / file).stat().st_size
        if size > most:
            raise BadInput(f"{file} would have {size} bytes; the most are {most}", run.path, "train a smaller model")
        files[file] = file_entry(read_file(partial / file, most))
    note = ZooNote(files=files, **{key: value for key, value in facts.items() if key not in _ONLY_IN_CARD})
    (partial / NOTE).write_text(_json(note.as_record()), encoding="utf-8")


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _check_line(option: str, line: str) -> None:
    """Raise BadInput for text that the card can't hold, or that contains a secret."""
    if not line.strip() and option != "--about":
        raise BadInput("is empty", option, "give a line of text")
    if len(line) > _LONGEST_LINE or CONTROL.search(line) or not line.isprintable():
        raise BadInput(f"{shown(line)} is not a line of text", option, f"give at most {_LONGEST_LINE} characters")
    if redacted(line) != line:
        raise BadInput("holds a secret", option, "remove it")


@torch.no_grad()
def _sides(model: Forecaster, config: RunConfig, where: Path) -> int:
    """Return of which power of two the sides of a grid must be multiples, found by forecasts without echo."""
    inputs, device = input_spec(config, config.variables()), device_of(World())
    for factor, side in _PROBES:
        radar = torch.zeros(1, inputs.frames, len(inputs.variables), len(inputs.heights_km), side, side)
        number = torch.zeros(1, dtype=torch.int64)
        batch = Batch(radar, None, number, number, inputs.variables, inputs.heights_km)
        try:
            model.forecast(batch.to(device), 1, 0)
        except (BadInput, RuntimeError):  # the grid can't be halved so often
            continue
        return factor
    raise BadInput(f"forecasts no grid of {_PROBES[-1][1]} × {_PROBES[-1][1]} pixels", where, "choose another run")
