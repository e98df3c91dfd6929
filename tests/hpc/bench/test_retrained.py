"""Shapley values by retraining: values by hand, the runs that make a game, and a small suite of all subsets."""

import json
from dataclasses import replace
from io import StringIO
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.contrasts import Run
from polarcast.hpc.bench.games import find_game
from polarcast.hpc.bench.retrained import draw_retrained, explain_game, explain_suite, retrained_table, retrained_values
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.evaluation.shapley.result import Pixels, PlayerValue, read_explanation, write_explanation
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records
from tests.hpc.bench.test_display import records
from tests.support import warm
from tests.support.small_suite import run_small_suite
from tests.support.warm import polarcast

VARIABLES = {"furenet/radar": ["zh"], "furenet/dualpol": ["zh", "zdr", "kdp"], "zdr/dualpol": ["zdr"],
             "kdp/dualpol": ["kdp"], "zh_zdr/dualpol": ["zh", "zdr"], "zh_kdp/dualpol": ["zh", "kdp"],
             "zdr_kdp/dualpol": ["zdr", "kdp"]}  # fmt: skip
NOISE = {"furenet/radar": 3.0, "furenet/dualpol": 1.0, "zdr/dualpol": 3.5, "kdp/dualpol": 2.8, "zh_zdr/dualpol": 2.0,
         "zh_kdp/dualpol": 1.6, "zdr_kdp/dualpol": 2.6, "persistence/radar": 5.0}  # fmt: skip
SCORES = ("rmse", "csi@threshold=10")


def run_of(name: str) -> Run:
    model, arm = name.split("/")
    return model, arm


def config(name: str, **settings: object) -> RunConfig:
    model, arm = name.split("/")
    if model == "persistence":
        return load_config("demo", {"task": "nowcast", "arm": arm, "model": {"name": "persistence"}})
    variables = None if model == "furenet" else VARIABLES[name]
    model_of = {"name": "furenet", "widths": [4, 8], "squeeze": 2, **settings}
    return load_config("demo", {"task": "nowcast", "arm": arm, "model": model_of, "data": {"variables": variables}})


CONFIGS = {run_of(name): config(name) for name in ["persistence/radar", *VARIABLES]}
RUNS = {run_of(name): [records(noise, seed) for seed in (0, 1, 2)] for name, noise in NOISE.items()}


def value(score: str, *names: str) -> float:
    """Score of a subset of the variables, pooled over its seeds; higher is better."""
    [name] = [n for n, of in VARIABLES.items() if set(of) == set(names)] or ["persistence/radar"]
    parsed, runs = parse_score(score), RUNS[run_of(name)]
    pooled = np.mean([parsed.sums(run).sum(0) for run in runs], 0)
    found = float(parsed.of(pooled, runs[0].protocol))
    return -found if score == "rmse" else found


def test_values_given_zh_are_those_computed_by_hand() -> None:
    game = find_game(CONFIGS)
    assert (game.players, game.given, game.empty) == (("zdr", "kdp"), ("zh",), "")
    explanation = explain_game(game, RUNS, SCORES, "nowcast").explanation
    for score in SCORES:
        zh, zdr, kdp, both = (value(score, "zh", *more) for more in ((), ("zdr",), ("kdp",), ("zdr", "kdp")))
        by_hand = {"zdr": ((zdr - zh) + (both - kdp)) / 2, "kdp": ((kdp - zh) + (both - zdr)) / 2}
        found = explanation[score]
        assert {of.player: of.value for of in found.values} == pytest.approx(by_hand, rel=1e-10)
        assert (found.empty, found.full) == (pytest.approx(zh), pytest.approx(both))
        for of in found.values:
            assert of.low is not None
            assert of.high is not None
            assert of.low < of.value < of.high  # type: ignore[operator]
    assert explanation["rmse"].heading == "−RMSE [mm/h] ↑"
    assert (explanation.seeds, explanation.groups, explanation.lacks_seeds) == (3, 20, False)


