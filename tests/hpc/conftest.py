"""Run the command line in the process of the test: importing torch for each call would take most of the time."""

import sys
from collections.abc import Callable
from functools import cache

import pytest
import typer.main

from polarcast.hpc.cli.app import main

# Typer makes the tree of all commands anew for every call.
_command_of = cache(typer.main.get_command)
Result = tuple[int, str, str]


@pytest.fixture
def polarcast_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Return a function that runs a command and returns its exit code, standard output and standard error."""
    # After training, exit_process skips Python's teardown, which would end the tests.
    monkeypatch.setattr("polarcast.hpc.utils.console.exit_process", sys.exit)

    monkeypatch.setattr("typer.main.get_command", _command_of)

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["polarcast", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
