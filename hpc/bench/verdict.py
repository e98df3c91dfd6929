"""The verdict on a suite: three sentences that follow by rule from the intervals of its tables.

1. What dual-pol changes: for which scores and of how many models, how sure, against placebo and time-context control.
2. What shows no gain, and what shows harm.
3. What was not tested.

No model is picked after the fact: every model counts that has a radar arm of its own and is meaningful on real storms.
A gain or harm is shown if the 95% interval excludes zero, also after Holm's correction, and if the interval
includes the variation between training runs. Each question has a correction of its own, over all its comparisons:
dual-pol with radar, with placebo, and with time context. The last two are reported for the gains over radar.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from polarcast.hpc.bench.contrasts import DIFFERENCE, OF_ARMS, VERSUS
from polarcast.hpc.bench.layout import HEAVY_MARK
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec
from polarcast.hpc.bench.table import ComparisonTable, is_random
from polarcast.hpc.bench.verdicts import is_nearer
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import ALL, Score, coordinate_label, expand, parse_score
from polarcast.hpc.scores.stats.aggregation import MEAN
from polarcast.hpc.scores.stats.bootstrap import least_p
from polarcast.hpc.scores.stats.paired import DISTANCE, GAIN, RATIO
from polarcast.hpc.scores.stats.significance import holm
from polarcast.hpc.scores.wording import effect

FILE = "verdict.txt"
IMPROVES, HARMS, NOT_SHOWN, UNDEFINED, ONE_SEED = "gain", "harm", "not shown", "undefined", "one seed"
_LEVEL = 0.05
_NAMED = 3
"""Most models that are named; more are counted."""
_USUAL_FRAMES = 10
_PLACEBO, _PLACEBO_ALONE, _CONTROL = "dualpol_vs_placebo", "placebo_vs_radar", f"dualpol{VERSUS}"
_SPREAD_PREFIXES = ("observed ", "within ", "where echo ")


@dataclass(frozen=True)
class CountedComparison:
    """A comparison that the verdict uses, once for all tables.

    Attributes:
        record: The number with its interval.
        score: Name of the score in words, without the coordinates along which its table spreads.
        axes: Those coordinates' axes.
        at: The coordinates along them in words; empty if there are none.
        test: Model, score, coordinates and aggregation; equal for scores that are functions of each other.
        outcome: What is shown: gain, harm, not shown, undefined or one seed.
    """

    record: Record
    score: str
    axes: tuple[str, ...]
    at: str
    test: tuple[Hashable, ...]
    outcome: str = ""


def verdict_of(suite: Suite, tables: Mapping[str, ComparisonTable], synthetic: bool) -> list[str]:
    """Return the three sentences on a suite.

    Args:
        suite: The suite; its `verdict` names the tables, by default all.
        tables: Its tables by name.
        synthetic: Whether its storms are synthetic.
    """
    found = _with_outcomes(_collected(suite, tables))
    of_arms = [c for c in found if c.record.arm == DIFFERENCE]
    return [_changes(suite, of_arms, found), _not_shown(of_arms), _not_tested(suite, found, synthetic)]


def _collected(suite: Suite, tables: Mapping[str, ComparisonTable]) -> "list[_Found]":
    """Return comparisons of the arms and with time-context controls, each with the first table that has it."""
    found: dict[Hashable, _Found] = {}
    for name in suite.verdict or suite.tables:
        if (table := tables.get(name)) is None:
            continue
        spread = _spread(suite.tables[name], table.protocol)
        for record in table.records:
            if _counts(suite, record):
                one = _comparison(record, table.protocol, spread)
                found.setdefault((record.arm, record.reference, *one.test), (one, table))
    return list(found.values())


def _counts(suite: Suite, record: Record) -> bool:
    spec = suite.models[record.model]
    if record.direction == "none" or spec.synthetic_only or spec.radar_of:
        return False
    return record.arm in OF_ARMS or (record.arm == _CONTROL and _is_control(suite, record.reference, spec))


def _is_control(suite: Suite, reference: str, spec: ModelSpec) -> bool:
    """Return whether a reference is the radar arm of the same network with more frames."""
    model, _, arm = reference.partition("/")
    other = suite.models[model]
    is_same = (other.set.get("model"), other.needs, other.preset) == (spec.set.get("model"), spec.needs, spec.preset)
    return arm == "radar" and is_same and _frames(other) > _frames(spec)


def _frames(spec: ModelSpec) -> int:
    data = spec.set.get("data") or {}
    return int(data.get("context", 0)) + int(data.get("seen_frames", _USUAL_FRAMES))


def _spread(spec: TableSpec, protocol: Protocol) -> dict[str, list[str]]:
    """Return the axes along which a table spreads each of its scores, by score."""
    return {
        str(one): [axis for axis, value in score.at.items() if value == ALL]
        for score in map(parse_score, spec.metrics)
        for one in expand(score, protocol)
    }


def _comparison(record: Record, protocol: Protocol, spread: Mapping[str, Sequence[str]]) -> CountedComparison:
    score = parse_score(record.metric)
    if record.scale == RATIO and score.metric.is_multiple:
        score = Score(score.metric.same_as, score.at)  # of which the ratio is the same
    axes = spread.get(record.metric, [])
    name = score.heading(protocol, without=axes).split(" [")[0]
    name += " (mean over events)" if record.aggregation == MEAN else ""
    name += " (difference)" if score.metric.scale == RATIO != record.scale else ""
    at = " ".join(coordinate_label(axis, score.at[axis], protocol) for axis in axes)
    root = METRICS[score.name].same_as if record.scale == RATIO else ""
    test = (record.model, root or score.name, tuple(sorted(score.at.items())), record.aggregation)
    return CountedComparison(record, name, tuple(axes), at, test)


_Found = tuple[CountedComparison, ComparisonTable]


def _with_outcomes(found: Sequence[_Found]) -> list[CountedComparison]:
    """Say what each comparison shows, after Holm's correction for all comparisons of the same kind.

    Comparisons with the placebo can't be corrected for the gains over radar only: both share the dual-pol arm, so that
    those which are chosen by the first are lucky in the second, and errors of 2.5% become up to 15%.
    """
    kinds: dict[str, list[_Found]] = {}
    for one in found:
        kinds.setdefault(one[0].record.arm, []).append(one)
    return [one for of_kind in kinds.values() for one in _corrected(of_kind)]


def _corrected(found: Sequence[_Found]) -> list[CountedComparison]:
    """Say what each comparison shows after Holm's correction for all of them."""
    tested = [c.record.p_value is not None and not c.record.lacks_seeds for c, _ in found]
    p_values = [c.record.p_value or 0.0 for (c, _), is_test in zip(found, tested, strict=True) if is_test]
    adjusted = iter(holm(p_values))
    p_of = [next(adjusted) if is_test else 1.0 for is_test in tested]
    return [replace(c, outcome=_outcome(c.record, table, p)) for (c, table), p in zip(found, p_of, strict=True)]


