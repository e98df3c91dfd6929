"""Heartbeat of all ranks: end a run that hangs, and report which rank on which host stopped, and where.

Each rank writes its progress to a key-value store. If no rank makes progress for a while, or a rank sends no heartbeat,
rank 0 reports the rank that is behind; the other ranks only wait for it. If rank 0 sends none, rank 1 reports it.

Strangers may reach the store of a job, so heartbeats are signed; others are ignored.
"""

import faulthandler
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from polarcast.hpc.distributed.network_interface import address_to_listen_on
from polarcast.hpc.distributed.process_group import gather
from polarcast.hpc.distributed.rendezvous import file_store, serve, visit
from polarcast.hpc.distributed.signed_store import SignedStore
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
        self._store: Any = None
        self._beats: dict[int, Beat] = {}

    def __enter__(self) -> "Heartbeat":
        if self._seconds and self._world.size > 1:
            self._beats = dict(enumerate(gather({**self._at, "beats": 0}, self._world)))
            token = gather(secrets.token_hex(), self._world)[0]
            self._store = SignedStore(_store(self._world, self._seconds), token)
            self._publish(0)
            gather(None, self._world)  # every rank must publish before another reads
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
        """Publish a heartbeat and read those of others; return the hang that rank 0 finds, or rank 1 for rank 0."""
        try:
            self._publish(beats)
            self._read()
        except (RuntimeError, OSError):  # raised by torch.distributed: the store does not respond
            return self._first_is_gone
        if self._world.is_first:
            return detector.verdict(self._beats)
        return self._first_is_gone if self._world.rank == 1 and detector.silence({0: self._beats[0]}) else ""

    @property
    def _first_is_gone(self) -> str:
        # Only rank 1 reports this. If rank 0 has exited, the job has ended as well.
        host = self._beats[0]["host"]
        return f"rank 0 on {host} has stopped: it does not respond" if self._world.rank == 1 else ""

    def _publish(self, beats: int) -> None:
        self._store.write(self._world.rank, {**self._at, "beats": beats})

    def _read(self) -> None:
        """Read the heartbeats that this rank watches; keep the last one of a rank whose record was replaced."""
        for rank in {0: range(self._world.size), 1: range(1)}.get(self._world.rank, ()):
            self._beats[rank] = self._store.read(rank) or self._beats[rank]


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
        if silence := self.silence(beats):
            return silence
        now = self._clock()
        for rank, beat in beats.items():
            if self._ticks.get(rank) != beat["ticks"]:
                self._ticks[rank], self._moved = beat["ticks"], now
        return self._behind(beats) if now - self._moved > self._seconds else ""

    def silence(self, beats: Mapping[int, Beat]) -> str:
        """Return which ranks have sent no heartbeat for too long; empty if all have."""
        now = self._clock()
        if now - self._checked > self._seconds / 2:
            # This process did not run either: the job was suspended and resumed.
            self._moved, self._beat_at = now, {r: (n, now) for r, (n, _) in self._beat_at.items()}
        self._checked = now
        for rank, beat in beats.items():
            if self._beat_at.get(rank, (-1, 0))[0] != beat["beats"]:
                self._beat_at[rank] = (beat["beats"], now)
        silent = [rank for rank, (_, since) in self._beat_at.items() if now - since > self._seconds]
        lasting = f"and has sent no heartbeat for {self._seconds:g} s"
        return "; ".join(f"{_where(rank, beats[rank])}, {lasting}" for rank in silent)

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
    """Open a key-value store: a file of a local launch, or one of rank 0, at a port chosen by the system."""
    if world.folder:
        return file_store(world, "heartbeat")
    mine = serve(world, 0, seconds) if world.is_first else None
    here = address_to_listen_on(world) or world.address
    address, port = gather((here, mine.port if mine else 0), world)[0]
    return mine or visit(address, port, seconds)
