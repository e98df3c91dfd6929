"""The cluster of all tests here, and what it logged beside every test that fails."""

from collections.abc import Generator, Iterator

import pytest
from slurm_cluster.cluster import Cluster, cluster, what_is_missing


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real Slurm of two nodes; skips where none can be started."""
    if reason := what_is_missing():
        pytest.skip(reason)
    with cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    running = getattr(item, "funcargs", {}).get("slurm")
    if report.failed and isinstance(running, Cluster):
        report.sections.extend(running.logs().items())
    return report
