"""Verify the score records of external runs by rescoring their forecasts."""

import platform
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.files import write_json
from polarcast.data.npz import check_npz
from polarcast.data.shards.health import file_sha256
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import score
from polarcast.hpc.leaderboard.entry import VERIFIED_FILE, Entry
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.intact import require_intact
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import ADDED_LATER

_RELATIVE, _ABSOLUTE = 1e-5, 1e-6
_NEEDS = ("event", "frame", "forecast")


def add(folder: Path, forecasts: Path | None, shards: str | None) -> dict[str, Any]:
    """Verify a run and write the result to its folder.

    Args:
        folder: Folder of the run, with config.yaml and scores.parquet.
        forecasts: An .npz file with the forecast of every test window: event (n,), first frame (n,), and forecast,
            (n, m, y, x) rain rates in mm/h or (n, m, t, z, y, x) zh in dBZ. None leaves the run unverified.
        shards: Shards that it was scored on.

    Returns:
        The written record: `verified`, `reason`, and the SHA-256 of the scores file.

    Raises:
        BadInput: the folder is not a scored run, the run was made on this machine, or the forecasts do not cover the
            windows of these shards.
    """
    entry = Entry(folder)
    if not RunFolder(folder).output.scores.is_file():
        raise BadInput("no scores.parquet", folder, "add the score record of the run")
    if _is_own(entry):
        raise BadInput("was made on this machine, so it is ranked without verification", folder, "rank it as it is")
    reason = "no forecasts given" if forecasts is None or shards is None else _check(entry, forecasts, shards)
    result = {"verified": not reason, "reason": reason, "scores_sha256": file_sha256(RunFolder(folder).output.scores)}
    write_json(folder / VERIFIED_FILE, result)
    return result


def _is_own(entry: Entry) -> bool:
    """Whether a run was trained on this machine: it has a model card, and its provenance names this host."""
    return bool(entry.card) and entry.provenance.get("host") == platform.node()


def _check(entry: Entry, forecasts: Path, shards: str) -> str:
    """Return why the record differs from rescored forecasts; empty if it agrees."""
    manifest = read_manifest(shards)
    if manifest.digest() != entry.data:
        return "the run was scored on other shards"
    reader = build_reader(entry.config, manifest, "test", observed=True)
    require_intact(reader, entry.config.data, World())
    by_window = _read(forecasts)

    def forecast(batch: Batch) -> torch.Tensor:
        pairs = list(zip(batch.event.tolist(), batch.frame.tolist(), strict=True))
        if missing := [pair for pair in pairs if pair not in by_window]:
            event, frame = missing[0]
            raise BadInput(f"no forecast of event {event}, frame {frame}", forecasts, "give all test windows")
        fields = torch.stack([by_window[pair] for pair in pairs])
        return fields[:, :, None] if fields.ndim == 4 else fields

    return _difference(entry.records, score(forecast, reader, World()))


def _read(path: Path) -> dict[tuple[int, int], torch.Tensor]:
    try:
        check_npz(path)
        with np.load(path) as content:
            event, frame, fields = (content[name] for name in _NEEDS)
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise BadInput(f"no forecasts ({error})", path, f"give an .npz file with {', '.join(_NEEDS)}") from None
    if not len(event) == len(frame) == len(fields) or fields.ndim not in (4, 6):
        shapes = f"event {event.shape}, frame {frame.shape}, forecast {fields.shape}"
        raise BadInput(f"shapes do not match: {shapes}", path, "give (n,), (n,) and (n, m, y, x)")
    tensors = torch.from_numpy(np.ascontiguousarray(fields, np.float32))
    return {(int(e), int(f)): field for e, f, field in zip(event, frame, tensors, strict=True)}


def _difference(recorded: Records, computed: Records) -> str:
    if recorded.protocol != computed.protocol:
        return "the run was scored with another protocol"
    if not np.array_equal(recorded.events, computed.events):
        return "the run was scored on other events"
    if not np.array_equal(recorded.groups, computed.groups):
        return "the groups of the events differ from those of the shards"
    for name, sums in computed.sums.items():
        if name not in recorded.sums and name in ADDED_LATER:
            continue
        if name not in recorded.sums or not np.allclose(
            recorded.sums[name], sums, _RELATIVE, _ABSOLUTE, equal_nan=True
        ):
            return f"the {name} sums differ from those of the forecasts"
    return ""
