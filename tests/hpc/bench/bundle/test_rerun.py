"""Cells trained anew: equal on this machine, and a forgery that no computation from the records can find is found."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.archive import Archive
from polarcast.data.errors import BadInput
from polarcast.data.synth.generate import write_archive
from polarcast.hpc.bench.bundle.luck import (
    DIFFERS,
    EQUAL,
    ROUNDED,
    compared_sums,
    contradiction,
    headline_table,
    judged,
    limits,
)
from polarcast.hpc.bench.bundle.note import Bundle
from polarcast.hpc.bench.bundle.rerun import drawn_cells, rerun, without_places
from polarcast.hpc.bench.bundle.verify import open_bundle, verified
from polarcast.hpc.bench.bundle.write import write_bundle
from polarcast.hpc.bench.cells import SuiteFolder, cells_of
from polarcast.hpc.bench.rescore import saved_suite
from polarcast.hpc.bench.run import finished_tables
from polarcast.hpc.scores.continuous import MOMENTS
from polarcast.hpc.scores.records import Records, read_records, write_records
from polarcast.hpc.utils.console import stderr
from polarcast.hpc.utils.progress import ProgressBoard
from tests.support.small_suite import run_small_suite

Here = Callable[..., tuple[int, str, str]]


def forged(records: Records, factor: float) -> Records:
    """Return records with smaller squared errors, and with the other sums of moments that go with them."""
    continuous = records.sums["continuous"].copy()
    error, product = (MOMENTS.index(name) for name in ("sum_sq_error", "sum_obs_fc"))
    continuous[..., product] += (1 - factor) / 2 * continuous[..., error]
    continuous[..., error] *= factor
    return replace(records, sums={**records.sums, "continuous": continuous})


def forge(folder: Path, file: Path, start: str, factor: float) -> None:
    """Change the records of runs of a suite, write its tables again, and bundle it."""
    for scores in (folder / "cells").glob(f"{start}*/scores.parquet"):
        write_records(scores, forged(read_records(scores), factor))
    suite = saved_suite(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polarcast.hpc.bench.figures.drawn.drawn_or_draw", lambda *_: [])
        finished_tables(suite, SuiteFolder(folder, suite.data))
    write_bundle(folder, file)


@pytest.fixture
def board() -> ProgressBoard:
    console = stderr()
    console.quiet = True
    return ProgressBoard(console)


@pytest.mark.acceptance
def test_an_honest_bundle_is_confirmed_and_a_forged_one_is_not(
    finished: Path, bundled: Path, tmp_path: Path, board: ProgressBoard, polarcast_here: Here
) -> None:
    code, out, _ = polarcast_here("bench", "verify", bundled, "--rerun", 1, "--seed", 4, "--json")
    honest = json.loads(out)["rerun"]
    assert (code, honest["ok"], honest["seed"], honest["drawn_from"]) == (0, True, 4, 3)
    [one] = honest["results"]
    assert (one["sums"], one["scores"]) == (EQUAL, [])

    shutil.copytree(finished, tmp_path / "forged")
    forge(tmp_path / "forged", tmp_path / "forged.zip", "unet-", 0.9)
    with open_bundle(tmp_path / "forged.zip") as opened:
        assert verified(opened).is_ok  # the tables follow from the forged records
        found = rerun(opened, 1, next(finished.glob("data-*/shards")), 4, tmp_path / "again", board)
    assert not found.is_ok
    [result] = found.results
    assert (result.cell, result.sums) == (one["cell"], DIFFERS)
    rmse = result.scores[0]
    assert rmse.score == "rmse"
    assert rmse.recorded == pytest.approx(rmse.again * 0.9**0.5)
    assert result.sentence.endswith("spectrum and crps are equal and continuous not, which no training explains")
    assert found.recorded_on == found.here
    assert list((tmp_path / "again" / "cells").glob(f"{result.cell}/scores.parquet"))


def test_options_of_a_rerun(bundled: Path, tmp_path: Path, polarcast_here: Here) -> None:
    assert "--seed: needs --rerun" in polarcast_here("bench", "verify", bundled, "--seed", 1)[2]
    assert "--rerun: -1 is below 0" in polarcast_here("bench", "verify", bundled, "--rerun", -1)[2]
    assert "--seed: -1 is below 0" in polarcast_here("bench", "verify", bundled, "--rerun", 1, "--seed", -1)[2]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    code, _, err = polarcast_here("bench", "verify", bundled, "--rerun", 1, "--out", tmp_path / "full")
    assert code == 2
    assert "exists and is not empty" in err


def test_other_data_are_refused_before_training(bundled: Path, tmp_path: Path, board: ProgressBoard) -> None:
    write_archive(tmp_path / "other", 16, size=32, seed=6, preset="tiny", frames=1)
    with open_bundle(bundled) as one, pytest.raises(BadInput, match=r"has the digest .* the data of the bundle"):
        rerun(one, 1, tmp_path / "other", 0, tmp_path / "out", board)
    with open_bundle(bundled) as one:
        data = replace(one.suite.data, archive="…/NJU-CPOL")
        with pytest.raises(BadInput, match=r"its data were not made by polarcast .* --archive"):
            rerun(replace(one, suite=replace(one.suite, data=data)), 1, None, 0, tmp_path / "none", board)
        data = replace(one.suite.data, synth=replace(one.suite.data.synth, events=10**6))
        with pytest.raises(BadInput, match=r"asks for 1000000 events, .* its manifest lists 16 events"):
            rerun(replace(one, suite=replace(one.suite, data=data)), 1, None, 0, tmp_path / "many", board)
        fitted = [cell for cell in one.cells if cell.model == "fitted"]
        with pytest.raises(BadInput, match="no trained run"):
            rerun(replace(one, cells=fitted), 1, None, 0, tmp_path / "untrained", board)
    assert not (tmp_path / "none").exists()


def test_nothing_of_the_bundle_names_a_place(finished: Path) -> None:
    suite = saved_suite(finished)
    settings = suite.models["unet"].set
    settings["data"] |= {"stage_to": "/home/me/.ssh", "shards": "pipe:rm"}
    settings["train"] |= {"track": ["wandb"], "profile": 3}
    cells = cells_of(without_places(suite), Path("/new/shards"))
    assert {(c.config.data.shards, c.config.data.stage_to) for c in cells} == {("/new/shards", None)}
    assert {(tuple(c.config.train.track), c.config.train.profile) for c in cells} == {((), 0)}
    assert {c.config.train.steps for c in cells if c.model == "unet"} == {2}


def test_draws_are_repeated_by_their_seed_and_reach_every_cell(finished: Path) -> None:
    cells = cells_of(saved_suite(finished), Path("shards"))
    assert drawn_cells(cells, 2, 7) == drawn_cells(cells[::-1], 2, 7)
    assert len(drawn_cells(cells, 99, 7)) == len(cells) == 5
    assert {cell.seed for seed in range(40) for cell in drawn_cells(cells, 1, seed)} == {0, 1, 2}


# Luck


def run(finished: Path, seed: int) -> Records:
    return read_records(next((finished / "cells").glob(f"unet-dualpol-s{seed}-*/scores.parquet")))


def test_sums_are_equal_rounded_or_differ(finished: Path) -> None:
    one = run(finished, 0)
    assert compared_sums(one, one) == EQUAL
    assert compared_sums(one, forged(one, 1 - 1e-9)) == ROUNDED
    assert compared_sums(one, forged(one, 0.99)) == DIFFERS
    without = replace(one, sums={name: of for name, of in one.sums.items() if name != "crps"})
    for other in (
        without,
        replace(one, events=one.events + 1),
        replace(one, protocol=replace(one.protocol, members=2)),
    ):
        with pytest.raises(BadInput, match="use the version of polarcast that scored it"):
            compared_sums(one, other)


def test_another_seed_is_within_luck_and_a_forged_run_is_not(finished: Path) -> None:
    suite, (first, *seeds) = saved_suite(finished), [run(finished, seed) for seed in (0, 1, 2)]
    honest = judged("cell", suite, "unet", first, seeds, run(finished, 1))
    assert honest.is_ok
    assert [score.score for score in honest.scores] == ["rmse", "nb"]
    assert honest.sentence == "cell: differs; 2 of 2 scores are within the luck of 2 seeds"
    alike = [forged(first, factor) for factor in (0.799, 0.8, 0.801)]
    caught = judged("cell", suite, "unet", alike[1], alike, run(finished, 1))
    assert not caught.is_ok
    assert [score.is_within for score in caught.scores] == [False, False]
    assert caught.sentence == "cell: differs; 0 of 2 scores are within the luck of 3 seeds"


def test_sums_that_no_training_explains(finished: Path) -> None:
    one, other = run(finished, 0), run(finished, 1)
    assert contradiction(one, one) == contradiction(one, other) == contradiction(one, forged(one, 1 - 1e-5)) == ""
    assert contradiction(forged(one, 0.9), one) == (
        "spectrum and crps are equal and continuous not, which no training explains"
    )


def test_with_one_seed_luck_is_unknown(finished: Path) -> None:
    one = run(finished, 0)
    found = judged("cell", saved_suite(finished), "unet", one, [one], run(finished, 1))
    assert not found.is_ok
    assert found.sentence == "cell: differs; with one seed, the luck of training is unknown"
    assert found.scores[0].is_within is None
    assert judged("cell", saved_suite(finished), "unet", one, [one], one).is_ok


def test_headline_scores_are_those_of_the_first_table_that_shows_the_model(finished: Path) -> None:
    suite = saved_suite(finished)
    assert headline_table(suite, "unet").title == "Main"
    assert headline_table(replace(suite, verdict=["events"]), "unet").title == "Events"
    main = replace(suite.tables["main"], models=["fitted"])
    assert headline_table(replace(suite, tables={**suite.tables, "main": main}), "unet").title == "Events"


@pytest.mark.parametrize("count", [2, 3, 5])
def test_one_more_value_is_within_the_limits_as_often_as_they_say(count: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (4000, count + 1))
    inside = [low <= value <= high for *known, value in values.tolist() for low, high in [limits(known, 0.1)]]  # type: ignore[operator]
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6), st.floats(1e-3, 1e3))
def test_limits_scale_with_the_values(values: list[float], factor: float) -> None:
    low, high = limits(values, 0.05)
    assert low is not None
    assert high is not None
    scaled = limits([factor * value for value in values], 0.05)
    assert scaled == pytest.approx((factor * low, factor * high), rel=1e-6, abs=1e-3 * factor)


# Runs that others need, and data that polarcast did not make

NEEDED = """
name: needed
arms: [radar]
data: {archive: ARCHIVE, split: 0.5/0.25/0.25}
models:
  net: {label: net, set: SET}
  tuned: {label: tuned, start_from: net, set: SET}
  mean: {label: mean, base: [net, tuned], set: {model: {name: model_mean}, data: {workers: 0}}}
