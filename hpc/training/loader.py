"""This rank's training batches, and what all ranks learn of shards that can't be read."""

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
from polarcast.data.shards.health import bad_shards
from polarcast.hpc.config.schema import DataConfig, RunConfig
from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.folder import RunFolder

_log = logging.getLogger("polarcast")
_SECONDS_BETWEEN_LINES = 20.0
_STEPS_AHEAD = 16
"""Streams are opened that early."""


class TrainLoader:
    """Feeds one rank from a sampler."""

    def __init__(self, sampler: TrainSampler, run: RunFolder, world: World) -> None:
        """For this rank of `world`; rank 0 writes into the run's log."""
        self._sampler, self._run, self._world = sampler, run, world
        self._told: set[int] = set()

    def inspect(self, reader: Reader, data: DataConfig) -> None:
        """Look at the training shards before the first step, each rank at its part of them.

        Raises:
            BadInput: bad shards hold more of the windows than `data.max_bad_share`.
        """
        if data.reader == "stream":  # their sums are checked as they come
            return
        mine = np.unique(reader.windows.shards())[self._world.rank :: self._world.size]
        told = time.monotonic()

        def on_shard(done: int) -> None:
            nonlocal told
            if self._world.is_first and time.monotonic() - told > _SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                _log.warning("polarcast: %d of %d shards checked; data.verify=sizes is quick", done, len(mine))

        found = bad_shards(reader.manifest, mine.tolist(), sums=data.verify == "sums", on_shard=on_shard)
        # All ranks learn of all before any of them may stop: none is left waiting.
        self._sampler.exclude(_union(gather(found, self._world)))
        self.tell(step=0)

    def tell(self, step: int) -> None:
        """Let all ranks know of all bad shards; those not told of before go into the run's log."""
        self._sampler.exclude(_union(gather(dict(self._sampler.bad), self._world)))
        for shard in sorted(set(self._sampler.bad) - self._told):
            self._told.add(shard)
            record = self._sampler.report(shard)
            if self._world.is_first:
                self._run.log(event="bad_shard", step=step, **record)
                _log.warning("polarcast: %(shard)s: %(problem)s; its windows are replaced (%(lost)s lost)", record)

    def batches(self, config: RunConfig, micro_batch: int, first_step: int) -> Iterator[Batch]:
        """This rank's micro-batches from `first_step` on, in the one global order."""
        return prefetch(self._sampler.read, self._positions(config, micro_batch, first_step), config.data.workers)

    def _positions(self, config: RunConfig, micro_batch: int, first_step: int) -> Iterator[Indices]:
        batch, last = config.train.global_batch, config.train.steps
        for step in range(first_step, last):
            # Batches that are read ahead may belong to steps before this one.
            near = range(max(first_step, step - config.data.workers - 1), min(last, step + _STEPS_AHEAD))
            self._sampler.expect(np.arange(near.start * batch + self._world.rank, near.stop * batch, self._world.size))
            share = rank_slice(step, batch, self._world.rank, self._world.size)
            for start in range(0, len(share), micro_batch):
                yield share[start : start + micro_batch]


def _union(by_rank: Sequence[dict[int, str]]) -> dict[int, str]:
    return {shard: problem for bad in by_rank for shard, problem in bad.items()}


def drawn_samples(drawn: Sequence[Batch]) -> list[tuple[int, int]]:
    """Event and first frame of each sample."""
    return [(int(e), int(f)) for batch in drawn for e, f in zip(batch.event, batch.frame, strict=True)]


def digest(by_rank: Sequence[Sequence[tuple[int, int]]]) -> str:
    """A short hash of which samples all ranks have drawn for a step: it tells runs of the same order by their logs."""
    drawn_by_all = sorted(sample for of_rank in by_rank for sample in of_rank)
    return hashlib.sha256(json.dumps(drawn_by_all).encode()).hexdigest()[:16]
