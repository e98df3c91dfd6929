"""Launcher of local ranks, with small real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from polarcast.data.errors import WorkFailed
from polarcast.hpc.distributed import launch
from polarcast.hpc.distributed.launch import launch_local, run_ranks
from polarcast.hpc.utils.exit_codes import ENDED_EARLY

SLEEP = "import time; time.sleep(60)"
HANG = """
import os, signal, time
from polarcast.hpc.distributed.heartbeat import STEP, Heartbeat
from polarcast.hpc.distributed.process_group import join
from polarcast.hpc.distributed.world import detect
world = detect()
join(world)
with Heartbeat(world, 3, lambda reason: print(reason, file=open(2, "w", closefd=False), flush=True)) as heartbeat:
    heartbeat.at(1, STEP)
    if world.is_first:
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def ready(folder: Path) -> str:
    """Return code with which a rank says that it is ready for a signal."""
    return f"import os, pathlib\npathlib.Path({str(folder)!r}, 'ready-' + os.environ['RANK']).touch()\n"


def send_when_ready(folder: Path, number: signal.Signals) -> None:
    """Send this process a signal when two ranks are ready for it, from a thread."""

    def send() -> None:
        while len(list(folder.glob("ready-*"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


def test_ranks_know_their_world_and_share_a_private_folder(tmp_path: Path) -> None:
    code = (
        "import json, os, pathlib, sys\n"
        "place = os.environ['POLARCAST_RANKS']; mode = os.stat(place).st_mode & 0o777\n"
        "known = [os.environ[n] for n in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE')]\n"
        f"pathlib.Path({str(tmp_path)!r}, known[0]).write_text(json.dumps([*known, place, mode]))"
    )
    assert run_ranks(python(code), 2) == (0, [])
    zero, one = (json.loads((tmp_path / name).read_text()) for name in "01")
    assert (zero[:4], one[:4]) == (["0", "2", "0", "2"], ["1", "2", "1", "2"])
    assert zero[4] == one[4]
    assert zero[5] == 0o700
    assert not Path(zero[4]).exists()


def test_failed_rank_ends_the_others_with_its_exit_code(tmp_path: Path) -> None:
    code = f"import os, sys, time\nif os.environ['RANK'] == '1': sys.exit('the reason')\n{SLEEP}"
    began = time.monotonic()
    with (tmp_path / "errors").open("w+b") as errors:
        assert run_ranks(python(code), 3, stderr=errors) == (1, [])
    assert time.monotonic() - began < 5
    assert (tmp_path / "errors").read_text() == "the reason\n"


def test_rank_that_ignores_its_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_SECONDS_TO_END", 0.2)
    code = (
        "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"if os.environ['RANK'] == '0': time.sleep(0.5); sys.exit(3)\n{SLEEP}"
    )
    began = time.monotonic()
    assert run_ranks(python(code), 2) == (3, [])
    assert time.monotonic() - began < 5


def test_killed_rank_is_the_cause_of_the_errors_of_others() -> None:
    code = f"import os, time\nif os.environ['RANK'] == '1': os.kill(os.getpid(), 9)\n{SLEEP}"
    assert run_ranks(python(code), 2) == (-signal.SIGKILL, [])


def test_rank_ended_by_a_signal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "run_ranks", lambda *_: (-signal.SIGKILL, []))
    with pytest.raises(WorkFailed, match="a rank was ended by SIGKILL"):
        launch_local(["train"], 2)


def test_rank_that_saved_does_not_end_the_others_while_they_save(tmp_path: Path) -> None:
    code = (
        f"import os, pathlib, sys, time\nif os.environ['RANK'] == '1': sys.exit({ENDED_EARLY})\n"
        f"time.sleep(0.5); pathlib.Path({str(tmp_path)!r}, 'saved').touch(); sys.exit({ENDED_EARLY})"
    )
    assert run_ranks(python(code), 2) == (ENDED_EARLY, [])
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_signals_reach_the_ranks_as_a_request_to_save(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import os, pathlib, signal, sys, time\n"
        "def save(*_):\n"
        f"    pathlib.Path({str(tmp_path)!r}, 'saved-' + os.environ['RANK']).touch(); sys.exit({ENDED_EARLY})\n"
        f"signal.signal(signal.SIGTERM, save)\n{ready(tmp_path)}{SLEEP}"
    )

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        send_when_ready(tmp_path, number)
        assert run_ranks(python(code), 2) == (ENDED_EARLY, [number])
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(p.name for p in tmp_path.glob("saved-*")) == ["saved-0", "saved-1"]


def test_ranks_end_with_a_killed_launcher(tmp_path: Path) -> None:
    rank = f"import os, pathlib\npathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n{SLEEP}"
    start = f"from polarcast.hpc.distributed.launch import run_ranks\nrun_ranks({python(rank)!r}, 2)"
    launcher = subprocess.Popen(python(start), start_new_session=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    deadline = time.monotonic() + 30
    while len(ranks := [int(p.name) for p in tmp_path.iterdir() if p.name.isdigit()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    launcher.kill()
    launcher.wait()
    while any(is_running(pid) for pid in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ranks_that_ignore_a_signal_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SECONDS_TO_SAVE", "_SECONDS_TO_END"):
        monkeypatch.setattr(launch, name, 0.2)
    code = f"import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\n{ready(tmp_path)}{SLEEP}"
    send_when_ready(tmp_path, signal.SIGTERM)
    with pytest.raises(WorkFailed, match=r"did not end within 0\.2 s, and were killed"):
        run_ranks(python(code), 2)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_rank_that_hangs_ends_after_its_launcher() -> None:
    rank = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "from polarcast.hpc.distributed import launch\n"
        "launch._SECONDS_TO_SAVE = launch._SECONDS_BETWEEN_LOOKS = 0.1\nlaunch.end_with_launcher()\n"
        f"print('ready', flush=True)\n{SLEEP}"
    )
    start = (
        f"from polarcast.hpc.distributed.launch import run_ranks\nimport os, tempfile\nrun_ranks({python(rank)!r}, 1)"
    )
    launcher = subprocess.Popen(python(start), stdout=subprocess.PIPE, start_new_session=True)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == b"ready\n"
    launcher.kill()
    assert launcher.stdout.read() == b""  # the rank has closed it
    launcher.wait()


@pytest.mark.multiprocess
def test_rank_0_that_hangs_ends_a_local_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_SECONDS_TO_END", 0.2)
    with (tmp_path / "errors").open("w+b") as errors:
        assert run_ranks(python(HANG), 2, stderr=errors) == (1, [])
    assert "has stopped: it does not respond" in (tmp_path / "errors").read_text()
