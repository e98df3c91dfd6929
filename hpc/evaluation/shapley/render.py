"""An explanation as a table."""

from rich.markup import escape
from rich.table import Table

from polarcast.hpc.evaluation.shapley.result import Explanation, PlayerValue
from polarcast.hpc.scores.wording import number

NOBODY, ALL, ABSOLUTE = "no players", "all players", "mean |value| at a pixel"


def explanation_table(explanation: Explanation) -> Table:
    """Return the table for a terminal; the heading of a score is printed once."""
    table = Table(title=escape(_title(explanation)), caption=escape(caption(explanation)), title_justify="left")
    table.caption_justify = "left"
    head, lines = lines_of(explanation)
    for position, name in enumerate(head):
        table.add_column(name, justify="right" if position > 1 else "left")
    before = ""
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        ends = following is None or following[0] != line[0]
        table.add_row(*map(escape, [line[0] if line[0] != before else "", *line[1:]]), end_section=ends)
        before = line[0]
    return table


def lines_of(explanation: Explanation) -> tuple[list[str], list[list[str]]]:
    """Return head and lines, score by score: the value of no players, of each player, and of all players."""
    lines: list[list[str]] = []
    for score in explanation.scores:
        of_players = [[score.heading, *_cells(value, signed=True)] for value in score.values]
        ends = [[score.heading, name, _number(value), ""] for name, value in ((NOBODY, score.empty), (ALL, score.full))]
        lines += [ends[0], *of_players, ends[1]]
    heading = f"{ABSOLUTE} [{explanation.pixels.unit}]"
    lines += [[heading, *_cells(value, signed=False)] for value in explanation.forecast]
    return ["score", "player", "Shapley value", interval_name(explanation)], lines


def interval_name(explanation: Explanation) -> str:
    """Return what the interval is: of events alone, where one training run can't show the spread of seeds."""
    return "events' interval" if explanation.lacks_seeds else "95% interval"


def caption(explanation: Explanation) -> str:
    """Return what the values rest on."""
    background = explanation.background
    seeds = f", {explanation.seeds} seeds" if explanation.seeds > 1 else ""
    return (
        f"{explanation.windows} windows of {explanation.events} events in {explanation.groups} groups{seeds}; absent "
        f"players from {background['size']} windows of other groups, {explanation.imputation}; the values "
        "add up to the score with all players minus that without any, and higher is better"
    )


def _title(explanation: Explanation) -> str:
    first, *others = explanation.runs
    return f"Shapley values of {first}" + (f" and {len(others)} more" if others else "")


def _cells(of: PlayerValue, signed: bool) -> list[str]:
    limits = "" if of.low is None or of.high is None else f"[{number(of.low, signed)}, {number(of.high, signed)}]"
    return [of.player, _number(of.value, signed), limits]


def _number(value: float | None, signed: bool = False) -> str:
    return "–" if value is None else number(value, signed)
