"""Numbers of a table, each with its interval, tests and support."""

from dataclasses import asdict, dataclass

from polarcast.hpc.bench.contrasts import is_comparison

HEAVY = 0.25
"""Share of a sum above which one group of events is pointed out."""


@dataclass(frozen=True)
class Record:
    """One number of a table.

    Attributes:
        table, model, label, arm: Position in the table; `arm` is radar, dualpol, placebo, or a comparison: difference
            (dual-pol with radar), placebo_vs_radar, dualpol_vs_placebo, or radar_vs and so on (with `reference`).
        metric: Score and coordinates, such as `csi@threshold=10`.
        unit: Unit of the value; 1 for ratios.
        value, low, high: Value and its 95% interval; None where undefined. A comparison is a ratio − 1 on the scale
            ratio, reference − model on the scale gain, and model − reference otherwise.
        events, support: Number of events scored, and of those that contribute to the value.
        seeds: Number of runs that differ only in their seed; of a comparison, of the arm with fewer.
        aggregation: pooled (score of the sums over all events) or mean (mean of the events' scores).
        p_value, p_holm: Bootstrap p-value of a comparison, without and with Holm correction over the table.
        detectable: Smallest true effect that is detected with 80% power, on the scale of the comparison.
        improved: Share of events on which the second is better; only for comparisons.
        sign_flip: p-value of the sign-flip test by groups of events, for these training runs.
        reference: Model and arm that a comparison compares with, such as fitted/radar.
        scale: ratio, distance, difference or gain for a comparison; empty otherwise. The sign on the scale distance
            does not tell which of both is nearer to the best value.
        groups: Number of independent groups of events.
        pixels: Number of pixels that contribute to the value, over all seeds; None where they are not counted.
        heaviest: Largest share that one group of events has of a sum that the value depends on.
        lacks_seeds: Whether the interval leaves out the variation between training runs, because there is only one.
        direction: Better values of the score: lower, higher, those near the target, which is `perfect`, or none.
        perfect: Best value of the score; None if there is none.
        reason: Why value or interval are undefined; empty otherwise.
    """

    table: str
    model: str
    label: str
    arm: str
    metric: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    events: int
    support: int
    seeds: int
    aggregation: str
    p_value: float | None = None
    p_holm: float | None = None
    detectable: float | None = None
    improved: float | None = None
    sign_flip: float | None = None
    reference: str = ""
    scale: str = ""
    groups: int = 0
    pixels: float | None = None
    heaviest: float | None = None
    lacks_seeds: bool = False
    direction: str = ""
    perfect: float | None = 0.0
    reason: str = ""

    @property
    def is_comparison(self) -> bool:
        """Whether it compares two runs."""
        return is_comparison(self.arm)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes zero; False without an interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes zero and includes the variation between training runs."""
        return self.excludes_zero and not self.lacks_seeds

    @property
    def is_heavy(self) -> bool:
        """Whether one group of events holds more than a quarter of a sum."""
        return self.value is not None and (self.heaviest or 0) > HEAVY

    def as_row(self) -> dict[str, object]:
        """Return plain values for JSON, CSV and Parquet."""
        return asdict(self)
