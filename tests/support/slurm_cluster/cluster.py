"""Start, use and end a two-node Slurm cluster in its own namespaces."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
NODES = ("n1", "n2")
_NAMESPACES = ("--net", "--mount", "--pid", "--uts")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PACKAGES = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "munged": "munge", "ip": "iproute2"}
_START_SECONDS = 30
_CLIENT_SECONDS = 20
_LOG_LINES = 15


def what_is_missing() -> str:
    """Return why no cluster can start on this machine, and the fix; empty if one can."""
    if os.geteuid():
        return "a Slurm cluster in namespaces needs root"
    missing = {package for tool, package in _PACKAGES.items() if not shutil.which(tool, path=_SYSTEM_PATH)}
    if missing:
        return f"no {', '.join(sorted(missing))}: apt-get install slurm-wlm munge iproute2"
    if subprocess.run(["unshare", *_NAMESPACES, "--fork", "true"], capture_output=True, timeout=10).returncode:
        return "root is not allowed to create namespaces: start the container with CAP_SYS_ADMIN"
    return ""


@dataclass(frozen=True)
class Cluster:
    """A running cluster. Clients and jobs share the machine's files, but not its network, processes or /run."""

    folder: Path
    """Logs of all daemons, and the /etc/hosts of each node."""
    init: int
    """Host process id of process 1 in the controller's namespaces."""

    def run(self, *command: object, seconds: float = _CLIENT_SECONDS) -> str:
        """Run a command on the controller; return its output. Raise an error with the output if it fails."""
        return self._enter(["timeout", seconds, *command], seconds)

    def run_on(self, node: str, *command: object, seconds: float = _CLIENT_SECONDS) -> str:
        """Run a command on a node; return its output."""
        holder = (self.folder / f"{node}.pid").read_text().strip()
        init = self.run("cat", f"/proc/{holder}/task/{holder}/children").strip()
        return self.run("nsenter", "--all", f"--target={init}", *command, seconds=seconds)

    def submit(self, script: Path, *arguments: object, chdir: Path, options: tuple[str, ...] = ()) -> int:
        """Submit a script; return the job id."""
        return int(self.run("sbatch", "--parsable", "--chdir", chdir, *options, script, *arguments))

    def state(self, job: int) -> str:
        """Return the job state: PENDING, RUNNING, COMPLETED, FAILED, …"""
        return self.run("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job).strip()

    def wait_for(self, job: int, wanted: str, seconds: float) -> None:
        """Wait until a job is in a state. Raise if it ends in another state, or on timeout."""
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) != wanted:
            if state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL") or time.monotonic() > deadline:
                raise AssertionError(f"job {job} is {state}, not {wanted}")
            time.sleep(0.2)

    def task_process(self, job: int, rank: int) -> tuple[str, int]:
        """Return node and process id of a rank of a job's first step. Raise LookupError if it is not running."""
        for node in NODES:
            for line in self.run_on(node, "scontrol", "listpids", f"{job}.0").splitlines()[1:]:
                process, _, _, _, global_rank = line.split()
                if global_rank == str(rank):
                    return node, int(process)
        raise LookupError(f"job {job} has no process of rank {rank}")

    def cut_power(self, node: str) -> None:
        """Kill everything on a node at once, without notifying Slurm."""
        self.run("kill", "-KILL", (self.folder / f"{node}.pid").read_text().strip())

    def start(self, node: str) -> None:
        """Start a node after `cut_power`."""
        self.run(HERE / "start_node.sh", node)

    def restart_controller(self) -> None:
        """Kill slurmctld and restart it from its saved state."""
        self.run("pkill", "-KILL", "slurmctld")
        self.run("slurmctld", "-f", "/run/slurm/slurm.conf")

    def logs(self) -> dict[str, str]:
        """Return the last lines of every daemon's log, by file name."""
        files = sorted(self.folder.glob("*.log"))
        return {f.name: "\n".join(f.read_text(errors="replace").splitlines()[-_LOG_LINES:]) for f in files}

    def _enter(self, command: list[object], seconds: float) -> str:
        enter = ["nsenter", *_NAMESPACES, f"--target={self.init}", *map(str, command)]
        # Don't pass the caller's environment to jobs: a test session that trained something has RANK set.
        env = {"PATH": f"{Path(sys.executable).parent}:{_SYSTEM_PATH}", "HOME": "/root", "LANG": "C.UTF-8"}
        env["SLURM_CONF"] = "/run/slurm/slurm.conf"
        done = subprocess.run(enter, env=env, capture_output=True, text=True, timeout=seconds + 5)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start a two-node Slurm cluster and wait until its nodes are idle.

    It ends with the block. If this process is killed, the pipe to the controller closes, which ends it, too.

    Args:
        folder: Empty folder for the logs.

    Raises:
        RuntimeError: the cluster did not start; the message includes the logs of the daemons.
    """
    namespaces = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--mount-proc"]
    with (folder / "controller.log").open("wb") as log:
        holder = subprocess.Popen(
            [*namespaces, str(HERE / "controller.sh"), str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            # Ctrl-C in the terminal must reach only the tests, which then end the cluster.
            start_new_session=True,
        )
    try:
        yield _when_idle(holder, folder)
    finally:
        try:
            # This closes the pipe, which ends the controller script. It is process 1, so daemons and jobs end with it.
            holder.communicate(timeout=10)
        finally:
            holder.kill()


def _when_idle(holder: subprocess.Popen[bytes], folder: Path) -> Cluster:
    deadline = time.monotonic() + _START_SECONDS
    found: Cluster | None = None
    while time.monotonic() < deadline and holder.poll() is None:
        time.sleep(0.1)
        if found is None and (folder / "controller.log").read_text().endswith("up\n"):
            children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text()
            found = Cluster(folder, int(children.split()[0]))
        if found and _count_idle(found) == len(NODES):
            return found
    logs = "\n".join(f"--- {name}\n{text}" for name, text in (found or Cluster(folder, 0)).logs().items())
    raise RuntimeError(f"the cluster did not start within {_START_SECONDS} s\n{logs}")


def _count_idle(cluster: Cluster) -> int:
    try:
        nodes = cluster.run("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N %t", seconds=5)
    except RuntimeError:  # slurmctld does not respond yet
        return 0
    # sinfo lists a node once per partition.
    return len(set(re.findall(r"^\S+ idle$", nodes, re.MULTILINE)))
