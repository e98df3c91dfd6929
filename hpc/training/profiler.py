"""Profile a few training steps: a trace for Perfetto, a memory snapshot on GPUs, and a summary in the log.

Open the trace at https://ui.perfetto.dev, and the snapshot at https://pytorch.org/memory_viz; neither is uploaded.
"""

import gzip
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from polarcast.data.files import replacing
from polarcast.hpc.distributed.world import World
from polarcast.hpc.runs.folder import RunFolder

_log = logging.getLogger("polarcast")

FOLDER = "profile"
"""Folder of the profiles inside the run folder."""
_WARM_UP = 3
"""Steps of a process before the first one that is profiled: they allocate memory, and may compile or record."""
_TOP = 10
_MAX_ALLOCATIONS = 100_000
_QUIET = "6"
"""Level of Kineto's messages above all of them, also those that it prints whenever it starts and stops."""
_STEP, _WAIT = "polarcast: step", "polarcast: wait for data"
_EXCHANGE = {True: ("ncclDevKernel", "ncclKernel"), False: ("gloo:",)}
"""Beginnings of the names of exchanges between processes, on GPUs and on CPUs."""


class StepProfile:
    """Context manager that profiles some steps of this rank; without steps, it does nothing.

    A profile that the end of the run cuts short is written, one that an error ends is not.
    """

    def __init__(self, run: RunFolder, world: World, steps: int, first: int, device: torch.device) -> None:
        """Plan the profile.

        Args:
            run: Run folder; every rank writes its own files into it, rank 0 also the summary.
            world: Rank and size of the process group.
            steps: Number of steps to profile; 0: none.
            first: First step of this process, from 0.
            device: Device that computes the steps.
        """
        self._run, self._world, self._steps, self._first = run, world, steps, first + _WARM_UP
        self._on_gpu = device.type == "cuda"
        self._profile: profile | None = None
        self._step: record_function | None = None
        self._begun, self._seconds, self._waited, self._done = 0.0, 0.0, 0.0, 0

    def __enter__(self) -> "StepProfile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if self._profile and kind is None and self._done:
            self._finish()
        elif self._profile:
            self._stop()
        elif self._steps and kind is None and not self._done and self._world.is_first:
            _log.warning("polarcast: no step was profiled: the first %d steps of a process are not", _WARM_UP)

    def begin_step(self, step: int) -> None:
        """Start at step `first` + warm-up; mark the beginning of `step`, from 0."""
        if self._steps and step == self._first:
            self._start()
        if self._profile:
            self._begun = time.perf_counter()
            self._step = record_function(_STEP)
            self._step.__enter__()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark the time within this context as waiting for data."""
        if not self._profile:
            yield
            return
        started = time.perf_counter()
        with record_function(_WAIT):
            yield
        self._waited += time.perf_counter() - started

    def end_step(self) -> None:
        """Mark the end of a step; write the files after the last one."""
        self._end_mark()
        if not self._profile:
            return
        self._done += 1
        if self._done == self._steps:
            self._synchronize()
        # Without the validations and checkpoints between steps.
        self._seconds += time.perf_counter() - self._begun
        if self._done == self._steps:
            self._finish()

    def _start(self) -> None:
        if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            return  # one profiler per process: several runs are trained together here, and another one has it
        if self._on_gpu:
            torch.cuda.memory._record_memory_history(max_entries=_MAX_ALLOCATIONS)
            torch.cuda.synchronize()
        os.environ.setdefault("KINETO_LOG_LEVEL", _QUIET)
        kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * self._on_gpu]
        self._profile = profile(activities=kinds, record_shapes=True, profile_memory=True)
        self._profile.start()

    def _synchronize(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()

    def _end_mark(self) -> None:
        if self._step:
            self._step.__exit__(None, None, None)
            self._step = None

    def _stop(self) -> profile:
        """Stop recording; return the profile."""
        assert self._profile is not None
        self._synchronize()
        self._end_mark()
        finished, self._profile = self._profile, None
        finished.stop()
        if self._on_gpu:
            torch.cuda.memory._record_memory_history(enabled=None)
        return finished

    def _finish(self) -> None:
        """Write the files, and on rank 0 the summary, in the log and on standard error."""
        folder = self._run.path / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        trace = folder / f"step-{self._first + 1:08d}-rank-{self._world.rank}.json.gz"
        if self._on_gpu:
            with replacing(trace.with_name(trace.name.replace(".json.gz", ".memory.pickle"))) as partial:
                torch.cuda.memory._dump_snapshot(str(partial))
        finished = self._stop()
        _write_trace(finished, trace)
        if self._world.is_first:
            found = summary(finished.key_averages(), self._seconds, self._waited, self._done, self._on_gpu)
            self._run.log(event="profile", step=self._first + self._done, trace=f"{FOLDER}/{trace.name}", **found)
            print(described(found, trace), file=sys.stderr, flush=True)


def summary(averages: Sequence[Any], seconds: float, waited: float, steps: int, on_gpu: bool) -> dict[str, Any]:
    """Summarize a profile, as plain values.

    Args:
        averages: Key averages of torch's profiler.
        seconds: Time of all steps, in seconds.
        waited: Time that they waited for data, in seconds.
        steps: Number of steps.
        on_gpu: Whether to rank operators by their time on the GPU instead of that on the CPU.

    Returns:
        Milliseconds per step, shares of waiting and exchange in the time of the steps, and the slowest operators.
        Exchange may overlap with computation.
    """
    times = {entry.key: _microseconds(entry, on_gpu) for entry in averages}
    exchanges = [entry for entry in averages if entry.key.startswith(_EXCHANGE[on_gpu])]
    exchange = sum(float(e.self_device_time_total if on_gpu else e.cpu_time_total) for e in exchanges)
    operators = [entry for entry in averages if not entry.key.startswith("polarcast:") and times[entry.key] > 0]
    operators.sort(key=lambda entry: -times[entry.key])
    total = sum(times[entry.key] for entry in operators) or 1.0
    return {
        "steps": steps,
        "milliseconds": round(1e3 * seconds / steps, 3),
        "waiting": round(waited / seconds, 4),
        "exchange": round(exchange / 1e6 / seconds, 4),
        "operators": [
            {
                "name": entry.key,
                "calls": round(entry.count / steps, 1),
                "milliseconds": round(times[entry.key] / 1e3 / steps, 3),
                "share": round(times[entry.key] / total, 4),
            }
            for entry in operators[:_TOP]
        ],
    }


def described(found: dict[str, Any], trace: Path) -> str:
    """Format a summary as a block of text."""
    lines = [
        f"polarcast: profile of {found['steps']} steps: {found['milliseconds']:.1f} ms a step, "
        f"{found['waiting']:.1%} waiting for data, {found['exchange']:.1%} exchange",
        *(
            f"  {row['share']:6.1%} {row['milliseconds']:9.3f} ms {row['calls']:7.1f} ×  {row['name']}"
            for row in found["operators"]
        ),
        f"  trace: {trace}; open it at https://ui.perfetto.dev",
    ]
    return "\n".join(lines)


def _microseconds(entry: Any, on_gpu: bool) -> float:
    """Return the time of an operator without those that it calls, over all steps, in µs."""
    return float(entry.self_device_time_total if on_gpu else entry.self_cpu_time_total)


def _write_trace(finished: profile, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="polarcast-profile-") as folder:
        plain = Path(folder) / "trace.json"
        finished.export_chrome_trace(str(plain))
        with replacing(path) as partial, plain.open("rb") as source, gzip.open(partial, "wb", 6) as target:
            shutil.copyfileobj(source, target)
