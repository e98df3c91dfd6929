"""Shards to score on, written from an archive if needed."""

from pathlib import Path

from polarcast.data.archive import open_archive
from polarcast.data.loading.reader import only_test
from polarcast.data.shards.manifest import NAME, Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.hpc.utils.progress import ProgressBoard


def shards_of(source: Path, cache: Path, board: ProgressBoard) -> Manifest:
    """Return all events of shards or of an archive as test events; an archive is sharded once into `cache`.

    Raises:
        BadInput: `source` is neither shards nor an archive.
    """
    if (source / NAME).is_file():
        return only_test(read_manifest(source))
    archive = open_archive(source)
    shards = cache / f"shards-{archive.fingerprint()}"
    if (shards / NAME).is_file():
        return read_manifest(shards)
    with board.stage("shard", "events", len(archive.frames)) as done:
        return write_shards(archive, shards, split="all-test", on_event=done)
