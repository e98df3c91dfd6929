"""Explain a model: exact Shapley values of its forecasts and scores, with intervals over events and seeds.

The value of a coalition is a score of its mean forecast over the background, pooled over events, as in SAGE (Covert et
al. 2020): the mean comes before the score, because f_S(x) = E[f(X) | x_S] is the forecast of a model that knows the
present players only. A mean of scores would also count the scatter of the donors as error. Errors are negated, so that
a player with a positive value improves the score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output, sole_writer
from polarcast.data.loading.reader import Reader
from polarcast.hpc.config.difference import first_difference
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.resolve import input_spec, require_model
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World, device_of, set_up_torch
from polarcast.hpc.evaluation.evaluate import protocol_of
from polarcast.hpc.evaluation.run import TEST, archive_shards, own_shards
from polarcast.hpc.evaluation.shapley.background import (
    IMPUTATIONS,
    MARGINAL,
    Block,
    Indices,
    conditional_blocks,
    drawn_over_groups,
    groups_of,
    marginal_blocks,
)
from polarcast.hpc.evaluation.shapley.coalitions import CoalitionForecasts
from polarcast.hpc.evaluation.shapley.intervals import absolute_values, explained_score
from polarcast.hpc.evaluation.shapley.players import USUAL, Players, folder_name, players_of
from polarcast.hpc.evaluation.shapley.result import Explanation, Pixels, write_explanation
from polarcast.hpc.evaluation.shapley.values import GamePlan, RunValues, seconds_per_pair, values_of_run
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.intact import require_intact
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import Score, check_available, expand, parse_score
from polarcast.hpc.scores.ratios import Array
from polarcast.hpc.scores.stats.paired import by_group
from polarcast.hpc.utils.progress import ProgressBoard
from polarcast.models.registry import get_model

USUAL_SCORES = {
    "qpe": ("paper_mse", "csi@threshold=10", "fss@threshold=10,window=9"),
    "nowcast": ("paper_mse", "csi@threshold=35", "fss@threshold=35,window=9"),
}
"""Scores by task, unless others are asked for."""
WINDOWS, BACKGROUND = 45, 8
"""Usual number of windows explained: five blocks of windows that are each other's donors."""
LONG_SECONDS = 86_400.0
"""Time of an explanation that is refused unless it is asked for."""
_PIXELS = 2000


@dataclass(frozen=True)
class ExplainSpec:
    """What to explain.

    Attributes:
        players: Players; see `players_of`. By default channels for QPE and variables for nowcasts.
        scores: Scores as text; `USUAL_SCORES` if empty.
        windows: Number of windows to explain, drawn at random over groups of events.
        background: Number of donors of each window.
        imputation: marginal or conditional.
        seed: Seed of windows, donors and pixels, and of the noise of generative models.
        members: Ensemble size; that of the run's evaluation by default.
        split: Split of the windows and of their donors.
        may_be_long: Whether to start even if it would take longer than `LONG_SECONDS`.
    """

    players: str | None = None
    scores: tuple[str, ...] = ()
    windows: int = WINDOWS
    background: int = BACKGROUND
    imputation: str = MARGINAL
    seed: int = 0
    members: int | None = None
    split: str = TEST
    may_be_long: bool = False

    def __post_init__(self) -> None:
        """Raise BadInput for numbers out of range, an unknown imputation or an unknown score."""
        numbers = {"--windows": (self.windows, 2), "--background": (self.background, 1), "--seed": (self.seed, 0)}
        for name, (value, least) in {**numbers, "--members": (1 if self.members is None else self.members, 1)}.items():
            if not least <= value < 2**31:
                raise BadInput(f"{value} is out of range", name, f"give {least} to {2**31 - 1}")
        if self.imputation not in IMPUTATIONS:
            fix = f"choose from: {', '.join(IMPUTATIONS)}"
            raise BadInput(f"unknown imputation {self.imputation!r}", "--imputation", fix)
        for text in self.scores:
            parse_score(text)


@dataclass(frozen=True)
class _Setting:
    """What all runs share: players, ensemble size, and the reader of the windows."""

    players: Players
    members: int
    reader: Reader
    groups: Indices
    source: str


