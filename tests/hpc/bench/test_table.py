import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.cells import cells_of
from polarcast.hpc.bench.notes import gain_note
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.render import markdown, terminal_table, write_table
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec, check_table, load_suite, without_synthetic_rows
from polarcast.hpc.bench.table import ComparisonTable, build_table
from polarcast.hpc.evaluation.summary import check_wanted, summarize
from polarcast.hpc.scores.metrics import METRICS
from polarcast.hpc.scores.protocol import Protocol, nowcast_protocol
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.stats.significance import holm
from polarcast.hpc.scores.sums import score_fields

SPEC = TableSpec(title="T", metrics=["rmse", "nb"])


def scores(error: float, events: int = 12, rain: float = 5.0, tilt: float = 0.1) -> Records:
    """Records of events with a forecast error of about `error` mm/h everywhere."""
    observed = torch.full((events, 4, 4), rain) * torch.linspace(0.5, 1.5, events)[:, None, None]
    off = error * (1 + tilt * torch.linspace(-1, 1, events))[:, None, None]
    protocol = Protocol(unit="mm/h", shape=(4, 4))
    sums = score_fields((observed + off)[:, None], observed, protocol)
    by_window = {name: of.double().numpy()[:, None, None] for name, of in sums.items()}
    return Records.of_windows(protocol, np.arange(events), by_window)


def law(label: str, model: str = "power_law") -> ModelSpec:
    """A model that does not depend on its seed, unless it is a network."""
    return ModelSpec(label=label, set={"model": {"name": model}})


def built(radar: Records, dualpol: Records, model: str = "power_law", **settings: object) -> ComparisonTable:
    spec = replace(SPEC, **settings)  # type: ignore[arg-type]
    suite = Suite(name="s", models={"net": law("Net", model)}, tables={"t": spec})
    return build_table("t", suite, {("net", "radar"): [radar], ("net", "dualpol"): [dualpol]})


def table(radar: Records, dualpol: Records, **settings: object) -> dict[tuple[str, str], Record]:
    return {(r.arm, r.metric): r for r in built(radar, dualpol, **settings).records}


def test_table_has_both_arms_and_their_difference() -> None:
    found = table(scores(2.0), scores(1.0))
    assert found["radar", "rmse"].value == pytest.approx(2.0, rel=0.01)
    assert found["dualpol", "rmse"].value == pytest.approx(1.0, rel=0.01)
    difference = found["difference", "rmse"]
    assert (difference.value, difference.scale) == (pytest.approx(-0.5, rel=0.01), "ratio")
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < difference.value < difference.high < 0
    assert (difference.events, difference.seeds, difference.unit, difference.reference) == (12, 1, "1", "net/radar")


def test_the_difference_is_dualpol_minus_radar() -> None:
    better, worse = scores(1.0), scores(2.0)
    one, other = table(worse, better)["difference", "nb"], table(better, worse)["difference", "nb"]
    assert one.value == pytest.approx(-other.value)  # type: ignore[operator]
    assert one.value < 0 < other.value  # type: ignore[operator]


def test_one_event_has_values_but_no_interval() -> None:
    found = table(scores(2.0, events=1), scores(1.0, events=1))
    assert found["difference", "rmse"].value == pytest.approx(-0.5)
    assert found["difference", "rmse"].low is None


def test_without_rain_ratios_are_null_not_zero() -> None:
    assert table(scores(1.0, rain=0.0), scores(1.0, rain=0.0))["radar", "nb"].value is None


def test_arms_scored_on_different_events_are_rejected() -> None:
    with pytest.raises(BadInput, match="different events"):
        table(scores(1.0, events=12), scores(1.0, events=11))


