"""Fixtures: the test cluster and training jobs on it; failed tests show the cluster's logs."""

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import detect
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.train import train
from tests.support.slurm_cluster.cluster import Cluster, cluster, what_is_missing

SETTINGS = [
    "model.widths=[4,8]", "match_params=false", "train.global_batch=4", "train.warmup_steps=2", "train.steps=60",
    "train.validate_every=20", "train.checkpoint_every=4", "train.log_every=1", "train.threads=1",
]  # fmt: skip
# Mostly two imports of torch, on a machine whose cores may be busy.
TRAIN_SECONDS = 150
DOWN_SECONDS = 20


class Training:
    """The log of a training run."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    @property
    def losses(self) -> dict[int, float]:
        return {r["step"]: r["loss"] for r in self.run.records() if r["event"] == "step"}

    def of(self, event: str) -> list[dict]:
        return [r for r in self.run.records() if r["event"] == event]

    @property
    def starts(self) -> list[tuple[int, int]]:
        """Step and world size of each start."""
        return [(r["step"], r["world_size"]) for r in self.of("start")]

    @property
    def saved(self) -> int:
        return max((r["step"] for r in self.of("checkpoint")), default=0)

    def wait_for_step(self, step: int) -> None:
        self.wait_until(lambda: max(self.losses, default=0) >= step, f"step {step} was not reached")

    def wait_until(self, holds: Callable[[], bool], problem: str, seconds: float = TRAIN_SECONDS) -> float:
        """Wait until `holds` is true; return the elapsed seconds."""
        began = time.monotonic()
        while not holds():
            assert time.monotonic() < began + seconds, problem
            time.sleep(0.02)
        return time.monotonic() - began


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real two-node Slurm cluster; skip if it can't be started."""
    if reason := what_is_missing():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="session")
def alone(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[int, float]]:
    """Return a function from a number of steps to the losses of an uninterrupted single-process run."""
    known: dict[int, dict[int, float]] = {}

    def losses(steps: int = 60) -> dict[int, float]:
        if steps not in known:
            run = RunFolder(tmp_path_factory.mktemp("alone"))
            settings = [f"data.shards={shards.folder}", *SETTINGS, f"train.steps={steps}", "train.checkpoint_every=0"]
            train(load_config("demo", settings), run, detect({}))
            known[steps] = Training(run).losses
            assert len(known[steps]) == steps
        return known[steps]

    return losses


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """The run of the job `train`, submitted from `tmp_path`."""
    return Training(RunFolder(tmp_path / "runs" / "train"))


@pytest.fixture
def tidy(slurm: Cluster, tmp_path: Path) -> Iterator[None]:
    """Cancel all jobs after a test, and print their output."""
    yield
    slurm.run("scancel", "--user=root")
    for file in sorted([*tmp_path.glob("*.log"), *tmp_path.glob("submitit/*.out"), *tmp_path.glob("submitit/*.err")]):
        print(f"--- {file.name}\n{file.read_text()[-4000:]}")


@pytest.fixture
def submit(slurm: Cluster, shards: Manifest, tmp_path: Path, tidy: None) -> Callable[..., int]:
    """Return a function that submits a training with `polarcast submit`, given overrides and submit options."""

    def submit_training(*overrides: str, **options: str) -> int:
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in {"cluster": "test", **options}.items()]
        verb = ["--", "train", "demo", f"data.shards={shards.folder}", *SETTINGS, *overrides]
        output = slurm.run("bash", "-c", 'cd "$1" && shift && exec "$@"', "bash", tmp_path, "polarcast", "submit",
                           "--name=train", *flags, *verb, seconds=60)  # fmt: skip
        return int(output.split()[1])

    return submit_training


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    running = getattr(item, "funcargs", {}).get("slurm")
    if report.failed and isinstance(running, Cluster):
        report.sections.extend(running.logs().items())
    return report