def explain_runs(
    runs: Sequence[RunFolder],
    spec: ExplainSpec,
    board: ProgressBoard,
    world: World | None = None,
    archive: Path | None = None,
) -> Explanation:
    """Compute Shapley values of the runs of one model, which differ in their seed only.

    All runs explain the same windows with the same donors.

    Args:
        runs: Trained runs.
        spec: What to explain.
        board: Progress display.
        world: This process; it computes alone.
        archive: Archive or shards whose events are explained instead of a split of the run's own shards.

    Raises:
        BadInput: the runs differ in more than their seed, a run is not trained or lacks the players, a score is
            unknown, or it would take more than a day.
    """
    world = world or World()
    setting = _setting(runs, spec, board, world, archive)
    device, reader = device_of(world), setting.reader
    forecasts = _forecasts(runs[0], setting, spec, world)
    plan = _plan(forecasts, setting, spec, device)
    seconds = _checked_seconds(forecasts, reader, plan, len(runs), device, spec)
    board.expect("explain", seconds)
    found: list[RunValues] = []
    with board.stage("explain", f"pairs of coalitions, {duration(seconds)}", len(runs) * plan.pairs) as done:
        units = count(1)
        for run in runs:
            forecasts = forecasts if run is runs[0] else _forecasts(run, setting, spec, world)
            found.append(values_of_run(forecasts, reader, plan, device, lambda: done(next(units))))
    return _explanation(runs, spec, setting, plan, found)


def explain_into(
    runs: Sequence[RunFolder],
    spec: ExplainSpec,
    board: ProgressBoard,
    out: Path | None = None,
    archive: Path | None = None,
) -> tuple[Explanation, Path]:
    """Explain runs and write the result into a folder; return both. Arguments as of `explain_runs`.

    Args:
        out: Folder of the result; `explain/<players>-<imputation>` in the first run's folder by default, with the name
            of the split or archive unless it is the test split.

    Raises:
        BadInput: the folder can't be written, or another process writes there; see also `explain_runs`.
    """
    players = players_in(_common_config(runs), spec)
    source = archive.resolve().name if archive else spec.split
    name = "-".join([folder_name(players.text), spec.imputation, *([] if source == TEST else [source])])
    folder = checked_output(out or runs[0].path / "explain" / name, is_folder=True)
    with sole_writer(folder):
        explanation = explain_runs(runs, spec, board, archive=archive)
        write_explanation(folder, explanation)
    return explanation, folder


def _forecasts(run: RunFolder, setting: _Setting, spec: ExplainSpec, world: World) -> CoalitionForecasts:
    return CoalitionForecasts(load_model(run, world), setting.players, setting.members, spec.seed)


def _setting(
    runs: Sequence[RunFolder], spec: ExplainSpec, board: ProgressBoard, world: World, archive: Path | None
) -> _Setting:
    """Check the runs and open the reader of their windows. Raises BadInput; see `explain_runs`."""
    config = _common_config(runs)
    players = players_in(config, spec)
    set_up_torch(config.train.threads, world)
    if archive is None:
        manifest, split, source = own_shards(runs[0], spec.split), spec.split, spec.split
    else:
        name = archive.resolve().name
        manifest, split, source = archive_shards(archive, runs[0].path / "on" / name, board, world), TEST, name
    reader = build_reader(config, manifest, split, observed=True)
    require_intact(reader, config.data, world)
    return _Setting(players, spec.members or config.evaluate.members, reader, groups_of(reader), source)


def players_in(config: RunConfig, spec: ExplainSpec) -> Players:
    """Return the players of a run's input. Raises BadInput if it lacks those asked for."""
    chosen = USUAL[config.task] if spec.players is None else spec.players
    return players_of(chosen, input_spec(config, config.variables()))


def _common_config(runs: Sequence[RunFolder]) -> RunConfig:
    """Return the configuration of the first run. Raises BadInput unless the others differ from it in the seed only."""
    first, *others = configs = [run.config() for run in runs]
    for run, config in zip(runs, configs, strict=True):
        require_model(config, run.path, "explain another run")
        if not run.is_trained:
            raise BadInput("the run is not fully trained", run.path, "continue it with: polarcast train")
        if get_model(config.model["name"]).sees_truth:
            raise BadInput("its model reads the observed rain, not radar", run.path, "explain another run")
    for run, config in zip(runs[1:], others, strict=True):
        if digest(config.without_seed()) != digest(first.without_seed()):
            difference = first_difference(first.without_seed(), config.without_seed()) or "another base run"
            fix = "explain runs together that differ in seed only"
            raise BadInput(f"differs from {runs[0].path} in more than its seed: {difference}", run.path, fix)
    seen: dict[int, Path] = {}
    for run, config in zip(runs, configs, strict=True):
        if config.seed in seen:
            raise BadInput(f"has the same seed as {seen[config.seed]}: {config.seed}", run.path, "give each run once")
        seen[config.seed] = run.path
    return first


