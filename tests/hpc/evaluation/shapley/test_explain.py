"""Explanations of runs: efficiency, the score of the run itself, dummies, seeds, files and bad input."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import polarcast as pc
from polarcast.data.archive import open_archive
from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest, read_manifest
from polarcast.data.shards.write import write_shards
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.run import evaluate_records
from polarcast.hpc.evaluation.shapley.explain import ExplainSpec, explain_runs
from polarcast.hpc.evaluation.shapley.render import explanation_table, lines_of
from polarcast.hpc.evaluation.shapley.result import Explanation, read_explanation
from polarcast.hpc.runs import checkpoint
from polarcast.hpc.runs.build import build_model
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.event_scores import EventScores
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support.finished_run import BASELINE, DIFFUSION, UNET, finished
from tests.support.shapley_games import randomized

Command = Callable[..., tuple[int, str, str]]
TWO_SAMPLES = (*DIFFUSION, "evaluate.members=2")
NOWCAST = ("task=nowcast", "data.seen_frames=2", "data.lead_frames=2", "model.name=persistence", "train.threads=1")


@pytest.fixture(scope="module")
def storms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Shards of 28 events of four frames, 16 of them for tests."""
    root = tmp_path_factory.mktemp("storms")
    write_archive(root / "archive", 28, size=32, seed=5, preset="tiny", frames=4)
    write_shards(open_archive(root / "archive"), root / "shards", split="0.35/0.08/0.57")
    return read_manifest(root / "shards")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw fewer resamples: 5000 of 64 coalitions take most of the time, and no test here reads exact limits."""
    for name in ("DRAWS", "_FEWEST_DRAWS"):
        monkeypatch.setattr(f"polarcast.hpc.evaluation.shapley.intervals.{name}", 500)


def explain(runs: list[RunFolder], *scores: str, **chosen: object) -> Explanation:
    spec = ExplainSpec(scores=scores, **{"windows": 12, "background": 3, **chosen})  # type: ignore[arg-type]
    return explain_runs(runs, spec, ProgressBoard(Console(quiet=True)))


def random_run(storms: Manifest, folder: Path, *overrides: str) -> RunFolder:
    """Return a run with random weights, so that its forecast depends on all inputs."""
    run = finished(storms, folder, *(overrides or UNET))
    model = randomized(build_model(resolve(run.config())))
    checkpoint.save_weights(run.weights_file, model.state_dict())
    return run


def values_of(explanation: Explanation, score: str) -> np.ndarray:
    return np.array([of.value for of in explanation[score].values])


@pytest.mark.parametrize(
    "overrides", [UNET, TWO_SAMPLES, BASELINE, NOWCAST], ids=["unet", "diffusion", "law", "nowcast"]
)
def test_values_add_up_to_the_score_of_the_run(storms: Manifest, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """All windows are explained: the value with all players is the score that evaluation gives, errors negated."""
    is_rain = overrides is not NOWCAST
    threshold = 1 if is_rain else 35
    run = random_run(storms, tmp_path / "run", *overrides)
    names = ("paper_mse", f"csi@threshold={threshold}", f"fss@threshold={threshold},window=9", "nb")
    found = explain([run], *names, windows=1000, players="variables")
    usual = EventScores(evaluate_records(run, None, "test", ProgressBoard(Console(quiet=True)), World()).records)
    assert found.windows == len(storms.splits["test"]) * (4 if is_rain else 1)
    for name in names:
        score = found[name]
        assert score.full is not None
        assert score.empty is not None
        assert score.full == pytest.approx((-1 if name == "paper_mse" else 1) * usual[name], rel=1e-6)
        assert values_of(found, name).sum() == pytest.approx(score.full - score.empty, rel=1e-5, abs=1e-12)
    assert found["paper_mse"].heading.startswith("−MSE")
    assert found["nb"].heading == "NB [%] → 0"


def test_scores_by_lead_time_class_and_change(storms: Manifest, tmp_path: Path) -> None:
    nowcast = explain([finished(storms, tmp_path / "nowcast", *NOWCAST)], "csi@threshold=35,lead_time=*",
                      "hk@threshold=30,change=*", players="variables*times", windows=9, background=2)  # fmt: skip
    assert [of.score for of in nowcast.scores][:2] == ["csi@threshold=35,lead_time=6", "csi@threshold=35,lead_time=12"]
    assert sum("change" in of.score for of in nowcast.scores) > 2
    # Persistence reads zh of the last frame alone, at all heights.
    assert nowcast.players[1] == "zh frame 2"
    for score in nowcast.scores[:2]:
        given = [value.value for value in score.values]
        assert given[1] == pytest.approx(score.full)
        assert all(value == 0 for place, value in enumerate(given) if place != 1)
    rain = explain([finished(storms, tmp_path / "law", *BASELINE)], "paper_mse@class=*")
    assert len(rain.scores) == 4


def test_unread_channels_are_dummies_of_forecast_and_scores(storms: Manifest, tmp_path: Path) -> None:
    """The power law reads the lowest height only."""
    found = explain([finished(storms, tmp_path / "law", *BASELINE)], "csi@threshold=1")
    assert found.players == ("zh 1 km", "zh 3 km", "zh 7 km", "zdr 1 km", "zdr 3 km", "zdr 7 km")
    assert [value.value != 0 for value in found["csi@threshold=1"].values] == [True, False, False, True, False, False]
    assert [value.value != 0 for value in found.forecast] == [True, False, False, True, False, False]
    assert not found.pixels.values[[1, 2, 4, 5]].any()


def test_placebo_variables_have_no_value(storms: Manifest, tmp_path: Path) -> None:
    """A law fitted with ZDR of other events: the interval of ZDR contains 0. Real ZDR is worth much more."""
    found = {}
    for arm in ("dualpol", "placebo"):
        options = [f"data.shards={storms.folder}", f"arm={arm}", *BASELINE, "model.coefficients=fitted"]
        run = pc.train(load_config("demo", options), tmp_path / arm)
        explained = explain([RunFolder(run.path)], "rmse", windows=1000, players="variables")
        assert explained.players == ("zh", "zdr")
        found[arm] = explained["rmse"].values[1]
    assert found["placebo"].low <= 0 <= found["placebo"].high
    assert found["dualpol"].value > 50 * abs(found["placebo"].value)


def test_imputations_differ_and_both_add_up(storms: Manifest, tmp_path: Path) -> None:
    run = random_run(storms, tmp_path / "run")
    by_name = {
        name: explain([run], "rmse", imputation=name, players="variables") for name in ("marginal", "conditional")
    }
    for found in by_name.values():
        assert values_of(found, "rmse").sum() == pytest.approx(found["rmse"].full - found["rmse"].empty, rel=1e-5)
    assert by_name["marginal"]["rmse"].full == by_name["conditional"]["rmse"].full
    assert values_of(by_name["marginal"], "rmse") != pytest.approx(values_of(by_name["conditional"], "rmse"), rel=1e-3)


def test_results_depend_on_the_seed_only(storms: Manifest, tmp_path: Path) -> None:
    run = random_run(storms, tmp_path / "run", *DIFFUSION)
    first, again, other = (explain([run], "crps", players="variables", seed=seed) for seed in (0, 0, 1))
    assert first == again
    np.testing.assert_array_equal(first.pixels.values, again.pixels.values)
    assert first != other


def test_threads_change_nothing(storms: Manifest, tmp_path: Path) -> None:
    runs = [random_run(storms, tmp_path / threads, *UNET, f"train.threads={threads}") for threads in ("1", "2")]
    threads = torch.get_num_threads()
    try:
        one, two = (explain([run], "rmse", players="heights") for run in runs)
    finally:
        torch.set_num_threads(threads)
    assert one.scores == two.scores


def test_several_seeds_share_windows_and_widen_the_interval(storms: Manifest, tmp_path: Path) -> None:
    runs = [random_run(storms, tmp_path / str(seed), *UNET, f"seed={seed}") for seed in (0, 1, 2)]
    alone, together = explain(runs[:1], "rmse", players="variables"), explain(runs, "rmse", players="variables")
    assert (alone.lacks_seeds, alone.seeds) == (True, 1)
    assert (together.lacks_seeds, together.seeds) == (False, 3)
    assert together.pixels.features.tolist() == alone.pixels.features.tolist()
    assert lines_of(alone)[0][-1] == "events' interval"
    assert lines_of(together)[0][-1] == "95% interval"


def test_runs_must_differ_in_their_seed_only(storms: Manifest, tmp_path: Path) -> None:
    first, other = (
        random_run(storms, tmp_path / "first"),
        random_run(storms, tmp_path / "other", *UNET, "data.balance=0.5", "seed=1"),
    )
    with pytest.raises(BadInput, match=r"in more than its seed: data\.balance"):
        explain([first, other])
    with pytest.raises(BadInput, match="has the same seed as"):
        explain([first, RunFolder(first.path)])


def test_python_and_command_line_write_the_same(storms: Manifest, tmp_path: Path, polarcast_here: Command) -> None:
    run = random_run(storms, tmp_path / "run")
    options = ("--players", "variables", "--windows", "8", "--background", "3", "--scores", "csi@threshold=1")
    code, out, err = polarcast_here("explain", str(run.path), *options, "--json")
    assert code == 0, err
    folder = run.path / "explain" / "variables-marginal"
    shown, stored = json.loads(out), json.loads((folder / "explain.json").read_text())
    assert shown == {"folder": str(folder), **stored, "figures": shown["figures"]}
    assert all(Path(figure).is_file() for figure in shown["figures"])
    assert stored["format"] == "polarcast-explain/1"
    assert stored["background"] == {"size": 3, "seed": 0, "from": "test", "data": storms.digest()}
    opened = pc.open_run(run.path).explain(
        players="variables", windows=8, background=3, scores=["csi@threshold=1"], out=tmp_path / "python"
    )
    assert opened == read_explanation(folder) == read_explanation(tmp_path / "python")
    np.testing.assert_array_equal(opened.pixels.values, read_explanation(folder).pixels.values)
    code, out, _ = polarcast_here("explain", str(run.path), *options)
    assert code == 0
    assert "events' interval" in out
    assert "8 windows of 8 events" in out
    assert explanation_table(opened).row_count == len(lines_of(opened)[1])


def test_an_archive_is_explained_beside_the_test_split(storms: Manifest, tmp_path: Path) -> None:
    run = finished(storms, tmp_path / "run", *BASELINE)
    found = pc.open_run(run.path).explain(archive=storms.folder, windows=6, background=1, scores=["rmse"])
    assert found.background["from"] == storms.folder.name
    assert read_explanation(run.path / "explain" / f"channels-marginal-{storms.folder.name}") == found


def test_pixels_are_attributions_at_echo(storms: Manifest, tmp_path: Path) -> None:
    found = explain([finished(storms, tmp_path / "law", *BASELINE)], "rmse", players="variables")
    pixels = found.pixels
    assert pixels.unit == "mm/h"
    assert pixels.values.shape == pixels.features.shape
    assert pixels.values.shape[1] >= 2000
    assert (pixels.features != 0).any(0).all()
    # Where zh of this window is high, it adds rain.
    assert np.corrcoef(pixels.values[0], pixels.features[0])[0, 1] > 0.2


BAD = {
    "run without the players": (("--players", "times"), "times divides the input into one player"),
    "unknown players": (("--players", "colours"), "unknown players 'colours'"),
    "too many players": (("--players", "channels*times=9"), "times=9 divides the input into one player"),
    "unknown imputation": (("--imputation", "mean"), "unknown imputation 'mean'"),
    "unknown score": (("--scores", "skill"), "unknown metric 'skill'"),
    "score of an ensemble": (("--scores", "spread_skill"), "it needs an ensemble"),
    "no window": (("--windows", "0"), "0 is out of range"),
    "no donor": (("--background", "0"), "0 is out of range"),
    "unknown split": (("--split", "tests"), "unknown split 'tests'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, storms: Manifest, tmp_path: Path, polarcast_here: Command) -> None:
    options, line = BAD[case]
    run = finished(storms, tmp_path / "run", *BASELINE)
    code, out, err = polarcast_here("explain", str(run.path), *options)
    assert (code, out) == (2, "")
    assert line in err
    assert err.count("\n") == 1
    assert not (run.path / "explain").exists()


def test_what_takes_days_is_refused_with_the_time(
    storms: Manifest, tmp_path: Path, polarcast_here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished(storms, tmp_path / "run", *BASELINE)
    monkeypatch.setattr("polarcast.hpc.evaluation.shapley.explain.seconds_per_pair", lambda *_: 86_400.0)
    few = ("--windows", "4", "--background", "3", "--players", "variables", "--scores", "rmse")
    code, _, err = polarcast_here("explain", str(run.path), *few)
    assert code == 2
    assert "2 players have 4 coalitions: 4 windows would take about 2 days" in err
    assert err.count("\n") == 1
    assert polarcast_here("explain", str(run.path), *few, "--long")[0] == 0


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    storms: Manifest, tmp_path: Path, polarcast_here: Command
) -> None:
    run = finished(storms, tmp_path / "run", *BASELINE)
    (tmp_path / "file").write_text("")
    code, _, err = polarcast_here("explain", str(run.path), "--out", str(tmp_path / "file"))
    assert (code, err.count("\n")) == (2, 1)
    assert "is not a folder" in err
    assert polarcast_here("explain", str(tmp_path / "missing"))[0] == 2
    run.weights_file.unlink()
    assert "not fully trained" in polarcast_here("explain", str(run.path))[2]


@pytest.mark.parametrize("damage", ["format", "player", "text", "pixels"])
def test_damaged_files_are_refused(damage: str, storms: Manifest, tmp_path: Path) -> None:
    run = pc.Run(finished(storms, tmp_path / "run", *BASELINE).path)
    run.explain(windows=4, background=1, scores=["rmse"], players="variables", out=tmp_path / "out")
    file = tmp_path / "out" / "explain.json"
    content = json.loads(file.read_text())
    if damage == "format":
        content["format"] = "polarcast-explain/9"
    if damage == "player":
        content["players"] = ["zh", "kdp"]
    if damage == "pixels":
        (tmp_path / "out" / "pixels.npz").write_bytes(b"PK")
    file.write_text("{" if damage == "text" else json.dumps(content))
    with pytest.raises(BadInput):
        read_explanation(tmp_path / "out")
    with pytest.raises(BadInput, match="no explanation"):
        read_explanation(tmp_path)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"windows": 1}, {"background": 0}, {"seed": -1}, {"members": 0}, {"imputation": "mean"}):
        with pytest.raises(BadInput):
            replace(ExplainSpec(), **wrong)