tables:
  main: {title: Main, models: [mean], metrics: [rmse]}
"""
SET = (
    "{model: {name: unet, widths: [4, 8]}, match_params: false, data: {workers: 0}, "
    "train: {steps: 2, validate_every: 2, global_batch: 2, micro_batch: 2, threads: 1}}"
)


def test_runs_that_others_need_are_trained_first_on_shards_of_the_reader(
    archive: Archive, tmp_path: Path, board: ProgressBoard
) -> None:
    finished = run_small_suite(tmp_path, NEEDED.replace("SET", SET).replace("ARCHIVE", str(archive.root)))
    write_bundle(finished, tmp_path / "b.zip")
    assert str(archive.root).encode() not in Bundle.read(tmp_path / "b.zip").members["suite.yaml"]
    shards = next(finished.glob("data-*/shards")).rename(tmp_path / "shards")
    with open_bundle(tmp_path / "b.zip") as one:
        assert verified(one).is_ok
        seed = next(seed for seed in range(99) if drawn_cells(one.cells, 1, seed)[0].model == "mean")
        found = rerun(one, 1, shards, seed, tmp_path / "again", board)
    assert [(of.cell.partition("-")[0], of.sums) for of in found.results] == [("mean", EQUAL)]
    assert found.drawn_from == 3
    runs = sorted(path.name.partition("-")[0] for path in (tmp_path / "again" / "cells").iterdir())
    assert runs == ["mean", "net", "tuned"]
    assert not list((tmp_path / "again").glob("data-*"))
