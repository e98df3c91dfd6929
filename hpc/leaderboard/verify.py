"""Verify the score records of external runs by rescoring their forecasts."""

from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.files import write_json
from polarcast.data.shards.health import file_sha256
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.leaderboard.entry import VERIFIED_FILE, Entry
from polarcast.hpc.leaderboard.forecasts import read_forecasts, scored_forecasts
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import ADDED_LATER

_RELATIVE, _ABSOLUTE = 1e-5, 1e-6


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
    _check_not_own(entry)
    reason = "no forecasts given" if forecasts is None or shards is None else _check(entry, forecasts, shards)
    return write_standing(folder, reason)


def write_standing(folder: Path, reason: str = "") -> dict[str, Any]:
    """Write that the scores of a run are verified, or the reason why they are not; return what was written."""
    result = {"verified": not reason, "reason": reason, "scores_sha256": file_sha256(RunFolder(folder).output.scores)}
    write_json(folder / VERIFIED_FILE, result)
    return result


def _check_not_own(entry: Entry) -> None:
    """Raise BadInput if the provenance names this host, and the run was trained or its forecasts scored here."""
    if not entry.is_own:
        return
    if entry.is_external:
        what = f"holds the forecasts of {entry.model}, which were scored on this machine"
        raise BadInput(what, entry.path, "rank it as it is; for other forecasts, give a new folder")
    what = "was made on this machine, so it is ranked without verification"
    raise BadInput(what, entry.path, "rank it as it is")


def _check(entry: Entry, forecasts: Path, shards: str) -> str:
    """Return why the record differs from rescored forecasts; empty if it agrees."""
    manifest = read_manifest(shards)
    if manifest.digest() != entry.data:
        return "the run was scored on other shards"
    computed = scored_forecasts(read_forecasts(forecasts), entry.config, manifest, any_values=True)
    return _difference(entry.records, computed)


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
