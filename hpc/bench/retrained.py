"""Shapley values by retraining: of input variables, from the records of models trained on subsets of them.

The value of a coalition is the score of models that were trained on its variables alone. Nothing is imputed: a model
that never saw a variable makes the best of the others (Lundberg & Lee 2017, section 2.4, after Lipovetsky & Conklin
2001).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, sole_writer
from polarcast.data.shards.manifest import read_manifest
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.contrasts import Run
from polarcast.hpc.bench.games import Configs, Game, find_game
from polarcast.hpc.bench.numbers import Scores
from polarcast.hpc.bench.rescore import is_suite, saved_suite
from polarcast.hpc.bench.suite import Suite
from polarcast.hpc.bench.unfinished import is_scored
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.evaluation.shapley.intervals import heading_of
from polarcast.hpc.evaluation.shapley.render import interval_name
from polarcast.hpc.evaluation.shapley.result import (
    EXPLAIN_FILE,
    ExplainedScore,
    Explanation,
    Pixels,
    PlayerValue,
    read_explanation,
    write_explanation,
)
from polarcast.hpc.scores.query import Score, expand, parse_score
from polarcast.hpc.scores.ratios import Array, number_or_none
from polarcast.hpc.scores.records import Records, common_events, read_records
from polarcast.hpc.scores.stats.bootstrap import interval
from polarcast.hpc.scores.stats.paired import Sums, by_group
from polarcast.hpc.scores.stats.shapley import ShapleyStatistic, shapley_weights
from polarcast.hpc.scores.wording import number
from polarcast.models.registry import get_model

RETRAINED = "retrained"
"""Name of this way to remove players, beside `marginal` and `conditional`."""
_QPE = ("rmse", "cc", "csi@threshold=10", "fss@threshold=10,window=9", "rmse@class=*")
_NOWCAST = ("rmse", "csi@threshold=35", "fss@threshold=35,window=9", "csi@threshold=35,lead_time=*",
            "csi@threshold=35,change=*")  # fmt: skip
SCORES = {"qpe": _QPE, "nowcast": _NOWCAST}
"""Scores that are explained by default, by task."""


@dataclass(frozen=True)
class Retrained:
    """Shapley values by retraining.

    Attributes:
        game: Players and runs.
        explanation: Values of all scores.
        coalitions: Value of each coalition, (scores, 2^n); errors are negated.
        masked: Explanations of the runs with all variables by `polarcast explain`, if they have the same players.
    """

    game: Game
    explanation: Explanation
    coalitions: Array
    masked: tuple[Explanation, ...] = ()


def retrained_values(
    folder: Path, scores: Sequence[str] = (), *, empty: str | None = None, model: str | None = None
) -> Retrained:
    """Compute Shapley values of the input variables from the records of a suite that trained all their subsets.

    Args:
        folder: Folder of the suite.
        scores: Scores to explain; by default `SCORES` of its task, as far as the records hold them.
        empty: Model of the suite whose score stands for that of no variable, such as persistence. Without it, the
            values start from the variables that all runs share, or else from ZH alone.
        model: Model whose family is explained; by default the family with the most subsets, trained models first.

    Raises:
        BadInput: the folder is no suite, a subset of the variables is missing, or a score or model is unknown.
    """
    if not is_suite(folder):
        raise BadInput("not the folder of a suite", folder, "give one such as runs/standard-nowcast")
    suite = saved_suite(folder)
    records, configs, paths = _scored_runs(suite, folder)
    game = find_game(configs, empty, model)
    wanted = tuple(scores) or _recorded(SCORES[suite.task], records[game.runs[0]][0])
    fixed = {run[0] for run, config in configs.items() if not _is_random(config)}
    explained = explain_game(game, records, wanted, suite.task, fixed)
    used = tuple(str(path) for run in dict.fromkeys(game.runs) for path in paths[run])
    masked = _masked(paths[game.runs[-1]], game)
    return replace(explained, explanation=replace(explained.explanation, runs=used), masked=masked)


def explain_suite(
    folder: Path,
    scores: Sequence[str] = (),
    *,
    empty: str | None = None,
    model: str | None = None,
    out: Path | None = None,
) -> tuple[Retrained, Path]:
    """Compute `retrained_values`, write them into a folder, below that of the suite by default, and return both."""
    found = retrained_values(folder, scores, empty=empty, model=model)
    usual = folder / "explain" / "-".join([RETRAINED, *filter(None, (model, empty))])
    into = checked_output(out or usual, is_folder=True)
    with sole_writer(into):
        write_explanation(into, found.explanation)
    return found, into


def draw_retrained(folder: Path, found: Retrained) -> list[Path]:
    """Draw the values, and beside them those of the same runs by imputation."""
    from polarcast.hpc.bench.figures.shapley import draw_beside, draw_explanation

    beside = draw_beside(folder / "shapley_beside.png", [found.explanation, *found.masked]) if found.masked else []
    return [*draw_explanation(folder, found.explanation), *beside]


def _masked(paths: Sequence[Path], game: Game) -> tuple[Explanation, ...]:
    """Return the readable explanations of some runs that have the players of a game."""
    found = []
    for file in sorted(file for path in paths for file in path.glob(f"explain/*/{EXPLAIN_FILE}")):
        try:
            explanation = read_explanation(file.parent)
        except BadInput:
            continue
        if set(game.players) <= set(explanation.players):
            found.append(explanation)
    return tuple(found)


def _scored_runs(suite: Suite, folder: Path) -> tuple[Scores, Configs, Mapping[Run, list[Path]]]:
    """Return the records, the configuration and the folders of all runs of a suite that are scored."""
    files = SuiteFolder(folder, suite.data)
    manifest = read_manifest(files.shards)
    records: dict[Run, list[Records]] = {}
    configs, paths = dict[Run, RunConfig](), dict[Run, list[Path]]()
    for cell in cells_of(suite, files.shards):
        run = files.cell(cell, manifest)
        if is_scored(run.output):
            key = cell.model, cell.arm
            configs.setdefault(key, cell.config)
            records.setdefault(key, []).append(read_records(run.output.scores))
            paths.setdefault(key, []).append(run.path)
    return records, configs, paths


def _is_random(config: RunConfig) -> bool:
    """Return whether a run depends on its seed."""
    return bool(config.bases) or get_model(config.model["name"]).trained


def _recorded(scores: Sequence[str], first: Records) -> tuple[str, ...]:
    """Return the scores that records hold: small fields have no wide windows."""
    return tuple(text for text in scores if _is_recorded(text, first))


def _is_recorded(text: str, first: Records) -> bool:
    try:
        return all(len(one.sums(first)) for one in expand(parse_score(text), first.protocol))
    except BadInput:
        return False


def explain_game(
    game: Game, records: Scores, scores: Sequence[str], task: str = "qpe", fixed: Collection[str] = ()
) -> Retrained:
    """Compute the values of the players for each score, with intervals over groups of events and seeds.

    Runs of two coalitions share nothing but their events, so that their seeds are not paired.

    Args:
        game: Players and runs.
        records: Records of each seed, by model and arm.
        scores: Scores as text; those with `*` are explained at each coordinate.
        task: Task of the runs.
        fixed: Models that do not depend on their seed.

    Raises:
        BadInput: runs were scored on different events, or records lack a score.
    """
    every = [one for run in game.runs for one in records[run]]
    events = common_events(every)
    chosen = [one for text in scores for one in expand(parse_score(text), every[0].protocol)]
    explained = [_explained(game, records, score) for score in chosen]
    seeds = min((len(records[run]) for run in game.runs if run[0] not in fixed), default=1)
    explanation = Explanation(
        runs=(),
        task=task,
        arm="dualpol",
        players=game.players,
        imputation=RETRAINED,
        background={"from": game.baseline},
        windows=0,
        events=len(events),
        groups=len(set(every[0].groups.tolist())),
        seeds=seeds,
        members=every[0].protocol.members,
        scores=tuple(score for score, _ in explained),
        forecast=tuple(PlayerValue(player, None) for player in game.players),
        pixels=Pixels(*(np.empty((len(game.players), 0), np.float32),) * 2, every[0].protocol.unit),
        lacks_seeds=seeds == 1 and any(run[0] not in fixed for run in game.runs),
    )
    return Retrained(game, explanation, np.array([values for _, values in explained]))


def _explained(game: Game, records: Scores, score: Score) -> tuple[ExplainedScore, Array]:
    """Return the values of the players for one score, and the value of each coalition, (2^n,)."""
    sides = [Sums.of(score, records[run]) for run in game.runs]
    if len({side.values.shape[-1] for side in sides}) > 1:
        raise BadInput(f"the runs have other coordinates of {score}", "--scores", "choose scores of any ensemble size")
    arms, protocol = [by_group(side.values, side.groups) for side in sides], sides[0].protocol
    sign = -1.0 if score.metric.direction == "lower" else 1.0

    def value_of(sums: Array) -> Array:
        return sign * score.of(sums, protocol)

    values = []
    for player, weights in zip(game.players, shapley_weights(len(game.players)), strict=True):
        found = interval(arms, ShapleyStatistic(value_of, weights))
        values.append(PlayerValue(player, *map(number_or_none, (found.value, found.low, found.high))))
    pooled = value_of(np.stack([arm.mean(0).sum(0) for arm in arms]))
    explained = ExplainedScore(
        score=str(score),
        heading=heading_of(score, protocol),
        unit=score.unit(protocol),
        empty=number_or_none(float(pooled[0])),
        full=number_or_none(float(pooled[-1])),
        values=tuple(values),
    )
    return explained, pooled


def retrained_table(found: Retrained) -> Table:
    """Return the values of all scores for the terminal, beside those by imputation."""
    runs = [found.explanation, *found.masked]
    columns = [name for of in runs for name in (of.imputation, interval_name(of))]
    table = Table(title=f"Shapley values by retraining, from {escape(found.game.baseline)}", title_justify="left",
                  caption=escape(_caption(found)), caption_justify="left")  # fmt: skip
    for name in ("score", "player"):
        table.add_column(name)
    for name in columns:
        table.add_column(name, justify="right")
    for score in found.explanation.scores:
        for position, player in enumerate(found.game.players):
            cells = [cell for of in runs for cell in _cells(of, score.score, player)]
            last = player == found.game.players[-1]
            table.add_row("" if position else escape(score.heading), player, *cells, end_section=last)
    return table


def _cells(explanation: Explanation, score: str, player: str) -> tuple[str, str]:
    """Return the value of a player and its interval; empty if the explanation lacks the score."""
    values = next((of.values for of in explanation.scores if of.score == score), ())
    of = next((of for of in values if of.player == player), None)
    if of is None or of.value is None:
        return "–", ""
    limits = "" if of.low is None or of.high is None else f"[{number(of.low, True)}, {number(of.high, True)}]"
    return number(of.value, True), escape(limits)


def _caption(found: Retrained) -> str:
    explanation = found.explanation
    seeds = f"{explanation.seeds} seed{'s' * (explanation.seeds != 1)}"
    start = f"values start from {found.game.baseline} and add up to all of its variables"
    return (
        f"{explanation.events} events in {explanation.groups} groups, {seeds} of each subset; {start}; higher is better"
    )