def test_written_tables_agree_with_the_records(tmp_path: Path) -> None:
    found = replace(built(scores(2.0), scores(1.0)), note="the rain is odd")
    records = found.records
    write_table(tmp_path, found)
    stored = json.loads((tmp_path / "t.json").read_text())
    assert stored["records"] == [r.as_row() for r in records]
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + len(records)
    text = (tmp_path / "t.md").read_text()
    assert "12 test events, 1 seed" in text
    assert "Note: the rain is odd." in text
    assert "\\[" not in text


def test_note_of_one_seed_mentions_the_variation_between_training_runs() -> None:
    one = built(scores(2.0), scores(1.0), model="unet")
    text = markdown(one)
    assert "bootstrap over events." in text
    assert "One seed: Net." in text
    assert "runs differ between seeds by an unknown amount, which seeds: [0, 1, 2] would include" in text
    assert "events' interval" in text
    assert "95% interval" not in text
    assert "*" not in text.split("\n\n")[1]
    assert "Not comparable, one seed of a trained model: Net." in text
    assert one.tests == 0
    assert all(r.p_holm is None and r.lacks_seeds for r in one.records)
    suite = Suite(name="s", models={"net": ModelSpec(label="Net")}, tables={"t": SPEC})
    runs = {("net", arm): [scores(error), scores(error + 0.1)] for arm, error in (("radar", 2.0), ("dualpol", 1.0))}
    two = markdown(build_table("t", suite, runs))
    assert "2 seeds" in two
    assert "bootstrap over events, and Student's t over seeds." in two
    assert "95% interval" in two
    assert "One seed" not in two
    assert "−49%**" in two


def test_only_differences_whose_interval_excludes_zero_are_starred() -> None:
    clear, none = built(scores(2.0), scores(1.0)), built(scores(2.0), scores(2.0))
    assert "−50%**" in markdown(clear)
    assert "*" not in markdown(none).split("\n\n")[1]


def test_terminal_table_shows_every_value() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table(built(scores(2.0), scores(1.0))))
    shown = console.export_text()
    assert all(word in shown for word in ("Net", "dual-pol vs radar", "RMSE", "[mm/h] ↓", "−50%**"))


def test_synthetic_only_models_are_left_out_for_real_data() -> None:
    suite = load_suite("demo")
    real = without_synthetic_rows(suite)
    assert "attainable" in suite.shown(suite.tables["table_8_1"])
    assert "attainable" not in real.shown(real.tables["table_8_1"])
    assert len(cells_of(real, Path("shards"))) == 26


def test_share_of_the_attainable_gain_ignores_a_poor_radar_arm() -> None:
    def note(radar: float, dualpol: float) -> str:
        plain = table(scores(1.0), scores(1.0))["radar", "rmse"]
        values = {("attainable", "radar"): 2.0, ("attainable", "dualpol"): 1.0, ("net", "radar"): radar}
        values["net", "dualpol"] = dualpol
        return gain_note([replace(plain, model=m, arm=a, label=m, value=v) for (m, a), v in values.items()])

    assert "net 0.75 (+10%)" in note(2.2, 1.25)
    assert "net 0.75 (+50%)" in note(3.0, 1.25)
    assert "net 1.10 (+0%)" in note(2.0, 0.9)
    assert gain_note(list(table(scores(2.0), scores(1.0)).values())) == ""


def test_mean_of_event_scores_differs_from_pooled_score() -> None:
    radar, dualpol = scores(2.0), scores(1.0)
    of_events = [float(parse_score("nb").of(row, radar.protocol)) for row in parse_score("nb").sums(radar)]
    mean, pooled = (table(radar, dualpol, aggregation=a)["radar", "nb"] for a in ("mean", "pooled"))
    assert mean.value == pytest.approx(np.mean(of_events))
    assert mean.value > pooled.value + 1  # type: ignore[operator]
    assert (mean.aggregation, pooled.aggregation) == ("mean", "pooled")
    assert "scores averaged over events (mean)" in markdown(built(radar, dualpol, aggregation="mean"))
    assert "(pooled)" in markdown(built(radar, dualpol))


