"""Let a fork of the server start its own children as forks, too: ranks of a launch, cells of a benchmark, workers."""

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
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from multiprocessing import util
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch

_start = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_start_worker = util.spawnv_passfds
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


def run_to_the_end(program: Sequence[str]) -> NoReturn:
    """Run what `program_of` returned, and end with its exit code, without taking apart what was imported."""
    code: Any = 1
    try:
        run_program(program)
        code = 0
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    _end(code if isinstance(code, int) else int(code is not None))


def fork_children() -> None:
    """Fork the children of this process from now on, while it has no threads."""
    subprocess.Popen._execute_child = _execute_child  # type: ignore[attr-defined]
    util.spawnv_passfds = _spawnv_passfds


def _has_threads() -> bool:
    return len(list(Path("/proc/self/task").iterdir())) > 1


def _spawnv_passfds(path: bytes, args: Sequence[Any], passfds: Iterable[int]) -> int:
    """Start a worker or the fork server of `multiprocessing`, and return its process number."""
    is_worker = "-c" in args[1:2] and "resource_tracker" not in args[2]
    if not is_worker or _has_threads():
        return int(_start_worker(path, args, passfds))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        if not (pid := os.fork()):
            _run_worker(args, sorted({0, 1, 2, *map(int, passfds)}), before)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_worker(args: Sequence[str], kept: Sequence[int], mask: set[signal.Signals]) -> NoReturn:
    """Do what a new Python would do; `multiprocessing` has cleaned up when it returns."""
    code: Any = 1
    try:
        _reset_signals()
        for low, high in pairwise([*kept, os.sysconf("SC_OPEN_MAX")]):
            os.closerange(low + 1, high)
        np.random.seed()  # noqa: NPY002
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        run_program(args[1:])
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _execute_child(process: "subprocess.Popen[Any]", *args: Any, **kwargs: Any) -> None:
    asked = SIGNATURE.bind(process, *args, **kwargs).arguments
    if not is_forkable(asked) or _has_threads():
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
    """Do what a new Python would do, and end. What the parent wants to remove at its own end is left alone."""
    try:
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]
        _reset_signals()
        streams = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        become(streams, asked["cwd"] or os.getcwd(), environment(asked), asked["start_new_session"])
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if asked["preexec_fn"]:
            asked["preexec_fn"]()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        run_to_the_end(program_of(asked))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _end(code: int) -> NoReturn:
    """End as Python does, but for objects that are still in use: they are not deleted."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = 120  # as Python's
    os._exit(code)


def _reset_signals() -> None:
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def become(streams: list[int], folder: str, env: Mapping[str, str], own_session: bool) -> None:
    """Give this fork the streams (-1 keeps one), folder, environment and session of the process that was asked for."""
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
