import json
from pathlib import Path

import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.render import markdown, terminal_table, write_table
from polarcast.hpc.bench.suite import ModelSpec, TableSpec, cells_of, load_suite, without_synthetic_rows
from polarcast.hpc.bench.table import ComparisonTable, Record, build_table
from polarcast.hpc.scores.sums import EventSums, frame_sums

SPEC = TableSpec(title="T", models={"net": ModelSpec(label="Net")}, metrics=["rmse", "nb"])
ARMS = ["radar", "dualpol"]


def scores(error: float, events: int = 12, rain: float = 5.0) -> EventSums:
    """Events whose forecast is off by about `error` mm/h everywhere."""
    observed = torch.full((events, 4, 4), rain) * torch.linspace(0.5, 1.5, events)[:, None, None]
    off = error * (1 + 0.1 * torch.linspace(-1, 1, events))[:, None, None]
    return EventSums.of_frames(np.arange(events), frame_sums(observed + off, observed).numpy(), 16)


def table(radar: EventSums, dualpol: EventSums) -> dict[tuple[str, str], Record]:
    records = build_table("t", SPEC, ARMS, {("net", "radar"): [radar], ("net", "dualpol"): [dualpol]})
    return {(r.arm, r.metric): r for r in records}


def test_a_table_has_both_arms_and_their_difference() -> None:
    found = table(scores(2.0), scores(1.0))
    assert found["radar", "rmse"].value == pytest.approx(2.0, rel=0.01)
    assert found["dualpol", "rmse"].value == pytest.approx(1.0, rel=0.01)
    difference = found["difference", "rmse"]
    assert difference.value == pytest.approx(-1.0, rel=0.01)
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < difference.value < difference.high < 0
    assert (difference.events, difference.seeds, difference.unit) == (12, 1, "mm/h")


def test_the_difference_is_dualpol_minus_radar() -> None:
    better, worse = scores(1.0), scores(2.0)
    one, other = table(worse, better)["difference", "nb"], table(better, worse)["difference", "nb"]
    assert one.value == pytest.approx(-other.value)  # type: ignore[operator]
    assert one.value < 0 < other.value  # type: ignore[operator]


def test_one_event_has_values_but_no_interval() -> None:
    found = table(scores(2.0, events=1), scores(1.0, events=1))
    assert found["difference", "rmse"].value == pytest.approx(-0.9)
    assert found["difference", "rmse"].low is None


def test_without_rain_ratios_are_null_not_zero() -> None:
    assert table(scores(1.0, rain=0.0), scores(1.0, rain=0.0))["radar", "nb"].value is None


def test_arms_scored_on_different_events_are_refused() -> None:
    with pytest.raises(BadInput, match="different events"):
        table(scores(1.0, events=12), scores(1.0, events=11))


def test_written_tables_agree_with_the_records(tmp_path: Path) -> None:
    records = list(table(scores(2.0), scores(1.0)).values())
    write_table(tmp_path, ComparisonTable("T", records, "the rain is odd"))
    stored = json.loads((tmp_path / "t.json").read_text())
    assert stored["records"] == [r.as_row() for r in records]
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + len(records)
    text = (tmp_path / "t.md").read_text()
    assert "12 test events, 1 seed" in text
    assert "Note: the rain is odd." in text
    assert "\\[" not in text


def test_only_a_difference_whose_interval_excludes_zero_is_starred() -> None:
    clear, none = table(scores(2.0), scores(1.0)), table(scores(2.0), scores(2.0))
    assert "-1.00*" in markdown(ComparisonTable("T", list(clear.values())))
    assert "*" not in markdown(ComparisonTable("T", list(none.values()))).replace("**", "").split("\n\n")[1]


def test_the_terminal_shows_every_number() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table(ComparisonTable("T", list(table(scores(2.0), scores(1.0)).values()))))
    shown = console.export_text()
    assert all(word in shown for word in ("Net", "dual-pol − radar", "RMSE", "[mm/h]", "-1.00*"))


def test_the_shipped_suite_asks_for_each_run_once() -> None:
    suite = load_suite("demo")
    cells = cells_of(suite, Path("shards"))
    keys = [c.folder(Path(), "0" * 64).name for c in cells]
    assert len(set(keys)) == len(keys) == 8
    assert round(suite.data.synth.events * float(suite.data.split.split("/")[2])) >= 40


def test_rows_about_synthetic_storms_are_not_shown_for_real_ones() -> None:
    suite = load_suite("demo")
    real = without_synthetic_rows(suite)
    assert "attainable" in suite.tables["table_8_1"].models
    assert set(real.tables["table_8_1"].models) == {"published", "fitted", "unet"}
    assert len(cells_of(real, Path("shards"))) == 6


def test_a_changed_setting_is_another_cell(tmp_path: Path) -> None:
    def keys(steps: int) -> set[str]:
        (tmp_path / "s.yaml").write_text(
            f"tables: {{t: {{title: T, models: {{a: {{label: A, set: {{train: {{steps: {steps}}}}}}}}}}}}}"
        )
        cells = cells_of(load_suite(str(tmp_path / "s.yaml")), Path("shards"))
        return {c.folder(Path(), "0" * 64).name for c in cells}

    assert keys(5) == keys(5)
    assert keys(5).isdisjoint(keys(6))


@pytest.mark.parametrize(
    "content",
    [
        "tabels: {}",
        "tables: {t: {title: T, metrics: [rmsee]}}",
        "seeds: many",
        "[",
        "tables: {t: {title: T, modles: {}}}",
    ],
)
def test_a_suite_with_a_mistake_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(BadInput, match=r"s\.yaml"):
        load_suite(str(tmp_path / "s.yaml"))