def test_values_from_a_named_reference_are_means_over_all_orders_of_the_variables() -> None:
    game = find_game(CONFIGS, empty="persistence")
    assert (game.players, game.given) == (("zh", "zdr", "kdp"), ())
    explanation = explain_game(game, RUNS, SCORES).explanation
    for score in SCORES:
        orders = list(permutations(game.players))
        for player in game.players:
            gains = []
            for order in orders:
                before = order[: order.index(player)]
                gains.append(value(score, *before, player) - value(score, *before))
            [of] = [of for of in explanation[score].values if of.player == player]
            assert of.value == pytest.approx(np.mean(gains), rel=1e-10)
        found = explanation[score]
        assert sum(of.value for of in found.values) == pytest.approx(found.full - found.empty)  # type: ignore[operator, misc]


def test_a_reference_without_randomness_needs_no_seeds() -> None:
    runs = {**RUNS, ("persistence", "radar"): RUNS["persistence", "radar"][:1]}
    game = find_game(CONFIGS, empty="persistence")
    fixed, trained = (explain_game(game, runs, ["mae"], fixed=fixed).explanation for fixed in (["persistence"], []))
    assert (fixed.seeds, fixed.lacks_seeds) == (3, False)
    assert (trained.seeds, trained.lacks_seeds) == (1, True)


def test_values_are_read_as_written(tmp_path: Path) -> None:
    explanation = explain_game(find_game(CONFIGS), RUNS, ["rmse"]).explanation
    write_explanation(tmp_path, explanation)
    assert read_explanation(tmp_path) == explanation


def test_a_variable_that_changes_nothing_has_an_interval_around_zero() -> None:
    runs = {**RUNS, run_of("zh_zdr/dualpol"): RUNS["furenet", "radar"], run_of("zh_kdp/dualpol"): [records(1.0, 9)],
            run_of("furenet/dualpol"): [records(1.0, 10)]}  # fmt: skip
    explanation = explain_game(find_game(CONFIGS), runs, SCORES).explanation
    for score in SCORES:
        zdr, kdp = explanation[score].values
        assert zdr.low <= 0 <= zdr.high  # type: ignore[operator]
        assert kdp.low > 0  # type: ignore[operator]
    assert explanation.lacks_seeds


def test_seeds_widen_the_intervals() -> None:
    """Runs of one subset that differ between seeds tell less than equal ones."""
    narrow, wide = (
        {**RUNS, ("furenet", "dualpol"): [records(1.0 + step * spread, seed) for step, seed in enumerate((0, 1, 2))]}
        for spread in (0.0, 0.5)
    )
    widths = []
    for runs in (narrow, wide):
        found = explain_game(find_game(CONFIGS), runs, ["rmse"]).explanation["rmse"].values[0]
        widths.append(found.high - found.low)  # type: ignore[operator]
    assert widths[1] > 1.5 * widths[0]


def test_missing_subsets_are_named_in_one_line() -> None:
    without = {run: of for run, of in CONFIGS.items() if run[0] not in ("zh_zdr", "zdr")}
    with pytest.raises(BadInput, match=r"no scored run with furenet's other settings has the inputs ZH\+ZDR"):
        find_game(without)
    with pytest.raises(BadInput, match="has the inputs ZDR, ZH\\+ZDR"):
        find_game(without, empty="persistence")


def test_runs_of_other_settings_are_no_coalition() -> None:
    other = {run: config("/".join(run), squeeze=3) if run[0] == "zh_kdp" else of for run, of in CONFIGS.items()}
    with pytest.raises(BadInput, match="ZH\\+KDP"):
        find_game(other)
    with pytest.raises(BadInput, match="no scored runs of zh_kdp differ only in their input variables"):
        find_game(other, model="zh_kdp")
    with pytest.raises(BadInput, match="no scored model 'climatology'"):
        find_game(CONFIGS, empty="climatology")


def test_without_a_common_variable_the_start_must_be_named() -> None:
    without = {run: of for run, of in CONFIGS.items() if run != ("furenet", "radar")}
    with pytest.raises(BadInput, match="no variable in common"):
        find_game(without)


def test_the_placebo_is_no_subset() -> None:
    placebo = {("furenet", "placebo"): config("furenet/placebo"), **CONFIGS}
    assert find_game(placebo).runs[-1] == ("furenet", "dualpol")


def test_records_of_other_events_are_refused() -> None:
    short = RUNS["zh_zdr", "dualpol"][0]
    some = Records(short.protocol, short.events[:9], {name: of[:9] for name, of in short.sums.items()})
    with pytest.raises(BadInput, match="different events"):
        explain_game(find_game(CONFIGS), {**RUNS, ("zh_zdr", "dualpol"): [some]}, ["rmse"])


