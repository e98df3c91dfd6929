"""The report shows the numbers of the tables, honest cases, failures, cost and commands, in less than 15 MB."""

import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.bench.failures import CellFailure
from polarcast.hpc.bench.figures.source import FigureData
from polarcast.hpc.bench.layout import TableLayout, lay_out
from polarcast.hpc.bench.record import Record
from polarcast.hpc.bench.report import Picture, Section, write_report
from polarcast.hpc.bench.report.context import commands_of, plans_in, setting_of, spent_by
from polarcast.hpc.bench.report.gallery import BUDGET, Palette, gallery_of
from polarcast.hpc.bench.report.judgement import judge
from polarcast.hpc.bench.report.tables import all_numbers, score_table
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.scores.protocol import Protocol
from polarcast.hpc.utils.plot_style import RAIN_LEVELS_MM_H
from tests.support.report_suite import LEADS, a_report, kept_in, manifest, scores_of, suite_of, tables_of

LIMIT = 15_000_000
RAIN = Protocol(unit="mm/h", shape=(8, 8))
COMPARED = Record(
    table="t", model="net", label="A net", arm="difference", metric="rmse", unit="1", value=-0.3, low=-0.4, high=-0.2,
    events=8, support=8, seeds=2, aggregation="pooled", p_value=0.001, p_holm=0.01, scale="ratio", direction="lower",
)  # fmt: skip


def text_of(markup: str) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", markup))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return a_report(tmp_path_factory.mktemp("report")).read_text("utf-8")


@pytest.mark.parametrize("task", ["qpe", "nowcast"])
def test_the_page_has_every_text_of_the_laid_out_tables(task: str) -> None:
    for name, table in tables_of(task).items():
        shown, grid = score_table(name, table), lay_out(table)
        cells = [unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", shown)]
        expected = [text for line in grid.lines for text in line]
        assert len(cells) == len(expected)
        assert all(cell.startswith(text) for cell, text in zip(cells, expected, strict=True))
        heads = re.findall(r"<th [^>]*>(.*?)</th>", shown)
        assert list(map(unescape, heads)) == grid.head


def test_every_comparison_is_drawn_and_judged_in_words() -> None:
    table = tables_of("qpe")["main"]
    shown = score_table("main", table)
    compared = [record for record in table.records if record.is_comparison and record.low is not None]
    assert shown.count("<svg") == len(compared)
    for record in compared:
        assert judge(record, table).text in text_of(shown)
    assert "△ better, not after Holm" in text_of(shown)


def test_all_numbers_have_a_row_each() -> None:
    table = tables_of("qpe")["main"]
    shown = all_numbers("main", table)
    rows = re.findall(r"<tr[^>]*>(?=<td)", shown)
    assert len(rows) == len(table.records)
    assert f'data-value="{table.records[0].value:.12g}"' in shown
    assert "dual-pol vs radar" in shown


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "▲ better"),
        ({"value": 0.3, "low": 0.2, "high": 0.4}, "▼ worse"),
        ({"p_holm": 0.2}, "△ better, not after Holm"),
        ({"low": -0.4, "high": 0.1}, "○ not shown"),
        ({"lacks_seeds": True}, "? one seed, no test"),
        ({"low": None, "high": None}, "– undefined"),
        ({"direction": "none"}, "≠ differs"),
        ({"metric": "csi@threshold=10", "direction": "higher", "scale": "difference"}, "▼ worse"),
        ({"metric": "paper_mse", "scale": "gain", "value": 4.0, "low": 3.0, "high": 5.0}, "▲ better"),
        ({"metric": "nb", "scale": "distance", "direction": "target"}, "≠ differs"),
    ],
)
def test_direction_is_told_in_words(change: dict[str, object], text: str) -> None:
    record = replace(COMPARED, **change)  # type: ignore[arg-type]
    assert judge(record, ComparisonTable("T", [record], RAIN)).text == text


