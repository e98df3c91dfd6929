"""Packed nets of runs with initial weights."""

from pathlib import Path

import pytest

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.zoo.pack import PackOptions, pack
from tests.support.finished_run import UNET, finished


@pytest.fixture(scope="session")
def unet_run(shards: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished(shards, tmp_path_factory.mktemp("zoo-runs") / "unet", *UNET)


@pytest.fixture(scope="session")
def packed_net(unet_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a net that no test may change."""
    options = PackOptions(about="Two widths", license="Apache-2.0", not_for=("Anything | real",))
    return pack(unet_run, tmp_path_factory.mktemp("nets") / "tiny-unet", options).path