SUITE = """
arms: [radar, dualpol]
seeds: [0]
data:
  synth: {events: 8, frames: 2, size: 32, preset: tiny, seed: 1}
  split: 0.34/0.16/0.5
models:
  law: {label: Z-R law, arms: [radar], set: {model: {name: power_law}}}
  net:
    label: net
    set:
      match_params: false
      model: &model {name: unet, widths: [4, 8]}
      train: &train {steps: 1, validate_every: 1, warmup_steps: 0, global_batch: 2, micro_batch: 2, threads: 1}
  zdr:
    label: ZDR alone
    arms: [dualpol]
    set: {match_params: false, model: *model, train: *train, data: {variables: [zdr]}}
tables:
  all: {title: All, metrics: [rmse]}
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small_suite(tmp_path_factory.mktemp("retrained"), SUITE)


@pytest.mark.journey
def test_a_suite_that_trains_all_subsets_explains_its_variables(suite: Path) -> None:
    given_zh, all_from_law = retrained_values(suite), retrained_values(suite, empty="law")
    assert (given_zh.game.players, given_zh.game.baseline) == (("zdr",), "ZH alone")
    assert (all_from_law.game.players, all_from_law.game.baseline) == (("zh", "zdr"), "the score of law")
    runs = [Path(run).name.split("-s0")[0] for run in all_from_law.explanation.runs]
    assert runs == ["law-radar", "net-radar", "zdr-dualpol", "net-dualpol"]
    names = [score.score for score in all_from_law.explanation.scores]
    assert names[0] == "rmse"
    assert any("class=" in name for name in names)
    for found in (given_zh, all_from_law):
        assert found.coalitions.shape == (len(names), 2 ** len(found.game.players))
        rmse = found.explanation["rmse"]
        assert sum(of.value for of in rmse.values) == pytest.approx(rmse.full - rmse.empty)  # type: ignore[operator, misc]
    assert [score.score for score in retrained_values(suite, ["mae"]).explanation.scores] == ["mae"]
    with pytest.raises(BadInput, match="do not contain"):
        retrained_values(suite, ["csi@threshold=10,change=grows"])


@pytest.mark.journey
def test_values_by_imputation_stand_beside_those_by_retraining(suite: Path, tmp_path: Path) -> None:
    found, folder = explain_suite(suite, ["rmse", "mae"], empty="law")
    assert folder == suite / "explain" / "retrained-law"
    assert read_explanation(folder) == found.explanation
    assert not found.masked
    [run] = [Path(run) for run in found.explanation.runs if "net-dualpol" in run]
    masked = replace(found.explanation, imputation="marginal", windows=9, scores=found.explanation.scores[:1])
    write_explanation(run / "explain" / "variables-marginal", masked)
    other = replace(masked, players=("zh 1 km",), scores=(), forecast=(PlayerValue("zh 1 km", 1.0),))
    other = replace(other, pixels=Pixels(*(np.zeros((1, 0), np.float32),) * 2, "mm/h"))
    write_explanation(run / "explain" / "heights-marginal", other)
    beside = retrained_values(suite, ["rmse", "mae"], empty="law")
    assert beside.masked == (masked,)
    console = Console(width=200, file=StringIO())
    console.print(retrained_table(beside))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "retrained" in text
    assert "marginal" in text
    assert [path.name for path in draw_retrained(tmp_path, beside)] == ["shapley_scores.png", "shapley_beside.png"]


@pytest.mark.journey
def test_the_verb_explains_a_suite(suite: Path, tmp_path: Path) -> None:
    options = ["--retrained", "--empty", "law", "--scores", "mae", "--out", tmp_path / "out", "--json"]
    done = warm.run(polarcast("explain", suite, *options), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["players"], record["given"], record["empty"]) == (["zh", "zdr"], [], "law")
    written = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert {name: record[name] for name in written} == written
    refused = {
        ("--retrained", "--players", "variables"): "--players: does not belong to --retrained",
        ("--model", "net"): "--model: belongs to --retrained",
        ("--retrained", suite / "cells"): "--retrained: 2 folders",
        ("--retrained", "--empty", "nothing"): "--empty: no scored model 'nothing'",
    }
    for given, message in refused.items():
        done = warm.run(polarcast("explain", suite, *given), capture_output=True, text=True, timeout=120)
        assert (done.returncode, message in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
