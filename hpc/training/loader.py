"""Load the training batches of a rank, and exclude bad shards on all ranks."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np

from polarcast.data.batch import Batch
from polarcast.data.loading.order import rank_slice
from polarcast.data.loading.permute import Indices
from polarcast.data.loading.prefetch import prefetch
from polarcast.data.loading.reader import Reader
from polarcast.data.loading.sampler import TrainSampler
from polarcast.data.shards.health import BadShard, ChangedShard
from polarcast.hpc.config.schema import DataConfig, RunConfig
from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.intact import damaged_shards
from polarcast.hpc.training.staging import Stager

_log = logging.getLogger("polarcast")
_SECONDS_BETWEEN_LINES = 20.0
_STEPS_AHEAD = 16
"""Steps before its first use that a stream is opened."""


class TrainLoader:
    """Training batches of one rank, from a sampler."""

    def __init__(self, sampler: TrainSampler, run: RunFolder, world: World) -> None:
        """Prepare to load batches for this rank of `world`; only rank 0 writes to the run's log."""
        self._sampler, self._run, self._world = sampler, run, world
        self._reported: set[int] = set()

    def inspect(self, reader: Reader, data: DataConfig) -> None:
        """Verify the training shards before the first step; each rank verifies a part. Collective.

        Raises:
            BadInput: the fraction of windows in bad shards exceeds `data.max_bad_share`.
        """
        last_logged = time.monotonic()

        def on_shard(done: int, of: int) -> None:
            nonlocal last_logged
            if self._world.is_first and time.monotonic() - last_logged > _SECONDS_BETWEEN_LINES:
                last_logged = time.monotonic()
                _log.warning("polarcast: checked %d of %d shards; data.verify=sizes is faster", done, of)

        self._sampler.exclude(damaged_shards(reader, data, self._world, on_shard))

    def intact(self) -> Indices:
        """Return the training windows without those in bad shards, ascending."""
        return self._sampler.intact()

    def report(self, step: int) -> None:
        """Share the bad shards among all ranks, with those that changed under the run, and log new ones. Collective.

        Raises:
            BadShard: the fraction of windows in bad shards exceeds `data.max_bad_share`.
        """
        by_rank = gather({**self._sampler.changed(), **self._sampler.bad}, self._world)
        self._sampler.exclude(_union(by_rank), ChangedShard if step else BadShard)
        for shard in sorted(set(self._sampler.bad) - self._reported):
            self._reported.add(shard)
            record = self._sampler.report(shard)
            if self._world.is_first:
                self._run.log(event="bad_shard", step=step, **record)
                _log.warning("polarcast: %(shard)s: %(problem)s; its windows are replaced (%(lost)s lost)", record)

    def batches(
        self, config: RunConfig, micro_batch: int, first_step: int, stager: Stager | None = None
    ) -> Iterator[Batch]:
        """Yield the micro-batches of this rank from `first_step` on, in the global sample order.

        Args:
            config: Batch size, number of steps and of prefetch threads.
            micro_batch: Samples per micro-batch.
            first_step: First step.
            stager: Prepares the batches, in the threads that read them.
        """
        positions = self._positions(config, micro_batch, first_step)
        if not stager:
            return prefetch(self._sampler.read, positions, config.data.workers)
        staged = prefetch(lambda position: stager.stage(self._sampler.read(position)), positions, config.data.workers)
        return map(stager.take, staged)

    def _positions(self, config: RunConfig, micro_batch: int, first_step: int) -> Iterator[Indices]:
        batch, last = config.train.global_batch, config.train.steps
        for step in range(first_step, last):
            # Prefetched batches may belong to earlier steps.
            near = range(max(first_step, step - config.data.workers - 1), min(last, step + _STEPS_AHEAD))
            self._sampler.expect(np.arange(near.start * batch + self._world.rank, near.stop * batch, self._world.size))
            share = rank_slice(step, batch, self._world.rank, self._world.size)
            for start in range(0, len(share), micro_batch):
                yield share[start : start + micro_batch]


def _union(by_rank: Sequence[dict[int, str]]) -> dict[int, str]:
    return {shard: problem for bad in by_rank for shard, problem in bad.items()}


def drawn_samples(drawn: Sequence[Batch]) -> list[tuple[int, int]]:
    """Return the event and first frame of each sample."""
    return [(int(e), int(f)) for batch in drawn for e, f in zip(batch.event, batch.frame, strict=True)]


def digest(by_rank: Sequence[Sequence[tuple[int, int]]]) -> str:
    """Hash the samples of one step over all ranks, so that logs show whether runs use the same sample order."""
    drawn_by_all = sorted(sample for of_rank in by_rank for sample in of_rank)
    return hashlib.sha256(json.dumps(drawn_by_all).encode()).hexdigest()[:16]
