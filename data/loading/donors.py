"""Donors of a placebo: for each window, a window of another group whose ZDR and KDP replace its own.

A donor is a pure function of a key, so that training resumes exactly, and every rank and reader chooses alike.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from polarcast.data.loading.permute import Indices, Keys, keys_of, uniform

_FIXED, _DRAWN = 0x70_6C_61, 0x64_6F_6E
_UNIT = 2**20
"""Mean weight: they are whole numbers, so that sums are exact. A window without weight has 1; it may be needed."""
_MOST_ATTEMPTS = 10_000
"""Attempts to find a readable donor; with a hundredth of them readable, a thousand fail one time in 23,000."""


class Donors:
    """Random windows of other groups, by weight."""

    def __init__(self, groups: Indices, weights: npt.NDArray[np.float64] | None = None, pools: Indices | None = None):
        """Create the choice of donors.

        Args:
            groups: Group of each window, (windows,); a window and its donor are never of one group.
            weights: Weights of the windows as donors, (windows,); equal by default.
            pools: Pool of each window, (windows,), such as its shard: its donor is of the same pool if that has another
                group. By default, all windows form one pool.

        Raises:
            ValueError: there is one group only.
        """
        if len(np.unique(groups)) < 2:
            raise ValueError("a placebo takes ZDR and KDP from other groups of events, and there is one group only")
        relative = np.ones(len(groups)) if weights is None else weights / weights.mean()
        whole = np.maximum(1, np.rint(_UNIT * relative)).astype(np.int64)
        self._everywhere = _Choice(groups, whole, np.zeros_like(groups))
        self._nearby = None if pools is None else _Choice(groups, whole, pools)

    def of(self, windows: Indices, keys: Keys) -> Indices:
        """Return a donor of each window, (n,), chosen by its key (n,)."""
        donors = self._everywhere.of(windows, keys)
        if self._nearby is None:
            return donors
        return np.where(self._nearby.has_other(windows), self._nearby.of(windows, keys), donors)

    def intact(self, windows: Indices, keys: Keys, is_lost: Callable[[Indices], npt.NDArray[np.bool_]]) -> Indices:
        """Return donors that are not lost; the substitute of a lost one depends on the key only.

        The result is the same whether a lost donor is known before, or found when it is read.

        Raises:
            ValueError: no donor is left for a window.
        """
        donors = self.of(windows, keys)
        for attempt in range(1, _MOST_ATTEMPTS):
            if not (lost := is_lost(donors)).any():
                return donors
            donors[lost] = self.of(windows[lost], keys_of(attempt, keys[lost].view(np.int64)))
        raise ValueError("a placebo takes ZDR and KDP from other groups of events, and none can be read")


class _Choice:
    """Weighted choice within a pool, outside the own group."""

    def __init__(self, groups: Indices, weights: Indices, pools: Indices) -> None:
        self._order = np.lexsort((groups, pools))
        self._ends = np.cumsum(weights[self._order])
        before = np.concatenate([[0], self._ends])
        place = np.argsort(self._order)
        pool, group = pools[self._order], groups[self._order]
        of_pool, of_group = _bounds(pool), _bounds(pool * (1 + group.max()) + group)
        self._pool, self._group = before[of_pool[:, place]], before[of_group[:, place]]

    def has_other(self, windows: Indices) -> npt.NDArray[np.bool_]:
        """Whether the pool of each window has another group."""
        return self._others(windows) > 0

    def of(self, windows: Indices, keys: Keys) -> Indices:
        """Return a window of the pool for each window, not of its group; any window if there is none."""
        begin, (skip, resume) = self._pool[0, windows], self._group[:, windows]
        others = self._others(windows)
        mark = begin + np.minimum((uniform(keys) * others).astype(np.int64), others - 1)
        mark += np.where(mark >= skip, resume - skip, 0)
        found = np.searchsorted(self._ends, mark, side="right")
        return self._order[np.minimum(found, len(self._order) - 1)]

    def _others(self, windows: Indices) -> Indices:
        """Weight of the other groups in the pool of each window."""
        return np.diff(self._pool[:, windows], axis=0)[0] - np.diff(self._group[:, windows], axis=0)[0]


def _bounds(labels: Indices) -> Indices:
    """Return the first place of the run of equal labels around each place, and the place after it, (2, n)."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(labels) != 0]))
    run = np.searchsorted(starts, np.arange(len(labels)), side="right") - 1
    return np.stack([starts[run], np.append(starts[1:], len(labels))[run]])


def fixed_keys(begins: Indices) -> Keys:
    """Return the keys of the fixed donors of windows, given event and first frame (n, 2)."""
    return keys_of(_FIXED, begins[:, 0], begins[:, 1])


def drawn_keys(seed: int, position: Indices) -> Keys:
    """Return the keys of the donors of training samples, given their positions (n,) in the infinite stream."""
    return keys_of(seed, _DRAWN, position)
