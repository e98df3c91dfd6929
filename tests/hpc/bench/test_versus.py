"""Comparisons of a table: with the reference of `versus`, of the placebo, and their family of tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.bench import checks
from polarcast.hpc.bench.cells import cells_of
from polarcast.hpc.bench.layout import lay_out
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.render import markdown
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec, load_suite, versus_of, without_lost_reference
from polarcast.hpc.bench.table import ComparisonTable, build_table
from polarcast.hpc.bench.verdicts import verdicts
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.significance import holm
from tests.hpc.bench.test_display import records

Key = tuple[str, str]


def law(label: str, name: str = "power_law", **settings: object) -> ModelSpec:
    return ModelSpec(label=label, set={"model": {"name": name}}, **settings)  # type: ignore[arg-type]


MODELS = {"law": law("Law"), "tree": law("Trees"), "only": law("ZH only", arms=["radar"])}
RUNS = {
    ("law", "radar"): [records(3.0)], ("law", "dualpol"): [records(2.5, 1)], ("tree", "radar"): [records(2.8, 2)],
    ("tree", "dualpol"): [records(1.5, 3)], ("only", "radar"): [records(2.9, 4)],
}  # fmt: skip


def built(versus: object, runs: dict[Key, list[Records]] = RUNS, **settings: object) -> ComparisonTable:
    spec = TableSpec(title="T", metrics=["rmse", "csi@threshold=10"], versus=versus)
    spec = replace(spec, **settings)  # type: ignore[arg-type]
    arms = list(dict.fromkeys(arm for _, arm in runs))
    suite = Suite(name="s", arms=arms, models=MODELS, tables={"t": spec})
    return build_table("t", suite, runs)


def by_key(table: ComparisonTable, metric: str = "rmse") -> dict[Key, Record]:
    return {(r.model, r.arm): r for r in table.records if r.metric == metric}


def test_each_model_is_compared_with_the_same_arm_of_the_reference() -> None:
    table = built("law")
    found = by_key(table)
    for arm in ("radar", "dualpol"):
        record = found["tree", f"{arm}_vs"]
        values = [found[model, arm].value for model in ("law", "tree")]
        assert record.value == pytest.approx(values[1] / values[0] - 1)  # type: ignore[operator]
        assert (record.reference, record.scale, record.unit) == (f"law/{arm}", "ratio", "1")
        assert record.low is not None
    assert ("law", "radar_vs") not in found
    assert found["only", "radar_vs"].reference == "law/radar"
    grid = lay_out(table)
    expected = ["model", "score", "radar", "dual-pol", "dual-pol vs radar", "95% interval", "radar vs Law",
                "95% interval", "dual-pol vs Law", "95% interval"]  # fmt: skip
    assert [name for name in grid.head if name != "events"] == expected
    assert any(s.startswith("Trees, dual-pol vs Law: RMSE") and "lower [" in s for s in verdicts(table))


def test_a_reference_without_an_arm_is_compared_with_the_one_it_has() -> None:
    found = by_key(built("only"))
    assert found["tree", "dualpol_vs"].reference == "only/radar"
    assert found["tree", "dualpol_vs"].value == pytest.approx(
        found["tree", "dualpol"].value / found["only", "radar"].value - 1  # type: ignore[operator]
    )


def test_a_reference_may_name_its_arm() -> None:
    table = built({"model": "tree", "arm": "radar"})
    found = by_key(table)
    assert "dual-pol vs Trees, radar" in markdown(table)
    assert found["law", "dualpol_vs"].reference == "tree/radar"
    # The comparison of the reference's own arms is the table's difference: one test, not two.
    assert found["tree", "dualpol_vs"].value == found["tree", "difference"].value
    assert found["tree", "dualpol_vs"].p_holm == found["tree", "difference"].p_holm
    scores, pairs = 2, 2 + 2 + 1
    assert table.tests == scores * pairs


def test_any_layout_shows_the_reference() -> None:
    rows = lay_out(built("law", rows=["model", "arm"], columns=["metric"]))
    lines = {(line[0], line[1]): line[2] for line in rows.lines}
    assert lines["Trees", "radar vs Law"].count("[") == 1
    assert ("Law", "radar vs Law") not in lines


def test_placebo_is_compared_with_radar_and_dualpol_with_placebo() -> None:
    runs = {**RUNS, ("law", "placebo"): [records(3.0, 7)], ("tree", "placebo"): [records(2.8, 8)]}
    table = built(None, runs)
    found = by_key(table)
    assert found["tree", "placebo_vs_radar"].reference == "tree/radar"
    assert found["tree", "dualpol_vs_placebo"].reference == "tree/placebo"
    head = lay_out(table).head
    assert head[2:5] == ["radar", "dual-pol", "placebo"]
    assert {"placebo vs radar", "dual-pol vs placebo", "dual-pol vs radar"} <= set(head)


def test_scores_that_are_functions_of_each_other_count_once() -> None:
    names = ["paper_mse", "rmse", "paper_mre", "paper_rbias", "ne", "mae", "csi@threshold=10"]
    table = built(None, metrics=names)
    differences = [r for r in table.records if r.arm == "difference"]
    independent = {"paper_mse", "paper_rbias", "mae", "csi@threshold=10"}
    assert table.tests == 2 * len(independent)
    by_name = {(r.model, r.metric): r for r in differences}
    for model in ("law", "tree"):
        for one, other in (("paper_mse", "rmse"), ("paper_rbias", "paper_mre"), ("paper_rbias", "ne")):
            assert by_name[model, one].p_value == pytest.approx(by_name[model, other].p_value, rel=1e-3)
            assert by_name[model, one].p_holm == by_name[model, other].p_holm
    tested = [r for r in differences if r.metric in independent]
    expected = holm([np.nan if r.p_value is None else r.p_value for r in tested])
    assert [r.p_holm for r in tested] == pytest.approx(expected, rel=1e-3)
    # The mean of the events' RMSE is no function of the mean of their MSE.
    assert built(None, metrics=["paper_mse", "rmse"], aggregation="mean").tests == 4


def test_a_network_with_one_seed_is_no_test_beside_others_that_are() -> None:
    suite = Suite(
        name="s",
        models={"law": law("Law"), "net": law("Net", "unet")},
        tables={"t": TableSpec(title="T", metrics=["rmse"], versus="law")},
    )
    runs = {("law", arm): RUNS["law", arm] for arm in ("radar", "dualpol")}
    nets = {("net", arm): RUNS["tree", arm] for arm in ("radar", "dualpol")}
    one = build_table("t", suite, {**runs, **nets})
    assert one.tests == 1
    assert by_key(one)["net", "radar_vs"].p_holm is None
    assert "One seed: Net." in markdown(one)
    assert "events' interval" in markdown(one)
    three = build_table("t", suite, {**runs, **{key: [run, records(2.0, 11), run] for key, [run] in nets.items()}})
    assert three.tests == 4
    assert not by_key(three)["net", "dualpol_vs"].lacks_seeds


@pytest.mark.parametrize(
    ("versus", "message"),
    [("nobody", "unknown model 'nobody'"), ("[a]", "is not a reference"), ("{model: a, seed: 1}", "is not a reference"),
     ("{model: a, arm: placebo}", "a has no arm 'placebo'"), ("{arm: radar}", "is not a reference"), ("3", "is not a")],
)  # fmt: skip
def test_wrong_reference_is_rejected(tmp_path: Path, versus: str, message: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(f"models: {{a: {{label: A}}}}\ntables: {{t: {{title: T, versus: {versus}}}}}\n")
    with pytest.raises(BadInput, match=message):
        load_suite(str(file))


def test_a_lost_reference_leaves_the_table() -> None:
    spec = TableSpec(title="T", versus="law")
    assert without_lost_reference(spec, {"tree"}).versus is None
    assert without_lost_reference(spec, {"law"}).versus == "law"


def test_more_tests_than_p_values_can_tell_apart_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_suite("standard-nowcast")
    monkeypatch.setattr(checks, "LEAST_P", 1 / 5001)
    with pytest.raises(BadInput, match=r"tables\.arms.*tests are too many for Holm"):
        cells_of(suite, Path("shards"))


@pytest.mark.parametrize("name", ["demo", "standard", "paper", "demo-nowcast", "standard-nowcast", "paper-nowcast"])
def test_main_tables_of_the_built_in_suites_have_a_baseline(name: str) -> None:
    suite = load_suite(name)
    references = {versus.model for table in suite.tables.values() if (versus := versus_of(table))}
    assert ("fitted" if suite.task == "qpe" else "extrapolation") in references