def _outcome(record: Record, table: ComparisonTable, p_holm: float) -> str:
    if record.value is None or record.low is None:
        return UNDEFINED
    if record.lacks_seeds:
        return ONE_SEED
    if not record.excludes_zero or p_holm >= _LEVEL:
        return NOT_SHOWN
    if record.scale == DISTANCE:
        return {True: IMPROVES, False: HARMS, None: NOT_SHOWN}[is_nearer(record, table)]
    is_larger_better = record.direction == "higher" or record.scale == GAIN
    return IMPROVES if (record.value > 0) == is_larger_better else HARMS


# 1. What dual-pol changes


def _changes(suite: Suite, of_arms: Sequence[CountedComparison], found: Sequence[CountedComparison]) -> str:
    if not of_arms:
        return "No model is compared on radar and dual-pol."
    one_seed = _models(c for c in of_arms if c.outcome == ONE_SEED)
    lacking = f"trained models are not comparable with one seed ({_listed(one_seed)})" if one_seed else ""
    known = _known(of_arms)
    if not known:
        return f"What dual-pol changes is not known: {lacking or 'no comparison has an interval'}."
    gains = [c for c in known if c.outcome == IMPROVES]
    if lacking and not any(is_random(suite, c.record.model) for c in known):
        lacking = f"these models have no randomness, and {lacking}"
    phrases = "; ".join(filter(None, map(_gains_of, _by_score(of_arms))))
    what = phrases or f"no score of {_who(_models(known))}, as far as intervals show"
    clauses = [_how_sure(suite, known), _against_placebo(gains, found), _against_control(gains, found), lacking]
    return f"Dual-pol improves {'; '.join(filter(None, [what, *clauses]))}."


