"""The sample order does not depend on ranks, workers, reader or interruptions."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polarcast.data.loading.reader import open_reader
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.schema import DataConfig, RunConfig, TrainConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.build import build_sampler
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.loader import TrainLoader
from tests.support.marked_shards import marked_shards, samples_of

BATCH = 12
STEPS = 9
ARCHIVES = ((3,), (1, 1), (5, 2), (4, 4, 4), (2, 6, 1, 3), (7, 1, 1, 2, 5))
Step = list[tuple[int, int]]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Factory of cached archives by the lengths of their events and the size of their shards."""

    @cache
    def make(frames: tuple[int, ...], shard_mb: int) -> Manifest:
        return marked_shards(tmp_path_factory.mktemp("marked"), frames, shard_mb)

    return make


def drawn(manifest: Manifest, data: DataConfig, frames: int, ranks: int, first: int, last: int) -> list[Step]:
    """Samples of each step over all ranks, in the order of the ranks."""
    config = RunConfig(data=data, train=TrainConfig(global_batch=BATCH, steps=last))
    iterators = []
    for rank in range(ranks):
        reader = open_reader(
            manifest, "train", variables=("zh",), heights_km=(3.0,), frames=frames,
            patience=Patience() if data.reader == "stream" else None,
        )  # fmt: skip
        samples = TrainLoader(build_sampler(config, reader), RunFolder(Path("unused")), World(rank, ranks))
        iterators.append(samples.batches(config, BATCH // ranks // 2 or 1, first))
    micro = BATCH // ranks // 2 or 1
    taken = BATCH // ranks // micro
    return [
        [s for batches in iterators for _ in range(taken) for s in samples_of(next(batches))]
        for _ in range(first, last)
    ]


@settings(max_examples=25)
@given(
    st.sampled_from(ARCHIVES),
    st.sampled_from([0, 1000]),
    st.integers(1, 3),
    st.sampled_from(["mapped", "stream"]),
    st.sampled_from([0.0, 0.7]),
    st.lists(st.tuples(st.sampled_from([1, 2, 3, 4]), st.integers(0, 4)), min_size=1, max_size=3),
    st.data(),
)
def test_changing_ranks_and_workers_does_not_change_the_samples(
    shards, lengths, shard_mb, frames, reader, balance, stints, data
) -> None:  # type: ignore[no-untyped-def]
    manifest = shards(lengths, shard_mb)
    frames = min(frames, max(lengths))
    settings_ = {"reader": reader, "balance": balance}
    alone = drawn(manifest, DataConfig(workers=0, **settings_), frames, 1, 0, STEPS)
    cuts = sorted(data.draw(st.lists(st.integers(0, STEPS), min_size=len(stints) - 1, max_size=len(stints) - 1)))
    together: list[Step] = []
    for (ranks, workers), first, last in zip(stints, [0, *cuts], [*cuts, STEPS], strict=True):
        together += drawn(manifest, DataConfig(workers=workers, **settings_), frames, ranks, first, last)
    assert [sorted(step) for step in together] == [sorted(step) for step in alone]


@pytest.mark.parametrize("reader", ["mapped", "stream"])
@pytest.mark.parametrize("lengths", ARCHIVES)
def test_counts_of_windows_differ_by_at_most_one(shards, reader, lengths) -> None:  # type: ignore[no-untyped-def]
    """Also if an epoch ends in the middle of a batch."""
    counted = Counter(s for step in drawn(shards(lengths, 0), DataConfig(reader=reader), 1, 3, 0, STEPS) for s in step)
    times = [counted[event, frame] for event, length in enumerate(lengths) for frame in range(length)]
    assert sum(times) == STEPS * BATCH
    assert max(times) - min(times) <= 1


def test_heavy_rain_is_drawn_more_often(shards) -> None:  # type: ignore[no-untyped-def]
    manifest = shards((6, 6, 6), 0)
    config = DataConfig(balance=1.0)
    counted = Counter(s for step in drawn(manifest, config, 1, 2, 0, 60) for s in step)
    light = sum(counted[0, frame] for frame in range(6))
    heavy = sum(counted[2, frame] for frame in range(6))
    assert heavy > 1.2 * light
