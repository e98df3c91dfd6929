"""Notes below a table: sample, intervals, marks, detectable effects, undefined cells, and origin of the numbers."""

from collections.abc import Iterable, Sequence

from polarcast.hpc.bench.contrasts import arm_name
from polarcast.hpc.bench.layout import HEAVY_MARK, interval_name, reasons_of
from polarcast.hpc.bench.record import HEAVY, Record
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.stats.aggregation import MEAN, POOLED
from polarcast.hpc.scores.stats.paired import DIFFERENCE, DISTANCE, GAIN, RATIO
from polarcast.hpc.scores.wording import percent, size

_DETECTABLE_SHOWN = 8
_ALL = 0.9995
"""Share above which all pixels count as observed."""
_HOW = {POOLED: "scores from sums over all events (pooled)", MEAN: "scores averaged over events (mean)"}
_DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"


def footnote(table: ComparisonTable) -> str:
    """Return the notes of a table, one a line."""
    parts = [_sample(table), _observed(table), _directions(table)]
    if table.records[0].events > 1:
        parts += [*_about_comparisons(table), _about_seeds(table), _about_heavy(table), _about_squares(table)]
    parts += [*_undefined(table), f"Note: {table.note}." if table.note else ""]
    parts += [f"Cost: {table.costs}." if table.costs else "", table.origin]
    return "\n".join(filter(None, parts))


def _sample(table: ComparisonTable) -> str:
    first = table.records[0]
    seeds = sorted({r.seeds for r in table.records})
    seeds_text = "–".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))
    groups = f" in {first.groups} group{'s' * (first.groups != 1)}" if first.groups < first.events else ""
    count = f"{first.events} test event{'s' * (first.events != 1)}{groups}, {seeds_text} seed{'s' * (seeds != [1])}"
    if first.events < 2:
        return f"{count}; {_HOW[first.aggregation]}: no interval can be given for a single event."
    over_seeds = "" if seeds[-1] == 1 else ", and Student's t over seeds"
    resampled = "groups of events" if groups else "events"
    note = " Groups are resampled, because their events may show the same storm." if groups else ""
    return (
        f"{count}; {_HOW[first.aggregation]}; {interval_name(table)}s by paired bootstrap over {resampled}{over_seeds}."
        f"{note}"
    )


def _observed(table: ComparisonTable) -> str:
    parts = []
    if table.observed is not None and table.observed <= _ALL:
        parts = [f"{percent(table.observed)} of the pixels are observed; the others count nowhere."]
    if table.without_forecast:
        shares = ", ".join(f"{label} at {percent(share)}" for label, share in table.without_forecast.items())
        parts.append(f"Forecasts are NaN at observed pixels, which count nowhere for that model: {shares}.")
    return " ".join(parts)


def _directions(table: ComparisonTable) -> str:
    """Explain the marks of better values, and name the only score of a table that does not show it."""
    if "metric" not in {*table.rows, *table.columns}:
        score = parse_score(table.records[0].metric)
        name = score.heading(table.protocol, without=[*table.rows, *table.columns])
        return f"Score: {name}; {_legend(table.shown, score.metric.perfect)}"
    return _legend(table.shown)


def _legend(records: Iterable[Record], best: float | None = None) -> str:
    directions = {"higher" if r.scale == GAIN else r.direction for r in records}
    target = "→ best value" + ("" if best is None else f" {best:g}")
    known = {"lower": "↓ lower is better", "higher": "↑ higher is better", "target": target}
    texts = [text for direction, text in known.items() if direction in directions]
    return "; ".join(texts or ["no value is better than others"]) + "."


