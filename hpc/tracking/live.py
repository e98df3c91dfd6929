"""Mirror a run's records while it trains, in a thread, so that no step waits for a tracker."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType

from polarcast.hpc.tracking.mirror import Mirror

SECONDS = 15.0
"""Least time between two updates."""
_PATIENCE = 5.0
"""Seconds that an error waits for an update in progress."""


class LiveMirrors:
    """Context in which mirrors follow the log of a run; at its end, they get the rest and are closed.

    Starting a tracker takes seconds, without a network up to a minute. All calls but the last are therefore made by one
    thread, in order. After an exception nothing more is sent: the next training of the run continues the mirror.
    """

    def __init__(self, mirrors: Sequence[Mirror]) -> None:
        """Follow with `mirrors`; there may be none, as on all ranks but the first."""
        self._mirrors, self._due = mirrors, 0.0
        self._wake, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._follow, name="mirror", daemon=True)

    def __enter__(self) -> "LiveMirrors":
        if self._mirrors:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._mirrors:
            return
        self._ended = True
        self._wake.set()
        if kind is not None:
            self._thread.join(_PATIENCE)
            return
        self._thread.join()
        for mirror in self._mirrors:
            mirror.finish()

    def logged(self) -> None:
        """Tell that a record was logged; it is sent soon. Returns at once."""
        if self._mirrors and time.monotonic() >= self._due:
            self._due = time.monotonic() + SECONDS
            self._wake.set()

    def _follow(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._ended:
                return
            for mirror in self._mirrors:
                mirror.update(is_final=False)
