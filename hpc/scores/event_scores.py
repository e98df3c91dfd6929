"""Scores of a run by name, and the comparison of two runs on the same events."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.arguments import one_of
from polarcast.data.errors import BadInput
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import ALL, Score, parse_score
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.records import Records, common_events
from polarcast.hpc.scores.stats.aggregation import AGGREGATIONS, POOLED
from polarcast.hpc.scores.stats.bootstrap import Interval
from polarcast.hpc.scores.stats.paired import Sums, compared, of_events, of_one


@dataclass(frozen=True, eq=False, repr=False)
class EventScores:
    """Scores of one run on the events that it was evaluated on, by name.

    Example:
        >>> scores = run.evaluate(split="test")
        >>> scores["csi@threshold=10"], scores.by_event("rmse"), scores.interval("rmse").low
    """

    records: Records
    """Sums of each event, from which every score is computed."""
    trained: bool = False
    """Whether the run is one training of a model whose scores depend on its seed."""

    __iter__ = None  # scores are asked for by name; there is no list of all of them

    def __repr__(self) -> str:
        count = len(self.events)
        return f"EventScores({count} event{'s' * (count != 1)}, {self.protocol.unit}, {self.protocol.members} members)"

    def __getitem__(self, score: str) -> float:
        """Return a score pooled over all events, such as `rmse` or `hk@threshold=10,window=9`; NaN where undefined.

        Raises:
            BadInput: an unknown score, a coordinate that it lacks, or one that the records do not hold.
        """
        parsed = _single(score)
        return float(parsed.of(parsed.sums(self.records).sum(0), self.protocol))

    def by_event(self, score: str) -> Array:
        """Return a score of each event alone, (events,) in the order of `events`; NaN where undefined."""
        return of_events(Sums.of(_single(score), [self.records]))

    def interval(self, score: str, aggregation: str = POOLED) -> Interval:
        """Return a score with its 95% interval over events, pooled or as the mean of the events' scores.

        Of a trained model, the interval leaves out the variation between training runs, because this is one of them.
        The limits are within the range of the score, and NaN for fewer events than an interval needs.
        """
        one_of(aggregation, "aggregation", AGGREGATIONS)
        parsed = _single(score)
        return of_one(Sums.of(parsed, [self.records]), aggregation).interval

    @property
    def events(self) -> npt.NDArray[np.int64]:
        """Event numbers, ascending, (events,)."""
        return self.records.events

    @property
    def protocol(self) -> Protocol:
        """Unit, thresholds, windows, lead times and heights of the records."""
        return self.records.protocol


@dataclass(frozen=True)
class Comparison:
    """Comparison of a score between two runs on the same events; it unpacks as value, low, high, p.

    Attributes:
        score: Name of the score.
        value: On the scale ratio, second / first − 1 (−0.31 is 31% lower); otherwise second − first.
        low: Lower limit of the 95% interval.
        high: Upper limit.
        p: p-value of the hypothesis that there is no difference.
        events: Number of events.
        improved: Share of the events on which the second run is better.
        scale: `ratio` for errors such as RMSE, `difference` for skill scores such as CSI, `distance` for scores with a
            best value inside their range such as NB, where the sign does not tell which is better.
        detectable: Smallest true effect that these events detect with 80% power, on the same scale; of a ratio, the
            reduction.
        lacks_seeds: Whether a side is a single training of a model: interval and p then hold for these runs on other
            events, and are no test of the models.
    """

    score: str
    value: float
    low: float
    high: float
    p: float
    events: int
    improved: float
    scale: str
    detectable: float
    lacks_seeds: bool

    def __iter__(self) -> Iterator[float]:
        return iter((self.value, self.low, self.high, self.p))


def compare(first: EventScores, second: EventScores, score: str, *, aggregation: str = POOLED) -> Comparison:
    """Compare two runs: errors as ratios, skill scores as differences; see `Comparison`.

    The bootstrap resamples groups of events of both together. With one run on either side, the interval does not
    include the variation between training runs: of trained models, it is no test (`lacks_seeds`). Limits and p are NaN
    for fewer events than an interval needs.

    Args:
        first: Scores of the reference, such as the radar arm.
        second: Scores of the run to compare with it, such as the dual-pol arm, on the same events.
        score: Name of the score, such as `csi@threshold=35`.
        aggregation: pooled over events, or mean of the events' scores.

    Raises:
        BadInput: the runs were scored on different events, or lack the score.
    """
    one_of(aggregation, "aggregation", AGGREGATIONS)
    _check_scores(first, "first")
    _check_scores(second, "second")
    parsed = _single(score)
    common_events([first.records, second.records])
    sums = [Sums.of(parsed, [side.records], side.trained) for side in (first, second)]
    found = compared(sums[0], sums[1], aggregation)
    difference = found.interval
    return Comparison(
        score, difference.value, difference.low, difference.high, difference.p_value, len(first.events), found.improved,
        found.scale, found.detectable, found.lacks_seeds,
    )  # fmt: skip


def _check_scores(given: Any, name: str) -> None:
    if not isinstance(given, EventScores):
        raise BadInput(f"expected scores, got {type(given).__name__}", name, "give what run.evaluate() returns")


def _single(text: str) -> Score:
    score = parse_score(text)
    if ALL in score.at.values():
        raise BadInput(f"{text!r} names several scores", "score", "give one coordinate in place of *")
    return score
