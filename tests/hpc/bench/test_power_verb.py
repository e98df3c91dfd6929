"""`polarcast power` on a small suite of physical baselines, and on score records of several seeds."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.figures.power import draw_powers
from polarcast.hpc.bench.power.answers import Effect, PowerOfScore, PowerSettings, answers
from polarcast.hpc.bench.power.render import cell, sentences_of
from polarcast.hpc.bench.power.sides import power_of, sides_of_runs, sides_of_suite
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.config.load import load_config
from polarcast.hpc.config.schema import BaseRun
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records, read_records, write_records
from polarcast.hpc.scores.stats.aggregation import POOLED
from polarcast.hpc.scores.stats.paired import Sums, compared
from polarcast.hpc.scores.stats.power import Needed
from tests.support import warm
from tests.support.small_suite import BASELINES, run_small_suite

COMMAND = [sys.executable, "-m", "polarcast.hpc.cli"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_small_suite(tmp_path_factory.mktemp("suites"), BASELINES)


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of three seeds of each arm, which differ by chance."""
    root = tmp_path_factory.mktemp("runs")
    for arm in ("radar", "dualpol"):
        records = read_records(next(folder.glob(f"cells/published-{arm}-*/scores.parquet")))
        for seed in range(3):
            write_records(root / f"{arm}{seed}.parquet", shaken(records, seed + 10 * (arm == "radar")))
    return root


def shaken(records: Records, seed: int) -> Records:
    rng, sums = np.random.default_rng(seed), records.sums["continuous"]
    factor = np.ones(sums.shape)
    factor[..., 3:5] *= rng.lognormal(0, 0.03) * rng.lognormal(0, 0.1, (len(records.events), 1, 1, 1, 1))
    return replace(records, sums={**records.sums, "continuous": sums * factor})