def test_comparison_has_p_values_power_and_a_sign_flip_test() -> None:
    found = table(scores(2.0), scores(1.0, tilt=-0.1))["difference", "rmse"]
    assert found.improved == 1
    assert found.p_value is not None
    assert found.p_holm is not None
    assert found.p_value <= found.p_holm <= 2 * found.p_value < 0.01
    assert found.detectable is not None
    assert -1 < found.detectable < 0
    assert found.sign_flip is not None
    assert found.sign_flip < 0.01
    assert "detected with 80% power" in markdown(built(scores(2.0), scores(1.0)))


def test_holm_correction_raises_p_values() -> None:
    records = [replace(r, p_value=0.03) for r in table(scores(2.0), scores(1.9)).values() if r.arm == "difference"]
    adjusted = holm([r.p_value for r in records])  # type: ignore[misc]
    assert [round(p, 3) for p in adjusted] == [0.06, 0.06]


def test_support_counts_the_events_on_which_a_score_is_defined() -> None:
    found = table(scores(1.0), scores(2.0), metrics=["csi@threshold=5", "rmse@class=10"])
    # In the driest six events, the observation stays below 5 mm/h.
    csi = found["radar", "csi@threshold=5"]
    assert (csi.events, csi.support, csi.pixels) == (12, 6, 6 * 16)
    assert found["radar", "rmse@class=10"].reason == "no pixel of the class"
    assert found["radar", "rmse@class=10"].support == 0
    assert found["radar", "rmse@class=10"].value is None


def test_rows_and_columns_can_be_any_dimension() -> None:
    radar, dualpol = scores(3.0, rain=9.0), scores(1.0, rain=9.0)
    by_class = built(radar, dualpol, metrics=["rmse@class=*"], rows=["model", "arm"], columns=["class"])
    lines = [line for line in markdown(by_class).splitlines() if line.startswith("|")]
    assert "observed 0–10 mm/h" in lines[0]
    assert "≥ 50 mm/h" in lines[0]
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["radar", "dual-pol", "dual-pol vs radar"]
    wide = built(radar, dualpol, rows=["model"], columns=["metric", "arm"])
    head = markdown(wide).splitlines()[2]
    assert head.count("95% interval") == 2
    assert "RMSE [mm/h] ↓, dual-pol vs radar" in head


