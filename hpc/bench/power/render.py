"""Answers as a table for the terminal, with notes, and as sentences."""

import math
from collections.abc import Sequence

import numpy as np
from rich.markup import escape
from rich.table import Table

from polarcast.hpc.bench.power.answers import GainNeeds, PowerOfScore, PowerSettings
from polarcast.hpc.scores.stats.paired import RATIO
from polarcast.hpc.scores.stats.power import (
    FEWEST,
    RANGE,
    Needed,
)
from polarcast.hpc.scores.wording import percent, size

_HEAVY = 0.2
"""Excess kurtosis, as a share of the groups, above which few of them decide."""


def power_table(found: Sequence[PowerOfScore]) -> Table:
    """Return the answers of one comparison as a table for the terminal."""
    columns = list(dict.fromkeys(seeds for each in found for gain in each.gains for seeds in gain.groups))
    table = Table()
    for name in ("score", "detectable now", "gain"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for seeds in columns:
        table.add_column(_heading(seeds, found), justify="right")
    for each in found:
        for number, gain in enumerate(each.gains):
            head = (escape(each.heading), _detectable(each)) if not number else ("", "")
            table.add_row(*head, gain.text, *(cell(gain.groups[s]) if s in gain.groups else "" for s in columns))
        if each.spread is None:
            table.add_row(escape(each.heading), "–", "–", *["–" for _ in columns])
    return table


def title_of(found: Sequence[PowerOfScore], settings: PowerSettings) -> str:
    """Return the heading of the answers of one comparison."""
    first = found[0]
    unit = "Events" if first.events_per_group == 1 else "Groups of events"
    part = ", events' part only" if first.lacks_seeds else ""
    return f"{unit} that show a gain with {percent(settings.power)} power{part}: {first.label}"


def notes_of(found: Sequence[PowerOfScore]) -> str:
    """Return the notes below the answers of one comparison, one a line."""
    first = found[0]
    of_seeds = f" and {first.seeds} seeds" if first.seeds > 1 else " and one seed" if first.seeds else ""
    notes = [
        f"From {first.groups} group{'s' * (first.groups != 1)} of {first.events_per_group:.3g} "
        f"event{'s' * (first.events_per_group != 1)}{of_seeds}. "
        f"In parentheses: {percent(RANGE)} range. Numbers below {FEWEST} are given as {FEWEST}."
    ]
    cells = [need for each in found for gain in each.gains for need in gain.groups.values()]
    if any(not math.isfinite(need.groups) for need in cells):
        notes.append("none: with so few seeds, no number of events shows the gain.")
    if any(math.isfinite(need.groups) and not math.isfinite(need.high) for need in cells):
        notes.append("∞: with so few seeds, perhaps no number of events does; scored runs of more seeds would tell.")
    if first.lacks_seeds:
        notes.append(
            "One seed: the numbers contain the variation between events only: runs differ between seeds by an unknown "
            "amount, which seeds: [0, 1, 2] would include."
        )
    if heavy := [each.heading for each in found if each.spread and each.spread.kurtosis > _HEAVY * each.groups]:
        notes.append(f"Few heavy events decide {', '.join(heavy)}: more events than stated may be needed.")
    if any(each.spread is None for each in found):
        notes.append("–: too few events contribute for an interval, or the sides do not differ.")
    return "\n".join(notes)


def sentences_of(answer: PowerOfScore) -> list[str]:
    """Return a sentence for each gain: the fewest seeds with which a number of events suffices, and that number."""
    unit = "events" if answer.events_per_group == 1 else "groups of events"
    return [f"{answer.heading} {gain.text}: {_sentence(gain, unit, answer.lacks_seeds)}." for gain in answer.gains]


def cell(need: Needed) -> str:
    """Return a number of groups with its range, rounded up to two digits: 60 (40–110)."""
    low, high = (_rounded(limit) if math.isfinite(limit) else "∞" for limit in (need.low, need.high))
    if not math.isfinite(need.groups):
        return "none" if low == "∞" else f"none ({low}–∞)"
    return f"{_rounded(need.groups)} ({low}–{high})" if low != high else _rounded(need.groups)


def _sentence(gain: GainNeeds, unit: str, lacks_seeds: bool) -> str:
    needs = sorted(gain.groups.items(), key=lambda one: one[0])
    possible = [(seeds, need) for seeds, need in needs if math.isfinite(need.groups)]
    with_seeds = f" with {max(gain.groups)} seeds" if max(gain.groups) else ""
    if not possible:
        return f"not{with_seeds}, whatever the number of {unit}"
    seeds, need = possible[0]
    without = [k for k in gain.groups if k < seeds]
    text = f"{cell(need)} {unit}" + (f" with {seeds} seeds" if seeds else "")
    text += f"; not with {max(without)} seeds" if without else ""
    return text + ("; the spread over seeds is unknown" if lacks_seeds else "")


def _detectable(each: PowerOfScore) -> str:
    if not math.isfinite(each.detectable):
        return "–"
    return size(each.detectable, each.scale) + " lower" * (each.scale == RATIO)


def _heading(seeds: int, found: Sequence[PowerOfScore]) -> str:
    if seeds:
        return f"{seeds} seeds"
    return "events" if found[0].events_per_group == 1 else "groups"


def _rounded(number: float) -> str:
    """Return a number rounded up to two significant digits."""
    digits = max(int(np.floor(np.log10(number))) - 1, 0)
    return f"{math.ceil(number / 10**digits - 1e-9) * 10**digits:,}"
