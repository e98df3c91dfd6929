"""Damaged shards are not trained on, validated on or scored, and never hang a run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput, WorkFailed
from polarcast.data.loading.dataset import open_shards
from polarcast.data.loading.reader import open_reader
from polarcast.data.loading.sampler import TrainSampler, block_shuffle, whole_shuffle
from polarcast.data.shards.fetch import Patience
from polarcast.data.shards.health import BadShard, ChangedShard, bad_shards, identity
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.records import read_records
from polarcast.hpc.training.train import train
from tests.support import warm
from tests.support.finished_run import BASELINE, UNET, finished
from tests.support.marked_shards import marked_shards

CHANGED_BYTES = 8192
RUN = (*UNET, "train.global_batch=2", "train.validate_every=4", "train.warmup_steps=1", "data.stream.retries=0")


@pytest.fixture
def copied(shards: Manifest, tmp_path: Path) -> Manifest:
    """Copy of the shards that a test may damage."""
    shutil.copytree(shards.folder, tmp_path / "shards")
    return read_manifest(tmp_path / "shards")


@pytest.fixture
def single(archive: Archive, tmp_path: Path) -> Manifest:
    """A single shard with the events of all splits, as small archives have."""
    return write_shards(archive, tmp_path / "shards", split="0.5/0.25/0.25")


def shard_of(manifest: Manifest, split: str) -> Path:
    """Shard of the first event of a split."""
    event = manifest.splits[split][0]
    return manifest.folder / manifest.shards[int(manifest.samples[manifest.samples[:, 1] == event][0, 0])].name


def change(path: Path) -> None:
    """Change bytes of the first frame in place; the size stays."""
    with path.open("r+b") as stream:
        stream.seek(1024)
        content = stream.read(CHANGED_BYTES)
        stream.seek(1024)
        stream.write(bytes(byte ^ 1 for byte in content))


def swap(path: Path) -> None:
    """Replace a shard by a changed one of the same size and modification time."""
    other = path.with_name("other")
    shutil.copy2(path, other)
    status = path.stat()
    change(other)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("reader", ["mapped", "stream"])
def test_a_changed_test_shard_is_not_scored(copied: Manifest, tmp_path: Path, reader: str) -> None:
    run = finished(copied, tmp_path / "run", *BASELINE, f"data.reader={reader}", "data.stream.retries=0")
    evaluate(run, copied, run.output)
    before = run.output.scores.read_bytes()
    change(shard_of(copied, "test"))
    with pytest.raises(BadInput, match=f"{shard_of(copied, 'test').name}: .*SHA-256"):
        evaluate(run, copied, run.output)
    assert run.output.scores.read_bytes() == before


def test_a_change_that_keeps_size_and_time_does_not_pass_as_verified(copied: Manifest, tmp_path: Path) -> None:
    run = finished(copied, tmp_path / "run", *BASELINE)
    evaluate(run, copied, run.output)
    path = shard_of(copied, "test")
    status = path.stat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(BadInput, match="SHA-256"):
        evaluate(run, copied, run.output)


def test_scores_name_the_shards_they_were_computed_on(copied: Manifest, tmp_path: Path) -> None:
    run = finished(copied, tmp_path / "run", *BASELINE)
    evaluate(run, copied, run.output)
    assert read_records(run.output.scores).data == copied.digest()


@pytest.mark.parametrize("damage", [change, truncate, Path.unlink])
def test_a_damaged_validation_shard_chooses_no_checkpoint(
    copied: Manifest, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(shard_of(copied, "validation"))
    with pytest.raises(BadInput, match=shard_of(copied, "validation").name):
        train_here(copied, tmp_path / "run")
    assert not RunFolder(tmp_path / "run").is_trained


def test_a_baseline_is_not_fitted_to_a_damaged_shard(copied: Manifest, tmp_path: Path) -> None:
    change(shard_of(copied, "train"))
    config = load_config("demo", [f"data.shards={copied.folder}", "model.name=power_law"])
    with pytest.raises(BadInput, match=shard_of(copied, "train").name):
        train(config, RunFolder(tmp_path / "run"), World())


def test_a_damaged_shard_gives_no_data_set(copied: Manifest) -> None:
    change(shard_of(copied, "test"))
    with pytest.raises(BadInput, match="SHA-256"):
        open_shards(copied.folder, split="test")
    assert len(open_shards(copied.folder, split="test", verify="sizes"))


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("damage", [change, swap, truncate, Path.unlink])
def test_a_shard_that_changes_under_a_training_does_not_go_unnoticed(
    copied: Manifest, tmp_path: Path, damage: Callable[[Path], None], split: str
) -> None:
    path = shard_of(copied, split)

    def on_step(step: int, *_: object) -> None:
        if step == 5:
            damage(path)

    with pytest.raises(WorkFailed, match=path.name):
        train_here(copied, tmp_path / "run", on_step=on_step)


def test_a_shard_that_is_copied_again_under_a_training_does_not_end_it(copied: Manifest, tmp_path: Path) -> None:
    def on_step(step: int, *_: object) -> None:
        if step == 5:
            path = shard_of(copied, "train")
            shutil.copy(path, path.with_name("other"))
            os.replace(path.with_name("other"), path)

    train_here(copied, tmp_path / "run", on_step=on_step)
    assert RunFolder(tmp_path / "run").is_trained


def train_here(manifest: Manifest, folder: Path, on_step: Callable[..., None] | None = None) -> None:
    config = load_config("demo", [f"data.shards={manifest.folder}", *RUN, "train.steps=12"])
    train(config, RunFolder(folder), World(), on_step)


def wait_for_steps(run: RunFolder, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not any(record["event"] == "step" for record in run.records()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_shard_cut_short_under_a_training_does_not_hang_it(single: Manifest, tmp_path: Path) -> None:
    [shard] = single.folder.glob("*.tar")
    run = RunFolder(tmp_path / "run")
    command = ["train", "demo", f"data.shards={single.folder}", *RUN, "train.steps=1000000", "train.log_every=1",
               "train.validate_every=1000000", "--out", str(run.path)]  # fmt: skip
    with warm.Popen(
        [sys.executable, "-m", "polarcast.hpc.cli", *command], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for_steps(run, process)
            truncate(shard)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    [line] = [text for text in errors.splitlines() if shard.name in text]
    assert line.startswith("polarcast: ")
    assert "Traceback" not in errors


@pytest.fixture
def bounded() -> Iterator[None]:
    """End the process if the test takes longer than 30 s: it loops."""
    signal.alarm(30)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("stream", [False, True])
def test_threads_do_not_look_for_substitutes_that_do_not_exist(tmp_path: Path, stream: bool) -> None:
    manifest = marked_shards(tmp_path, (5,))
    patience = Patience(retries=0) if stream else None
    reader = open_reader(manifest, "train", variables=("zh",), heights_km=(3.0,), patience=patience)
    order = block_shuffle(reader, 0, 0.0, 1, 1) if stream else whole_shuffle(reader, 0)
    sampler = TrainSampler(reader, order, seed=0, max_bad_share=1.0)
    sampler.read(np.arange(3))
    if stream:
        sampler.expect(np.arange(0))  # drops the shard, so that it is streamed again
        reader.frames.expect(set())  # type: ignore[attr-defined]
    truncate(manifest.folder / manifest.shards[0].name)
    for _ in range(3):
        with pytest.raises(ChangedShard, match=manifest.shards[0].name):
            sampler.read(np.arange(3))


@pytest.mark.usefixtures("bounded")
def test_a_window_across_a_bad_shard_in_its_middle_does_not_loop(tmp_path: Path) -> None:
    manifest = marked_shards(tmp_path, (2, 2, 2, 2))
    samples = manifest.samples.copy()
    samples[:6, 1], samples[:6, 2] = 0, np.arange(6)  # one event in three shards
    joined = Manifest(**{**manifest.__dict__, "samples": samples, "splits": {"train": (0, 3)}})
    reader = open_reader(joined, "train", variables=("zh",), heights_km=(3.0,), frames=6)
    (manifest.folder / manifest.shards[1].name).unlink()
    assert reader.windows.used_shards().tolist() == [0, 1, 2]
    sampler = TrainSampler(reader, whole_shuffle(reader, 0), seed=0, max_bad_share=1.0)
    with pytest.raises(BadShard, match=manifest.shards[1].name):
        sampler.read(np.arange(2))


def test_a_folder_swapped_under_a_reader_does_not_go_unnoticed(copied: Manifest) -> None:
    reader = open_reader(copied, "train", variables=("zh",), heights_km=(3.0,))
    used = reader.windows.used_shards().tolist()
    assert not reader.verify(used, sums=True)
    reader.read(range(len(reader)))
    shutil.copytree(copied.folder, copied.folder.with_name("other"))
    change(copied.folder.with_name("other") / shard_of(copied, "train").name)
    copied.folder.rename(copied.folder.with_name("away"))
    copied.folder.with_name("other").rename(copied.folder)
    assert reader.read([0]) is not None  # of the files that are open, which are intact
    assert list(reader.frames.changed().values()) == ["its SHA-256 differs from the manifest's"]


def test_a_cache_that_others_write_to_does_not_vouch_for_a_shard(
    copied: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert not bad_shards(copied, [0], sums=True)
    cache = tmp_path / "cache" / "polarcast"
    path = copied.folder / copied.shards[0].name
    change(path)
    known = json.loads((cache / "verified.json").read_text())
    known[str(path.resolve())] = [copied.shards[0].sha256, *identity(path.stat())]
    (cache / "verified.json").write_text(json.dumps(known))
    assert not bad_shards(copied, [0], sums=True)  # the user's own
    cache.chmod(0o777)
    assert list(bad_shards(copied, [0], sums=True)) == [0]
