"""Pages hold all that they show, escape texts of others, and can be read without their script."""

import re
from html import escape
from html.parser import HTMLParser

import pytest

from polarcast.hpc.utils.pages import elements
from polarcast.hpc.utils.pages.bars import BarScale, interval_bar, interval_in, number_in
from polarcast.hpc.utils.pages.page import render_page
from polarcast.hpc.utils.pages.tables import PageCell, PageColumn, PageFilter, PageRow, page_table, text_table

HOSTILE = "</script><script>alert(1)</script>\"'<img src=x onerror=alert(1)>"


class Outline(HTMLParser):
    """Tags with their attributes, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_page_loads_nothing_and_forbids_it() -> None:
    page = render_page("A page", ["<p>content</p>"])
    [policy] = [m["content"] for m in Outline(page).all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy
    assert not re.search(r"https?:|@import|url\(|<link|src=", page)
    assert "refresh" not in [m.get("http-equiv") for m in Outline(page).all("meta")]


def test_a_page_has_landmarks_and_a_skip_link() -> None:
    outline = Outline(render_page("A <page>", elements.section("one", "One", ["<p>text</p>"])))
    assert [tag for tag, _ in outline.tags if tag in ("header", "main", "footer", "section")] == [
        "header", "main", "section", "footer",
    ]  # fmt: skip
    assert outline.all("a")[0]["href"] == f"#{outline.all('main')[0]['id']}"
    assert outline.all("section")[0]["aria-labelledby"] == outline.all("h2")[0]["id"] == "one"
    assert outline.all("html")[0]["lang"] == "en"


def test_texts_of_others_stay_texts() -> None:
    rows = [
        PageRow([PageCell(HOSTILE, hint=HOSTILE)], {"model": HOSTILE}, HOSTILE),
        PageRow([PageCell("b")], {"model": "b"}),
    ]
    filters = [PageFilter("model", HOSTILE, [HOSTILE, "b"])]
    table = page_table("t", HOSTILE, [PageColumn(HOSTILE, groups={"arm": HOSTILE})], rows, filters)
    parts = [
        table, text_table("u", HOSTILE, [HOSTILE], [[HOSTILE]] * 9, 1), elements.facts([(HOSTILE, HOSTILE)]),
        elements.folded_text(HOSTILE, HOSTILE), elements.commands([HOSTILE]), elements.notes([HOSTILE]),
        elements.contents({"a": HOSTILE}), elements.figure(b"", "png", HOSTILE), *elements.verdict(HOSTILE, [HOSTILE]),
        *elements.section("s", HOSTILE, []),
    ]  # fmt: skip
    page = render_page(HOSTILE, parts, data={"ROWS": [HOSTILE]})
    outline = Outline(page)
    assert len(outline.all("script")) == page.count("<script") == page.count("</script>") == 1
    assert [image["src"] for image in outline.all("img")] == ["data:image/png;base64,"]
    assert not [attributes for _, attributes in outline.tags if "onerror" in attributes]
    assert escape(HOSTILE) in page


def test_data_are_constants_of_the_script() -> None:
    page = render_page("A page", [], data={"ROWS": [{"a": 1.5}], "NAMES": ["x"]})
    assert '<script>\nconst ROWS = [{"a": 1.5}];\nconst NAMES = ["x"];\n' in page
    with pytest.raises(ValueError, match="no name of a constant"):
        render_page("A page", [], data={"a b": 1})


def test_a_page_may_load_itself_again() -> None:
    metas = Outline(render_page("A page", [], refresh_seconds=5)).all("meta")
    assert [m["content"] for m in metas if m.get("http-equiv") == "refresh"] == ["5"]
    with pytest.raises(ValueError, match="not positive"):
        render_page("A page", [], refresh_seconds=0)


def test_cells_carry_the_number_to_sort_by() -> None:
    table = page_table(
        "t",
        "T",
        [PageColumn("name", is_label=True), PageColumn("value")],
        [PageRow([PageCell("a"), PageCell("−31%", -0.31)])],
    )
    assert '<td role="rowheader" class="label">a</td><td data-value="-0.31">−31%</td>' in table
    assert '<th scope="col" class="label">name</th><th scope="col">value</th>' in table


def test_only_real_choices_are_filters() -> None:
    rows = [PageRow([PageCell("a")], {"model": "a"}), PageRow([PageCell("b")], {"model": "b"})]
    choices = [PageFilter("model", "model", ["a", "b"]), PageFilter("arm", "arm", ["radar"])]
    outline = Outline(page_table("t", "T", [PageColumn("name")], rows, choices))
    assert [select["name"] for select in outline.all("select")] == ["model"]
    assert "<form" not in page_table("t", "T", [PageColumn("name")], rows)


def test_intervals_in_texts_are_drawn() -> None:
    lines = [
        ["RMSE", "zh", "+0.10", "[−0.10, +0.30]"],
        ["RMSE", "zdr", "+0.90", "[+0.50, +1.2]"],
        ["CC", "zh", "–", "–"],
    ]
    table = text_table("t", "T", ["score", "player", "value", "95% interval"], lines, 2)
    assert [svg["class"] for svg in Outline(table).all("svg")] == ["bar", "bar shown"]
    assert "[−0.10, +0.30]" in table
    assert 'data-value="0.1"' in table
    assert "<svg" not in text_table("t", "T", ["score", "interval"], [["a", "[1, 2]"]], 1, drawn=False)


@pytest.mark.parametrize(
    ("text", "limits", "number"),
    [
        ("−31%** [−38%, −23%]", (-38.0, -23.0), -31.0),
        ("[+0.5, 1,234]", (0.5, 1234.0), None),
        ("1.2e-05 [−1e-5, 2e-5]", (-1e-5, 2e-5), 1.2e-5),
        ("22 of 60", None, 22.0),
        ("–", None, None),
        ("[16, 32, 64]", None, None),
    ],
)
def test_numbers_are_read_from_texts(text: str, limits: tuple[float, float] | None, number: float | None) -> None:
    assert interval_in(text) == limits
    assert number_in(text) == number


def circles(bar: str) -> list[float]:
    return [float(x) for x in re.findall(r'cx="([^"]+)"', bar)]


def test_bars_share_an_axis_and_show_zero() -> None:
    scale = BarScale.around([-0.4, -0.2, 0.1], 0.0)
    left, right = (interval_bar(v, v - 0.1, v + 0.1, scale, True) for v in (-0.3, 0.0))
    assert circles(left) < circles(right)
    assert scale.place(0.0) == pytest.approx(circles(right)[0])
    assert f'class="line" d="M{scale.place(0.0)} ' in left
    assert 'class="line"' not in interval_bar(1.0, 0.5, 2.0, BarScale.around([0.5, 2.0]))


def test_a_far_limit_is_cut_and_marked() -> None:
    near = [0.1, 0.2, -0.1, 0.3, 0.15, -0.2, 0.25, 0.1]
    scale = BarScale.around([*near, 430.0], 0.0)
    assert scale.high < 2
    assert 'class="cut"' in interval_bar(0.2, 0.1, 430.0, scale, True)
    assert 'class="cut"' not in interval_bar(0.2, 0.1, 0.3, scale, True)


def test_what_is_shown_differs_in_shape_and_not_in_color_alone() -> None:
    scale = BarScale.around([-1.0, 1.0], 0.0)
    kinds = {Outline(interval_bar(0.5, 0.2, 0.8, scale, shown)).all("svg")[0]["class"] for shown in (True, False, None)}
    assert kinds == {"bar shown", "bar", "bar plain"}
    style = render_page("A page", [])
    assert re.search(r"\.bar \.interval \{[^}]*stroke-dasharray: 3 2", style)
    assert re.search(r"\.bar\.shown \.interval \{[^}]*stroke-width: 4; stroke-dasharray: none", style)


def test_a_bar_needs_limits() -> None:
    scale = BarScale.around([], 0.0)
    assert interval_bar(0.5, None, 1.0, scale, True) == interval_bar(0.5, float("nan"), 1.0, scale, True) == ""
    assert interval_bar(0.0, 0.0, 0.0, BarScale.around([0.0, 0.0], 0.0), False).startswith("<svg")
