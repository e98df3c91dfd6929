"""Build tables of scores by arm and of their comparisons, with intervals. Pure functions of the records."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from polarcast.hpc.bench.contrasts import Run, all_runs, contrasts_of, key_of_test, reference_label, runs_of, scale_of
from polarcast.hpc.bench.numbers import NumbersOfScore, Scores
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.suite import Suite, TableSpec
from polarcast.hpc.config.load import load_config
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score, expand, parse_score
from polarcast.hpc.scores.ratios import number_or_none
from polarcast.hpc.scores.records import Records, common_events
from polarcast.hpc.scores.stats.significance import holm
from polarcast.models.registry import get_model


@dataclass(frozen=True)
class ComparisonTable:
    """A table to show.

    Attributes:
        title: Heading.
        records: Its numbers.
        protocol: Coordinates of the scores.
        note: Note on its data.
        rows, columns: Layout.
        versus: Name of the reference of `versus` in headings.
        tests: Number of tests that Holm's correction counts.
        origin: Revision and machine that the numbers came from.
        costs: Parameters and FLOPs of the arms, relative to each other.
        observed: Share of the pixels that are observed; None for records that do not tell.
        without_forecast: Largest share of the observed pixels at which a model's forecasts are NaN, by label, above 0.
        only_comparisons: Whether comparisons are shown without the scores that they compare.
    """

    title: str
    records: list[Record]
    protocol: Protocol
    note: str = ""
    rows: Sequence[str] = field(default_factory=lambda: ["model", "metric"])
    columns: Sequence[str] = field(default_factory=lambda: ["arm"])
    versus: str = ""
    tests: int = 0
    origin: str = ""
    costs: str = ""
    observed: float | None = None
    without_forecast: Mapping[str, float] = field(default_factory=dict)
    only_comparisons: bool = False

    @property
    def shown(self) -> list[Record]:
        """The numbers that are laid out: all, or the comparisons only, where there are any."""
        comparisons = [record for record in self.records if record.is_comparison]
        return comparisons if self.only_comparisons and comparisons else self.records

    @property
    def only_comparison(self) -> str:
        """The only comparison of a table that shows nothing else, such as dualpol_vs; empty otherwise."""
        arms = {record.arm for record in self.shown}
        return arms.pop() if self.only_comparisons and len(arms) == 1 else ""

    def as_record(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "title": self.title, "note": self.note, "origin": self.origin, "costs": self.costs, "tests": self.tests,
            "versus": self.versus, "observed": self.observed, "records": [r.as_row() for r in self.records],
        }  # fmt: skip


def build_table(name: str, suite: Suite, scores: Scores, note: str = "", compare: bool = True) -> ComparisonTable:
    """Build a table: each arm, the arms compared with each other, and with the reference of `versus`.

    Args:
        name: Name of the table.
        suite: Suite that defines the table's models, scores, aggregation and layout.
        scores: Records of every run.
        note: Note on the data.
        compare: Whether to compare at all; otherwise the table has the arms only.

    Raises:
        BadInput: runs were scored on different events, or their records lack a score.
    """
    spec = suite.tables[name]
    every = [run for key in all_runs(suite, spec) for run in scores[key]]
    common_events(every)
    protocol = every[0].protocol
    random = {model for model, _ in all_runs(suite, spec) if is_random(suite, model)}
    of_score = [
        NumbersOfScore(score, scores, random) for t in spec.metrics for score in expand(parse_score(t), protocol)
    ]
    records: list[Record] = []
    keys: list[Hashable] = []
    for model in suite.shown(spec):
        contrasts = contrasts_of(suite, spec, model) if compare else []
        for sums in of_score:
            plain = _plain(name, model, suite.models[model].label, sums.score, spec, protocol)
            arms = [sums.arm(replace(plain, arm=arm), run) for arm, run in runs_of(suite, spec, model).items()]
            scale = scale_of(spec, sums.score)
            compared_arms = [sums.contrast(replace(plain, arm=c.arm), c, scale) for c in contrasts]
            records += arms + compared_arms
            keys += [None] * len(arms) + [key_of_test(c, sums.score, spec) for c in contrasts]
    corrected, tests = _corrected(records, keys)
    versus = reference_label(suite, spec)
    return ComparisonTable(
        spec.title, corrected, protocol, note, spec.rows, spec.columns, versus, tests,
        observed=_observed(every[0]), without_forecast=_without_forecast(suite, scores, all_runs(suite, spec)),
        only_comparisons=spec.only_comparisons,
    )  # fmt: skip


def _without_forecast(suite: Suite, scores: Scores, runs: Iterable[Run]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for model, arm in runs:
        if share := max(run.share_without_forecast for run in scores[model, arm]):
            label = suite.models[model].label
            shares[label] = max(share, shares.get(label, 0.0))
    return shares


def _observed(run: Records) -> float | None:
    score = parse_score("observed_share")
    return (
        number_or_none(float(score.of(score.sums(run).sum(0), run.protocol))) if score.family_name in run.sums else None
    )


def is_random(suite: Suite, model: str) -> bool:
    """Return whether the runs of a model depend on their seed: it is trained, or builds on one that is."""
    spec = suite.models[model]
    return spec.base is not None or get_model(_network(suite, model)).trained


def _network(suite: Suite, model: str) -> str:
    spec = suite.models[model]
    given = spec.set.get("model", {})
    return str(given.get("name") or _network_of_preset(spec.preset))


@cache
def _network_of_preset(preset: str) -> str:
    return str(load_config(preset).model["name"])


def _plain(table: str, model: str, label: str, score: Score, spec: TableSpec, protocol: Protocol) -> Record:
    return Record(
        table=table, model=model, label=label, arm="", metric=str(score), unit=score.unit(protocol), value=None,
        low=None, high=None, events=0, support=0, seeds=0, aggregation=spec.aggregation,
        direction=score.metric.direction, perfect=number_or_none(score.metric.perfect),
    )  # fmt: skip


def _corrected(records: Sequence[Record], keys: Sequence[Hashable]) -> tuple[list[Record], int]:
    """Add p-values with Holm's correction over the tests of the table; return their number, too.

    Comparisons with the same key are one test. Those without the variation between training runs are none.
    """
    is_test = [r.p_value is not None and not r.lacks_seeds for r in records]
    tested = [key if counts else None for counts, key in zip(is_test, keys, strict=True)]
    family: dict[Hashable, float] = {}
    for record, key in zip(records, tested, strict=True):
        if key is not None and record.p_value is not None:
            family[key] = max(family.get(key, 0.0), record.p_value)
    adjusted = dict(zip(family, holm(list(family.values())), strict=True))
    corrected = [replace(r, p_holm=adjusted.get(key)) for r, key in zip(records, tested, strict=True)]
    return corrected, len(family)
