"""Start processes such as the command `polarcast` without waiting for their imports.

`Popen` and `run` are those of `subprocess`. A command `python -m MODULE …` or `python -c CODE …` starts as a fork of a
process that has imported the packages (see `fork_server`); anything else starts as usual. What a process imports, and
how it starts, can't be tested with this: use `subprocess` there.
"""

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polarcast.hpc.distributed.launch import die_with_parent
from tests.support.forked_children import SIGNATURE, environment, is_forkable, program_of

PROJECT = Path(__file__).resolve().parents[2]
ADDRESS = "POLARCAST_TEST_FORK_SERVER"
_SERVER = {
    # A process with threads must not fork: none for linear algebra, and none that tidies the memory of Arrow.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "DS_ACCELERATOR": "cpu",
}


def polarcast(*arguments: object) -> list[str]:
    """Return the command that runs `polarcast` with these arguments."""
    return [sys.executable, "-m", "polarcast.hpc.cli", *map(str, arguments)]


@contextmanager
def fork_server(folder: Path) -> Iterator[None]:
    """Offer a fork server to this process and its children; it imports the packages when it is first used."""
    address = str(folder / "forks")
    command = [sys.executable, "-m", "tests.support.fork_server", address]
    server = subprocess.Popen(command, cwd=PROJECT, env={**os.environ, **_SERVER}, preexec_fn=die_with_parent)
    os.environ[ADDRESS] = address
    try:
        yield
    finally:
        del os.environ[ADDRESS]
        server.kill()
        server.wait()


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen`, by a fork of the server where that is the same."""

    _caller: socket.socket | None = None

    def _execute_child(self, *args: Any, **kwargs: Any) -> None:
        asked = SIGNATURE.bind(self, *args, **kwargs).arguments
        if ADDRESS not in os.environ or asked["preexec_fn"] or not is_forkable(asked):
            super()._execute_child(*args, **kwargs)  # type: ignore[misc]
            return
        ends = {name: asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")}
        caller = _connected(os.environ[ADDRESS])
        try:
            streams = [
                ends[name] if ends[name] != -1 else i for i, name in enumerate(("p2cread", "c2pwrite", "errwrite"))
            ]
            socket.send_fds(caller, [_request(asked)], streams)
            answer = caller.recv(4)
            if not answer:
                raise OSError("the fork server could not start a process; see its messages above")
            self.pid, self._caller = struct.unpack("i", answer)[0], caller
            self._child_created = True
        finally:
            self._close_pipe_fds(*ends.values())  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._caller is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc, no-any-return]
        if wait_flags == os.WNOHANG and not select.select([self._caller], [], [], 0)[0]:
            return 0, 0
        with self._caller:
            status = self._caller.recv(4)
        # The server has died, or was told of no end.
        return self.pid, struct.unpack("i", status)[0] if status else 1 << 8

    def _internal_poll(self, *args: Any, **kwargs: Any) -> int | None:
        if self._caller is None:
            return super()._internal_poll(*args, **kwargs)  # type: ignore[misc, no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def run(
    command: list[str],
    *,
    input: str | bytes | None = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> "subprocess.CompletedProcess[Any]":
    """See `subprocess.run`."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
        done = subprocess.CompletedProcess(command, process.wait(), out, err)
    if check:
        done.check_returncode()
    return done


def _request(asked: Mapping[str, Any]) -> bytes:
    [umask] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "Umask" in line]
    return json.dumps(
        {
            "program": program_of(asked),
            "env": environment(asked),
            "cwd": os.path.abspath(asked["cwd"] or os.getcwd()),
            "umask": int(umask, 8) if asked["umask"] == -1 else asked["umask"],
            "start_new_session": asked["start_new_session"],
        }
    ).encode()


def _connected(address: str) -> socket.socket:
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    deadline = time.monotonic() + 60
    while True:
        try:
            caller.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline, "the fork server did not start"
            time.sleep(0.01)
        else:
            return caller
