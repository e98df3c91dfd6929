"""Session fixtures, and an option that fails the session if a group of tests runs nothing."""

import gc
import os
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

# CPU results are reproducible across machines, so GPU tests are opt-in: POLARCAST_TEST_GPU=1.
if not os.environ.get("POLARCAST_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch
from hypothesis import settings

from polarcast.data.archive import Archive, open_archive
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.data.workers import run_all
from tests.support import warm

if TYPE_CHECKING:
    from tests.support.s3_server import S3Server

PROJECT = Path(__file__).resolve().parents[1]
_passed: Counter[str] = Counter()

# A busy machine may stall any example, so examples have no deadline.
torch.set_num_threads(1)
settings.register_profile("polarcast", deadline=None, max_examples=50)
settings.load_profile("polarcast")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", default="", help="Comma-separated markers; each must have at least one passing test.")


def pytest_configure(config: pytest.Config) -> None:
    """Offer a fork server to this process and its workers. What computes on a GPU must not be a fork."""
    if not hasattr(config, "workerinput") and not config.option.collectonly and not torch.cuda.is_available():
        stack = ExitStack()
        config.add_cleanup(stack.close)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="polarcast-forks-"))
        stack.enter_context(warm.fork_server(Path(folder)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave modules and test items to themselves: garbage collection looked at all of them again in every test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    # The keywords of a report also contain folder names, such as tests/slurm.
    item.user_properties.append(("groups", [mark.name for mark in item.iter_markers()]))


_SLURM = "slurm"
_TRAININGS = ("test_cluster.py", "test_surviving.py", "test_train_on_slurm.py", "test_submit_on_slurm.py")
"""Files of Slurm tests that share the first cluster; the others share the second."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests without a GPU. For `--dist loadgroup`, group tests by file, and Slurm tests by their cluster.

    There are two Slurm clusters, and their tests run first, because they take longest.
    """
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="no GPU, or POLARCAST_TEST_GPU=1 is not set")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)
    groups = {item: _group_of(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not groups[item].startswith(_SLURM))


def _group_of(item: pytest.Item) -> str:
    if not item.get_closest_marker("slurm"):
        return item.location[0]
    return f"{_SLURM}-trainings" if item.path.name in _TRAININGS else f"{_SLURM}-suites"


def pytest_collection_finish(session: pytest.Session) -> None:
    # pytest-xdist 3.8 sets groups in a private attribute that pytest 9.2 ignores: more Slurm clusters would start.
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist can't keep groups together under this pytest: see constraints.txt")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        _passed.update(dict(report.user_properties).get("groups", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # an xdist worker: the controller receives all reports
        return
    required = [m for m in session.config.getoption("--require").split(",") if m]
    missing = [m for m in required if not _passed[m]]
    if missing and not session.config.getoption("collectonly"):
        print(f"\nno test with these markers passed: {', '.join(missing)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Archive of eight synthetic events of four frames, 32 × 32."""
    root = tmp_path_factory.mktemp("archive")
    write_archive(root, 8, size=32, seed=3, preset="tiny", frames=4)
    return open_archive(root)


@pytest.fixture(scope="session")
def shards(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Several small shards of the archive: 4 training, 2 validation and 2 test events."""
    out = tmp_path_factory.mktemp("shards") / "shards"
    write_shards(archive, out, split="0.5/0.25/0.25", shard_mb=0)
    return read_manifest(out)


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a single worker read files in the process of the test; one of its own, which isolates crashes, takes seconds.

    That isolation is tested by test_workers, test_failures and test_files_that_eat.
    """
    monkeypatch.setattr(run_all, "__defaults__", (False,))


@pytest.fixture(scope="session")
def s3_server() -> Iterator["S3Server"]:
    """S3 server of this process; whoever uses it makes the buckets, and resets the faults."""
    from tests.support.s3_server import running_s3

    with running_s3() as server:
        yield server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data; skip if it is absent."""
    shared = Path(os.environ.get("POLARCAST_SHARED", PROJECT.parent / "shared")) / "data"
    if not shared.is_dir():
        pytest.skip(f"no real data: {shared} is absent")
    return shared


@pytest.fixture(scope="session")
def real_event(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real NJU-CPOL event in the published layout; skip if the frames are absent."""
    import runpy
    import sys
    from unittest import mock

    script = shared_data / "njucpol_event_001" / "unpack.py"
    if not script.is_file():
        pytest.skip(f"no real frames: {script} is absent")
    out = tmp_path_factory.mktemp("njucpol")
    with mock.patch.object(sys, "argv", [str(script), str(out)]):
        runpy.run_path(str(script), run_name="__main__")
    return out
