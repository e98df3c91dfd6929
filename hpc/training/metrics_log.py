"""Write the training log of a run on rank 0: start, steps with loss and time, validations."""

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
"""Consecutive records with the same straggler before a warning."""


class MetricsLogger:
    """Log losses, scores and times of a run in training."""

    def __init__(self, run: RunFolder, world: World, config: TrainConfig, nets: int = 1) -> None:
        """Start timing on this rank of `world`; of the energy, each of the nets trained at once logs an equal part."""
        self._run, self._world, self._config, self._nets = run, world, config, nets
        self._begun, self._waited, self._steps = time.perf_counter(), 0.0, 0
        self._slow: list[int] = []
        self._meter = Meter(world)

    def begin(self, progress: Progress, parameters: int, micro_batch: int, nodes: Mapping[str, Any]) -> None:
        """Delete log records after the resumed step, and log the start of the run and its nodes."""
        if self._world.is_first:
            self._run.rewind_log(progress.step)
            self._run.log(
                event="start", step=progress.step, parameters=parameters, world_size=self._world.size,
                micro_batch=micro_batch, engine=self._config.engine, zero_stage=self._config.zero_stage,
                **nodes,
            )  # fmt: skip

    def mode(self, step: int, mode: str) -> None:
        """Log how the steps of this process run: by CUDA graphs, or why not."""
        if self._world.is_first:
            self._run.log(event="graphs", step=step, mode=mode)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within this context as waiting for data."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    def step(self, step: int, loss: float, drawn: Sequence[Batch], own_time: OwnTime) -> None:
        """Log a completed step, every `log_every` steps; collective."""
        self._steps += 1
        if step % self._config.log_every:
            return
        elapsed = time.perf_counter() - self._begun
        own = (own_time.take() + self._waited) / self._steps
        by_rank = gather((loss, drawn_samples(drawn), own, socket.gethostname(), self._meter.take()), self._world)
        losses, samples, seconds, hosts, joules = zip(*by_rank, strict=True)
        record: dict[str, Any] = {
            "loss": statistics.fmean(losses),
            "seconds": round(elapsed / self._steps, 4),
            "waiting": round(self._waited / elapsed, 4),
            "samples": digest(samples),
        }
        if counted := [spent for spent in joules if spent is not None]:
            record["joules"] = round(sum(counted) / self._nets, 3)
        if self._world.size > 1:
            record["own_seconds"] = [round(s, 4) for s in seconds]
            record["slowest"] = slowest(seconds, hosts)
            self._warn_of_straggler(record["slowest"])
        if self._world.is_first:
            self._run.log(event="step", step=step, **record)
        self.reset()

    def validation(self, progress: Progress, loss: float, scores: Mapping[str, float | None]) -> None:
        """Log the loss and scores of a validation."""
        if self._world.is_first:
            extra = {"scores": dict(scores)} if scores else {}
            self._run.log(event="validation", step=progress.step, loss=loss, best_step=progress.best_step, **extra)
        self.reset()

    def hang(self, progress: Progress, message: str) -> None:
        """Print and log that a rank hangs; called on the rank that detects it."""
        print(f"polarcast: {message}", file=sys.stderr, flush=True)
        self._run.log(event="hang", step=progress.step, told=message)

    def _warn_of_straggler(self, found: dict[str, Any]) -> None:
        self._slow = [*self._slow, found["rank"]] if is_straggler(found) else []
        if self._world.is_first and self._slow[-_TIMES_SLOW:] == [found["rank"]] * _TIMES_SLOW:
            _log.warning("polarcast: rank %(rank)s on %(host)s takes %(times)s times as long as the others", found)
            self._slow = []

    def reset(self) -> None:
        """Restart the times of the next record."""
        self._begun, self._waited, self._steps = time.perf_counter(), 0.0, 0
