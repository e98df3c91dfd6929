"""Let a fork of the server start its own children as forks, too: ranks of a launch, cells of a benchmark."""

import atexit
import inspect
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch

_start = subprocess.Popen._execute_child  # type: ignore[attr-defined]
SIGNATURE = inspect.signature(_start)
_UNUSUAL = ("executable", "pass_fds", "shell", "gid", "gids", "uid")
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_")
"""Prefixes of variables that Python or its libraries read when they start, too early for a fork."""


def is_forkable(asked: Mapping[str, Any]) -> bool:
    """Return whether a process that has imported the packages can be forked instead of starting Python."""
    command = asked["args"]
    if not isinstance(command, list) or any(asked.get(name) for name in _UNUSUAL):
        return False
    words = [str(word) for word in command if word != "-P"]
    if words[0] != sys.executable or words[1] not in ("-c", "-m"):
        return False
    is_ours = words[1] == "-c" or words[2].startswith(("polarcast.", "tests.support."))
    return is_ours and _early(environment(asked)) == _early(os.environ)


def environment(asked: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment of the process that was asked for."""
    return dict(os.environ if asked["env"] is None else asked["env"])


def _early(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_READ_AT_START)}


def program_of(asked: Mapping[str, Any]) -> list[str]:
    """Return `-c`, the code and its arguments, or `-m`, the module and its arguments."""
    return [str(word) for word in asked["args"][1:] if word != "-P"]


def run_program(program: Sequence[str]) -> None:
    """Run what `program_of` returned as the main module of this process."""
    kind, text, *sys.argv[1:] = program
    if kind == "-m":
        runpy.run_module(text, run_name="__main__", alter_sys=True)
        return
    sys.argv[0], sys.path[0] = "-c", ""
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(text, "<string>", "exec"), main.__dict__)


def fork_children() -> None:
    """Fork the children of this process from now on, while it has no threads."""
    subprocess.Popen._execute_child = _execute_child  # type: ignore[attr-defined]


def _execute_child(process: "subprocess.Popen[Any]", *args: Any, **kwargs: Any) -> None:
    asked = SIGNATURE.bind(process, *args, **kwargs).arguments
    if not is_forkable(asked) or len(list(Path("/proc/self/task").iterdir())) > 1:
        _start(process, *args, **kwargs)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal must not find the handlers of the parent in the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        process.pid = os.fork()
        if not process.pid:
            _run_child(asked, before)
        process._child_created = True  # type: ignore[attr-defined]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        process._close_pipe_fds(*(asked[name] for name in pipes))  # type: ignore[attr-defined]


def _run_child(asked: Mapping[str, Any], mask: set[signal.Signals]) -> NoReturn:
    """Do what a new Python would do, and end."""
    code: Any = 1
    try:
        _reset_signals()
        streams = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        become(streams, asked["cwd"] or os.getcwd(), environment(asked), asked["start_new_session"])
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if asked["preexec_fn"]:
            asked["preexec_fn"]()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        run_program(program_of(asked))
        code = 0
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        _end(code if isinstance(code, int) else int(code is not None))


def _end(code: int) -> NoReturn:
    """End as Python does, but leave alone what the parent wants to remove at its own end."""
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _reset_signals() -> None:
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def become(streams: list[int], folder: str, env: Mapping[str, str], own_session: bool) -> None:
    """Give this fork the streams (-1 keeps one), folder, environment and session of the process that was asked for."""
    import numpy as np

    for number, stream in enumerate(streams):
        if stream not in (-1, number):
            os.dup2(stream, number)
    if own_session:
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = os.getcwd()
    _open_streams()
    np.random.seed()  # noqa: NPY002
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))


def _open_streams() -> None:
    """Open the standard streams of Python anew: those of the parent may be files, and these pipes."""
    import io

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, f"__{name}__")
        buffering = 0 if old.write_through and number else -1
        raw: Any = open(number, "wb" if number else "rb", buffering=buffering, closefd=False)  # noqa: SIM115
        text = io.TextIOWrapper(raw, old.encoding, old.errors, None, number == 2 or raw.isatty(), old.write_through)
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
