"""Compute the numbers of a table for one score: of its runs, and of their comparisons."""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.contrasts import Contrast, Run
from polarcast.hpc.bench.record import Record
from polarcast.hpc.scores.query import Score
from polarcast.hpc.scores.ratios import number_or_none
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.bootstrap import Interval
from polarcast.hpc.scores.stats.paired import RATIO, Sums, compared, events_of_mean, of_events, of_one

Scores = Mapping[Run, Sequence[Records]]
"""Records of each seed, by (model, arm)."""
_NO_INTERVAL = "too few events contribute for an interval"


class NumbersOfScore:
    """Records of one score: of arms and of comparisons, each computed once."""

    def __init__(self, score: Score, scores: Scores, random: Collection[str]) -> None:
        self.score = score
        self._scores, self._random = scores, random
        self._sums: dict[Run, Sums] = {}
        self._numbers: dict[Hashable, Record] = {}

    def arm(self, plain: Record, run: Run) -> Record:
        """Return the record of a run."""
        return self._once(run, plain, lambda: self._arm(plain, run))

    def contrast(self, plain: Record, contrast: Contrast, scale: str = "") -> Record:
        """Return the record of a comparison, on the scale of the score by default."""
        key = (contrast.first, contrast.second)
        return self._once(key, plain, lambda: self._contrast(plain, contrast, scale))

    def _once(self, key: Hashable, plain: Record, make: Callable[[], Record]) -> Record:
        if key not in self._numbers:
            self._numbers[key] = make()
        return replace(self._numbers[key], model=plain.model, label=plain.label, arm=plain.arm)

    def _of(self, run: Run) -> Sums:
        if run not in self._sums:
            self._sums[run] = Sums.of(self.score, self._scores[run], trained=run[0] in self._random)
        return self._sums[run]

    def _arm(self, plain: Record, run: Run) -> Record:
        sums = self._of(run)
        found = of_one(sums, plain.aggregation)
        why = self.score.reason(sums.values.sum((0, 1)), sums.protocol)
        counted = replace(
            self._counted(plain, [run]), heaviest=number_or_none(found.heaviest), lacks_seeds=found.lacks_seeds
        )
        return _filled(counted, found.interval, why)

    def _contrast(self, plain: Record, contrast: Contrast, scale: str) -> Record:
        first, second = self._of(contrast.first), self._of(contrast.second)
        pair = compared(first, second, plain.aggregation, scale=scale)
        why = next(filter(None, (self.score.reason(s.values.sum((0, 1)), s.protocol) for s in (first, second))), "")
        why = why or "an error of 0 or less has no ratio"
        counted = replace(
            self._counted(plain, [contrast.first, contrast.second]),
            unit="1" if pair.scale == RATIO else plain.unit,
            heaviest=number_or_none(pair.heaviest),
            lacks_seeds=pair.lacks_seeds,
            p_value=number_or_none(pair.interval.p_value),
            detectable=number_or_none(pair.detectable),
            improved=number_or_none(pair.improved),
            sign_flip=number_or_none(pair.sign_flip),
            reference="/".join(contrast.first),
            scale=pair.scale,
        )
        return _filled(counted, pair.interval, why)

    def _counted(self, plain: Record, runs: Sequence[Run]) -> Record:
        """Add numbers of events, groups, pixels and seeds; of several runs, the smallest."""
        pixels = [self._pixels(run) for run in runs]
        sides = [self._of(run) for run in runs]
        if plain.aggregation == POOLED:
            support = min(int((of > 0).sum()) for of in pixels)
        else:
            support = int(events_of_mean(sides).sum())
        sums = sides[0]
        return replace(
            plain,
            events=sums.values.shape[1],
            support=support,
            seeds=min(len(side.values) for side in sides),
            groups=len(set(sums.groups.tolist())),
            pixels=number_or_none(min(float(of.sum()) for of in pixels)),
        )

    def _pixels(self, run: Run) -> npt.NDArray[np.float64]:
        """Return the pixels of each event that contribute, over all seeds, (e,)."""
        try:
            return np.sum([self.score.support(one) for one in self._scores[run]], axis=0)
        except BadInput:  # older records may lack the family that counts them
            return np.where(np.isfinite(of_events(self._of(run))), np.inf, 0.0)


def _filled(plain: Record, found: Interval, why: str) -> Record:
    value, low, high = (number_or_none(x) for x in (found.value, found.low, found.high))
    if low is None or high is None:
        low = high = None
    if value is not None:
        why = _NO_INTERVAL if low is None and plain.groups > 1 else ""
    return replace(plain, value=value, low=low, high=high, reason=why)
