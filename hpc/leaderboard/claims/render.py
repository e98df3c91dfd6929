"""Show a judgement as text and as JSON."""

import math
from typing import Any

from rich.markup import escape
from rich.table import Table

from polarcast.hpc.leaderboard.claims.judge import CLAIMED, BesideBaseline, ClaimJudgement, JudgedScore, is_undefined
from polarcast.hpc.leaderboard.claims.says import Checked
from polarcast.hpc.scores.stats.bootstrap import Interval
from polarcast.hpc.scores.wording import arrow, effect, number

NO_SIGN = "no sign of the usual errors"


def as_record(found: ClaimJudgement) -> dict[str, Any]:
    """Return a JSON-serializable dict."""
    scored, of = found.windows
    return {
        "forecasts": found.forecasts, "task": found.task, "split": found.split, "windows": scored, "of_windows": of,
        "events": found.events, "clean": found.is_clean,
        "scores": [_score_record(one, found) for one in found.scores],
        "signs": [sign.as_record() for sign in found.signs],
        "says": [one.as_record() for one in found.says],
        "notes": found.notes,
    }  # fmt: skip


def _score_record(one: JudgedScore, found: ClaimJudgement) -> dict[str, Any]:
    beside = {
        name: {**_numbers(other.interval), "difference": {"scale": other.scale, **_numbers(other.difference)}}
        for name, other in one.beside.items()
    }
    own = {"score": str(one.score), "unit": one.score.unit(found.protocol), **_numbers(one.interval)}
    return {**own, "beside": beside}


def _numbers(interval: Interval) -> dict[str, float | None]:
    names = ("value", "low", "high")
    values = (getattr(interval, name) for name in names)
    return {name: value if math.isfinite(value) else None for name, value in zip(names, values, strict=True)}


def score_table(found: ClaimJudgement) -> Table:
    """Return the table of scores for the terminal: each with its interval, and compared with the baselines."""
    scored, of = found.windows
    title = f"{found.task}, {scored} of {of} windows of the {found.split} split, {found.events} events"
    caption = "95% intervals over groups of events; Δ: the forecasts compared with it on the same events"
    table = Table(title=escape(title), caption=caption, title_justify="left")
    table.add_column("score")
    table.add_column(CLAIMED, justify="right")
    for name in found.scores[0].beside:
        table.add_column(escape(name), justify="right")
    for one in found.scores:
        heading = f"{one.score.heading(found.protocol)} {arrow(one.score.metric)}".rstrip()
        cells = [_cell(one.interval), *(_beside(other) for other in one.beside.values())]
        table.add_row(*map(escape, (heading, *cells)))
    return table


def _cell(interval: Interval) -> str:
    if is_undefined(interval):
        return "–"
    return f"{number(interval.value)} {_limits(number(interval.low), number(interval.high), interval)}".rstrip()


def _limits(low: str, high: str, interval: Interval) -> str:
    return f"[{low}, {high}]" if math.isfinite(interval.low) and math.isfinite(interval.high) else ""


def _beside(other: BesideBaseline) -> str:
    pair = other.difference
    if not math.isfinite(pair.value):
        return _cell(other.interval)
    limits = _limits(effect(pair.low, other.scale), effect(pair.high, other.scale), pair)
    return f"{_cell(other.interval)}\nΔ {effect(pair.value, other.scale)} {limits}".rstrip()


def lines_of(found: ClaimJudgement) -> list[str]:
    """Return the notes, the claimed scores and the signs, one line each."""
    lines = [f"note: {note}" for note in found.notes]
    lines += [_said(one) for one in found.says]
    for sign in found.signs:
        lines += [f"sign of an error: {sign.title} ({sign.name})", f"  {sign.evidence}", f"  to do: {sign.fix}"]
    return lines if found.signs else [*lines, NO_SIGN]


def _said(one: Checked) -> str:
    found = number(one.found) if math.isfinite(one.found) else "undefined"
    claimed = f"{one.claimed.value:.{max(0, one.claimed.decimals)}f}"
    if one.agrees:
        return f"says {one.claimed.score} = {claimed}: agrees, recomputed {found}"
    text = f"says {one.claimed.score} = {claimed}: recomputed {found}"
    if not one.reasons:
        return f"{text}; none of the usual errors gives the claimed value"
    reasons = "; or ".join(f"{reason} ({number(value)})" for reason, value in one.reasons.items())
    return f"{text}; agrees with {reasons}"
