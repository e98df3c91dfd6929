"""A heartbeat of all ranks: a run that hangs ends, and says which rank on which host stopped, and where.

Each rank tells a small store that rank 0 keeps how far it has come. Rank 0 looks at all of them: when nobody has come
further for a while, or one is silent, it names the one that is behind the others, who only wait for it.
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
_LOOKS = 6
"""In the time that is given to make progress."""

Beat = dict[str, Any]


class Heartbeat:
    """Told by the training loop how far it is; watches, while entered, that all go on."""

    def __init__(self, world: World, seconds: float, on_hang: Callable[[str], None]) -> None:
        """`seconds` without progress end the run, 0 for never; `on_hang` is called with why, on the rank that notices."""
        self._world, self._seconds, self._on_hang = world, seconds, on_hang
        self._at: Beat = {"ticks": 0, "step": 0, "phase": DATA, "host": socket.gethostname()}
        self._ended = threading.Event()
        self._hosts: list[str] = []
        self._store: Any = None

    def __enter__(self) -> "Heartbeat":
        if self._seconds and self._world.size > 1:
            self._hosts = gather(self._at["host"], self._world)
            self._store = _store(self._world, self._seconds)
            self._say(0)
            gather(None, self._world)  # all have spoken before anyone listens
            threading.Thread(target=self._watch, daemon=True, name="heartbeat").start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()

    def at(self, step: int, phase: str) -> None:
        """This rank has come so far: the number of the step, and what it begins to do in it."""
        self._at = {**self._at, "ticks": self._at["ticks"] + 1, "step": step, "phase": phase}

    def _watch(self) -> None:
        detector = HangDetector(self._seconds, time.monotonic)
        beats, stuck_since, ticks = 0, time.monotonic(), -1
        while not self._ended.wait(self._seconds / _LOOKS):
            beats += 1
            if self._at["ticks"] != ticks:
                ticks, stuck_since = self._at["ticks"], time.monotonic()
            elif time.monotonic() - stuck_since > self._seconds - self._seconds / _LOOKS:
                faulthandler.dump_traceback(sys.stderr)  # where every thread of this rank is
                stuck_since = float("inf")
            verdict = self._exchange(beats, detector)
            if verdict and not self._ended.is_set():
                self._on_hang(verdict)
                os._exit(1)

    def _exchange(self, beats: int, detector: "HangDetector") -> str:
        try:
            self._say(beats)
            if not self._world.is_first:
                return ""
            return detector.verdict({r: json.loads(self._store.get(str(r))) for r in range(self._world.size)})
        except (RuntimeError, OSError):  # of torch.distributed: the store does not answer
            # One deputy is enough to on_hang, and a rank 0 that has ended has ended the job, too.
            return f"rank 0 on {self._hosts[0]} has stopped: it does not answer" if self._world.rank == 1 else ""

    def _say(self, beats: int) -> None:
        self._store.set(str(self._world.rank), json.dumps({**self._at, "beats": beats}))


class HangDetector:
    """Finds who is to blame, from what each rank says of itself again and again."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """For ranks that may be without progress, or silent, for so many seconds."""
        self._seconds, self._clock = seconds, clock
        self._beat_at: dict[int, tuple[int, float]] = {}
        self._ticks: dict[int, int] = {}
        self._moved = self._looked = clock()

    def verdict(self, beats: Mapping[int, Beat]) -> str:
        """Who has stopped, and where; empty while all is well."""
        now = self._clock()
        if now - self._looked > self._seconds / 2:  # it was stopped itself: the job was suspended, and has come back
            self._moved, self._beat_at = now, {r: (n, now) for r, (n, _) in self._beat_at.items()}
        self._looked = now
        for rank, beat in beats.items():
            if self._beat_at.get(rank, (-1, 0))[0] != beat["beats"]:
                self._beat_at[rank] = (beat["beats"], now)
            if self._ticks.get(rank) != beat["ticks"]:
                self._ticks[rank], self._moved = beat["ticks"], now
        silent = [r for r, (_, since) in self._beat_at.items() if now - since > self._seconds]
        if silent:
            return "; ".join(f"{_where(r, beats[r])} and has been silent for {self._seconds:g} s" for r in silent)
        return self._behind(beats) if now - self._moved > self._seconds else ""

    def _behind(self, beats: Mapping[int, Beat]) -> str:
        position = {r: (beat["step"], _ORDER.index(beat["phase"])) for r, beat in beats.items()}
        first = min(position.values())
        behind = [r for r in sorted(beats) if position[r] == first]
        if len(behind) == len(beats):
            where = f"step {beats[0]['step']}, {beats[0]['phase']}"
            return f"all ranks have been at {where}, for {self._seconds:g} s: does the network between them work?"
        return "; ".join(_where(r, beats[r]) for r in behind) + f", and the others wait for it: {self._seconds:g} s"


def _where(rank: int, beat: Beat) -> str:
    return f"rank {rank} on {beat['host']} has stopped at step {beat['step']}, {beat['phase']}"


def _store(world: World, seconds: float) -> Any:
    """A key-value store that rank 0 keeps, at a port that the system gives it."""
    mine = TCPStore("0.0.0.0", 0, is_master=True, wait_for_workers=False) if world.is_first else None
    port = gather(mine.port if mine else 0, world)[0]
    timeout = timedelta(seconds=seconds)
    return mine or TCPStore(world.address, port, wait_for_workers=False, timeout=timeout)
