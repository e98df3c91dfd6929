"""Play the game of one run: score sums of every coalition, and attributions of the forecast."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.loading.reader import Reader
from polarcast.hpc.evaluation.evaluate import window_sums
from polarcast.hpc.evaluation.scorers import scored
from polarcast.hpc.evaluation.shapley.background import Block, Indices, radars_of
from polarcast.hpc.evaluation.shapley.coalitions import CoalitionForecasts, Explained, add_shares
from polarcast.hpc.evaluation.shapley.players import Players
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.records import Records

_ROUNDING = 1e-13
_PROBED = 8
"""Windows, of different groups, on which a forecast is tried for random numbers."""

OnPair = Callable[[], None]
Picked = Mapping[int, npt.NDArray[np.float64]]
"""Uniform random numbers of the pixels that a window shows, (k,), by its number."""


@dataclass(frozen=True)
class GamePlan:
    """What is computed of each run, the same for all runs.

    Attributes:
        players: The players.
        blocks: Windows with their donors.
        scores: Scores whose sums are kept.
        protocol: Coordinates of the scores.
        picked: Pixels to show.
    """

    players: Players
    blocks: Sequence[Block] = field(repr=False)
    scores: Sequence[Score]
    protocol: Protocol = field(repr=False)
    picked: Picked = field(repr=False)

    @property
    def windows(self) -> Indices:
        """Windows explained, in the order of all results, (w,)."""
        return np.concatenate([block.windows for block in self.blocks])

    @property
    def pairs(self) -> int:
        """Number of units of work: complementary coalitions of a block."""
        return len(self.blocks) * self.players.coalitions // 2


@dataclass(frozen=True)
class RunValues:
    """Results of one run.

    Attributes:
        sums: Sums of each score by window and coalition, (w, 2^n, s), in the order of `GamePlan.scores`.
        absolute: Sum of |attribution| over the pixels with echo, by window and player, and the number of these pixels
            of the forecast, (w, n + 1).
        values: Attributions at the pixels picked, (n, k).
        features: Mean of each player's fields there, (n, k).
    """

    sums: list[Array]
    absolute: Array
    values: Array
    features: Array


def values_of_run(
    forecasts: CoalitionForecasts, reader: Reader, plan: GamePlan, device: str, on_pair: OnPair
) -> RunValues:
    """Compute the forecasts of all coalitions of all windows, their score sums and attributions.

    Pairs of complementary coalitions are computed on all cores; results are added up in a fixed order.
    """
    workers = torch.get_num_threads() if device == "cpu" else 1
    noise = _uses_noise(forecasts, reader, plan, device)
    works = [_BlockWork(forecasts, plan, reader, block, device, noise) for block in plan.blocks]
    results = [_BlockValues([None] * len(plan.scores), plan.players.coalitions // 2) for _ in works]
    items = ((number, work, coalition) for number, work in enumerate(works) for coalition in forecasts.halves())
    for number, pair in scored(lambda item: (item[0], item[1].play(item[2])), _loaded(items), workers):
        results[number].add(pair, works[number], plan)
        on_pair()
    return _joined(results)


def _uses_noise(forecasts: CoalitionForecasts, reader: Reader, plan: GamePlan, device: str) -> bool:
    return forecasts.uses_noise(reader.read(plan.windows[:_PROBED]).to(device))


_Item = tuple[int, "_BlockWork", int]


def _loaded(items: Iterator[_Item]) -> Iterator[_Item]:
    """Read the donors of each item in the thread that makes the items, while others compute."""
    for number, work, coalition in items:
        work.load(coalition)
        yield number, work, coalition


@dataclass(frozen=True)
class _Pair:
    """Two complementary coalitions of a block: number of the first, ensemble means, and sums of each score."""

    coalition: int
    of: Tensor
    rest: Tensor
    sums: tuple[list[Array], list[Array]]


@dataclass
class _BlockWork:
    """One block: its windows, read once, and the donors of the coalitions that are being computed."""

    forecasts: CoalitionForecasts
    plan: GamePlan
    reader: Reader
    block: Block
    device: str
    uses_noise: bool
    _batch: Batch | None = None
    _given: dict[int, Explained] = field(default_factory=dict)
    _pool: tuple[Indices, Tensor] | None = None

    @property
    def batch(self) -> Batch:
        """The windows explained, with targets."""
        if self._batch is None:
            self._batch = self.reader.read(self.block.windows).to(self.device)
        return self._batch

    def load(self, coalition: int) -> None:
        """Read what a pair of coalitions needs."""
        rest = self.plan.players.coalitions - 1 - coalition
        of, others = self.block.donors_in(coalition), self.block.donors_in(rest)
        depends = self.block.donors.ndim > 2
        pool, fields = self._read(np.unique(np.concatenate([of, others])) if depends else np.unique(of))
        places = [np.searchsorted(pool, donors) for donors in (of, others)]
        is_mutual = self.block.is_mutual and not self.uses_noise
        if is_mutual:
            # The order of the windows, so that a donor is a window.
            order = np.argsort(self.block.windows)
            places, fields = [order[place] for place in places], self.batch.radar
        self._given[coalition] = Explained(self.batch, fields, places[0], places[1] if depends else None, is_mutual)

    def _read(self, windows: Indices) -> tuple[Indices, Tensor]:
        if self.block.is_mutual and not self.uses_noise:
            return windows, self.batch.radar
        if self._pool is None or not np.array_equal(self._pool[0], windows):
            self._pool = windows, radars_of(self.reader, windows, self.device)
        return self._pool

    def play(self, coalition: int) -> _Pair:
        """Compute the forecasts of a coalition and of its complement, and their sums."""
        of, rest = self.forecasts.pair(self._given.pop(coalition), coalition)
        return _Pair(coalition, of.mean(1), rest.mean(1), (self._sums(of), self._sums(rest)))

    def _sums(self, mean: Tensor) -> list[Array]:
        """Return the sums of each score by window, (w, s), of the mean forecasts over the background."""
        plan, batch = self.plan, self.batch
        needed = {score.family_name for score in plan.scores}
        sums = window_sums(mean.float(), batch, plan.protocol, needed)
        numbers = np.arange(len(batch))
        records = Records.of_windows(plan.protocol, numbers, sums)
        return [score.sums(records) for score in plan.scores]

    def release(self) -> None:
        """Free the fields of the block."""
        self._batch, self._pool = None, None


@dataclass
class _BlockValues:
    """Results of a block as they come in."""

    sums: list[Array | None]
    missing: int
    total: Tensor | None = None
    absolute: Array | None = None
    values: Array | None = None
    features: Array | None = None

    def add(self, pair: _Pair, work: _BlockWork, plan: GamePlan) -> None:
        """Add a pair; the last one frees the memory of the block."""
        rest = plan.players.coalitions - 1 - pair.coalition
        for number, (of, others) in enumerate(zip(*pair.sums, strict=True)):
            into = self.sums[number]
            if into is None:
                into = self.sums[number] = np.empty((len(of), plan.players.coalitions, of.shape[1]))
            into[:, pair.coalition], into[:, rest] = of, others
        if self.total is None:
            self.total = pair.of.new_zeros(len(pair.of), len(plan.players), *pair.of.shape[1:])
        add_shares(self.total, plan.players, pair.coalition, pair.of, pair.rest)
        self.missing -= 1
        if not self.missing:
            self._finish(work, plan)

    def _finish(self, work: _BlockWork, plan: GamePlan) -> None:
        assert self.total is not None
        # The rounding of sums, where a player changes nothing.
        self.total.masked_fill_(self.total.abs() < _ROUNDING * self.total.abs().nan_to_num().amax(), 0)
        radar = work.batch.radar
        has_echo = (radar != 0).flatten(1, 3).any(1)
        by_pixel = self.total.flatten(2, -3)  # (w, n, lead time and height, y, x)
        self.absolute = _absolute(by_pixel, has_echo)
        self.values, self.features = _picked(by_pixel, plan.players.means_of(radar), has_echo, work.block, plan.picked)
        self.total = None
        work.release()


def _absolute(values: Tensor, has_echo: Tensor) -> Array:
    """Return Σ|value| over the pixels with echo of all fields, and their number, (w, n + 1), from (w, n, f, y, x)."""
    inside = has_echo[:, None, None]
    sums = values.abs().nan_to_num().mul(inside).sum((2, 3, 4))
    count = (inside & ~values[:, :1].isnan()).sum((2, 3, 4))
    found: Array = torch.cat([sums, count.to(sums)], 1).cpu().numpy()
    return found


def _picked(values: Tensor, features: Tensor, has_echo: Tensor, block: Block, picked: Picked) -> tuple[Array, Array]:
    """Return attributions and features at random pixels with echo, (n, k) each."""
    shown: list[tuple[Array, Array]] = []
    for number, window in enumerate(block.windows.tolist()):
        pixels = has_echo[number].flatten().nonzero()[:, 0]
        fields = values.shape[2]
        # One number chooses the field and the pixel with echo.
        drawn = (torch.from_numpy(picked[window]) * fields * len(pixels)).long().to(pixels.device)
        if not len(pixels):
            continue
        lead, pixel = drawn // len(pixels), pixels[drawn % len(pixels)]
        at = values[number].flatten(2)[:, lead, pixel], features[number].flatten(1)[:, pixel].double()
        shown.append((at[0].cpu().numpy(), at[1].cpu().numpy()))
    if not shown:
        none = np.empty((values.shape[1], 0))
        return none, none
    return np.concatenate([of for of, _ in shown], 1), np.concatenate([of for _, of in shown], 1)


def _joined(blocks: Sequence[_BlockValues]) -> RunValues:
    """Join the results of all blocks in the order of the windows."""
    sums = [np.concatenate([block.sums[k] for block in blocks]) for k in range(len(blocks[0].sums))]  # type: ignore[misc]
    absolute = np.concatenate([block.absolute for block in blocks])  # type: ignore[misc]
    values, features = (
        np.concatenate([getattr(block, name) for block in blocks], 1) for name in ("values", "features")
    )
    return RunValues(sums, absolute, values, features)


def seconds_per_pair(forecasts: CoalitionForecasts, reader: Reader, plan: GamePlan, device: str) -> float:
    """Return the time of a pair of coalitions of the first block on one core, after a pair that warms up."""
    noise = _uses_noise(forecasts, reader, plan, device)
    work = _BlockWork(forecasts, plan, reader, plan.blocks[0], device, noise)

    def timed(coalition: int) -> float:
        work.load(coalition)
        begin = time.perf_counter()
        work.play(coalition)
        return time.perf_counter() - begin

    _, seconds = scored(timed, (0, plan.players.coalitions // 2 - 1), 1)
    return seconds
