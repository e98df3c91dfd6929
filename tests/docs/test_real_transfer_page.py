"""The tables of docs/results/real-transfer.md are those of the committed results, which say what the page says."""

import json

import numpy as np

from docs.tools.real_transfer_page import PAGE, RESULT, page_with_tables, tables_of


def test_the_page_shows_the_committed_results() -> None:
    text, result = PAGE.read_text(encoding="utf-8"), json.loads(RESULT.read_text(encoding="utf-8"))
    assert text.count("<!-- end of ") == len(tables_of(result))
    assert page_with_tables(text) == text


def test_the_placebo_has_most_of_the_difference_as_the_page_says() -> None:
    records = json.loads(RESULT.read_text(encoding="utf-8"))["tables"]["real"]
    values = {(r["metric"], r["arm"]): r["value"] for r in records if r["label"].startswith("FURENet")}
    for metric in ("csi@threshold=30", "csi@threshold=35"):
        gain, placebo = values[metric, "difference"], values[metric, "placebo_vs_radar"]
        assert 0.5 * gain < placebo < gain
    assert not any(r["low"] is not None for r in records if r["scale"])


def test_the_mean_of_the_seeds_of_an_event_is_that_of_its_row() -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    for row in result["events"]:
        assert len(row["seeds"]) == 3
        assert f"{np.mean(row['seeds']):.3f} (" in tables_of(result)["events"]


def test_no_gain_is_shown_on_synthetic_storms_either() -> None:
    records = json.loads(RESULT.read_text(encoding="utf-8"))["tables"]["synthetic"]
    differences = [r for r in records if r["arm"] == "difference"]
    assert len(differences) == 4
    assert all(r["low"] < 0 < r["high"] for r in differences)


def test_fine_tuning_on_two_events_does_harm_as_the_page_says() -> None:
    tables = json.loads(RESULT.read_text(encoding="utf-8"))["tables"]

    def values(name: str) -> dict[str, float]:
        rows = tables[name]
        return {
            r["arm"]: r["value"] for r in rows if r["metric"] == "csi@threshold=35" and r["label"].startswith("FURENet")
        }

    before, after = values("real"), values("tuned")
    lost = {arm: before[arm] - after[arm] for arm in ("radar", "dualpol", "placebo")}
    assert min(lost.values()) > 0
    assert max(lost, key=lambda arm: lost[arm]) == "dualpol"