def _plan(forecasts: CoalitionForecasts, setting: _Setting, spec: ExplainSpec, device: str) -> GamePlan:
    """Choose windows, donors, scores and pixels."""
    reader, groups = setting.reader, setting.groups
    # Independent streams: another background leaves the windows as they are.
    of_windows, of_donors, of_pixels = (np.random.default_rng([spec.seed, stream]) for stream in range(3))
    explained = drawn_over_groups(groups, spec.windows, of_windows)
    if spec.background > (most := max(BACKGROUND, len(groups))):
        raise BadInput(f"{spec.background} donors of {len(groups)} windows", "--background", f"give at most {most}")
    blocks: list[Block]
    if spec.imputation == MARGINAL:
        blocks = marginal_blocks(groups, explained, spec.background, of_donors)
    else:
        blocks = conditional_blocks(reader, groups, explained, spec.background, setting.players, of_donors)
    one = reader.read(explained[:1]).to(device)
    protocol = protocol_of(reader.manifest, forecasts.forecast(one), one.heights_km)
    each = math.ceil(_PIXELS / len(explained))
    picked = {window: of_pixels.random(each) for window in explained.tolist()}
    return GamePlan(setting.players, blocks, _scores(spec, protocol), protocol, picked)


def _scores(spec: ExplainSpec, protocol: Protocol) -> list[Score]:
    """Return the scores asked for, one for each coordinate. Raises BadInput if one is not available."""
    task = "qpe" if protocol.unit == "mm/h" else "nowcast"
    chosen = [parse_score(text) for text in spec.scores or USUAL_SCORES[task]]
    for score in chosen:
        check_available(score, protocol)
    single = [of for score in chosen for of in expand(score, protocol)]
    return list(dict.fromkeys(single))


def _checked_seconds(
    forecasts: CoalitionForecasts, reader: Reader, plan: GamePlan, runs: int, device: str, spec: ExplainSpec
) -> float:
    """Return the expected time, from one pair of coalitions. Raises BadInput if it is more than a day."""
    workers = torch.get_num_threads() if device == "cpu" else 1
    seconds = runs * plan.pairs * seconds_per_pair(forecasts, reader, plan, device) / workers
    if seconds > LONG_SECONDS and not spec.may_be_long:
        what = (
            f"{len(plan.players)} players have {plan.players.coalitions:,} coalitions: "
            f"{len(plan.windows)} windows would take {duration(seconds)}"
        )
        fix = "choose fewer players, --windows or --background, or add --long to start anyway"
        raise BadInput(what, "--players", fix)
    return seconds


def duration(seconds: float) -> str:
    """Return a time in a readable unit, such as `about 3 min`."""
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"about {seconds / length:.0f} {unit}"
    return f"about {max(1, round(seconds))} s"


def _explanation(
    runs: Sequence[RunFolder], spec: ExplainSpec, setting: _Setting, plan: GamePlan, found: Sequence[RunValues]
) -> Explanation:
    config, manifest, windows = runs[0].config(), setting.reader.manifest, plan.windows
    groups = setting.groups[windows].astype(str)

    def summed(of_runs: Sequence[Array]) -> Array:
        """Add up the sums of windows by group, (k, g, s)."""
        return by_group(np.stack([of.reshape(len(of), -1) for of in of_runs]), groups)

    scores = [
        explained_score(score, summed([run.sums[number] for run in found]), plan.players, plan.protocol)
        for number, score in enumerate(plan.scores)
    ]
    forecast = absolute_values(summed([run.absolute for run in found]), plan.players)
    values, features = (np.mean([getattr(run, name) for run in found], 0) for name in ("values", "features"))
    pixels = Pixels(values.astype(np.float32), features.astype(np.float32), plan.protocol.unit)
    is_random = bool(config.bases) or get_model(config.model["name"]).trained
    return Explanation(
        runs=tuple(str(run.path) for run in runs),
        task=config.task,
        arm=config.arm,
        players=plan.players.names,
        imputation=spec.imputation,
        background={"size": spec.background, "seed": spec.seed, "from": setting.source, "data": manifest.digest()},
        windows=len(windows),
        events=len(np.unique(setting.reader.events()[windows])),
        groups=len(np.unique(groups)),
        seeds=len(runs),
        members=setting.members,
        scores=tuple(scores),
        forecast=forecast,
        pixels=pixels,
        lacks_seeds=is_random and len(runs) == 1,
    )
