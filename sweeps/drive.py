"""Sweep setup: output folder, data, and signal handling."""

import json
import signal
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

from polarcast.data.errors import BadInput, Stopped
from polarcast.data.files import read_limited, write_json
from polarcast.data.folder_kind import SWEEP_FILE
from polarcast.data.secrets import redacted_tree
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench.cells import SuiteFolder
from polarcast.hpc.bench.data import prepare_data
from polarcast.hpc.distributed.preemption import requeue, wait_to_be_ended
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.sweeps.space import Space
from polarcast.sweeps.study import mend_study, sweep_lock

_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


def begin(folder: Path, space: Space, resume: bool, console: Any) -> Space:
    """Create or reopen the sweep folder and its data; return the space with its shards set.

    Raises:
        BadInput: the folder holds a sweep and `resume` is false, it holds another space's sweep, or data are missing.
    """
    # `trials` is not compared: a sweep may be extended.
    data = space.file.data and space.file.data.as_record()
    plain = {**asdict(space.file), "data": data}
    content = redacted_tree({k: v for k, v in json.loads(json.dumps(plain)).items() if k != "trials"})
    known = folder / SWEEP_FILE
    with sweep_lock(folder):
        if known.is_file():
            if not resume:
                raise BadInput("already holds a sweep", folder, "add --resume to continue it, or choose another folder")
            if redacted_tree(_read(known)) != content:
                raise BadInput("holds a sweep of another space", folder, "choose another folder")
        space = _with_data(folder, space, console)
        mend_study(folder, space)
        write_json(known, content)
    return space


def _read(path: Path) -> Any:
    try:
        return json.loads(read_limited(path).decode())
    except (OSError, ValueError, RecursionError):
        fix = "delete it if the folder is of this space, or choose another folder"
        raise BadInput("is damaged", path, fix) from None


def _with_data(folder: Path, space: Space, console: Any) -> Space:
    """Return the space with the absolute path of its shards, because Ray runs each trial in a folder of its own."""
    if space.file.data:
        made = SuiteFolder(folder, space.file.data)
        prepare_data(space.file.data, made.archive, made.shards, 1, ProgressBoard(console), made.raw)
        shards = made.shards
    else:
        source = read_manifest(space.config({}).data.shards).source
        if not source.is_local:
            return space
        shards = source.folder.resolve()
    values = {**space.file.set, "data": {**space.file.set.get("data", {}), "shards": str(shards)}}
    return replace(space, file=replace(space.file, set=values))


class Interrupts:
    """Turn stop signals into an exception, so that trials save, and requeue the Slurm job."""

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, _raise) for number in _SIGNALS}

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, Stopped) and requeue():
            wait_to_be_ended()


def _raise(number: int, _: FrameType | None) -> None:
    raise Stopped(f"stopped by {signal.Signals(number).name}: trials have saved checkpoints; continue with --resume")
