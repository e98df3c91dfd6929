"""Write checkpoints in a background thread while training continues."""

import threading
from dataclasses import replace
from types import TracebackType
from typing import Any

from safetensors import SafetensorError

from polarcast.data.errors import BadInput
from polarcast.data.secrets import redacted_tree
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.checkpoint import Progress, TrainState
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.provenance import read_provenance
from polarcast.hpc.training.engine import Engine


class AsyncCheckpointer:
    """Context manager that writes one checkpoint at a time, and waits for the last one on exit.

    A checkpoint is logged only after it has been written completely.
    """

    def __init__(self, run: RunFolder, config: RunConfig, world: World) -> None:
        """Prepare to save a run; only rank 0 of `world` writes."""
        self._run, self._config, self._world = run, config, world
        self._writing: threading.Thread | None = None
        self._failed: Exception | None = None

    def __enter__(self) -> "AsyncCheckpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._join()
        if kind is None:
            self._raise_failure()

    def save(self, engine: Engine, progress: Progress) -> None:
        """Copy the state and start writing it on rank 0; collective.

        Raises:
            BadInput: the previous checkpoint could not be written.
        """
        state = engine.state_dict()
        self._join()
        self._raise_failure()
        if state:
            snapshot = replace(progress, recent_losses=list(engine.guard.recent))
            self._writing = threading.Thread(target=self._write, args=(state, snapshot), name="checkpoint")
            self._writing.start()

    def _join(self) -> None:
        if self._writing:
            self._writing.join()
            self._writing = None

    def _raise_failure(self) -> None:
        if self._failed:
            where = self._run.checkpoints
            raise BadInput(f"can't write a checkpoint ({self._failed})", where, "free disk space, and start again")

    def _write(self, state: TrainState, progress: Progress) -> None:
        try:
            keep = self._config.train.keep_checkpoints
            path = checkpoint.save(self._run.checkpoints, state, progress, keep, self._origin())
            self._run.log(event="checkpoint", step=progress.step, saved=path.name)
        except (OSError, SafetensorError) as error:
            self._failed = error

    def _origin(self) -> dict[str, Any]:
        return {
            "config": redacted_tree(self._config.to_dict()),
            "provenance": read_provenance(self._run.provenance_file),
            "world_size": self._world.size,
        }
