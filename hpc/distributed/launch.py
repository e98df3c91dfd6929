"""Several processes on this machine, through torchrun."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from polarcast.data.workers import end_with_parent
from polarcast.hpc.utils.exit_codes import ENDED_EARLY


def launch_local(arguments: Sequence[str], processes: int) -> None:
    """Run a polarcast verb as `processes` ranks on this machine.

    Raises:
        SystemExit: a rank failed; carries its exit code, its own words are on standard error.
    """
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", "polarcast.hpc.cli", *arguments,
    ]  # fmt: skip
    # torchrun says aloud that it sets this where nobody has; each rank takes its share of the cores anyway.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    # torchrun ends its ranks when it is asked to end: by SIGTERM, at which they save.
    process = subprocess.Popen(command, env=environment, preexec_fn=lambda: end_with_parent(signal.SIGTERM))
    asked = _handed_on(process)
    if code := process.wait():
        raise SystemExit(ENDED_EARLY if asked else code)


def _handed_on(process: "subprocess.Popen[bytes]") -> list[int]:
    """The signals that ask this process to stop, which are handed on to another; a list that grows as they come."""
    seen: list[int] = []

    def hand_on(number: int, _: FrameType | None) -> None:
        seen.append(number)
        process.terminate()

    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, hand_on)
    return seen


def end_with_launcher(env: Mapping[str, str] = os.environ) -> None:
    """End this process, if torchrun has started it, whatever way torchrun ends.

    Ranks are sessions of their own: a SIGKILL for the launcher's would leave them at work in the run's folder.
    """
    if "TORCHELASTIC_RUN_ID" in env:
        end_with_parent(signal.SIGKILL)
