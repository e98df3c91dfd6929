"""Checkpoints written in the background: training goes on while the disk works."""

import json
import threading
from dataclasses import replace
from types import TracebackType
from typing import Any

from safetensors import SafetensorError

from polarcast.data.errors import BadInput
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.checkpoint import Progress, TrainState
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.engine import Engine


class AsyncCheckpointer:
    """Writes one checkpoint at a time; leaving it as a context waits for the last one.

    Only what is on the disk, whole, is reported in the run's log.
    """

    def __init__(self, run: RunFolder, config: RunConfig, world: World) -> None:
        """For a run of this world; rank 0 writes."""
        self._run, self._config, self._world = run, config, world
        self._writing: threading.Thread | None = None
        self._failed: Exception | None = None

    def __enter__(self) -> "AsyncCheckpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._join()
        if kind is None:
            self._tell()

    def save(self, engine: Engine, progress: Progress) -> None:
        """Copy the state and let it be written; collective, rank 0 writes.

        Raises:
            BadInput: the checkpoint before this one could not be written.
        """
        state = engine.state_dict()
        self._join()
        self._tell()
        if state:
            told = replace(progress, recent_losses=list(engine.guard.seen))
            self._writing = threading.Thread(target=self._write, args=(state, told), name="checkpoint")
            self._writing.start()

    def _join(self) -> None:
        if self._writing:
            self._writing.join()
            self._writing = None

    def _tell(self) -> None:
        if self._failed:
            where = self._run.checkpoints
            raise BadInput(f"no checkpoint could be written ({self._failed})", where, "make room, and start it again")

    def _write(self, state: TrainState, progress: Progress) -> None:
        try:
            keep = self._config.train.keep_checkpoints
            path = checkpoint.save(self._run.checkpoints, state, progress, keep, self._origin())
            self._run.log(event="checkpoint", step=progress.step, saved=path.name)
        except (OSError, SafetensorError) as error:
            self._failed = error

    def _origin(self) -> dict[str, Any]:
        return {
            "config": self._config.to_dict(),
            "provenance": json.loads(self._run.provenance_file.read_text()),
            "world_size": self._world.size,
        }
