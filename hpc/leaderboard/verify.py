"""Runs made elsewhere: their score record is held against their forecasts, or they are marked as unverified."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.files import write_json
from polarcast.data.shards.health import file_sha256
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import score
from polarcast.hpc.leaderboard.entry import VERIFIED_FILE, Entry
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.records import Records

_RELATIVE, _ABSOLUTE = 1e-5, 1e-6
_NEEDS = ("event", "frame", "forecast")


def add(folder: Path, forecasts: Path | None, shards: str | None) -> dict[str, Any]:
    """Verify a run, and write beside it what came of that.

    Args:
        folder: The run: its config.yaml and scores.parquet.
        forecasts: An .npz of every test window's forecast: event (n,), frame (n,) of its first frame, and forecast,
            (n, m, y, x) rain rates in mm/h or (n, m, t, z, y, x) zh in dBZ.
        shards: On which it was scored.

    Returns:
        What was written: `verified`, the reason, and the sum of the scores it is about.

    Raises:
        BadInput: it is not a scored run, or the forecasts are not of these shards' windows.
    """
    entry = Entry(folder)
    if not RunFolder(folder).output.scores.is_file():
        raise BadInput("no scores.parquet", folder, "a leaderboard needs the score record of a run")
    reason = "there are no forecasts" if forecasts is None or shards is None else _check(entry, forecasts, shards)
    told = {"verified": not reason, "reason": reason, "scores_sha256": file_sha256(RunFolder(folder).output.scores)}
    write_json(folder / VERIFIED_FILE, told)
    return told


def _check(entry: Entry, forecasts: Path, shards: str) -> str:
    """Why the record does not follow from the forecasts; empty when it does."""
    manifest = read_manifest(shards)
    if manifest.digest() != entry.data:
        return "it names other shards"
    reader = build_reader(entry.config, manifest, "test")
    known = _read(forecasts)

    def forecast(batch: Batch) -> torch.Tensor:
        pairs = list(zip(batch.event.tolist(), batch.frame.tolist(), strict=True))
        if missing := [pair for pair in pairs if pair not in known]:
            raise BadInput(
                f"no forecast of event {missing[0][0]}, frame {missing[0][1]}", forecasts, "give all windows"
            )
        fields = torch.stack([known[pair] for pair in zip(batch.event.tolist(), batch.frame.tolist(), strict=True)])
        return fields[:, :, None] if fields.ndim == 4 else fields

    return _difference(entry.records, score(forecast, reader, World()))


def _read(path: Path) -> dict[tuple[int, int], torch.Tensor]:
    try:
        with np.load(path) as content:
            event, frame, fields = (content[name] for name in _NEEDS)
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise BadInput(f"no forecasts ({error})", path, f"an .npz with {', '.join(_NEEDS)}") from None
    if not len(event) == len(frame) == len(fields) or fields.ndim not in (4, 6):
        problem = f"event {event.shape}, frame {frame.shape}, forecast {fields.shape}"
        raise BadInput(f"shapes that don't belong together: {problem}", path, "give (n,), (n,) and (n, m, y, x)")
    tensors = torch.from_numpy(np.ascontiguousarray(fields, np.float32))
    return {(int(e), int(f)): field for e, f, field in zip(event, frame, tensors, strict=True)}


def _difference(given: Records, found: Records) -> str:
    if given.protocol != found.protocol:
        return "it was scored in another way"
    if not np.array_equal(given.events, found.events):
        return "it was scored on other events"
    for name, sums in found.sums.items():
        if name not in given.sums or not np.allclose(given.sums[name], sums, _RELATIVE, _ABSOLUTE, equal_nan=True):
            return f"its {name} sums are not those of its forecasts"
    return ""