def _gains_of(of_score: Sequence[CountedComparison]) -> str:
    """Return for how many models a score gains, by coordinate, and the range of the effects; empty if none does."""
    gains = [c for c in of_score if c.outcome == IMPROVES]
    if not gains:
        return ""
    counts = [
        (sum(c.outcome == IMPROVES for c in at), tuple(_models(_known(at))), coordinate)
        for coordinate, at in _by_coordinate(of_score)
    ]
    parts = []
    for (shown, models), run in groupby(counts, key=lambda count: count[:2]):
        if shown:
            who = models[0] if len(models) == 1 else f"{shown} of {len(models)} models"
            parts.append(f"for {who} {_span([at for *_, at in run])}".rstrip())
    return f"{gains[0].score} {', '.join(parts)} ({_range(gains)})"


def _range(gains: Sequence[CountedComparison]) -> str:
    """Return the smallest and largest effect, and the limits within which all their intervals lie."""
    records = [c.record for c in gains]
    values = sorted(r.value for r in records if r.value is not None)
    ends = [end for r in records for end in (r.low, r.high) if end is not None]
    first, last, low, high = (effect(x, records[0].scale) for x in (values[0], values[-1], min(ends), max(ends)))
    return f"{first} [{low}, {high}]" if len(records) == 1 else f"{first} to {last}, within [{low}, {high}]"


def _how_sure(suite: Suite, known: Sequence[CountedComparison]) -> str:
    first, tests = known[0].record, len(known)
    events = f"{first.events} test events" + (f" in {first.groups} groups" if first.groups < first.events else "")
    seeds = sorted({c.record.seeds for c in known if is_random(suite, c.record.model)})
    runs = f" and {'–'.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds" if seeds else ""
    corrected = f", shown after Holm's correction for {tests} tests" if tests > 1 else ""
    heavy = sum(c.outcome == IMPROVES and c.record.is_heavy for c in known)
    have = "have" if heavy > 1 else "has"
    one_group = f"; {heavy} of these gains {have} over a quarter of a sum from one group of events ({HEAVY_MARK})"
    return f"95% intervals of single comparisons over {events}{runs}{corrected}{one_group if heavy else ''}"


def _against_placebo(gains: Sequence[CountedComparison], found: Sequence[CountedComparison]) -> str:
    """Say how many of the gains are shown against the placebo; none of them is no sign of information."""
    total, outcomes = _same_tests(gains, found, _PLACEBO)
    if not total:
        return ""
    worse = outcomes.count(HARMS)
    harm = f", and dual-pol is worse than it in {worse}" if worse else ""
    if shown := outcomes.count(IMPROVES):
        return f"{_share(shown, total, gains)} shown against the placebo, too{harm}"
    _, alone = _same_tests(gains, found, _PLACEBO_ALONE)
    itself = f", which gains over radar itself in {alone.count(IMPROVES)} of {total}" if IMPROVES in alone else ""
    return f"none of these gains is shown against the placebo{itself}{harm}: no sign of information"


