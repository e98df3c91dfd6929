"""What rank 0 writes into the log of a run in training: how it began, each step's loss and time, each validation."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from polarcast.data.batch import Batch
from polarcast.hpc.checkpoint import Progress
from polarcast.hpc.config import TrainConfig
from polarcast.hpc.group import mean_over_ranks
from polarcast.hpc.run_folder import RunFolder
from polarcast.hpc.samples import samples_digest
from polarcast.hpc.world import World


class Journal:
    """Records of one training, and of where its time goes."""

    def __init__(self, run: RunFolder, world: World, config: TrainConfig) -> None:
        """For this rank of `world`."""
        self._run, self._world, self._config = run, world, config
        self._begun, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def begin(self, progress: Progress, parameters: int, micro_batch: int) -> None:
        """Forget what the run did after the step at which it continues, and tell how it does."""
        if self._world.is_first:
            self._run.rewind_log(progress.step)
            self._run.log(
                event="start", step=progress.step, parameters=parameters, world_size=self._world.size,
                micro_batch=micro_batch, engine=self._config.engine, zero_stage=self._config.zero_stage,
            )  # fmt: skip
        self._begun = time.perf_counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens within counts as waiting for data."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    def step(self, step: int, loss: float, drawn: Sequence[Batch]) -> None:
        """A step is done, with this loss on this rank; collective."""
        self._steps += 1
        if step % self._config.log_every:
            return
        elapsed = time.perf_counter() - self._begun
        record = {
            "loss": mean_over_ranks(loss, self._world),
            "seconds": round(elapsed / self._steps, 4),
            "waiting": round(self._waited / elapsed, 4),
            "samples": samples_digest(drawn, self._world),
        }
        if self._world.is_first:
            self._run.log(event="step", step=step, **record)
        self._begun, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def validation(self, progress: Progress, score: float) -> None:
        """A validation came to this score."""
        if self._world.is_first:
            self._run.log(event="validation", step=progress.step, loss=score, best_step=progress.best_step)
        self._begun, self._waited, self._steps = time.perf_counter(), 0.0, 0
