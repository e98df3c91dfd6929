"""The page of a sweep has all trials, the best one, figures, settings and commands."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from polarcast.sweeps.page import write_page
from polarcast.sweeps.record import COMPLETE, FAILED, STOPPED, Trial, TrialReport, key_of, write_trial
from polarcast.sweeps.result import Result, result_of
from polarcast.sweeps.space import load_space
from tests.support.browser import running_browser

COMMAND = ["polarcast", "sweep", "mine.yaml", "train.steps=6", "--out", "a b"]
SPACE = """
objective: validation/rmse
parameters:
  train.learning_rate: {log_uniform: [1.0e-4, 1.0e-1]}
  model.rain_transform: {choice: [log1p, sqrt]}
"""


def trial(number: int, value: float, state: str = COMPLETE) -> Trial:
    point = {"train.learning_rate": 1e-3 * (1 + number), "model.rain_transform": ("log1p", "sqrt")[number % 2]}
    by_arm = {"radar": value + 0.1, "dualpol": value - 0.1}
    reason = "</script><b>out of memory" if state == FAILED else ""
    return Trial(key_of(point), point, 90, float(number), state, reason, [TrialReport(30, value, by_arm)], 60.0)


TRIALS = [trial(0, 1.5), trial(1, 1.2), trial(2, 3.0, STOPPED), trial(3, 2.0, FAILED), trial(4, 1.9)]


@pytest.fixture
def result(tmp_path: Path) -> Result:
    (tmp_path / "mine.yaml").write_text(SPACE)
    for one in TRIALS:
        write_trial(tmp_path / "trials" / one.key, one)
    return result_of(tmp_path, load_space(str(tmp_path / "mine.yaml"), paired=True))


def cells(page: str) -> list[list[str]]:
    body = page.split('id="trials-table"')[1].split("</table>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body)]
    return [[unescape(cell) for cell in row] for row in rows if row]


def test_every_trial_has_a_row_best_first(result: Result, tmp_path: Path) -> None:
    page = write_page(tmp_path, result, COMMAND).read_text("utf-8")
    rows = cells(page)
    assert [row[0] for row in rows] == [one.key for one in result.trials]
    assert rows[0][:5] == [TRIALS[1].key, "complete", "1.2", "1.3", "1.1"]
    assert rows[0][-3:] == ["0.002", "sqrt", ""]
    assert "Best of 3 complete trials: rmse 1.2 with learning_rate 0.002, rain_transform sqrt." in page
    assert "</script><b>out of memory" in [row[-1] for row in rows]
    assert page.count("<script") == page.count("</script>") == 1


def test_settings_figures_and_commands_are_there(result: Result, tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text('{"token": "https://me:hunter2@example.org/x", "preset": "demo"}')
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "history.png").write_bytes(b"x")
    page = unescape(write_page(tmp_path, result, COMMAND).read_text("utf-8"))
    assert "polarcast sweep mine.yaml train.steps=6 --out 'a b' --resume" in page
    assert f"polarcast train {tmp_path}/best.yaml" in page
    assert "log_uniform: 0.0001 to 0.1" in page
    assert "hunter2" not in page
    assert '"preset": "demo"' in page
    assert page.count('<figure class="zoom">') == 1
    assert "dual-pol vs radar over 3 points" in page


def test_a_sweep_without_a_complete_trial_has_a_page(result: Result, tmp_path: Path) -> None:
    page = write_page(tmp_path, replace(result, trials=[], paired=None), COMMAND).read_text("utf-8")
    assert "No trial is complete yet." in page
    assert "best.yaml" not in page


@pytest.mark.browser
def test_trials_sort_and_filter_in_a_browser(result: Result, tmp_path: Path) -> None:
    file = write_page(tmp_path, result, COMMAND)
    keys = "[...document.querySelectorAll('#trials-table tbody tr')].map(row => row.cells[0].textContent)"
    with running_browser(tmp_path / "profile") as browser:
        page = browser.open(file, "trials.state=complete&trials.sort=2&trials.down=1", width=375)
        assert page.run(keys) == [TRIALS[i].key for i in (4, 0, 1)]
        assert page.run("document.documentElement.scrollWidth") <= 375
        assert page.problems == []
