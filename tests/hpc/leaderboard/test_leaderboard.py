"""Check the leaderboard: grouping, ranking, ties, unranked runs and verification of external runs."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.leaderboard.entry import Entry, find_entries
from polarcast.hpc.leaderboard.page import as_csv, as_page, terminal_table
from polarcast.hpc.leaderboard.publish import publish
from polarcast.hpc.leaderboard.ranking import Board, make_boards
from polarcast.hpc.leaderboard.verify import add
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.folder import RunFolder
from polarcast.hpc.runs.load import load_model
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.scores.query import parse_score
from polarcast.hpc.scores.records import Records, read_records, write_records
from polarcast.hpc.scores.sums import ADDED_LATER, score_fields
from tests.support.browser import running_browser
from tests.support.finished_run import BASELINE, UNET, finished
from tests.support.wandb_file import OfflineRun

KNOWN = {
    "code": {"commit": "c0ffee", "diff_sha256": ""}, "data": {"digest": "d1", "archive": {"preset": "tiny"}},
    "packages": {"torch": "2"}, "python": "3.11", "machine": "x86_64",
}  # fmt: skip


def records(error: float, events: int = 16, wobble: float = 0.0) -> Records:
    """Return records of events with a forecast error of about `error` mm/h that varies between events."""
    observed = torch.full((events, 4, 4), 5.0) * torch.linspace(0.5, 1.5, events)[:, None, None]
    factor = 1 + 0.05 * torch.linspace(-1, 1, events) + wobble * (-1.0) ** torch.arange(events)
    protocol = Protocol(unit="mm/h", shape=(4, 4))
    sums = score_fields((observed + (error * factor)[:, None, None])[:, None], observed, protocol)
    by_window = {name: of.double().numpy()[:, None, None] for name, of in sums.items()}
    return Records.of_windows(protocol, np.arange(events), by_window)


def a_run(folder: Path, of: Records, known: dict[str, Any] | None = None, *overrides: str) -> Path:
    run = RunFolder(folder)
    run.start(load_config("demo", list(overrides)))
    run.provenance_file.write_text(json.dumps(KNOWN if known is None else known))
    write_records(run.output.scores, of)
    return folder


def only_board(folder: Path, score: str = "rmse") -> Board:
    [board] = make_boards(find_entries([folder]), parse_score(score))
    return board


def test_runs_are_ordered_by_score_and_ties_are_marked(tmp_path: Path) -> None:
    a_run(tmp_path / "deep" / "worst", records(3.0))
    a_run(tmp_path / "best", records(1.0, wobble=0.3))
    a_run(tmp_path / "near", records(1.01))
    board = only_board(tmp_path)
    assert [place.entry.name for place in board.places] == ["near", "best", "worst"]
    assert [place.rank for place in board.places] == [1, 2, 3]
    assert [place.is_tied for place in board.places] == [True, True, False]
    for place in board.places:
        assert 0 <= place.low < place.value < place.high
        assert place.events == 16
        assert place.lacks_seeds
    by_skill = only_board(tmp_path, "cc")
    assert len(by_skill.places) == 3


def heavy_tailed(error: float) -> Records:
    """Records of events of which one has most of the squared error."""
    rain = torch.full((12, 4, 4), 5.0) * torch.tensor([1.0] * 11 + [40.0])[:, None, None]
    factor = 1 + 0.2 * torch.randn(12, generator=torch.Generator().manual_seed(round(10 * error)))
    protocol = Protocol(unit="mm/h", shape=(4, 4))
    sums = score_fields((rain * (1 + error * factor[:, None, None]))[:, None], rain, protocol)
    by_window = {name: of.double().numpy()[:, None, None] for name, of in sums.items()}
    return Records.of_windows(protocol, np.arange(12), by_window)


def test_a_run_with_a_multiple_of_the_error_does_not_tie_because_of_one_storm(tmp_path: Path) -> None:
    runs = {name: heavy_tailed(error) for name, error in (("best", 0.2), ("far", 0.5))}
    for name, run in runs.items():
        a_run(tmp_path / name, run)
    assert {place.entry.name: place.is_tied for place in only_board(tmp_path).places} == {"best": True, "far": False}
    # The difference in mm/h is mostly that of one event: without it, little is left.
    score = parse_score("rmse")
    values = [score.of(np.stack([sums.sum(0), sums[:-1].sum(0)]), run.protocol)
              for run in runs.values() for sums in [score.sums(run)]]  # fmt: skip
    assert values[1][1] - values[0][1] < 0.1 * (values[1][0] - values[0][0])


def biased(factor: float, spread: float) -> Records:
    """Records of events whose forecast is a multiple of the rain, more or less, so that their NB is known."""
    rain = torch.full((16, 4, 4), 5.0)
    factors = factor + spread * torch.randn(16, generator=torch.Generator().manual_seed(round(100 * factor)))
    protocol = Protocol(unit="mm/h", shape=(4, 4))
    sums = score_fields((rain * factors[:, None, None])[:, None], rain, protocol)
    by_window = {name: of.double().numpy()[:, None, None] for name, of in sums.items()}
    return Records.of_windows(protocol, np.arange(16), by_window)


def test_biases_that_differ_tie_unless_one_is_nearer_to_none(tmp_path: Path) -> None:
    runs = {
        "less": biased(0.91, 0.05),
        "more": biased(1.10, 0.05),
        "far": biased(1.5, 0.05),
        "lower": biased(0.7, 0.05),
    }
    for name, run in runs.items():
        a_run(tmp_path / name, run)
    board = only_board(tmp_path, "nb")
    tied = {place.entry.name: place.is_tied for place in board.places}
    # NB of about −9 and +10% differ, but not in size.
    assert tied == {"less": True, "more": True, "far": False, "lower": False}
    assert "as near to the best value" in str(terminal_table(board).caption)


def test_a_board_says_what_one_run_of_a_model_can_not_tell(tmp_path: Path) -> None:
    a_run(tmp_path / "net" / "one", records(1.0))
    a_run(tmp_path / "net" / "two", records(3.0))
    a_run(tmp_path / "laws" / "one", records(1.0), None, "model.name=power_law")
    nets, laws = only_board(tmp_path / "net"), only_board(tmp_path / "laws")
    shown = terminal_table(nets)
    assert "events' interval" in [column.header for column in shown.columns]
    assert "the events' interval of the ratio to it includes 1" in str(shown.caption)
    assert "Each run is one training" in str(shown.caption)
    assert "RMSE [mm/h] ↓" in str(shown.title).replace("\\[", "[")
    shown = terminal_table(laws)
    assert "95% interval" in [column.header for column in shown.columns]
    assert "Each run is one training" not in str(shown.caption)
    assert "Each run is one training" in as_page([nets])
    assert nets.as_record()["places"][0]["one_seed"]


def test_only_runs_on_the_same_manifest_and_task_are_compared(tmp_path: Path) -> None:
    a_run(tmp_path / "here", records(1.0))
    a_run(tmp_path / "there", records(2.0), {**KNOWN, "data": {"digest": "d2"}})
    boards = make_boards(find_entries([tmp_path]))
    assert [[place.entry.name for place in board.places] for board in boards] == [["here"], ["there"]]


@pytest.mark.parametrize("key", ["code", "data", "packages", "python", "machine"])
def test_run_without_complete_provenance_is_not_ranked(tmp_path: Path, key: str) -> None:
    a_run(tmp_path / "known", records(2.0))
    a_run(tmp_path / "unknown", records(1.0), {k: v for k, v in KNOWN.items() if k != key})
    boards = make_boards(find_entries([tmp_path]))
    assert [place.entry.name for board in boards for place in board.places] == ["known"]
    [(entry, reason)] = [pair for board in boards for pair in board.unranked]
    assert entry.name == "unknown"
    assert reason.startswith("unknown: ")


def test_run_that_sees_the_truth_or_was_scored_on_other_events_is_not_ranked(tmp_path: Path) -> None:
    a_run(tmp_path / "fair", records(2.0))
    a_run(tmp_path / "fair too", records(2.5))
    a_run(tmp_path / "encoder", records(0.1), None, "model.name=autoencoder")
    a_run(tmp_path / "half", records(0.1, events=8))
    board = only_board(tmp_path)
    assert [place.entry.name for place in board.places] == ["fair", "fair too"]
    assert {entry.name: reason for entry, reason in board.unranked} == {
        "encoder": "the model uses the observation as input",
        "half": "scored on other events",
    }


def test_unavailable_score_and_folders_without_runs_raise(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        find_entries([tmp_path / "nowhere"])
    with pytest.raises(BadInput, match="no scored run"):
        find_entries([tmp_path])
    a_run(tmp_path / "one", records(1.0))
    with pytest.raises(BadInput, match="no run has spread_skill"):
        only_board(tmp_path, "spread_skill")


def test_costs_are_read_from_log_and_model_card(tmp_path: Path) -> None:
    run = RunFolder(a_run(tmp_path / "one", records(1.0)))
    run.log(event="start", step=0, world_size=2)
    run.log(event="step", step=10, seconds=3.0)
    run.log(event="start", step=10, world_size=4)
    run.log(event="step", step=20, seconds=1.5, joules=1.8e6)
    (run.path / "card.json").write_text(json.dumps({"parameters": 1234, "forecast_flops": 5}))
    row = only_board(tmp_path).places[0].as_row()
    assert row["process_hours"] == pytest.approx((10 * 3.0 * 2 + 10 * 1.5 * 4) / 3600)
    assert (row["parameters"], row["forecast_flops"], row["kilowatt_hours"]) == (1234, 5, 0.5)


def test_terminal_table_and_csv_agree(tmp_path: Path) -> None:
    a_run(tmp_path / "one", records(1.0))
    a_run(tmp_path / "two", records(2.0))
    board = only_board(tmp_path)
    assert terminal_table(board).row_count == 2
    rows = list(csv.DictReader(io.StringIO(as_csv([board]))))
    assert [(row["run"], float(row["value"])) for row in rows] == [(p.entry.name, p.value) for p in board.places]


@pytest.fixture
def elsewhere(shards: Manifest, tmp_path: Path) -> tuple[Path, Path]:
    """Create an external run with its score record, and the forecasts it was computed from."""
    run = finished(shards, tmp_path / "theirs", *UNET)
    evaluate(run, shards, run.output)
    reader, model = build_reader(run.config(), shards, "test"), load_model(run, World())
    batch = reader.read(range(len(reader))).to("cpu")
    with torch.no_grad():
        fields = model.forecast(batch)[:, :, 0].numpy()
    np.savez(tmp_path / "theirs.npz", event=batch.event.numpy(), frame=batch.frame.numpy(), forecast=fields)
    return run.path, tmp_path / "theirs.npz"


def test_external_run_is_verified_by_its_forecasts(shards: Manifest, elsewhere: tuple[Path, Path]) -> None:
    run, forecasts = elsewhere
    assert add(run, forecasts, str(shards.folder))["verified"]
    assert Entry(run).standing == "verified"
    # Changing the record after verification invalidates it.
    other = finished(shards, run.parent / "other", *BASELINE)
    write_records(RunFolder(run).output.scores, evaluate(other, shards, other.output))
    assert Entry(run).standing == "unverified"


def test_records_of_an_earlier_version_are_verified_without_the_sums_added_since(
    shards: Manifest, elsewhere: tuple[Path, Path]
) -> None:
    run, forecasts = elsewhere
    file = RunFolder(run).output.scores
    whole = read_records(file)
    for left_out, verified in ((ADDED_LATER, True), ({"continuous"}, False)):
        write_records(file, replace(whole, sums={k: s for k, s in whole.sums.items() if k not in left_out}))
        assert add(run, forecasts, str(shards.folder))["verified"] == verified


def test_record_that_differs_from_the_forecasts_is_not_ranked(shards: Manifest, elsewhere: tuple[Path, Path]) -> None:
    run, forecasts = elsewhere
    with np.load(forecasts) as content:
        fields = dict(content)
    np.savez(forecasts, **{**fields, "forecast": fields["forecast"] * 1.01})
    result = add(run, forecasts, str(shards.folder))
    assert not result["verified"]
    assert "sums differ from those of the forecasts" in result["reason"]
    assert not add(run, None, None)["verified"]
    [board] = make_boards([Entry(run)])
    assert not board.places
    np.savez(forecasts, **{k: v[:-1] for k, v in fields.items()})
    with pytest.raises(BadInput, match="no forecast of event"):
        add(run, forecasts, str(shards.folder))
    for damaged in (b"no archive", b"", forecasts.read_bytes()[:200]):
        forecasts.write_bytes(damaged)
        with pytest.raises(BadInput, match="no forecasts"):
            add(run, forecasts, str(shards.folder))


def test_record_with_other_groups_than_the_shards_is_not_verified(
    shards: Manifest, elsewhere: tuple[Path, Path]
) -> None:
    run, forecasts = elsewhere
    scores = RunFolder(run).output.scores
    records = read_records(scores)
    write_records(scores, replace(records, groups=np.array(["a"] * len(records.events))))
    result = add(run, forecasts, str(shards.folder))
    assert (result["verified"], result["reason"]) == (False, "the groups of the events differ from those of the shards")


def test_publish_sends_a_table_and_an_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    a_run(tmp_path / "runs" / "one", records(1.0))
    a_run(tmp_path / "runs" / "two", records(2.0))
    board = only_board(tmp_path / "runs")
    # W&B's service is slow to start, and fast afterwards: the files must be complete both times.
    for folder in (tmp_path / "first", tmp_path / "sent"):
        publish([board], "radar", folder)
        assert OfflineRun(folder).artifacts.count("leaderboard") == 1
    [table] = (tmp_path / "sent").glob("wandb/offline-run-*/files/media/table/*.json")
    content = json.loads(table.read_text())
    assert [dict(zip(content["columns"], row, strict=True))["run"] for row in content["data"]] == ["one", "two"]
    assert json.loads((tmp_path / "sent" / "board.json").read_text())[0]["score"] == "rmse"


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    return found or pytest.skip("no browser: install chromium")


def opened(page: Path, view: str = "") -> list[list[str]]:
    """Return the table cells of each row as rendered by a browser."""
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{page}#{view}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", shown, re.DOTALL)
    return [cells for row in rows if (cells := re.findall(r"<td[^>]*>(.*?)</td>", row))]


@pytest.mark.browser
def test_page_filters_and_sorts_in_a_browser(tmp_path: Path) -> None:
    a_run(tmp_path / "runs" / "net", records(1.0), None, "arm=dualpol")
    a_run(tmp_path / "runs" / "net too", records(1.001), None, "arm=radar")
    a_run(tmp_path / "runs" / "law <b>&", records(2.0), None, "model.name=power_law", "arm=radar")
    page = tmp_path / "board.html"
    page.write_text(as_page(make_boards(find_entries([tmp_path / "runs"]))))
    every = opened(page)
    assert [row[1] for row in every] == ["net", "net too", "law &lt;b&gt;&amp;"]
    assert [row[0] for row in every] == ["1", "2", "3"]
    assert [row[1] for row in opened(page, "arm=dualpol")] == ["net"]
    assert [row[2] for row in opened(page, "text=power_law")] == ["power_law"]
    assert [row[1] for row in opened(page, "tied=1")] == ["net"]
    assert [row[0] for row in opened(page, "sort=5&down=1")] == ["3", "2", "1"]
    assert "http" not in page.read_text().replace("http-equiv", "")


@pytest.mark.browser
def test_a_click_sorts_all_boards_and_the_address_keeps_it(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        for data in ("d1", "d2"):
            a_run(tmp_path / "runs" / f"{name}-{data}", records(1.0 + number), {**KNOWN, "data": {"digest": data}})
    page = tmp_path / "board.html"
    page.write_text(as_page(make_boards(find_entries([tmp_path / "runs"]))))
    names = "[...document.querySelectorAll('table')].map(t => [...t.tBodies[0].rows].map(r => r.cells[1].textContent))"
    with running_browser(tmp_path / "profile") as browser:
        shown = browser.open(page, width=375)
        assert shown.run(names) == [["a-d1", "b-d1"], ["a-d2", "b-d2"]]
        shown.run("document.querySelector('th:nth-child(6) button').click()")
        shown.run("document.querySelector('th:nth-child(6) button').click()")
        assert shown.run(names) == [["b-d1", "a-d1"], ["b-d2", "a-d2"]]
        assert shown.run("location.hash") == "#sort=5&down=1"
        shown.run("document.querySelector('input[name=tied]').click()")
        assert shown.run(names) == [["a-d1"], ["a-d2"]]
        assert shown.run("location.hash").endswith("tied=1")
        assert shown.run("document.documentElement.scrollWidth") <= 375
        assert shown.problems == []