def power(*options: object) -> tuple[int, str, str]:
    done = warm.run([*COMMAND, "power", *map(str, options)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_suite_gives_a_table_and_a_picture(folder: Path, tmp_path: Path) -> None:
    code, out, _ = power(folder, "--out", tmp_path / "plan")
    assert code == 0
    assert "Events that show a gain with 80% power: published, dual-pol vs radar" in out
    for words in ("RMSE", "CSI ≥ 10 mm/h", "5% lower", "+0.02", "detectable now"):
        assert words in out
    assert (tmp_path / "plan" / "power-1-published.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((tmp_path / "plan" / "power.json").read_text())
    assert {row["score"] for row in kept["rows"]} == {
        "rmse", "paper_rbias", "csi@threshold=10", "csi@threshold=30"}  # fmt: skip


def test_the_detectable_effect_is_that_of_the_table(folder: Path) -> None:
    [sides] = sides_of_suite(folder, "radar", "dualpol")
    [found] = answers(sides, ["rmse"], PowerSettings())
    pair = compared(*(Sums.of(parse_score("rmse"), run) for run in (sides.first, sides.second)), POOLED)
    assert found.detectable == pytest.approx(-pair.detectable, rel=0.05)
    assert found.groups == 32
    assert not found.lacks_seeds


def test_records_of_several_seeds(runs: Path) -> None:
    words = [word for arm in ("radar", "dualpol") for seed in range(3)
             for word in ("--first" if arm == "radar" else "--second", runs / f"{arm}{seed}.parquet")]  # fmt: skip
    code, out, _ = power(*words, "--scores", "rmse", "--effects", "30%,60%", "--seeds", "3", "--seeds", "8", "--json")
    assert code == 0
    [row] = json.loads(out)["rows"]
    assert (row["seeds"], row["groups"], row["lacks_seeds"]) == (3, 32, False)
    assert [gain["gain"] for gain in row["gains"]] == ["30% lower", "60% lower"]
    assert [need["seeds"] for need in row["gains"][0]["needs"]] == [3, 8]
    needed = row["gains"][0]["needs"]
    assert needed[0]["groups"] >= needed[1]["groups"] >= 10
    assert 0 < row["share_of_seeds"] < 1


def test_one_seed_gives_the_events_part_only(runs: Path) -> None:
    code, out, _ = power("--first", runs / "radar0.parquet", "--second", runs / "dualpol0.parquet", "--scores", "rmse")
    assert code == 0
    assert "events' part only" in out
    assert "runs differ between seeds by an unknown amount" in out
    [answer] = answers(sides_of_runs([runs / "radar0.parquet"], [runs / "dualpol0.parquet"]), ["rmse"], PowerSettings())
    assert answer.lacks_seeds
    assert all("the spread over seeds is unknown" in sentence for sentence in sentences_of(answer))


def test_run_folders_tell_whether_they_are_trained(folder: Path) -> None:
    radar, dualpol = (next(folder.glob(f"cells/published-{arm}-*")) for arm in ("radar", "dualpol"))
    sides = sides_of_runs([radar], [dualpol])
    assert sides.trained == (False, False)


def test_groups_of_several_events(runs: Path) -> None:
    sides = sides_of_runs([runs / "radar0.parquet"], [runs / "dualpol0.parquet"])
    groups = np.array([f"day{i // 2}" for i in range(32)])
    by_day = replace(
        sides, first=tuple(replace(r, groups=groups) for r in sides.first),
        second=tuple(replace(r, groups=groups) for r in sides.second),
    )  # fmt: skip
    [answer] = answers(by_day, ["rmse"], PowerSettings())
    assert (answer.groups, answer.events_per_group) == (16, 2)
    need = answer.as_row()["gains"][0]["needs"][0]
    assert need["events"] == pytest.approx(2 * need["groups"])
    assert "groups of events" in sentences_of(answer)[0]


def test_percent_of_a_skill_score_is_of_the_reference(folder: Path) -> None:
    [sides] = sides_of_suite(folder, "radar", "dualpol", ["published"])
    settings = PowerSettings(effects=(Effect.parse("10%"),))
    [answer] = answers(sides, ["csi@threshold=10"], settings)
    assert answer.gains[0].size == pytest.approx(0.1 * answer.reference)


def test_rows_of_a_report_come_from_records_in_memory(folder: Path, tmp_path: Path) -> None:
    [sides] = sides_of_suite(folder, "radar", "dualpol")
    scores = {("published", "radar"): sides.first, ("published", "dualpol"): sides.second}
    rows = power_of(saved_suite(folder), scores, ["rmse"])
    assert [(row.model, row.score) for row in rows] == [("published", "rmse")]
    assert [path.name for path in draw_powers(tmp_path, rows, PowerSettings())] == ["power-1-published.png"]


def test_part_of_a_suite_suffices(folder: Path) -> None:
    """The arms of `fitted` are not complete, and it is left out."""
    assert [sides.model for sides in sides_of_suite(folder, "radar", "dualpol")] == ["published"]
    [across] = sides_of_suite(folder, "published:dualpol", "fitted:dualpol")
    assert across.label == "fitted, dual-pol vs published, dual-pol"


@pytest.mark.parametrize(("need", "text"), [
    (Needed(60, 40, 110), "60 (40–110)"), (Needed(1234, 1000, 2345), "1,300 (1,000–2,400)"),
    (Needed(10, 10, 10), "10"), (Needed(60, 40, np.inf), "60 (40–∞)"),
    (Needed(np.inf, np.inf, np.inf), "none"), (Needed(np.inf, 750, np.inf), "none (750–∞)"),
])  # fmt: skip
def test_numbers_are_rounded_up_to_two_digits(need: Needed, text: str) -> None:
    assert cell(need) == text


def test_sentences_name_the_fewest_seeds(runs: Path) -> None:
    files = [[runs / f"{arm}{seed}.parquet" for seed in range(3)] for arm in ("radar", "dualpol")]
    settings = PowerSettings(effects=(Effect.parse("1%"), Effect.parse("60%")), seeds=(2, 8))
    [answer] = answers(sides_of_runs(*files), ["rmse"], settings)
    never, possible = sentences_of(answer)
    assert "not with 8 seeds, whatever the number of events" in never
    assert "with " in possible
    assert isinstance(answer, PowerOfScore)
    found = replace(answer.gains[1], groups={8: Needed(80, 60, 100), 3: Needed(110, 90, 150)})
    [sentence] = sentences_of(replace(answer, gains=(found,)))
    assert sentence.endswith("110 (90–150) events with 3 seeds.")


@pytest.mark.parametrize(("options", "words"), [
    (("--effects", "0%"), "0% is not a gain above 0"),
    (("--effects", "many"), "'many' is not an effect"),
    (("--effects", "120%"), "would leave nothing"),
    (("--effects", "0.02", "--scores", "rmse"), "is an error, which is compared as a ratio"),
    (("--effects", "3", "--scores", "csi@threshold=10"), "can't differ by 3"),
    (("--scores", "csi"), "'csi' is not a score"),
    (("--scores", "brier@threshold=10"), "these records do not contain brier"),
    (("--scores", "csi@threshold=*"), "is several scores"),
    (("--seeds", "1"), "one seed does not show the spread over seeds"),
    (("--power", "1.2"), "1.2 is out of range"),
    (("--models", "unet"), "unknown model 'unet'"),
    (("--first", "nonsense"), "nonsense is not run in this suite"),
    (("--first", "radar", "--first", "dualpol"), "a suite has one arm on each side"),
])  # fmt: skip
def test_wrong_calls_end_in_one_line(folder: Path, options: tuple[str, ...], words: str) -> None:
    code, _, problem = power(folder, *options)
    assert code == 2
    assert words in problem.splitlines()[-1]


def test_records_that_can_not_be_compared(runs: Path, tmp_path: Path) -> None:
    records = read_records(runs / "radar0.parquet")
    some = {name: sums[:5] for name, sums in records.sums.items()}
    write_records(tmp_path / "part.parquet", replace(records, events=records.events[:5], sums=some,
                                                     groups=records.groups[:5]))  # fmt: skip
    for name in ("one", "other"):
        write_records(tmp_path / f"{name}.parquet", replace(records, groups=np.full(32, "day")))
    (tmp_path / "damaged.parquet").write_bytes(b"nothing")
    for first, second, words in (
        (runs / "radar0.parquet", tmp_path / "part.parquet", "scored on different events"),
        (runs / "radar0.parquet", runs / "radar0.parquet", "is on both sides"),
        (tmp_path / "one.parquet", tmp_path / "other.parquet", "a single group of events has no spread"),
        (tmp_path / "damaged.parquet", runs / "radar0.parquet", "is damaged"),
        (tmp_path, runs / "radar0.parquet", "not a run"),
        (tmp_path / "lost.parquet", runs / "radar0.parquet", "not evaluated yet"),
    ):
        code, _, problem = power("--first", first, "--second", second, "--scores", "rmse")
        assert code == 2
        assert words in problem.splitlines()[-1]


def test_a_call_without_runs_and_a_folder_that_is_no_suite(tmp_path: Path) -> None:
    for options, words in (((), "give a suite, or runs of both sides"), ((tmp_path,), "not a suite")):
        code, _, problem = power(*options)
        assert code == 2
        assert words in problem.splitlines()[-1]


def test_equal_sides_have_no_answer(runs: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "copy.parquet", read_records(runs / "radar0.parquet"))
    code, out, _ = power("--first", runs / "radar0.parquet", "--second", tmp_path / "copy.parquet", "--scores", "rmse")
    assert code == 0
    assert "the sides do not differ" in out


def test_runs_of_one_side_may_differ_in_the_seed_of_their_base_only(runs: Path, tmp_path: Path) -> None:
    def run(name: str, seed: int, *base: str) -> Path:
        on = BaseRun("", load_config("demo", [f"seed={seed}", *base]))
        residual = {"seed": seed, "model": {"name": "residual_diffusion"}, "base": asdict(on)}
        RunFolder(tmp_path / name).start(load_config("demo", residual))
        write_records(tmp_path / name / "scores.parquet", read_records(runs / f"radar{seed}.parquet"))
        return tmp_path / name

    second = [runs / "dualpol0.parquet"]
    first = [run("a", 0), run("b", 1)]
    assert len(sides_of_runs(first, second).first) == 2
    with pytest.raises(BadInput, match="differ in more than their seed"):
        sides_of_runs([*first, run("c", 2, "model.name=power_law")], second)
