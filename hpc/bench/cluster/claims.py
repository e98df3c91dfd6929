"""Claims on pieces of a suite's work, so that no two processes do one twice, on any node."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.files import has_writer, sole_writer
from polarcast.hpc.bench.cluster.plan import CLUSTER

_CLAIMS = "claims"
_POLL_SECONDS = 2.0
_log = logging.getLogger("polarcast")


def claim_of(suite: Path, name: str) -> Path:
    """Return the claim on a piece of work of a suite: a run folder by its name, `data` or `tables`."""
    return suite / CLUSTER / _CLAIMS / name


def is_claimed(suite: Path, name: str) -> bool:
    """Return whether a process works on a piece."""
    claim = claim_of(suite, name)
    return claim.is_dir() and has_writer(claim)


def claimed_in(suite: Path) -> list[str]:
    """Return the names of the pieces that processes work on."""
    folder = suite / CLUSTER / _CLAIMS
    return [claim.name for claim in sorted(folder.glob("*")) if is_claimed(suite, claim.name)]


@contextmanager
def claimed(claims: Sequence[Path]) -> Iterator[None]:
    """Hold the claims on pieces of work; wait for another process that holds one."""
    with ExitStack() as held:
        for claim in sorted(claims):
            held.enter_context(_claim(claim))
        yield


@contextmanager
def _claim(claim: Path) -> Iterator[None]:
    claim.mkdir(parents=True, exist_ok=True)
    is_told = False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(sole_writer(claim))
                break
            except BadInput:
                if not is_told:
                    _log.warning("polarcast: %s is run by another process — waiting for it", claim.name)
                is_told = True
                time.sleep(_POLL_SECONDS)
        yield
