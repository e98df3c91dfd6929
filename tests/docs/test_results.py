"""Pages show the committed results, no figure is typed by hand, and what pages say follows from the results."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from docs.tools.pages import RESULTS, ROOT
from docs.tools.results import (
    Result,
    ResultsError,
    find,
    main,
    pairs,
    read_results,
    render_all,
    rendered,
    table_text,
    value_text,
)

PAGES = [ROOT / "README.md", *sorted(RESULTS.glob("*.md"))]
ORIGIN = {"command": "make demo", "revision": "abc1234", "machine": "2 cores", "date": "2026-11-29"}
DEMO = {
    "title": "Demo",
    "table": {"columns": ["model", "radar", "dual-pol"], "rows": [["U-Net", "1.5", "**1.0**"], ["law", "2.5", "2.0"]]},
    "values": {"minutes": "8", "best": ["U-Net", "dual-pol"]},
    "note": "One seed.",
    **ORIGIN,
}
RECORD = {"label": "U-Net", "metric": "rmse", "arm": "difference", "value": -0.42, "low": -0.47, "high": -0.36}
SUITE = {"title": "Suite", "records": [{**RECORD, "scale": "ratio", "seeds": 8, "events": 1600}], **ORIGIN}
STORED: Mapping[str, Result] = {
    "demo": DEMO,
    "short": {"title": "Short", "source": "demo", "columns": {"model": "net", "dual-pol": "both"}, "rows": ["law"]},
    "turned": {"title": "Turned", "source": "demo", "transpose": "arm"},
    "suite": SUITE,
}


def record_of(form: str) -> Result:
    """Return a view of a suite's record in one form."""
    keys = {key: RECORD[key] for key in ("label", "metric", "arm")}
    return {"title": "View", "source": "suite", "values": {"gain": {**keys, "form": form}}}


# The committed pages


def test_the_pages_show_the_committed_results() -> None:
    found, wrong = render_all()
    assert wrong == []
    assert [str(page.relative_to(ROOT)) for page, (old, new) in found.items() if old != new] == []


def test_pages_of_results_hold_tables() -> None:
    for name in ("qpe", "nowcasts", "blur", "real-sequences", "performance"):
        kinds = [mark.kind for mark, _ in pairs((RESULTS / f"{name}.md").read_text(encoding="utf-8"))]
        assert "table" in kinds, name


# No figure is typed

FIGURE = re.compile(
    r"(?<![\w.,])[+−-]?\d+\.\d+(?: ?%)?|\d ?%"  # decimals, percent
    r"|(?<![\w)\]])[+−]\d[\d.,]*|(?<=\s)-\d[\d.,]*"  # with a sign
    r"|\b\d[\d.,]* (?:times|GB/s|samples)\b|\b\d+e-?\d+\b"
)
ALLOWED = (
    r"95% intervals?",
    r"80% power",  # of the plan, not of a result
    r"CSI at 0\.35 of",  # the source paper's threshold
    r"(?:tables?|figures?|sections?|eq\.) \d\.\d(?: to \d\.\d)?",  # of the source paper
    r"Python \d\.\d+",
    r"Apache-2\.0",
)


def typed_figures(text: str) -> list[str]:
    """Return the figures in a page's prose: not in rendered parts, code, comments or targets of links."""
    for first, last in reversed(list(pairs(text))):
        text = text[: first.start] + text[last.end :]
    for pattern in (
        r"<!-- ([\w-]+) -->\n.*?<!-- end of \1 -->",  # tables with a maker of their own
        r"^```.*?^```",
        r"`[^`\n]+`",
        r"<!--.*?-->",
        r"(?<=\])\([^)]*\)",
        *ALLOWED,
    ):
        text = re.sub(pattern, " ", text, flags=re.S | re.M)
    return [match[0] for match in FIGURE.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_figure_is_typed(page: Path) -> None:
    assert typed_figures(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "The RMSE is 42% lower.",
        "It gains +0.019 in CSI.",
        "It changes by −3 dB.",
        "It changes by -3 dB.",
        "The CSI is 0.235.",
        "The floor is 8 GB/s.",
        "FSS is 44 times faster.",
        "| U-Net | −42% [−47%, −36%] |",
        "It agrees within 2e-7.",
        "After `train.steps=2`, the CSI is 0.235 (`csi`).",
        "A 95% interval reaches from 1.2 on.",
    ],
)
def test_a_planted_figure_is_found(sentence: str) -> None:
    for page in PAGES:
        assert typed_figures(page.read_text(encoding="utf-8") + f"\n{sentence}\n") != [], page


