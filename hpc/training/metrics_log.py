"""What rank 0 writes into the log of a run in training: how it began, each step's loss and time, each validation."""

import logging
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from polarcast.data.batch import Batch
from polarcast.hpc.config.schema import TrainConfig
from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.checkpoint import Progress
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.energy import Meter
from polarcast.hpc.training.loader import digest, drawn_samples
from polarcast.hpc.training.stragglers import OwnTime, is_straggler, slowest

_log = logging.getLogger("polarcast")
_TIMES_SLOW = 3
"""Records in a row after which a straggler is told of."""


class MetricsLogger:
    """Records of one training, and of where its time goes."""

    def __init__(self, run: RunFolder, world: World, config: TrainConfig) -> None:
        """For this rank of `world`."""
        self._run, self._world, self._config = run, world, config
        self._begun, self._waited, self._steps = time.perf_counter(), 0.0, 0
        self._slow: list[int] = []
        self._meter = Meter(world)

    def begin(self, progress: Progress, parameters: int, micro_batch: int, nodes: Mapping[str, Any]) -> None:
        """Forget what the run did after the step at which it continues, and tell how it does, on which nodes."""
        if self._world.is_first:
            self._run.rewind_log(progress.step)
            self._run.log(
                event="start", step=progress.step, parameters=parameters, world_size=self._world.size,
                micro_batch=micro_batch, engine=self._config.engine, zero_stage=self._config.zero_stage,
                **nodes,
            )  # fmt: skip
        self._reset()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens within counts as waiting for data."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    def step(self, step: int, loss: float, drawn: Sequence[Batch], own_time: OwnTime) -> None:
        """A step is done, with this loss on this rank; collective."""
        self._steps += 1
        if step % self._config.log_every:
            return
        elapsed = time.perf_counter() - self._begun
        own = (own_time.take() + self._waited) / self._steps
        told = gather((loss, drawn_samples(drawn), own, socket.gethostname(), self._meter.take()), self._world)
        losses, samples, seconds, hosts, joules = zip(*told, strict=True)
        record: dict[str, Any] = {
            "loss": statistics.fmean(losses),
            "seconds": round(elapsed / self._steps, 4),
            "waiting": round(self._waited / elapsed, 4),
            "samples": digest(samples),
        }
        if counted := [spent for spent in joules if spent is not None]:
            record["joules"] = round(sum(counted), 3)
        if self._world.size > 1:
            record["own_seconds"] = [round(s, 4) for s in seconds]
            record["slowest"] = slowest(seconds, hosts)
            self._tell_of(record["slowest"])
        if self._world.is_first:
            self._run.log(event="step", step=step, **record)
        self._reset()

    def validation(self, progress: Progress, loss: float, scores: Mapping[str, float | None]) -> None:
        """A validation came to this loss, and these scores."""
        if self._world.is_first:
            told = {"scores": dict(scores)} if scores else {}
            self._run.log(event="validation", step=progress.step, loss=loss, best_step=progress.best_step, **told)
        self._reset()

    def tell(self, event: str, step: int, **record: Any) -> None:
        """Anything else."""
        if self._world.is_first:
            self._run.log(event=event, step=step, **record)

    def hang(self, progress: Progress, told: str) -> None:
        """Some rank has stopped; from whichever rank has noticed."""
        print(f"polarcast: {told}", file=sys.stderr, flush=True)
        self._run.log(event="hang", step=progress.step, told=told)

    def _tell_of(self, found: dict[str, Any]) -> None:
        self._slow = [*self._slow, found["rank"]] if is_straggler(found) else []
        if self._world.is_first and self._slow[-_TIMES_SLOW:] == [found["rank"]] * _TIMES_SLOW:
            _log.warning("polarcast: rank %(rank)s on %(host)s is %(times)s times as slow as the others", found)
            self._slow = []

    def _reset(self) -> None:
        self._begun, self._waited, self._steps = time.perf_counter(), 0.0, 0
