"""The command line within the test's own process: importing torch anew for each call would take the most time."""

import sys
from collections.abc import Callable

import pytest

from polarcast.hpc.cli.app import main

Told = tuple[int, str, str]


@pytest.fixture
def polarcast_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Runs a command; returns its exit code, standard output and standard error."""
    # A process that has trained something is left without Python's teardown: that would be the end of the tests.
    monkeypatch.setattr("polarcast.hpc.utils.console.exit_process", sys.exit)

    def run(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["polarcast", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run