@pytest.mark.parametrize(
    "settings",
    [
        {"rows": ["model"], "columns": ["arm"], "metrics": ["rmse", "nb"]},
        {"rows": ["model"], "columns": ["arm"], "metrics": ["rmse@class=*"]},
        {"rows": ["model", "height"]},
        {"rows": ["model", "model"]},
        {"columns": ["metric"], "rows": ["model"]},
        {"aggregation": "median"},
    ],
)
def test_layout_that_hides_values_is_rejected(settings: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        check_table(replace(SPEC, **settings))  # type: ignore[arg-type]


def test_summary_by_class_marks_undefined_values() -> None:
    found, without = summarize(scores(2.0), ["rmse", "csi@threshold=5", "usual", "rmse@class=10"], "class")
    rows = {str(row.score): row for row in found.rows}
    assert rows["rmse"].values[0] == pytest.approx(2.0, rel=0.02)
    assert rows["rmse"].values[1:] == [None] * 3
    assert (rows["rmse"].whole, rows["rmse"].support) == (pytest.approx(2.0, rel=0.02), 12)
    assert found.as_record()["rows"][0]["values"]["10"] is None
    # Scores without classes, or of one class, go to a second table: here they would have empty columns.
    assert (without.by, list(without.coordinates)) == ("", [])
    assert {"csi@threshold=5", "rmse@class=10"} <= {str(row.score) for row in without.rows}


def test_summary_uses_the_axis_of_each_score() -> None:
    by_class, by_threshold, plain = summarize(scores(2.0), ["rmse", "csi@threshold=*", "crps"], None)
    assert [by_class.by, by_threshold.by, plain.by] == ["class", "threshold", ""]
    at_five = summarize(scores(2.0), ["csi@threshold=5"], None)[0].rows[0].whole
    assert dict(zip(by_threshold.coordinates, by_threshold.rows[0].values, strict=True))["5"] == at_five
    assert by_threshold.as_record()["rows"][0]["score"] == "csi@threshold=*"


def test_every_lead_time_asked_for_is_a_row_with_its_label() -> None:
    protocol = nowcast_protocol((8, 8), 1, (6.0, 12.0, 18.0), (1.0,))
    forecast = torch.arange(3 * 64).reshape(3, 1, 8, 8).float() / 4
    found = score_fields(forecast, torch.full((3, 8, 8), 40.0), protocol)
    sums = {name: values.double().numpy().reshape(1, 3, 1, *values.shape[1:]) for name, values in found.items()}
    records = Records.of_windows(protocol, np.zeros(1, int), sums)
    (rows,) = summarize(records, ["rmse@lead_time=*"], None)
    (columns,) = summarize(records, ["rmse"], None)
    assert [row.score.heading(protocol) for row in rows.rows] == [f"RMSE {lead} min [dBZ]" for lead in (6, 12, 18)]
    assert [row.whole for row in rows.rows] == columns.rows[0].values
    assert len(set(columns.rows[0].values)) == 3
    (by_name,) = summarize(records, ["rmse@lead_time=*"], "lead_time")
    assert by_name == columns


def test_the_mae_is_listed_once_without_an_ensemble() -> None:
    for wanted in (["usual"], ["usual", "mae"]):
        rows = [row for table in summarize(scores(2.0), wanted, None) for row in table.rows]
        assert [row.score.heading(scores(2.0).protocol) for row in rows].count("MAE [mm/h]") == 1
    both = summarize(scores(2.0), ["mae", "crps"], None)
    assert [row.score.name for table in both for row in table.rows] == ["mae", "crps"]


def test_summary_of_all_has_every_metric_in_the_records() -> None:
    names = {row.score.name for table in summarize(scores(2.0), ["all"], None) for row in table.rows}
    for_ensembles = {
        "spread_skill", "rank_distance", "quantile_score", "brier", "brier_skill", "reliability", "resolution",
        "roc_area", "value",
    }  # fmt: skip
    for_larger_fields = {"ssim"}
    assert names == set(METRICS) - for_ensembles - for_larger_fields


def test_unknown_score_axis_or_aggregation_is_rejected() -> None:
    for wanted, by, aggregation in ((["rmsee"], None, "pooled"), (["all"], "week", "pooled"), (["all"], None, "max")):
        with pytest.raises(BadInput):
            check_wanted(wanted, by, aggregation)


def test_model_is_compared_with_the_radar_arm_of_another() -> None:
    models = {"net": ModelSpec(label="Net"), "less": ModelSpec(label="Net, ZDR only", radar_of="net")}
    suite = Suite(name="s", seeds=[0, 1], models=models, tables={"t": SPEC})
    assert suite.arms_of("less") == ["dualpol"]
    runs = {("net", "radar"): [scores(2.0), scores(3.0)], ("net", "dualpol"): [scores(1.0)] * 2}
    records = build_table("t", suite, {**runs, ("less", "dualpol"): [scores(1.5)]}).records
    found = {(r.model, r.arm): r for r in records if r.metric == "rmse"}
    # Seeds of two arms have nothing in common: all of the other model's count.
    assert found["less", "radar"].value == found["net", "radar"].value == pytest.approx((13 / 2) ** 0.5, rel=0.01)
    assert found["less", "difference"].value == pytest.approx(1.5 / (13 / 2) ** 0.5 - 1, rel=0.01)
    assert found["less", "difference"].lacks_seeds
    assert not found["net", "difference"].lacks_seeds
    assert found["less", "difference"].seeds == 1
    assert found["net", "difference"].seeds == 2