def _against_control(gains: Sequence[CountedComparison], found: Sequence[CountedComparison]) -> str:
    total, outcomes = _same_tests(gains, found, _CONTROL)
    if not total:
        return ""
    shown, worse = outcomes.count(IMPROVES), outcomes.count(HARMS)
    harm = f", and dual-pol is worse than it in {worse}" if worse else ""
    return f"{_share(shown, total, gains)} shown against radar of more frames (time context), too{harm}"


def _share(shown: int, total: int, gains: Sequence[CountedComparison]) -> str:
    """Return how many of the gains that have another comparison show it, such as `18 of 20 of these gains are`."""
    if total == len(gains):
        return f"{shown or 'none'} of {total} of these gains {'is' if shown == total == 1 else 'are'}"
    return (
        f"of {total} of these {len(gains)} gains that were compared, {shown or 'none'} {'is' if shown == 1 else 'are'}"
    )


def _same_tests(
    gains: Sequence[CountedComparison], found: Sequence[CountedComparison], arm: str
) -> tuple[int, list[str]]:
    """Return how many gains have a comparison of another kind for the same model and score, and what these show.

    Of several references, all must be beaten.
    """
    gained = {c.test for c in gains}
    by_test: dict[Hashable, set[str]] = {}
    for one in _known(found):
        if one.record.arm == arm and one.test in gained:
            by_test.setdefault(one.test, set()).add(one.outcome)
    outcomes = [of.pop() if len(of) == 1 else HARMS if HARMS in of else NOT_SHOWN for of in by_test.values()]
    return len(outcomes), outcomes


# 2. What shows no gain, and what shows harm


def _not_shown(of_arms: Sequence[CountedComparison]) -> str:
    known = _known(of_arms)
    if not known:
        return "No gain is shown for any score."
    scores = _by_score(of_arms)
    without = "; ".join(filter(None, (_without_gain(of_score) for of_score in scores)))
    harmed = "; ".join(filter(None, (_harm_of(of_score) for of_score in scores)))
    harm = f"harm is shown for {harmed}" if harmed else ""
    if not without:
        every = "A gain is shown for every model and score " + (
            "compared." if known == [*of_arms] else "that has a test."
        )
        return f"{harm[0].upper()}{harm[1:]}." if harm else every
    return f"No gain is shown for {'; '.join(filter(None, [without, harm]))}."


def _without_gain(of_score: Sequence[CountedComparison]) -> str:
    """Return a score with the models and coordinates that show neither gain nor harm; empty if there are none."""
    lacking = [
        (coordinate, tuple(_models(c for c in at if c.outcome == NOT_SHOWN)), len(_known(at)))
        for coordinate, at in _by_coordinate(of_score)
    ]
    parts = []
    for (models, total), run in groupby(lacking, key=lambda one: one[1:]):
        if models:
            who = f"any of {total} models" if len(models) == total > 1 else _listed(models)
            parts.append(f"{_span([at for at, *_ in run])} of {who}".lstrip())
    return f"{of_score[0].score} {', '.join(parts)}" if parts else ""


def _harm_of(of_score: Sequence[CountedComparison]) -> str:
    """Return a score with the models that it harms, by coordinate; empty if there are none."""
    harms = [(at, [c for c in of if c.outcome == HARMS]) for at, of in _by_coordinate(of_score)]
    parts = [f"{at} of {_listed(_models(of))} ({_range(of)})".lstrip() for at, of in harms if of]
    return f"{of_score[0].score} {', '.join(parts)}" if parts else ""


# 3. What was not tested