def test_nearer_to_the_best_value_is_better() -> None:
    bias = {"metric": "nb", "direction": "target", "p_value": None, "p_holm": None, "scale": "", "value": 8.0}
    arms = [
        replace(COMPARED, arm=arm, low=low, high=low + 2, **bias) for arm, low in (("radar", 7.0), ("dualpol", 2.0))
    ]  # type: ignore[arg-type]
    record = replace(COMPARED, metric="nb", scale="distance", direction="target", value=-5.0, low=-6.0, high=-4.0)
    assert judge(record, ComparisonTable("T", [*arms, record], RAIN)).kind == "better"


def test_the_sections_are_there_in_order(page: str) -> None:
    names = re.findall(r'<h2 id="([^"]+)"', page)
    after_tables = ["cases", "explain", "power", "support", "failures", "cost", "figures", "provenance"]
    assert names == ["verdict", "setting", "main", "thresholds", *after_tables]
    links = re.findall(r'<li><a href="#([^"]+)"', page)
    assert links == names[1:]


def test_failures_are_told_on_top_and_in_a_section(page: str) -> None:
    assert page.index("1 run failed and is missing here.") < page.index("<nav")
    section = page.split('<h2 id="failures">')[1].split("<h2")[0]
    assert "out of &lt;memory&gt;" in section
    assert "&lt;/pre&gt;&lt;b&gt;" in section
    assert 'data-value="3"' in section


def test_cost_stands_beside_skill(page: str) -> None:
    section = page.split('<h2 id="cost">')[1].split("<h2")[0]
    assert "GPU-hours" in section
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr[^>]*>(<td.*?)</tr>", section)]
    assert len(rows) == 4
    assert all("<svg" in row[2] for row in rows)
    assert {row[3] for row in rows} == {"1.50"}
    assert {row[4] for row in rows} == {"0.250"}


def test_without_context_the_page_has_its_tables(tmp_path: Path) -> None:
    tables = tables_of("qpe")
    write_report(tmp_path / "r.html", "R", tables, [], {}, with_paper=False)
    names = re.findall(r'<h2 id="([^"]+)"', (tmp_path / "r.html").read_text("utf-8"))
    assert names == ["main", "thresholds", "power", "support"]


