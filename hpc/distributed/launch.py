"""Launch several processes on this machine with torchrun."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from polarcast.hpc.utils.exit_codes import ENDED_EARLY

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: a child of a process with threads must not load libraries.
_LIBC = ctypes.CDLL(None, use_errno=True)


def launch_local(arguments: Sequence[str], processes: int) -> None:
    """Run a polarcast verb as `processes` ranks on this machine.

    Raises:
        SystemExit: a rank failed; carries its exit code. The error message of the rank is on standard error.
    """
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", "polarcast.hpc.cli", *arguments,
    ]  # fmt: skip
    # torchrun prints a warning if this is not set. Each rank sets its own number of threads later.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    # On SIGTERM, torchrun sends SIGTERM to its ranks, which then save.
    process = subprocess.Popen(command, env=environment, preexec_fn=lambda: die_with_parent(signal.SIGTERM))
    signals = _forward_signals(process)
    if code := process.wait():
        raise SystemExit(ENDED_EARLY if signals else code)


def _forward_signals(process: "subprocess.Popen[bytes]") -> list[int]:
    """Forward stop signals to a process; return a list to which received signals are appended."""
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        received.append(number)
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, forward)
    return received


def end_with_launcher(env: Mapping[str, str] = os.environ) -> None:
    """End this process when torchrun ends, if torchrun started it.

    Ranks run in sessions of their own: if the launcher is killed, they would otherwise keep writing to the run folder.
    """
    if "TORCHELASTIC_RUN_ID" in env:
        die_with_parent(signal.SIGKILL)


def die_with_parent(by: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that started it ends (Linux).

    For the `preexec_fn` of a child process, which must be started from a thread that lives as long as the child.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(by), 0, 0, 0)
