"""Run a small suite in this process, without progress and figures."""

from pathlib import Path

import pytest

from polarcast.hpc.bench.cells import SuiteFolder
from polarcast.hpc.bench.run import run_suite
from polarcast.hpc.bench.suite import load_suite
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard


def run_small_suite(root: Path, text: str) -> Path:
    """Run the suite of a YAML text below a folder; return the suite's folder.

    Figures are left out, because they take most of the time.
    """
    (root / "small.yaml").write_text(text, encoding="utf-8")
    suite, console = load_suite(str(root / "small.yaml")), stderr()
    console.quiet = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.hpc.bench.figures.drawn.drawn_or_draw", lambda *_: [])
        run_suite(suite, SuiteFolder(root / "out", suite.data), 1, ProgressBoard(console))
    return root / "out"
