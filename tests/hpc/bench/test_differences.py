"""Tables of differences in the form of the source paper's table 8.3, and of what a window adds (table 8.2)."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.cells import cells_of
from polarcast.hpc.bench.layout import lay_out
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.render import markdown, terminal_table, write_table
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec, load_suite
from polarcast.hpc.bench.table import ComparisonTable, build_table
from polarcast.hpc.bench.verdicts import verdicts
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.stats.bootstrap import interval
from tests.hpc.bench.test_display import records

PAPER = ["paper_mse", "paper_mre", "paper_rbias", "paper_csi"]
LAW = {"model": {"name": "power_law"}}
FUSED = {"diffusion": records(3.0), "signal": records(2.0, 1), "every": records(1.0, 2)}


def built(**settings: object) -> ComparisonTable:
    spec = TableSpec(
        title="T", metrics=PAPER, arms=["dualpol"], versus="diffusion", rows=["model"], columns=["metric", "arm"],
        differences=True, only_comparisons=True,
    )  # fmt: skip
    models = {name: ModelSpec(label=f"+ {name}", set=LAW) for name in FUSED}
    suite = Suite(name="s", models=models, tables={"t": replace(spec, **settings)})  # type: ignore[arg-type]
    return build_table("t", suite, {(name, "dualpol"): [of] for name, of in FUSED.items()})


def by_key(table: ComparisonTable) -> dict[tuple[str, str, str], Record]:
    return {(r.model, r.arm, r.metric): r for r in table.records}


def test_an_improved_mse_is_positive_and_other_differences_are_plain() -> None:
    found = by_key(built())
    for name in PAPER:
        own, reference = (found[model, "dualpol", name].value for model in ("every", "diffusion"))
        assert own is not None
        assert reference is not None
        change = found["every", "dualpol_vs", name]
        expected = reference - own if name == "paper_mse" else own - reference
        assert change.value == pytest.approx(expected)
        assert (change.scale, change.reference) == (
            "gain" if name == "paper_mse" else "difference",
            "diffusion/dualpol",
        )
    assert found["every", "dualpol_vs", "paper_mse"].unit == "(mm/h)²"
    gain = found["every", "dualpol_vs", "paper_mse"]
    assert gain.low is not None
    assert gain.low > 0
    assert gain.improved is not None
    assert gain.improved > 0.9


def test_its_interval_is_that_of_the_difference_of_the_mse_written_out() -> None:
    score = parse_score("paper_mse")
    sums = [score.sums(FUSED[name])[:, None] for name in ("diffusion", "every")]
    values = [lambda s: score.of(s, FUSED["every"].protocol)] * 2
    arms = [of.swapaxes(0, 1) for of in sums]
    width = arms[0].shape[-1]
    expected = interval(arms, lambda s: values[0](s[..., :width]) - values[1](s[..., width:]))
    record = by_key(built())["every", "dualpol_vs", "paper_mse"]
    assert (record.value, record.low, record.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_the_table_has_the_papers_columns_and_no_row_of_the_reference() -> None:
    table = built()
    grid = lay_out(table)
    assert grid.head == [
        "model",
        "MSE gain [(mm/h)²] ↑",
        "ΔMRE ↓",
        "ΔRBIAS ↓",
        "ΔCSI ↑",
    ]
    assert [line[0] for line in grid.lines] == ["+ signal", "+ every"]
    assert "%" not in "".join(grid.lines[0][1:])
    text = markdown(table)
    assert "dual-pol vs + diffusion: scores are compared as differences" in text
    assert "its interval covers less than a ratio's (docs/guides/statistics.md)" in text
    assert "+ every, dual-pol vs + diffusion: MSE" in text
    assert any("lower [" in sentence.split("RBIAS")[0] for sentence in verdicts(table))
    assert len(terminal_table(table).columns) == len(grid.head)


def test_the_files_hold_the_scores_that_are_not_shown(tmp_path: Path) -> None:
    write_table(tmp_path, built())
    stored = json.loads((tmp_path / "t.json").read_text())["records"]
    assert {r["arm"] for r in stored} == {"dualpol", "dualpol_vs"}


def test_ratios_stay_the_usual_comparison() -> None:
    usual = built(differences=False)
    assert by_key(usual)["every", "dualpol_vs", "paper_mse"].scale == "ratio"
    assert "MSE ↓" in lay_out(usual).head
    assert "covers less than a ratio's" not in markdown(usual)
    whole = built(only_comparisons=False)
    assert "MSE [(mm/h)²] ↓, dual-pol vs + diffusion" in lay_out(whole).head


def test_only_multiples_are_one_test_as_differences() -> None:
    metrics = [*PAPER, "rmse", "ne"]
    # MRE, RBIAS and NE are multiples; MSE and RMSE are the same test as a ratio, and two as differences.
    assert built(metrics=metrics).tests == 2 * 4
    assert built(metrics=metrics, differences=False).tests == 2 * 3


def test_a_table_of_comparisons_needs_one(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("arms: [radar]\nmodels: {a: {label: A}}\ntables: {t: {title: T, only_comparisons: true}}\n")
    with pytest.raises(BadInput, match=r"tables\.t: shows comparisons only, but has none"):
        cells_of(load_suite(str(file)), tmp_path)


def test_a_gain_of_a_window_is_compared_without_better_values() -> None:
    runs = {("law", "radar"): [records(3.0)], ("law", "dualpol"): [records(1.5, 1)]}
    spec = TableSpec(title="T", metrics=["hk_gain@threshold=10,window=*"], rows=["model", "window"])
    suite = Suite(name="s", models={"law": ModelSpec(label="Law", set=LAW)}, tables={"t": spec})
    table = build_table("t", suite, runs)
    found = {(r.arm, r.metric): r for r in table.records}
    for window in (3, 5):
        name = f"hk_gain@threshold=10,window={window}"
        radar, dualpol, difference = (found[arm, name] for arm in ("radar", "dualpol", "difference"))
        assert difference.value == pytest.approx(dualpol.value - radar.value)  # type: ignore[operator]
        assert (difference.perfect, difference.direction, difference.improved) == (None, "none", None)
    assert "NaN" not in json.dumps(table.as_record())
    assert "Score: HK gain ≥ 10 mm/h; no value is better than others." in markdown(table)
    assert "Below 0, the window adds less to the first of the pair" in markdown(table)
    assert "or, to HK, the window adds more false alarms" in markdown(table)
    assert "Below 0" not in markdown(built())
    assert np.isfinite(found["difference", name].value)  # type: ignore[arg-type]
