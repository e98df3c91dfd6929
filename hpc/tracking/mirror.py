"""Mirror a run's records to W&B or TensorBoard, during training or later from a node with a network.

The run folder holds both the records and the position up to which they were sent. A requeued run therefore stays one
run in the tracker, and a second replay sends nothing. The environment is never sent, because it may hold secrets.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from polarcast.data.errors import BadInput
from polarcast.data.files import open_regular, read_json, write_json
from polarcast.data.folder_kind import RUN_FILE
from polarcast.data.secrets import redacted
from polarcast.data.shards.health import file_sha256
from polarcast.hpc.runs.folder import RunFolder, records_in

_log = logging.getLogger("polarcast")
_MOST_BYTES = 2**30
_NOT_NUMBERS = ("event", "step", "time", "samples", "slowest", "own_seconds", "best_step", "nodes")


class Sink(Protocol):
    """Destination of records."""

    def begin(self, run: RunFolder) -> None:
        """Start a run, or resume one that the destination already has."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers of a step; steps increase."""

    def evaluated(self, run: RunFolder) -> None:
        """Log scores, an image of the forecasts, and the run's files."""

    def finish(self) -> None:
        """Flush and close."""


class Mirror:
    """Send new records of a run folder to a sink; a failure is logged once and never stops the run."""

    def __init__(self, run: RunFolder, name: str, sink: Sink) -> None:
        """Mirror `run` to `sink`; `name` identifies the sink in the position file."""
        self._run, self._sink, self._file = run, sink, run.path / f".tracked-{name}.json"
        self._begun, self._lost = False, ""
        self._log, self._pending = _LogTail(run.log_file), dict[int, dict[str, float]]()
        self._position: dict[str, Any] = {"step": -1, "scores": "", **read_json(self._file)}

    @property
    def lost(self) -> str:
        """Error that stopped the mirror; empty if none."""
        return self._lost

    def update(self, is_final: bool = True) -> int:
        """Send new records and return their number.

        Args:
            is_final: Whether nothing more will be logged about the newest step. A validation follows the record of its
                step, and both are sent together; while a run trains, the newest step therefore waits for the next one.
        """
        return self._guarded(lambda: self._update(is_final))

    def finish(self) -> None:
        """Send new records and close the sink."""

        def close() -> int:
            sent = self._update()
            if self._begun:
                self._sink.finish()
                # Records are certain to be sent only after finish(); after a kill, they are sent again.
                write_json(self._file, self._position)
            self._begun = False
            return sent

        self._guarded(close)

    def _guarded(self, work: Any) -> int:
        if self._lost:
            return 0
        try:
            sent: int = work()
        except Exception as error:
            self._lost = redacted(next(iter(str(error).strip().splitlines()), type(error).__name__))
            _log.warning(
                "polarcast: tracking stopped (%s); send the records later: polarcast track replay",
                self._lost,
            )
            return 0
        return sent

    def _update(self, is_final: bool = True) -> int:
        position = self._position
        for record in self._log.read():
            if record["event"] in ("step", "validation") and record["step"] > position["step"]:
                self._pending.setdefault(record["step"], {}).update(_flat(record))
        fresh = sorted(self._pending.items())
        fresh = fresh if is_final else fresh[:-1]
        scores = self._run.output.scores
        digest = file_sha256(scores) if scores.is_file() else ""
        is_rescored = bool(digest) and digest != position["scores"]
        if (fresh or is_rescored) and not self._begun:
            self._sink.begin(self._run)
            self._begun = True
        for step, values in fresh:
            self._sink.log(values, step)
            del self._pending[step]
        if is_rescored:
            self._sink.evaluated(self._run)
        if fresh or is_rescored:
            self._position = {"step": fresh[-1][0] if fresh else position["step"], "scores": digest}
        return len(fresh) + is_rescored


class _LogTail:
    """Read what was added to a log since the last time: a log may be long, and is read every few seconds."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Return the new records, of whole lines."""
        if not self._path.is_file():
            return iter(())
        with open_regular(self._path) as stream:
            if stream.seek(0, os.SEEK_END) < self._read:  # a run that resumed has shortened it
                self._read = 0
            stream.seek(self._read)
            content = stream.read(_MOST_BYTES)
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return records_in(whole)


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    part = "train" if record["event"] == "step" else "validation"
    scores = record.get("scores", {})
    plain = {key: value for key, value in record.items() if key not in (*_NOT_NUMBERS, "scores")}
    return {f"{part}/{key}": value for key, value in {**plain, **scores}.items() if isinstance(value, int | float)}


def open_mirror(run: RunFolder, name: str, mode: str = "", project: str = "polarcast") -> Mirror:
    """Open a mirror by the name of its tracker.

    Args:
        run: The run.
        name: wandb or tensorboard.
        mode: W&B mode, online or offline; WANDB_MODE by default, else offline.
        project: Name of the W&B project.

    Raises:
        BadInput: the tracker is unknown.
    """
    from polarcast.hpc.tracking.sinks import TensorBoard, WandB

    sinks: dict[str, Callable[[], Sink]] = {"wandb": lambda: WandB(mode, project), "tensorboard": TensorBoard}
    if name not in sinks:
        raise BadInput(f"unknown tracker {name!r}", "tracker", f"choose from: {', '.join(sinks)}")
    return Mirror(run, name, sinks[name]())


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """Find all run folders, at any depth, each once. Raises BadInput if there is none."""
    found = {path.parent.resolve() for folder in folders for path in sorted(folder.rglob(RUN_FILE))}
    if not found:
        raise BadInput("no run", folders[0], "give folders of runs, such as runs/")
    return sorted(found)
