"""Tables of scores at gauges for the terminal."""

import math
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from polarcast.hpc.evaluation.gauges.pairs import MODES, PIXEL
from polarcast.hpc.evaluation.gauges.reference_error import ReferenceError
from polarcast.hpc.evaluation.gauges.report import GaugeReport, GaugeResult
from polarcast.hpc.evaluation.gauges.scores import COMPARED, SCORES, GaugeScore, Stratum
from polarcast.hpc.evaluation.gauges.two_way import BOTH, NONE, Crossed, CrossedInterval
from polarcast.hpc.scores.stats.bootstrap import Interval
from polarcast.hpc.scores.wording import number, percent

NO_VALUE = "–"
AMOUNT_SCORES = ("bias", "mae", "rmse", "cc", "kge")


def tables_of(report: GaugeReport) -> list[Table]:
    """Return the tables of a report: scores, hits, pixels, classes and comparisons for each length of interval."""
    out = []
    for result in report.results:
        out += [_amounts(result), _hits(result), _modes(result)]
        classes = {"distance from the radar": result.by_range, "amount of the gauge": result.by_amount}
        out += [_classes(f"by {what}", found) for what, found in classes.items() if found]
        out += [_comparisons(result)] if result.compared else []
    return out


def lines_of(report: GaugeReport) -> list[str]:
    """Return what was assumed or left out, one line each, with what quality control flagged."""
    lines = list(report.notes)
    for row in report.quality:
        flagged = {reason: n for reason, n in row["flagged"].items() if n and reason != "missing"}
        if flagged:
            what = ", ".join(f"{n} {reason}" for reason, n in flagged.items())
            lines.append(f"{row['station']}: {what} of {row['intervals']} intervals do not count")
    for result in report.results:
        lost = ", ".join(f"{n} with too {reason}" for reason, n in result.pairs.left_out.items())
        if lost:
            lines.append(f"intervals left out: {lost}")
            break
    for result in report.results:
        why = sorted({found.why_not for found in result.reference.values() if found.why_not})
        lines += [f"RMSE of the estimate, {result.pairs.minutes:g} min: not estimated: {reason}" for reason in why]
    return lines


def _title(result: GaugeResult) -> str:
    pairs = result.pairs
    days, stations = Crossed.of(pairs).counts
    return (
        f"{len(pairs)} intervals of {pairs.minutes:g} min, {stations} gauge{'s' * (stations != 1)}, "
        f"{days} day{'s' * (days != 1)}"
    )


def _caption(result: GaugeResult) -> str:
    """Say what the intervals are over: the fewest groups of those in the table."""
    over = [found.over for by in result.scores.values() for found in by[PIXEL].values()]
    known = [text for text in over if text != NONE]
    if not known:
        return "no intervals: too few gauges and days"
    if BOTH in known:
        return "95% intervals over days and stations"
    return f"95% intervals over {known[0]}; nothing is said of other {'days' if known[0] == 'stations' else 'stations'}"


def _amounts(result: GaugeResult) -> Table:
    table = Table(title=escape(_title(result)), caption=_caption(result), title_justify="left")
    table.add_column("at the pixel")
    for name in AMOUNT_SCORES:
        table.add_column(heading(SCORES[name]), justify="right")
        if name == "rmse":
            table.add_column("RMSE of the estimate, mm", justify="right")
    for estimator, by_mode in result.scores.items():
        cells = []
        for name in AMOUNT_SCORES:
            cells.append(shown(by_mode[PIXEL][name].interval))
            if name == "rmse":
                cells.append(_of_estimate(result.reference[estimator]))
        table.add_row(escape(estimator), *cells)
    return table


def heading(score: GaugeScore) -> str:
    """Return the heading of a score, with its unit and its best value."""
    unit = f", {score.unit}" if score.unit else ""
    return f"{score.label}{unit} {'↓' if score.perfect == 0 else '→ 1' if score.label == 'bias' else '↑'}"


def _hits(result: GaugeResult) -> Table:
    names = [name for name, score in SCORES.items() if score.threshold is not None]
    table = Table(title="hits of amounts at the pixel", title_justify="left")
    table.add_column("at the pixel")
    for name in names:
        table.add_column(heading(SCORES[name]), justify="right")
    for estimator, by_mode in result.scores.items():
        table.add_row(escape(estimator), *(shown(by_mode[PIXEL][name].interval) for name in names))
    return table


def _modes(result: GaugeResult) -> Table:
    table = Table(title="which pixels", title_justify="left")
    table.add_column("estimator")
    names = ("bias", "rmse", "cc")
    for name in names:
        for mode in MODES:
            table.add_column(f"{SCORES[name].label}, {mode}", justify="right")
    for estimator, by_mode in result.scores.items():
        values = [by_mode[mode][name].interval.value for name in names for mode in MODES]
        table.add_row(escape(estimator), *map(_number, values))
    return table


def _classes(title: str, found: Sequence[Stratum]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("at the pixel")
    for stratum in found:
        table.add_column(escape(f"{stratum.name} ({stratum.pairs})"), justify="right")
    for estimator in found[0].scores:
        for name in found[0].scores[estimator]:
            cells = [shown(stratum.scores[estimator][name].interval) for stratum in found]
            table.add_row(escape(f"{estimator}, {SCORES[name].label}"), *cells)
    return table


def _comparisons(result: GaugeResult) -> Table:
    table = Table(title="paired differences at the pixel", title_justify="left")
    table.add_column("second against first")
    for name in COMPARED:
        table.add_column(f"{SCORES[name].label} {'↓' if SCORES[name].is_ratio else '↑'}", justify="right")
    for one in result.compared:
        cells = [_change(one.scores[name], SCORES[name].is_ratio) for name in COMPARED]
        table.add_row(escape(f"{one.second} against {one.first}"), *cells)
    return table


def shown(found: Interval) -> str:
    """Return a value with its interval, such as `0.37 [0.30, 0.45]`."""
    if not math.isfinite(found.value):
        return NO_VALUE
    value = _number(found.value)
    known = math.isfinite(found.low) and math.isfinite(found.high)
    return escape(f"{value} [{_number(found.low)}, {_number(found.high)}]") if known else value


def _of_estimate(found: ReferenceError) -> str:
    return "not estimated" if found.why_not else shown(found.of_estimate)


def _change(found: CrossedInterval, is_ratio: bool) -> str:
    word = percent if is_ratio else number
    # What differs by rounding only is equal.
    value, low, high = (round(v, 6) + 0.0 for v in (found.interval.value, found.interval.low, found.interval.high))
    if not math.isfinite(value):
        return NO_VALUE
    limits = f" [{word(low, True)}, {word(high, True)}]" if math.isfinite(low) and math.isfinite(high) else ""
    return escape(f"{word(value, True)}{limits}")


def _number(value: float) -> str:
    return NO_VALUE if not math.isfinite(value) else number(value) if abs(value) < 1e6 else "∞"


def summary(report: GaugeReport) -> list[Any]:
    """Return everything to print, in order."""
    return [*tables_of(report), *lines_of(report)]
