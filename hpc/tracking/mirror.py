"""A mirror of a run's own records in W&B or TensorBoard: in training, or replayed from where there is a network.

What is told is what stands in the run's folder, and how much of it was told stands there, too: a run that is requeued
is one run there, and a replay of what was replayed sends nothing. Nothing of the environment is told: it holds secrets.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json, write_json
from polarcast.data.shards.health import file_sha256
from polarcast.hpc.config.validate import TRACKERS
from polarcast.hpc.runs.folder import RunFolder

_log = logging.getLogger("polarcast")
_NOT_NUMBERS = ("event", "step", "samples", "slowest", "own_seconds", "best_step", "nodes")


class Sink(Protocol):
    """Where records go."""

    def begin(self, run: RunFolder) -> None:
        """A run, which may be known there already."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of a step; steps only grow."""

    def evaluated(self, run: RunFolder) -> None:
        """Its scores, a picture of its forecasts, and what it was made from."""

    def finish(self) -> None:
        """All is told for now."""


class Mirror:
    """Tells a sink what is new in a run's folder; what goes wrong there is said once, and never stops the run."""

    def __init__(self, run: RunFolder, name: str, sink: Sink) -> None:
        """For a run, and the sink that goes by a name."""
        self._run, self._sink, self._file = run, sink, run.path / f".tracked-{name}.json"
        self._begun, self._lost = False, ""
        self._position: dict[str, Any] = {"step": -1, "scores": "", **read_json(self._file)}

    @property
    def lost(self) -> str:
        """Why nothing is told any more; empty where all went well."""
        return self._lost

    def update(self) -> int:
        """Tell what is new; gives how much that was."""
        return self._guarded(self._update)

    def finish(self) -> None:
        """Tell what is new, and close."""

        def close() -> int:
            told = self._update()
            if self._begun:
                self._sink.finish()
                # Only now it is sure to have arrived; what a kill leaves unsure is told again.
                write_json(self._file, self._position)
            self._begun = False
            return told

        self._guarded(close)

    def _guarded(self, work: Any) -> int:
        if self._lost:
            return 0
        try:
            told: int = work()
        except Exception as error:
            self._lost = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            _log.warning("polarcast: not tracked any more (%s); the run goes on, replay it later", self._lost)
            return 0
        return told

    def _update(self) -> int:
        position = self._position
        fresh = list(_numbers(self._run, position["step"]))
        scores = self._run.output.scores
        record = file_sha256(scores) if scores.is_file() else ""
        is_rescored = bool(record) and record != position["scores"]
        if (fresh or is_rescored) and not self._begun:
            self._sink.begin(self._run)
            self._begun = True
        for step, values in fresh:
            self._sink.log(values, step)
        if is_rescored:
            self._sink.evaluated(self._run)
        if fresh or is_rescored:
            self._position = {"step": fresh[-1][0] if fresh else position["step"], "scores": record}
        return len(fresh) + is_rescored


def _numbers(run: RunFolder, after: int) -> Iterator[tuple[int, dict[str, float]]]:
    """All numbers of each step after one, in order."""
    by_step: dict[int, dict[str, float]] = {}
    for record in run.records():
        if record["event"] in ("step", "validation") and record["step"] > after:
            by_step.setdefault(record["step"], {}).update(_flat(record))
    return iter(sorted(by_step.items()))


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    part = "train" if record["event"] == "step" else "validation"
    scores = record.get("scores", {})
    plain = {key: value for key, value in record.items() if key not in (*_NOT_NUMBERS, "scores")}
    return {f"{part}/{key}": value for key, value in {**plain, **scores}.items() if isinstance(value, int | float)}


def open_mirror(run: RunFolder, name: str, mode: str = "", project: str = "polarcast") -> Mirror:
    """A mirror by name.

    Args:
        run: The run.
        name: wandb or tensorboard.
        mode: Of W&B: online or offline; by default WANDB_MODE, or offline.
        project: Of W&B.

    Raises:
        BadInput: there is no such sink.
    """
    from polarcast.hpc.tracking.sinks import TensorBoard, WandB

    if name not in TRACKERS:
        raise BadInput(f"unknown tracker {name!r}", "tracker", f"there are: {', '.join(TRACKERS)}")
    return Mirror(run, name, WandB(mode, project) if name == "wandb" else TensorBoard())


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """All run folders in these, each once. Raises BadInput where there is none."""
    found = {path.parent.resolve() for folder in folders for path in sorted(folder.rglob("config.yaml"))}
    if not found:
        raise BadInput("no run", folders[0], "give folders of runs, such as runs/")
    return sorted(found)
