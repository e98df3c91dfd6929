"""Conventions of tables: direction, support, reasons, heavy events, groups, origin, and sentences from intervals."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from polarcast.hpc.bench.costs import Cost, cost_note
from polarcast.hpc.bench.layout import lay_out
from polarcast.hpc.bench.origin import origin_of
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.render import cost_grid, markdown, terminal_table, write_costs
from polarcast.hpc.bench.suite import ModelSpec, Suite, TableSpec
from polarcast.hpc.bench.table import ComparisonTable, build_table
from polarcast.hpc.bench.verdicts import verdicts
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.records import Records
from polarcast.hpc.scores.sums import score_fields
from polarcast.hpc.scores.wording import effect, number, percent

EVENTS = 20
PROTOCOL = Protocol(unit="mm/h", shape=(8, 8))


def records(
    noise: float,
    seed: int = 0,
    rain: np.ndarray | None = None,
    groups: dict[int, str] | None = None,
    without: int = 0,
) -> Records:
    """Records of events with noisy forecasts; `rain` scales the observed rain, `without` rows have no forecast."""
    factor = torch.ones(EVENTS) if rain is None else torch.as_tensor(rain, dtype=torch.float32)
    observed = torch.empty(EVENTS, 8, 8).exponential_(0.2, generator=torch.Generator().manual_seed(9))
    observed = observed * factor[:, None, None]
    error = torch.randn(observed.shape, generator=torch.Generator().manual_seed(seed)) * noise * factor[:, None, None]
    forecast = (observed + error).clamp(min=0)
    forecast[:, :without] = torch.nan
    sums = score_fields(forecast[:, None], observed, PROTOCOL)
    by_window = {name: of.double().numpy()[:, None, None] for name, of in sums.items()}
    return Records.of_windows(PROTOCOL, np.arange(EVENTS), by_window, groups=groups)


def a_table(radar: Records, dualpol: Records, *metrics: str, **layout: list[str]) -> ComparisonTable:
    spec = TableSpec(title="T", metrics=list(metrics), **layout)  # type: ignore[arg-type]
    models = {"law": ModelSpec(label="Law", set={"model": {"name": "power_law"}})}
    suite = Suite(name="s", models=models, tables={"t": spec})
    return build_table("t", suite, {("law", "radar"): [radar], ("law", "dualpol"): [dualpol]})


def row(table: ComparisonTable, score: str) -> dict[str, str]:
    grid = lay_out(table)
    [line] = [line for line in grid.lines if line[1].startswith(score)]
    return dict(zip(grid.head, line, strict=True))


def one(table: ComparisonTable, arm: str, metric: str) -> Record:
    [found] = [r for r in table.records if (r.arm, r.metric) == (arm, metric)]
    return found


def test_errors_are_shown_in_percent_and_skill_as_numbers() -> None:
    table = a_table(records(3.0), records(1.5, 1), "rmse", "nb", "csi@threshold=10")
    rmse, csi = row(table, "RMSE"), row(table, "CSI")
    assert rmse["dual-pol vs radar"].startswith("−")
    assert rmse["dual-pol vs radar"].rstrip("*†").endswith("%")
    assert rmse["95% interval"].count("%") == 2
    assert csi["dual-pol vs radar"].startswith("+0.")
    assert "%" not in csi["95% interval"]
    radar, dualpol = (one(table, arm, "rmse").value for arm in ("radar", "dualpol"))
    assert one(table, "difference", "rmse").value == pytest.approx(dualpol / radar - 1)  # type: ignore[operator]
    nb = one(table, "difference", "nb")
    values = [one(table, arm, "nb").value for arm in ("radar", "dualpol")]
    assert (nb.scale, nb.value) == ("distance", pytest.approx(values[1] - values[0]))  # type: ignore[operator]
    assert "Smallest effect detected with 80% power" in markdown(table)
    assert "RMSE [mm/h] 3" not in markdown(table)


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [(-0.314, "ratio", "−31%"), (0.0421, "ratio", "+4.2%"), (-0.0042, "ratio", "−0.42%"), (1.5, "ratio", "+150%"),
     (-0.05, "difference", "−0.0500"), (2.0, "distance", "+2.00")],
)  # fmt: skip
def test_effects_as_text(value: float, scale: str, text: str) -> None:
    assert effect(value, scale) == text
    assert (number(-7.31), percent(0.0995)) == ("−7.31", "10%")


def test_every_score_shows_which_values_are_better() -> None:
    text = markdown(a_table(records(3.0), records(1.5, 1), "rmse", "nb", "csi@threshold=10", "bias@threshold=10"))
    assert all(mark in text for mark in ("RMSE [mm/h] ↓", "NB [%] → 0", "CSI ≥ 10 mm/h ↑", "bias ≥ 10 mm/h → 1"))
    assert "↓ lower is better; ↑ higher is better; → best value." in text
    by_class = a_table(records(3.0), records(1.5, 1), "rmse@class=*", rows=["model", "class"], columns=["arm"])
    assert "Score: RMSE [mm/h]; ↓ lower is better." in markdown(by_class)


def test_rare_rain_shows_its_events_and_its_interval() -> None:
    rain = np.ones(EVENTS)
    rain[:5] = 4.0
    table = a_table(records(2.0, rain=rain), records(1.0, 1, rain=rain), "rmse@class=*", rows=["model", "class"],
                    columns=["arm"])  # fmt: skip
    support = one(table, "difference", "rmse@class=50").support
    assert 0 < support < 8
    assert row(table, "observed ≥ 50")["events"] == f"{support} of {EVENTS}"
    assert row(table, "observed ≥ 50")["95% interval"].startswith("[")
    assert row(table, "observed 0–10")["events"] == f"{EVENTS}"
    wide = lay_out(replace(table, rows=["model", "arm"], columns=["class"]))
    [cell] = [line[wide.head.index("observed ≥ 50 mm/h")] for line in wide.lines if line[1] == "radar"]
    assert "[" in cell
    assert cell.endswith(f"({support} of {EVENTS} events)")


def test_undefined_cells_say_why() -> None:
    dry = records(1.0, rain=np.full(EVENTS, 0.01))
    table = a_table(dry, dry, "rmse", "pod@threshold=50", "csi@threshold=50")
    assert row(table, "POD")["radar"] == "–¹"
    assert row(table, "CSI")["radar"] == "–²"
    assert row(table, "CSI")["95% interval"] == "–²"
    text = markdown(table)
    assert "–¹ no observed event ≥ 50 mm/h." in text
    assert "–² no event ≥ 50 mm/h." in text


def test_a_group_that_holds_much_of_a_sum_is_marked() -> None:
    rain = np.ones(EVENTS)
    rain[3] = 6.0
    heavy, even = (a_table(records(3.0, rain=r), records(1.5, 1, rain=r), "rmse") for r in (rain, np.ones(EVENTS)))
    assert "†" in row(heavy, "RMSE")["radar"]
    share = one(heavy, "radar", "rmse").heaviest
    assert share is not None
    assert share > 0.5
    assert "† one event holds more than 25% of a sum" in markdown(heavy)
    assert percent(share) in markdown(heavy)
    assert "†" not in markdown(even)


def test_groups_are_resampled_and_named() -> None:
    groups = {event: f"day {event // 4}" for event in range(EVENTS)}
    grouped = a_table(records(3.0, groups=groups), records(1.5, 1, groups=groups), "rmse")
    assert one(grouped, "difference", "rmse").groups == 5
    text = markdown(grouped)
    assert "20 test events in 5 groups" in text
    assert "Groups are resampled" in text
    assert "groups" not in markdown(a_table(records(3.0), records(1.5, 1), "rmse"))


def test_the_share_of_observed_pixels_is_named() -> None:
    sums = score_fields(
        torch.ones(4, 1, 8, 8), torch.ones(4, 8, 8).index_fill(2, torch.tensor([0, 1]), torch.nan), PROTOCOL
    )
    by_window = {name: of.double().numpy()[:, None, None] for name, of in sums.items()}
    run = Records.of_windows(PROTOCOL, np.arange(4), by_window)
    table = a_table(run, run, "rmse")
    assert table.observed == 0.75
    assert "75% of the pixels are observed; the others count nowhere." in markdown(table)
    assert "of the pixels are observed" not in markdown(a_table(records(3.0), records(1.5, 1), "rmse"))


def test_sentences_are_made_from_intervals() -> None:
    clear = a_table(records(3.0), records(1.5, 1), "rmse", "nb", "csi@threshold=10", "csi@threshold=50")
    [sentence] = verdicts(clear)
    rmse = one(clear, "difference", "rmse")
    assert rmse.value is not None
    assert rmse.low is not None
    assert rmse.high is not None
    limits = f"[{percent(-rmse.high)}, {percent(-rmse.low)}]"
    assert sentence.startswith(f"Law, dual-pol vs radar: RMSE {percent(-rmse.value)} lower {limits}")
    assert "CSI ≥ 10 mm/h" in sentence
    assert "higher [" in sentence
    same = a_table(records(3.0), records(3.0), "rmse", "csi@threshold=10")
    assert verdicts(same) == ["Law, dual-pol vs radar: no difference shown: RMSE, CSI ≥ 10 mm/h."]
    assert "- Law, dual-pol vs radar: RMSE" in markdown(clear)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (((5.0, 9.0), (1.0, 3.0)), "NB 5.00 nearer to 0 [4.00, 6.00]"),
        (((-3.0, -1.0), (-9.0, -5.0)), "NB 5.00 farther from 0 [4.00, 6.00]"),
        (((2.0, 6.0), (-3.0, 1.0)), "NB differs by −5.00 [−6.00, −4.00]"),
        (((2.0, 6.0), (-3.0, -1.0)), "NB differs by −5.00 [−6.00, −4.00]"),
    ],
)
def test_a_side_of_the_best_value_is_only_told_if_intervals_show_it(
    limits: tuple[tuple[float, float], tuple[float, float]], sentence: str
) -> None:
    table = a_table(records(3.0), records(1.5, 1), "nb")
    arms = {
        arm: replace(one(table, arm, "nb"), value=(low + high) / 2, low=low, high=high)
        for arm, (low, high) in zip(("radar", "dualpol"), limits, strict=True)
    }
    change = replace(one(table, "difference", "nb"), value=-5.0, low=-6.0, high=-4.0, p_holm=0.01)
    [found] = verdicts(replace(table, records=[*arms.values(), change]))
    assert sentence in found


def test_origin_names_each_revision_and_machine() -> None:
    here = {"code": {"commit": "c0ffee1234", "diff_sha256": ""}, "host": "a", "machine": "x86_64",
            "packages": {"torch": "2.9"}}  # fmt: skip
    there = {**here, "code": {"commit": "beef5678", "diff_sha256": "1"}, "host": "b", "gpu": "H100"}
    assert origin_of([here, here]) == "Runs: revision c0ffee12 on a (x86_64, torch 2.9)."
    both = origin_of([here, there, here])
    assert "revision c0ffee12 on a (x86_64, torch 2.9) (2 of 3 runs)" in both
    assert "revision beef5678 with uncommitted changes on b (x86_64, H100, torch 2.9) (1 of 3 runs)" in both
    assert origin_of([{}, {}]) == ""
    assert origin_of([{"code": "odd", "packages": 3}]) == ""
    assert "unknown (1 of 2 runs)" in origin_of([here, {}])


def test_costs_are_written_and_named_below_tables(tmp_path: Path) -> None:
    costs = [Cost("net", "Net", "radar", 990, 2e6, 1e6), Cost("net", "Net", "dualpol", 1000, 2.2e6, None)]
    write_costs(tmp_path, costs)
    [radar, dualpol] = json.loads((tmp_path / "cost.json").read_text())["records"]
    assert (radar["parameters"], radar["parameters_ratio"], dualpol["forecast_flops_ratio"]) == (990, 0.99, None)
    assert len((tmp_path / "cost.csv").read_text().splitlines()) == 3
    grid = cost_grid(costs)
    assert grid.lines[0][:4] == ["Net", "radar", "990", "0.990"]
    table = replace(a_table(records(3.0), records(1.5, 1), "rmse"), costs=cost_note(costs), origin="Runs: x.")
    assert "Cost: parameters and FLOPs of a training step, relative to dual-pol: radar: Net 0.990" in markdown(table)
    assert "Runs: x." in markdown(table)
    write_costs(tmp_path / "none", [])
    assert not (tmp_path / "none").exists()


def test_the_terminal_leaves_columns_of_the_reference_to_the_report() -> None:
    spec = TableSpec(title="T", metrics=["rmse"], versus="one")
    laws = {name: ModelSpec(label=name, set={"model": {"name": "power_law"}}) for name in ("one", "two")}
    runs = {(name, arm): [records(2.0 + i, i)] for i, name in enumerate(laws) for arm in ("radar", "dualpol")}
    table = build_table("t", Suite(name="s", models=laws, tables={"t": spec}), runs)
    shown = terminal_table(table)
    assert [str(column.header) for column in shown.columns][-2:] == ["dual-pol vs radar", "95% interval"]
    assert "Comparisons with one: in the report" in str(shown.caption)
    assert "radar vs one" in markdown(table)


def test_forecasts_that_are_missing_are_told() -> None:
    assert "NaN" not in markdown(a_table(records(3.0), records(1.5, 1), "rmse"))
    text = markdown(a_table(records(3.0), records(1.5, 1, without=2), "rmse"))
    assert "Forecasts are NaN at observed pixels, which count nowhere for that model: Law at 25%." in text


def test_a_narrow_terminal_keeps_labels_and_one_comparison() -> None:
    spec = TableSpec(title="T", metrics=["rmse", "csi@threshold=10"], versus="law")
    models = {
        name: ModelSpec(label=f"Z–R law {name}", set={"model": {"name": "power_law"}}) for name in ("law", "other")
    }
    suite = Suite(name="s", arms=["radar", "dualpol", "placebo"], models=models, tables={"t": spec})
    scores = {(m, arm): [records(1.0 + i, i)] for m in models for i, arm in enumerate(suite.arms)}
    table = build_table("t", suite, scores)
    shown = terminal_table(table)
    assert [c.header for c in shown.columns if " vs " in str(c.header)] == ["dual-pol vs radar"]
    assert "Comparisons with placebo and Z–R law law: in the report" in str(shown.caption)
    console = Console(width=90, file=io.StringIO(), color_system=None)
    console.print(shown)
    assert "Z–R law" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "placebo vs radar" in markdown(table)


def test_the_events_of_a_mean_are_those_of_both_arms() -> None:
    """FAR is undefined where nothing is forecast: in other events on each arm."""
    rain = np.ones(EVENTS)
    radar, dualpol = records(0.0, rain=rain), records(0.0, rain=rain)
    for run, without in ((radar, slice(0, 4)), (dualpol, slice(2, 7))):
        run.sums["contingency"][without] = [0, 1, 0, 63]
    spec = TableSpec(title="T", metrics=["far@threshold=10"], aggregation="mean")
    suite = Suite(
        name="s", models={"law": ModelSpec(label="L", set={"model": {"name": "power_law"}})}, tables={"t": spec}
    )
    table = build_table("t", suite, {("law", "radar"): [radar], ("law", "dualpol"): [dualpol]})
    supports = {r.arm: r.support for r in table.records}
    assert supports == {"radar": EVENTS - 4, "dualpol": EVENTS - 5, "difference": EVENTS - 7}


def test_verdicts_and_cells_say_what_an_interval_lacks() -> None:
    rain = np.ones(EVENTS)
    rain[0] = 30
    table = a_table(records(3.0, rain=rain), records(1.0, 1, rain=rain), "rmse")
    assert one(table, "difference", "rmse").is_heavy
    assert all("RMSE† " in sentence for sentence in verdicts(table) if "lower" in sentence)
    few = [records(noise, seed) for noise, seed in ((3.0, 0), (1.0, 1))]
    for run in few:
        for of in run.sums.values():
            of[2:] = 0
    wide = a_table(*few, "rmse", "mae", rows=["model", "arm"], columns=["metric"])
    assert all("–¹" in cell for line in lay_out(wide).lines for cell in line[2:])
    assert "–¹ too few events contribute for an interval." in markdown(wide)


def test_intervals_of_a_squared_error_itself_are_marked_as_too_narrow() -> None:
    warning = "Intervals of MSE and RMSE themselves cover less than 95%"
    one_arm = replace(a_table(records(3.0), records(1.5, 1), "rmse"))
    alone = replace(one_arm, records=[r for r in one_arm.records if r.arm == "radar"])
    assert warning in markdown(alone)
    assert warning not in markdown(one_arm)