def _about_comparisons(table: ComparisonTable) -> list[str]:
    found = [r for r in table.records if r.is_comparison]
    if not found:
        return []
    scales = {r.scale for r in found}
    how = ["errors are compared as ratios (in %)"] if RATIO in scales else []
    as_difference = scales & {DISTANCE, DIFFERENCE, GAIN}
    how += ["others as differences" if how else "scores are compared as differences"] if as_difference else []
    how += ["whose sign does not tell which is nearer to the best value of scores with →"] if DISTANCE in scales else []
    how += ["MSE gain is the reference's MSE minus the model's"] if GAIN in scales else []
    which = arm_name(table.only_comparison, table.versus) if table.only_comparison else "vs"
    notes = [f"{which}: {', '.join(how)}.", _about_differences(found), _about_gains(found)]
    if not table.tests:
        return notes
    tests = f"{table.tests} test{'s' * (table.tests != 1)}"
    notes.append(f"* 95% interval excludes zero; ** also after Holm correction for the {tests} of this table.")
    return [*notes, _detectable(table, found)]


def _about_differences(found: Sequence[Record]) -> str:
    """Warn of differences of errors, which a table shows instead of ratios."""
    if not any(r.scale in (DIFFERENCE, GAIN) and parse_score(r.metric).metric.scale == RATIO for r in found):
        return ""
    return (
        "Few heavy events rule a difference of errors: its interval covers less than a ratio's "
        "(docs/guides/statistics.md)."
    )


def _about_gains(found: Sequence[Record]) -> str:
    """Say how to read the difference of what a window adds to both."""
    if not any(parse_score(r.metric).metric.gain_of for r in found):
        return ""
    return (
        "Below 0, the window adds less to the first of the pair: its events lie nearer to those observed, fewer are "
        "missed at the pixel, it forecasts few events, or, to HK, the window adds more false alarms; POD and F tell."
    )


def _detectable(table: ComparisonTable, found: Sequence[Record]) -> str:
    """Name the smallest true effect on each score that is detected in the noisiest row."""
    largest: dict[str, Record] = {}
    for r in found:
        if r.detectable is not None and not r.lacks_seeds:
            known = largest.get(r.metric)
            if known is None or abs(known.detectable or 0) < abs(r.detectable):
                largest[r.metric] = r
    texts = [
        f"{parse_score(m).heading(table.protocol)} {size(r.detectable or 0, r.scale)}{' lower' * (r.scale == RATIO)}"
        for m, r in largest.items()
    ]
    more = "; …" * (len(texts) > _DETECTABLE_SHOWN)
    if not texts:
        return ""
    shown = "; ".join(texts[:_DETECTABLE_SHOWN]) + more
    return f"Smallest effect detected with 80% power in every row, for these events and seeds: {shown}."


def _about_seeds(table: ComparisonTable) -> str:
    labels = list(dict.fromkeys(r.label for r in table.records if r.lacks_seeds))
    if not labels:
        return ""
    return (
        f"One seed: {', '.join(labels)}. The interval contains the variation between events only, and is no test: runs "
        "differ between seeds by an unknown amount, which seeds: [0, 1, 2] would include."
    )


def _about_heavy(table: ComparisonTable) -> str:
    shares = [r.heaviest or 0.0 for r in table.records if r.is_heavy]
    if not shares:
        return ""
    what = "group of events" if any(r.groups < r.events for r in table.records) else "event"
    low, high = percent(min(shares)), percent(max(shares))
    share = low if low == high else f"{low} to {high}"
    return (
        f"{HEAVY_MARK} one {what} holds more than {percent(HEAVY)} of a sum that the value depends on ({share}): its "
        "interval is less certain than stated."
    )


def _about_squares(table: ComparisonTable) -> str:
    """Warn of intervals of a pooled squared error itself, which heavy storms outside of the sample make too narrow."""
    names = {parse_score(r.metric).name for r in table.records if r.low is not None and not r.is_comparison}
    if any(r.is_comparison for r in table.records) or not names & {"rmse", "paper_mse"}:
        return ""
    return (
        "Intervals of MSE and RMSE themselves cover less than 95% where few heavy events decide: "
        "docs/guides/statistics.md."
    )


def _undefined(table: ComparisonTable) -> list[str]:
    return [
        f"–{''.join(_DIGITS[int(d)] for d in str(number))} {reason}."
        for number, reason in enumerate(reasons_of(table), 1)
    ]
