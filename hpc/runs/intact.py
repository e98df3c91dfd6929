"""One rule for all readers of a run's shards: verify them once, as `data.verify` says, before they are used."""

from collections.abc import Callable

from polarcast.data.loading.reader import Reader
from polarcast.data.shards.health import SUMS, BadShard
from polarcast.hpc.config.schema import DataConfig
from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.world import World


def damaged_shards(
    reader: Reader, data: DataConfig, world: World, on_shard: Callable[[int, int], None] = lambda done, of: None
) -> dict[int, str]:
    """Verify the shards of a reader's windows, and of donors of a placebo; each rank verifies a part. Collective.

    A verified file is not read again until it changes. Streams are verified while they are read.

    Args:
        reader: Reader of one split; from now on, it verifies the files that change later, too.
        data: Settings of the run.
        world: Rank and size of the process group.
        on_shard: Called with (shards done, shards) of this rank.

    Returns:
        Problems of all damaged shards by number, on every rank.
    """
    mine = reader.used_shards()[world.rank :: world.size].tolist()
    found = reader.verify(mine, data.verify == SUMS, lambda done: on_shard(done, len(mine)))
    return {shard: problem for of_rank in gather(found, world) for shard, problem in of_rank.items()}


def require_intact(reader: Reader, data: DataConfig, world: World) -> None:
    """Verify the shards of a reader's windows, none of which may be left out. Collective.

    Raises:
        BadShard: a shard is damaged; on all ranks.
    """
    damaged = damaged_shards(reader, data, world)
    for shard, problem in sorted(damaged.items()):
        more = f" ({len(damaged) - 1} other damaged shards)" if len(damaged) > 1 else ""
        raise BadShard(shard, problem + more, reader.manifest.source.shown_url(reader.manifest.shards[shard].name))
