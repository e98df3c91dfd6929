"""Fusion in suites: several bases, poor frames, and rows of one budget."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.data.files import read_json
from polarcast.hpc.bench.cells import Cell, cells_of, check_cells
from polarcast.hpc.bench.checks import check_data
from polarcast.hpc.bench.executor import CellJob, in_one_process
from polarcast.hpc.bench.suite import Suite, load_suite, versus_of
from polarcast.hpc.config.digest import digest
from polarcast.hpc.config.resolve import resolve
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.training.budget import training_budget
from polarcast.hpc.utils.sources import SUITES
from tests.support.small_suite import run_small_suite

MERGES = {"merge", "stacked", "model_mean"}
TINY = """
task: qpe
arms: [dualpol]
data: {synth: {events: 16, frames: 2, size: 32, preset: tiny, seed: 1}, split: 0.6/0.2/0.2}
models:
  unet: {label: U-Net, set: &unet {model: {widths: [4, 8]}, train: &train {steps: 2, validate_every: 2, global_batch: 2, threads: 1}, data: {hold_out: 0.25}}}
  wf_unet: {label: WF-UNet, set: {model: {name: wf_unet, widths: [4, 8]}, train: *train, data: {hold_out: 0.25, drop_poor: 0.3, drop_by: random}}}
  mean: {label: mean, base: [unet, wf_unet], set: {model: {name: model_mean}, data: {hold_out: 0.25}}}
  merge: {label: merge, base: [unet, wf_unet], set: {model: {name: merge, widths: [4, 8]}, train: *train, data: {hold_out: 0.25, only_held_out: true}}}
tables: {t: {title: T, metrics: [rmse]}}
"""  # noqa: E501


def loaded(folder: Path, text: str) -> Suite:
    (folder / "s.yaml").write_text(text, encoding="utf-8")
    return load_suite(str(folder / "s.yaml"))


@cache
def built_in(name: str) -> tuple[Suite, dict[str, Cell]]:
    """Return a built-in suite and its cells by model: hundreds of configurations."""
    suite = load_suite(name)
    return suite, by_name(suite)


def by_name(suite: Suite) -> dict[str, Cell]:
    return {cell.model: cell for cell in cells_of(suite, Path("shards")) if cell.seed == suite.seeds_of(cell.model)[0]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield run_small_suite(tmp_path_factory.mktemp("suite"), TINY)


def test_cells_wait_for_all_bases_and_tables_leave_them_out(tmp_path: Path) -> None:
    suite = loaded(tmp_path, TINY)
    cells = by_name(suite)
    assert [base.model for base in cells["merge"].bases] == ["unet", "wf_unet"]
    assert cells["mean"].bases == cells["merge"].bases
    assert suite.shown(suite.tables["t"]) == ["mean", "merge"]
    assert cells["mean"].is_random
    assert digest(cells["merge"].config) != digest(
        by_name(loaded(tmp_path, TINY.replace("4, 8", "4, 6")))["merge"].config
    )


def test_a_cell_is_left_out_if_one_of_its_bases_failed() -> None:
    job = in_one_process([CellJob(Path("merge"), 1.0, (Path("a"), Path("b"))), CellJob(Path("other"), 1.0)])
    assert job.without_those_after({Path("c")}) == job
    for failed in ("a", "b"):
        left = job.without_those_after({Path(failed)})
        assert left is not None
        assert left.folders == (Path("other"),)


def test_a_suite_trains_merges_on_the_runs_of_its_own_bases(made: Path) -> None:
    cells = {path.name.split("-")[0]: RunFolder(path) for path in (made / "cells").iterdir() if path.is_dir()}
    assert set(cells) == {"unet", "wf_unet", "mean", "merge"}
    bases = [Path(base.run).name for base in cells["merge"].config().bases]
    assert bases == [cells[name].path.name for name in ("unet", "wf_unet")]
    costs = {row["model"]: row for row in read_json(made / "cost.json")["records"]}
    assert costs["merge"]["run_flops"] > costs["mean"]["run_flops"] > costs["unet"]["run_flops"] > 0
    assert costs["mean"]["training_flops"] is None
    card = read_json(cells["wf_unet"].path / "card.json")
    assert card["dropped_windows"]["by"] == "random"
    assert card["dropped_windows"]["windows"] == round(
        0.3 * (card["training_windows"] + card["dropped_windows"]["windows"])
    )
    assert (made / "tables" / "t.md").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[unet, nope]", "unknown model 'nope'"),
        ("[unet, unet]", "'unet' appears twice"),
        ("[]", "is empty"),
        ("[unet, 3]", "3 is not a model"),
        ("{a: unet}", "is not a model"),
        ("unet", "requires two or more trained base runs"),
        ("[unet, merge]", "builds on"),
    ],
)
def test_wrong_bases_of_a_suite_are_one_line(tmp_path: Path, change: str, message: str) -> None:
    text = TINY.replace("merge, base: [unet, wf_unet]", f"merge, base: {change}")
    with pytest.raises(BadInput, match=message) as caught:
        cells_of(loaded(tmp_path, text), Path("shards"))
    assert "\n" not in str(caught.value)


def fusion_suites() -> list[str]:
    """Built-in suites with rows of fusion."""
    return [path.stem for path in sorted(SUITES.glob("*.yaml")) if "  fused_unet:" in path.read_text(encoding="utf-8")]


def rows_of(suite: Suite) -> dict[str, list[str]]:
    """Return the rows of each table of fusion by the row without fusion, which it shows and compares them with."""
    tables = [(versus.model, table) for table in suite.tables.values() if (versus := versus_of(table))]
    shown = {reference: suite.shown(table) for reference, table in tables if reference in suite.shown(table)}
    return {reference: rows for reference, rows in shown.items() if reference.startswith("fused_")}


def test_the_suite_of_question_four_has_fusion() -> None:
    assert "question-four" in fusion_suites()


@pytest.mark.parametrize("name", fusion_suites())
def test_rows_of_fusion_have_one_budget_of_training(name: str) -> None:
    """FLOPs of all training steps, base runs included, agree within 5% with the row without fusion."""
    suite, cells = built_in(name)
    shape = check_data(suite.data, Path("shards")).shape
    assert rows_of(suite)
    for reference, rows in rows_of(suite).items():
        found = {row: training_budget(resolve(cells[row].config), shape) for row in rows}
        assert len(found) >= (8 if name == "question-four" else 6)
        assert found == {row: pytest.approx(found[reference], rel=0.05) for row in rows}


@pytest.mark.parametrize("name", fusion_suites())
def test_fusion_is_fair(name: str) -> None:
    """Merges are fitted to events that their bases have not seen, and the control drops as many windows."""
    suite, cells = built_in(name)
    check_cells(suite, list(cells.values()), check_data(suite.data, Path("shards")))
    for rows in rows_of(suite).values():
        merges = [cells[row] for row in rows if cells[row].config.model["name"] in MERGES]
        assert {cell.config.model["name"] for cell in merges} == (MERGES if name == "question-four" else {"merge"})
        for cell in merges:
            shares = {cell.config.data.hold_out, *(base.config.data.hold_out for base in cell.bases)}
            assert len(shares) == 1
            assert shares != {0.0}
            assert cell.config.data.only_held_out or cell.config.model["name"] == "model_mean"
            assert not any(base.config.data.only_held_out for base in cell.bases)
        dropping = [cells[row].config.data for row in rows if cells[row].config.data.drop_poor and not cells[row].bases]
        assert {data.drop_by for data in dropping} == {"quality", "random"}
        assert len({data.drop_poor for data in dropping}) == 1
