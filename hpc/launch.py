"""Several processes on this machine, through torchrun."""

import subprocess
import sys
from collections.abc import Sequence


def launch_local(arguments: Sequence[str], processes: int) -> None:
    """Run a polarcast verb as `processes` ranks on this machine.

    Raises:
        SystemExit: a rank failed; carries its exit code, its own words are on standard error.
    """
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", "polarcast.hpc.cli", *arguments,
    ]  # fmt: skip
    code = subprocess.run(command).returncode
    if code:
        raise SystemExit(code)
