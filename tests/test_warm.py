"""Check that a process of the fork server is like one that Python started."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import warm

REPORT = """
import json, os, signal, sys, threading
print(json.dumps({
    "arguments": sys.argv, "folder": os.getcwd(), "path": sys.path[0], "variable": os.environ.get("VARIABLE"),
    "user": os.environ.get("HOME"), "leads": os.getsid(0) == os.getpid(), "main": __name__, "in": sys.stdin.read(),
    "signals": [str(signal.getsignal(n)) for n in (2, 10, 12, 15, 17)], "files": len(os.listdir("/proc/self/fd")),
    "mask": os.umask(0), "threads": len(os.listdir("/proc/self/task")), "ours": os.environ.get("POLARCAST_RANKS"),
}))
print("error", file=sys.stderr)
raise SystemExit(3)
"""
CHILD = "import subprocess, sys\nraise SystemExit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)"


def result(run: Callable[..., Any], command: list[str], **options: Any) -> tuple[int, Any, str]:
    done = run([sys.executable, "-c", *command], capture_output=True, text=True, **options)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.mark.parametrize("depth", [0, 1])
def test_a_fork_is_like_a_process_that_was_started(tmp_path: Path, depth: int) -> None:
    command = [CHILD, REPORT] if depth else [REPORT, "an argument"]
    environment = {"VARIABLE": "value", "OMP_NUM_THREADS": "1", **{k: v for k, v in os.environ.items() if k != "HOME"}}
    options = {"cwd": tmp_path, "env": environment, "input": "words", "start_new_session": True}
    started, forked = (result(run, command, **options) for run in (subprocess.run, warm.run))
    assert forked == started
    assert (started[0], started[1]["variable"], started[2]) == (3, "value", "error\n")


def test_a_fork_ends_by_a_signal_and_on_an_error() -> None:
    with warm.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as process:
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    code, _, errors = result(warm.run, ["raise KeyError('reason')"])
    assert (code, errors.splitlines()[-1]) == (1, "KeyError: 'reason'")
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.1)
    code, _, errors = result(warm.run, [CHILD, "import os; os.kill(os.getpid(), 9)"])
    assert (code, errors) == (-signal.SIGKILL & 0xFF, "")


def test_a_fork_has_the_packages() -> None:
    words = "import sys; print(int('torch' in sys.modules))"
    assert result(warm.run, [words]) == (0, 1, "")
