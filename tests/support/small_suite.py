"""Run a small suite in this process, without progress and figures."""

from pathlib import Path

import pytest

from polarcast.hpc.bench.cells import SuiteFolder
from polarcast.hpc.bench.run import run_suite
from polarcast.hpc.bench.suite import load_suite
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard

BASELINES = """
name: small
data: {synth: {events: 40, frames: 1, size: 32, preset: tiny, seed: 5}, split: 0.1/0.1/0.8}
models:
  published: {label: published, set: {model: {name: power_law, coefficients: published}}}
  fitted: {label: fitted, arms: [dualpol], set: {model: {name: power_law, coefficients: fitted}}}
tables:
  main: {title: Main, metrics: [rmse]}
"""
"""Suite of physical baselines, which take no training."""


def run_small_suite(root: Path, text: str) -> Path:
    """Run the suite of a YAML text below a folder; return the suite's folder.

    Figures are left out, because they take most of the time.
    """
    (root / "small.yaml").write_text(text, encoding="utf-8")
    run_suite_into(root / "out", root / "small.yaml")
    return root / "out"


def run_suite_into(folder: Path, file: Path) -> None:
    """Run the suite of a YAML file in a folder, without figures."""
    suite, console = load_suite(str(file)), stderr()
    console.quiet = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.hpc.bench.figures.drawn.drawn_or_draw", lambda *_: [])
        run_suite(suite, SuiteFolder(folder, suite.data), 1, ProgressBoard(console))