@pytest.mark.parametrize(
    "sentence",
    [
        "The RMSE is <!-- value: headline.size -->42%<!-- end --> lower.",
        "<!-- table: demo -->\n| 0.235 |\n<!-- end: demo -->",
        "<!-- verdict -->\n- 42% lower\n<!-- end of verdict -->",
        "```bash\npolarcast train demo train.learning_rate=0.002\n```",
        "Set `train.learning_rate=0.002`, see [scores](scores-0.2.md).",
        "Table 8.1 is of table 8.1, with 95% intervals, CSI ≥ 35 dBZ and 64 × 64 pixels of 1,600 storms.",
    ],
)
def test_what_is_rendered_code_or_a_setting_is_no_typed_figure(sentence: str) -> None:
    assert typed_figures(sentence.replace("Table 8.1", "It")) == []


# Rendering


def test_a_table_with_its_note_and_origin() -> None:
    assert table_text("demo", STORED).splitlines() == [
        "| model | radar | dual-pol |",
        "| --- | --- | --- |",
        "| U-Net | 1.5 | **1.0** |",
        "| law | 2.5 | 2.0 |",
        "",
        "One seed.",
        "",
        "<small>Command: `make demo`. Revision: abc1234. Machine: 2 cores. 2026-11-29.</small>",
    ]


def test_a_view_selects_and_renames() -> None:
    lines = table_text("short", STORED).splitlines()
    assert lines[:3] == ["| net | both |", "| --- | --- |", "| law | 2.0 |"]
    assert "make demo" in lines[-1]


def test_a_view_transposes() -> None:
    lines = table_text("turned", STORED).splitlines()
    assert lines[:4] == [
        "| arm | U-Net | law |",
        "| --- | --- | --- |",
        "| radar | 1.5 | 2.5 |",
        "| dual-pol | **1.0** | 2.0 |",
    ]


def test_values_are_stored_or_cells() -> None:
    assert value_text("demo.minutes", STORED) == "8"
    assert value_text("demo.best", STORED) == "1.0"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("effect", "−42% [−47%, −36%]"),
        ("size", "42%"),
        ("size interval", "[36%, 47%]"),
        ("seeds", "eight"),
        ("events", "1,600"),
    ],
)
def test_values_of_records(form: str, text: str) -> None:
    assert value_text("view.gain", {**STORED, "view": record_of(form)}) == text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"form": "length"}, "no form 'length'"),
        ({"arm": "placebo"}, "no record of U-Net, rmse, placebo"),
        ({"table": "t"}, "no record"),
    ],
)
def test_wrong_records_are_named(changed: Mapping[str, str], words: str) -> None:
    view = record_of("effect")
    view = {**view, "values": {"gain": {**view["values"]["gain"], **changed}}}
    with pytest.raises(ResultsError, match=words):
        value_text("view.gain", {**STORED, "view": view})


def test_marks_are_filled_and_the_rest_is_kept() -> None:
    page = (
        "Took <!-- value: demo.minutes -->?<!-- end --> min.\n\n<!-- table: short -->\nold\n<!-- end: short -->\nEnd.\n"
    )
    made = rendered(page, STORED)
    assert made.startswith(
        "Took <!-- value: demo.minutes -->8<!-- end --> min.\n\n<!-- table: short -->\n| net | both |\n"
    )
    assert made.endswith("</small>\n<!-- end: short -->\nEnd.\n")
    assert rendered(made, STORED) == made


@pytest.mark.parametrize("code", ["```text\n<!-- table: nothing -->\n```\n", "Write `<!-- value: nothing.x -->`.\n"])
def test_marks_in_code_are_left_alone(code: str) -> None:
    assert rendered(code, STORED) == code


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<!-- table: other -->\n<!-- end: other -->\n", "no results called 'other'"),
        ("A <!-- value: demo.seconds -->8<!-- end -->", "no value 'seconds'"),
        ("<!-- table: demo -->\n| a |\n", "line 1: table demo is not closed"),
        ("\n\n<!-- table: demo -->\n<!-- end: short -->\n", "line 3: table demo is not closed"),
        (
            "A <!-- value: demo.minutes -->8 and <!-- value: demo.best -->1<!-- end -->",
            "value demo.minutes is not closed",
        ),
        ("Text\n<!-- end: demo -->\n", "line 2: an end without a beginning"),
        ("Text\n<!-- value: demo.minutes -->8<!-- end -->", "begins a line"),
        ("- <!-- value: demo.minutes -->8<!-- end -->", "begins a line"),
        ("Text <!-- table: demo -->\n<!-- end: demo -->\n", "needs a line of its own"),
    ],
)
def test_wrong_marks_are_named_in_one_line(page: str, words: str) -> None:
    with pytest.raises(ResultsError, match=re.escape(words)) as caught:
        rendered(page, STORED)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ({"columns": {"placebo": "p"}}, "no column 'placebo'"),
        ({"rows": ["GAN"]}, "no row 'GAN'"),
        ({"source": "nothing"}, "no results called 'nothing'"),
        ({"source": "view"}, "no results called 'view'"),
    ],
)
def test_wrong_views_are_named(view: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ResultsError, match=re.escape(words)):
        find("view", {**STORED, "view": {"title": "View", "source": "demo", **view}})


