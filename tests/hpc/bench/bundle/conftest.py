"""A finished suite of a physical baseline and three seeds of a tiny network, and its bundle."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from polarcast.hpc.bench.bundle.write import write_bundle
from tests.support.small_suite import run_small_suite

SUITE = """
name: small
seeds: [0, 1, 2]
data: {synth: {events: 16, frames: 1, size: 32, preset: tiny, seed: 5}, split: 0.25/0.125/0.625}
models:
  fitted: {label: "Z–R, fitted", set: {model: {name: power_law, coefficients: fitted}}}
  unet:
    label: U-Net
    arms: [dualpol]
    set:
      model: {widths: [4, 8], first_guess: power_law}
      data: {workers: 0}
      train: {steps: 2, validate_every: 2, validate_windows: 2, global_batch: 2, micro_batch: 2, threads: 1,
              learning_rate: 1.0e-6}
tables:
  main: {title: Main, metrics: [rmse, nb], versus: fitted}
  events: {title: Events, metrics: ["csi@threshold=*"], aggregation: mean, rows: [model], columns: [threshold, arm]}
robustness: {models: [fitted], scores: [rmse], perturbations: {zdr_bias: [-0.5, 0.5]}}
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the finished suite; tests that change it copy it first."""
    return run_small_suite(tmp_path_factory.mktemp("bundled"), SUITE)


@pytest.fixture(scope="session")
def bundled(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the suite."""
    file = tmp_path_factory.mktemp("bundles") / "small.zip"
    write_bundle(finished, file)
    return file


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put temporary folders in one of the test, and check that none is left."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.glob("polarcast-*")) == []