def _not_tested(suite: Suite, found: Sequence[CountedComparison], synthetic: bool) -> str:
    one_seed = _models(c for c in found if c.outcome == ONE_SEED)
    missing = [
        _too_few_groups([c for c in found if c.record.arm == DIFFERENCE]),
        _missing_placebo(found),
        _missing_control(suite, found),
        f"the spread between training runs of {_listed(one_seed)} (one seed)" if one_seed else "",
        _undefined([c for c in found if c.outcome == UNDEFINED and c.record.arm == DIFFERENCE]),
        "real storms (these are synthetic)" if synthetic else "",
        "other radars, climates and years",
    ]
    return f"Not tested: {'; '.join(filter(None, missing))}."


def _too_few_groups(of_arms: Sequence[CountedComparison]) -> str:
    """Say where the groups of events are too few for any effect to be shown after the correction."""
    known = _known(of_arms)
    groups = min((c.record.groups for c in known), default=0)
    if groups and len(known) * least_p(groups) >= _LEVEL:
        return f"effects after correction: {groups} groups of events can't show any among {len(known)} tests"
    return ""


def _missing_placebo(found: Sequence[CountedComparison]) -> str:
    gained = {c.test for c in found if c.record.arm == DIFFERENCE and c.outcome == IMPROVES}
    of_placebo = [c for c in found if c.record.arm == _PLACEBO]
    if not of_placebo:
        return "as many inputs without information (no placebo arm)"
    outcomes = {c.outcome for c in of_placebo if not gained or c.test in gained}
    if not outcomes:
        return "as many inputs without information, for these gains (no placebo arm of their models)"
    return "the placebo, without an interval that includes seeds" if outcomes <= {ONE_SEED, UNDEFINED} else ""


def _missing_control(suite: Suite, found: Sequence[CountedComparison]) -> str:
    if any(c.record.arm == _CONTROL for c in found):
        return ""
    fewest = min(map(_frames, suite.models.values()))
    controls = [
        spec.label for name, spec in suite.models.items() if _frames(spec) > fewest and "radar" in suite.arms_of(name)
    ]
    if controls:
        return f"the time-context control {controls[0]}, with which no table compares dual-pol of the same network"
    return "what more frames of radar would tell (no time-context control)"


def _undefined(without: Sequence[CountedComparison]) -> str:
    texts = [
        f"{' '.join(filter(None, (of[0].score, at)))} of {_listed(_models(of))}"
        for of_score in _by_score(without)
        for at, of in _by_coordinate(of_score)
    ]
    return f"{', '.join(texts)} (undefined or without interval)" if texts else ""


# Words


def _known(found: Iterable[CountedComparison]) -> list[CountedComparison]:
    """Return the comparisons that are tests."""
    return [c for c in found if c.outcome not in (ONE_SEED, UNDEFINED)]


def _by_score(found: Iterable[CountedComparison]) -> list[list[CountedComparison]]:
    """Group comparisons by score and the axes along which a table spreads it, in the order of first appearance."""
    groups: dict[Hashable, list[CountedComparison]] = {}
    for one in found:
        groups.setdefault((one.score, one.axes), []).append(one)
    return list(groups.values())


def _by_coordinate(of_score: Iterable[CountedComparison]) -> list[tuple[str, list[CountedComparison]]]:
    groups: dict[str, list[CountedComparison]] = {}
    for one in of_score:
        groups.setdefault(one.at, []).append(one)
    return list(groups.items())


def _models(found: Iterable[CountedComparison]) -> list[str]:
    return list(dict.fromkeys(c.record.label for c in found))


def _listed(models: Sequence[str]) -> str:
    if len(models) > _NAMED:
        return f"{len(models)} models"
    return " and ".join(filter(None, [", ".join(models[:-1]), models[-1]]))


def _who(models: Sequence[str]) -> str:
    return models[0] if len(models) == 1 else f"{len(models)} models"


def _span(coordinates: Sequence[str]) -> str:
    """Return consecutive coordinates as `6 min` or `within 3 px to 17 px`."""
    first, last = coordinates[0], coordinates[-1]
    for prefix in _SPREAD_PREFIXES:
        last = last.removeprefix(prefix)
    return first if len(coordinates) == 1 else f"{first} to {last}"