# The command


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a tree with one page and the results that it shows."""
    (tmp_path / "docs/results").mkdir(parents=True)
    (tmp_path / "README.md").write_text("<!-- table: demo -->\n<!-- end: demo -->\n", encoding="utf-8")
    (tmp_path / "docs/results/demo.json").write_text(json.dumps(DEMO), encoding="utf-8")
    return tmp_path


def test_check_names_the_page_and_writes_nothing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (site / "README.md").read_bytes()
    assert main(["--check"], site) == 1
    assert capsys.readouterr().err == "README.md: out of step with docs/results; run `make results`\n"
    assert (site / "README.md").read_bytes() == before


def test_the_command_writes_what_check_then_accepts(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], site) == 0
    assert capsys.readouterr().out == "README.md\n"
    assert "| U-Net | 1.5 |" in (site / "README.md").read_text(encoding="utf-8")
    assert main(["--check"], site) == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("unused", json.dumps(DEMO), "docs/results/unused.json: no page shows it"),
        ("demo", json.dumps({**DEMO, "machine": ""}), "docs/results/demo.json: no 'machine'"),
        (
            "demo",
            json.dumps({**DEMO, "table": {"columns": ["a"], "rows": [["1", "2"]]}}),
            "a row is not as long as the columns",
        ),
        ("demo", "{", "docs/results/demo.json: not a JSON object"),
        ("demo", "[1]", "docs/results/demo.json: not a JSON object"),
    ],
)
def test_wrong_files_are_named(
    site: Path, name: str, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / f"docs/results/{name}.json").write_text(content, encoding="utf-8")
    assert main([], site) == 1
    assert words in capsys.readouterr().err


def test_a_wrong_page_does_not_hinder_the_others(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "docs/page.md").write_text("<!-- table: demo -->\n", encoding="utf-8")
    assert main([], site) == 1
    assert capsys.readouterr().err == "docs/page.md: line 1: table demo is not closed\n"
    assert "| U-Net |" in (site / "README.md").read_text(encoding="utf-8")


# What the pages say


def numbers(name: str, column: str) -> dict[str, list[float]]:
    """Return the numbers of a column by row: a value, or a comparison and the limits of its interval."""
    table = find(name, read_results(RESULTS))["table"]
    at = table["columns"].index(column)
    texts = {row[0]: row[at].replace("−", "-") for row in table["rows"]}
    return {label: [float(n) for n in re.findall(r"[+-]?\d+(?:\.\d+)?", text)] for label, text in texts.items()}


def reaches_zero(comparison: list[float]) -> bool:
    value, low, high = comparison
    assert low <= value <= high
    return low <= 0 <= high


def test_the_demos_gains_are_those_that_the_page_names() -> None:
    gains = numbers("demo", "RMSE, dual-pol vs radar, events' interval")
    assert {name for name, gain in gains.items() if reaches_zero(gain)} == {"Z–R, R(ZH, ZDR) published", "WF-UNet"}
    rbias = numbers("demo", "RBIAS, dual-pol vs radar, events' interval")
    assert not [name for name, gain in rbias.items() if reaches_zero(gain) or gain[0] > 0]


def test_networks_are_ahead_of_the_deterministic_baselines_at_60_minutes() -> None:
    baselines = {"persistence", "extrapolation", "ANVIL", "S-PROG"}
    for column in ("CSI ≥ 30 dBZ", "CSI ≥ 35 dBZ"):
        scores = numbers("nowcast-nets-60min", column)
        best = max(scores[name][0] for name in baselines)
        assert all(score[0] > best for name, score in scores.items() if name not in baselines)


def test_only_dual_pol_that_is_carried_along_shows_a_gain() -> None:
    carried = numbers("nowcast-carried", "difference, 95% interval")
    shown = {name for name, gain in carried.items() if gain and not reaches_zero(gain)}
    assert {name for name, gain in carried.items() if gain} - shown == {"CSI ≥ 35 dBZ where echo grows"}
    assert all(reaches_zero(gain) for gain in numbers("nowcast-furenet", "difference, 95% interval").values() if gain)


def test_the_network_is_ahead_in_seven_of_eight_pairs_on_real_sequences() -> None:
    ahead = []
    for threshold in (20, 30):
        network, other = (
            numbers("real-sequences", f"CSI ≥ {threshold} dBZ, {m}") for m in ("network", "extrapolation")
        )
        ahead += [network[place][0] > other[place][0] for place in network]
    assert (sum(ahead), len(ahead)) == (7, 8)