def test_labels_of_others_are_texts(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    page = a_report(tmp_path, "qpe", hostile).read_text("utf-8")
    assert page.count("<script") == page.count("</script>") == 1
    assert not re.search(r"<img(?! (class=\"pixels\" )?alt=)", page)
    assert "&lt;/script&gt;" in page


def test_cases_are_the_worst_median_and_best_of_those_kept(tmp_path: Path) -> None:
    source = FigureData(suite_of("qpe"), scores_of("qpe"), kept_in(tmp_path, "qpe"))
    gallery = gallery_of(source, manifest())
    assert gallery is not None
    titles = [case.title for case in gallery.cases]
    assert [title.split(" (")[0] for title in titles] == ["Worst", "Median", "Best"]
    assert [re.search(r"event (\d+)", title)[1] for title in titles] == ["003", "005", "006"]  # type: ignore[index]
    assert "A radar, 2020-09-13 12:26–13:26 UTC" in titles[0]
    groups = list(dict.fromkeys(one.group for one in gallery.cases[0].maps))
    assert groups == ["input and truth", "A net", "A law"]
    captions = [one.caption for one in gallery.cases[0].maps]
    assert captions[:3] == ["input: ZH", "input: ZDR", "truth"]
    assert captions[4] == "dual-pol, RMSE 16.0 mm/h"
    assert "of the 4 kept cases, not of all events" in gallery.notes[0]
    assert "A net, dual-pol" in gallery.notes[0]


def test_a_nowcast_has_a_frame_for_each_lead_time(tmp_path: Path) -> None:
    source = FigureData(suite_of("nowcast"), scores_of("nowcast"), kept_in(tmp_path, "nowcast"))
    gallery = gallery_of(source, manifest())
    assert gallery is not None
    assert gallery.frames == [f"+{lead:g} min" for lead in LEADS]
    frames = [one.frame for one in gallery.cases[0].maps]
    assert frames.count(None) == 2
    assert {frames.count(i) for i in range(len(LEADS))} == {5}
    small = gallery_of(source, manifest(), budget=40_000)
    assert small is not None
    assert 1 <= len(small.frames) < len(LEADS)
    assert any("lead times are shown" in note for note in small.notes)


def test_maps_have_the_colors_of_their_levels() -> None:
    palette = Palette.of("rain rate in mm/h", RAIN_LEVELS_MM_H)
    field = np.array([[0.0, 0.1, 3.0], [500.0, np.nan, 0.05]], np.float32)
    shown = np.asarray(Image.open(io.BytesIO(palette.png(field))).convert("RGB"))
    assert shown.shape == (2, 3, 3)
    colors = palette.colors
    assert [tuple(shown[0, x]) for x in range(3)] == [(255, 255, 255), colors[0], colors[3]]
    assert tuple(shown[1, 0]) == colors[-1]
    assert len(set(shown[1, 1].tolist())) == 1
    assert tuple(shown[1, 2]) == (255, 255, 255)


@pytest.mark.parametrize("noise", [False, True])
def test_the_page_of_a_large_grid_is_small(tmp_path: Path, noise: bool) -> None:
    """The grid of the standard suites, two models on two arms, ten lead times; noise compresses worst."""
    file = a_report(tmp_path, "nowcast", size=256, noise=noise)
    assert BUDGET / 100 < file.stat().st_size < LIMIT - 7_000_000  # the figures have a budget of their own
    frames = json.loads(unescape(re.search(r'data-names="([^"]+)"', file.read_text("utf-8"))[1]))  # type: ignore[index]
    assert len(frames) == len(LEADS) if not noise else 1 <= len(frames) < len(LEADS)


def test_figures_beyond_the_budget_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = tables_of("qpe")
    figures = [tmp_path / "arms.png", tmp_path / "animation.gif", tmp_path / "classes.png"]
    for figure, size in zip(figures, (30, 3000, 30), strict=True):
        figure.write_bytes(b"x" * size)
    monkeypatch.setattr("polarcast.hpc.bench.report.write.FIGURE_BUDGET", 1000)
    none = TableLayout(["player"], [["zh"]], 1)
    analysis = Section("explain", "E", none, [], [Picture(figures[0], "Bars"), Picture(figures[1], "Large bars")])
    write_report(tmp_path / "r.html", "R", tables, figures, {}, sections=[analysis], with_paper=False)
    page = (tmp_path / "r.html").read_text("utf-8")
    assert page.count('<figure class="zoom">') == 3
    assert "Left out here because of its size: animation.gif, Large bars" in page
    assert "Left out here because of its size: animation.gif" in page


def test_the_setting_is_that_of_the_manifest(shards: Manifest) -> None:
    known = dict(setting_of(suite_of("qpe"), shards))
    assert known["test events"].startswith(str(len(shards.splits["test"])))
    assert known["grid"].startswith(f"{shards.shape[0]} × {shards.shape[1]} pixels")
    assert known["data"].startswith("synthetic storms, preset")
    assert shards.digest().startswith(known["digest of the data"])
    assert known["seeds of trained models"] == "0, 1"


def test_hours_and_energy_are_summed_over_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        run = tmp_path / f"s{seed}"
        run.mkdir()
        lines = [
            {"event": "start", "step": 0, "world_size": 2},
            {"event": "step", "step": 10, "seconds": 360, "joules": 3.6e6},
        ]
        (run / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
        (run / "provenance.json").write_text(json.dumps({"gpu": "a GPU"}))
    spent = spent_by(("net", "radar"), [tmp_path / "s0", tmp_path / "s1"])
    assert (spent.runs, spent.hours, spent.on_gpu, spent.kilowatt_hours) == (2, 4.0, True, 2.0)
    (tmp_path / "s1" / "log.jsonl").write_text('{"event": "step"}')
    damaged = spent_by(("net", "radar"), [tmp_path / "s0", tmp_path / "s1"])
    assert (damaged.hours, damaged.kilowatt_hours) == (None, None)


def test_plans_of_power_are_read(tmp_path: Path) -> None:
    need = {"seeds": 3, "groups": 40.0, "low": 30.0, "high": None, "events": 80.0}
    row = {"compared": "A net", "score": "rmse", "gains": [{"gain": "5% lower", "needs": [need]}]}
    (tmp_path / "power").mkdir()
    (tmp_path / "power" / "power.json").write_text(json.dumps({"power": 0.8, "rows": [row]}))
    (tmp_path / "power.json").write_text('{"power": 0.8, "rows": 5}')
    (tmp_path / "power" / "power-1-net.png").write_bytes(b"x")
    [plan] = plans_in(tmp_path)
    assert plan.title == "Events that show a gain with 80% power"
    assert [picture.file.name for picture in plan.pictures] == ["power-1-net.png"]
    assert plan.table.lines == [["A net", "rmse", "5% lower", "3", "80.0", "40.0", "30.0", "none"]]


def test_commands_are_those_of_a_suite(tmp_path: Path) -> None:
    run = tmp_path / "cells" / "one"
    run.mkdir(parents=True)
    assert commands_of(tmp_path, run) == []
    (tmp_path / "suite.yaml").write_text("name: s")
    (run / "provenance.json").write_text(json.dumps({"command": ["bench", "demo", "--archive", "/a b"]}))
    lines = commands_of(tmp_path, run)
    assert "polarcast bench demo --archive '/a b'" in lines
    assert lines[-1] == f"polarcast bench {tmp_path}/suite.yaml --out {tmp_path} --tables-only"
    (run / "provenance.json").write_text('{"command": "rm -rf"}')
    assert not [line for line in commands_of(tmp_path, run) if "rm" in line]


def test_several_failures_are_counted(tmp_path: Path) -> None:
    failures = [CellFailure("net", "A net", "radar", seed, "lost") for seed in (0, 1)]
    tables = tables_of("qpe")
    write_report(tmp_path / "r.html", "R", tables, [], {}, with_paper=False, failures=failures)
    assert "2 runs failed and are missing here." in (tmp_path / "r.html").read_text("utf-8")


def test_a_table_may_have_the_name_of_a_section(tmp_path: Path) -> None:
    table = tables_of("qpe")["main"]
    analysis = Section("main", "Shapley values", TableLayout(["player", "value"], [["zh", "1"]], 1), [], [])
    tables = {"cost": table, "main": table}
    write_report(tmp_path / "r.html", "R", tables, [], {}, sections=[analysis], verdict=["V."], with_paper=False)
    ids = re.findall(r' id="([^"]+)"', (tmp_path / "r.html").read_text("utf-8"))
    assert len(ids) == len(set(ids))


def test_a_case_without_an_observed_pixel_is_ranked_last(tmp_path: Path) -> None:
    kept = kept_in(tmp_path, "qpe")
    for one in kept:
        with np.load(one.cases) as content:
            arrays = dict(content)
        arrays["observed"][0] = np.nan
        np.savez(one.cases, **arrays)
    gallery = gallery_of(FigureData(suite_of("qpe"), scores_of("qpe"), kept), manifest())
    assert gallery is not None
    assert [re.search(r"event (\d+)", case.title)[1] for case in gallery.cases] == ["004", "006", "003"]  # type: ignore[index]


def test_the_radar_arm_may_be_that_of_another_model(tmp_path: Path) -> None:
    suite = suite_of("qpe")
    suite.models["law"] = replace(suite.models["law"], radar_of="net", arms=["dualpol"])
    kept = [one for one in kept_in(tmp_path, "qpe") if (one.model, one.arm) != ("law", "radar")]
    gallery = gallery_of(FigureData(suite, scores_of("qpe"), kept), manifest())
    assert gallery is not None
    of_law = [one.caption.split(", RMSE")[0] for one in gallery.cases[0].maps if one.group == "A law"]
    assert of_law == ["radar of A net", "dual-pol"]


def test_without_kept_cases_there_is_no_gallery(tmp_path: Path) -> None:
    assert gallery_of(FigureData(suite_of("qpe"), scores_of("qpe")), manifest()) is None
    alone = [one for one in kept_in(tmp_path, "qpe") if (one.model, one.arm) == ("law", "radar")]
    gallery = gallery_of(FigureData(suite_of("qpe"), scores_of("qpe"), alone), manifest())
    assert gallery is not None
    assert "A law, radar" in gallery.notes[0]
