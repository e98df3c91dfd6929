"""The tables of docs/results/question-four.md are those of the committed results."""

import json

from docs.tools.question_four_page import PAGE, RESULT, page_with_tables, tables_of


def test_the_page_shows_the_committed_results() -> None:
    text, result = PAGE.read_text(encoding="utf-8"), json.loads(RESULT.read_text(encoding="utf-8"))
    assert text.count("<!-- end of ") == len(tables_of(result))
    assert page_with_tables(text) == text


def test_no_level_of_fusion_shows_a_gain_as_the_page_says() -> None:
    records = json.loads(RESULT.read_text(encoding="utf-8"))["tables"]["fusion"]
    changes = [r for r in records if r["scale"]]
    assert len(changes) == 7 * 3
    for record in changes:
        gained = record["low"] > 0 if record["metric"].startswith("csi") else record["high"] < 0
        assert not gained, record
    halves = [r for r in changes if r["label"] in ("+ plain mean of both nets", "+ decision (U-Net merge)")]
    assert all(r["low"] > 0 for r in halves if r["metric"] == "rmse")


def test_the_values_of_the_players_add_up() -> None:
    """Shapley values add up to the difference between all players and none, within the digits shown."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    for explained in result["explain"].values():
        by_score: dict[str, list[list[str]]] = {}
        for line in explained["lines"]:
            by_score.setdefault(line[0], []).append(line)
        sums = [lines for lines in by_score.values() if lines[0][1] == "no players"]
        assert sums
        for first, *players, last in sums:
            numbers = [float(line[2].replace("−", "-")) for line in (first, *players, last)]
            assert abs(sum(numbers[:-1]) - numbers[-1]) < 0.01 * max(map(abs, numbers)) + 0.005
