"""Heartbeat of all ranks: end a run that hangs, and report which rank on which host stopped, and where.

Each rank writes its progress to a key-value store on rank 0. If no rank makes progress for a while, or a rank sends no
heartbeat, rank 0 reports the rank that is behind; the other ranks only wait for it.
"""

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.world import World

DATA, STEP, VALIDATION = "waiting for data", "in the step", "in validation"
_ORDER = (DATA, STEP, VALIDATION)
_CHECKS = 6
"""Checks per timeout."""

Beat = dict[str, Any]


class Heartbeat:
    """Context manager that monitors the progress of all ranks; the training loop reports progress with `at`."""

    def __init__(self, world: World, seconds: float, on_hang: Callable[[str], None]) -> None:
        """End the run after `seconds` without progress; 0 disables this.

        The rank that detects the hang first calls `on_hang` with the reason.
        """
        self._world, self._seconds, self._on_hang = world, seconds, on_hang
        self._at: Beat = {"ticks": 0, "step": 0, "phase": DATA, "host": socket.gethostname()}
        self._ended = threading.Event()
        self._hosts: list[str] = []
        self._store: Any = None

    def __enter__(self) -> "Heartbeat":
        if self._seconds and self._world.size > 1:
            self._hosts = gather(self._at["host"], self._world)
            self._store = _store(self._world, self._seconds)
            self._publish(0)
            gather(None, self._world)  # every rank must publish before rank 0 reads
            threading.Thread(target=self._watch, daemon=True, name="heartbeat").start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()

    def at(self, step: int, phase: str) -> None:
        """Record the progress of this rank: the current step, and the phase that it enters."""
        self._at = {**self._at, "ticks": self._at["ticks"] + 1, "step": step, "phase": phase}

    def _watch(self) -> None:
        detector = HangDetector(self._seconds, time.monotonic)
        beats, stuck_since, ticks = 0, time.monotonic(), -1
        while not self._ended.wait(self._seconds / _CHECKS):
            beats += 1
            if self._at["ticks"] != ticks:
                ticks, stuck_since = self._at["ticks"], time.monotonic()
            elif time.monotonic() - stuck_since > self._seconds - self._seconds / _CHECKS:
                faulthandler.dump_traceback(sys.stderr)  # stacks of all threads of this rank
                stuck_since = float("inf")
            verdict = self._exchange(beats, detector)
            if verdict and not self._ended.is_set():
                self._on_hang(verdict)
                os._exit(1)

    def _exchange(self, beats: int, detector: "HangDetector") -> str:
        try:
            self._publish(beats)
            if not self._world.is_first:
                return ""
            return detector.verdict({r: json.loads(self._store.get(str(r))) for r in range(self._world.size)})
        except (RuntimeError, OSError):  # raised by torch.distributed: the store does not respond
            # Only rank 1 reports this. If rank 0 has exited, the job has ended as well.
            return f"rank 0 on {self._hosts[0]} has stopped: it does not respond" if self._world.rank == 1 else ""

    def _publish(self, beats: int) -> None:
        self._store.set(str(self._world.rank), json.dumps({**self._at, "beats": beats}))


class HangDetector:
    """Find the rank that hangs, from repeated heartbeats of all ranks."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """Report a hang after `seconds` without progress or without a heartbeat, measured by `clock`."""
        self._seconds, self._clock = seconds, clock
        self._beat_at: dict[int, tuple[int, float]] = {}
        self._ticks: dict[int, int] = {}
        self._moved = self._checked = clock()

    def verdict(self, beats: Mapping[int, Beat]) -> str:
        """Return which ranks have stopped, and where; empty if there is no hang."""
        now = self._clock()
        if now - self._checked > self._seconds / 2:
            # This process did not run either: the job was suspended and resumed.
            self._moved, self._beat_at = now, {r: (n, now) for r, (n, _) in self._beat_at.items()}
        self._checked = now
        for rank, beat in beats.items():
            if self._beat_at.get(rank, (-1, 0))[0] != beat["beats"]:
                self._beat_at[rank] = (beat["beats"], now)
            if self._ticks.get(rank) != beat["ticks"]:
                self._ticks[rank], self._moved = beat["ticks"], now
        silent = [r for r, (_, since) in self._beat_at.items() if now - since > self._seconds]
        if silent:
            return "; ".join(
                f"{_where(r, beats[r])}, and has sent no heartbeat for {self._seconds:g} s" for r in silent
            )
        return self._behind(beats) if now - self._moved > self._seconds else ""

    def _behind(self, beats: Mapping[int, Beat]) -> str:
        position = {r: (beat["step"], _ORDER.index(beat["phase"])) for r, beat in beats.items()}
        first = min(position.values())
        behind = [r for r in sorted(beats) if position[r] == first]
        if len(behind) == len(beats):
            where = f"step {beats[0]['step']}, {beats[0]['phase']}"
            return f"all ranks have been at {where}, for {self._seconds:g} s: check the network between them"
        return (
            "; ".join(_where(r, beats[r]) for r in behind)
            + f", and the others have waited for it for {self._seconds:g} s"
        )


def _where(rank: int, beat: Beat) -> str:
    return f"rank {rank} on {beat['host']} has stopped at step {beat['step']}, {beat['phase']}"


def _store(world: World, seconds: float) -> Any:
    """Open a key-value store on rank 0, at a port chosen by the system."""
    mine = TCPStore("0.0.0.0", 0, is_master=True, wait_for_workers=False) if world.is_first else None
    port = gather(mine.port if mine else 0, world)[0]
    timeout = timedelta(seconds=seconds)
    return mine or TCPStore(world.address, port, wait_for_workers=False, timeout=timeout)
