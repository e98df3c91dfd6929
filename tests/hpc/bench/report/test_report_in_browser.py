"""The report in a real browser: sorting, filters, slider, figures, keyboard, phone, dark, paper."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.browser import Browser, BrowserPage, running_browser
from tests.support.report_suite import LEADS, a_report

pytestmark = pytest.mark.browser
ROWS = "[...document.querySelector('#main-table').tBodies[0].rows]"
LABEL = "A net <b>&"
COLUMN = ROWS + ".map(row => Number(row.cells[{0}].dataset.value))"
Open = Callable[..., BrowserPage]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_report(tmp_path_factory.mktemp("report"), label=LABEL)


@pytest.fixture
def open_report(browser: Browser, report: Path) -> Iterator[Open]:
    """Open the report; whatever a test does with it, the console stays empty and nothing is loaded."""
    pages: list[BrowserPage] = []

    def opened(view: str = "", **how: int) -> BrowserPage:
        pages.append(browser.open(report, view, **how))
        return pages[-1]

    yield opened
    for page in pages:
        assert page.problems == []
        page.close()


def click(page: BrowserPage, selector: str) -> None:
    page.run(f"document.querySelector({selector!r}).click()")


def choose(page: BrowserPage, selector: str, value: str) -> None:
    page.run(
        f"(() => {{ const c = document.querySelector({selector!r}); c.value = {value!r};"
        " c.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def test_a_heading_sorts_up_and_down(open_report: Open) -> None:
    page = open_report()
    heads = page.run("[...document.querySelectorAll('#main-table th')].map(th => th.textContent)")
    at = heads.index("radar")
    head = f"#main-table th:nth-child({at + 1})"
    page.run(f"document.querySelector('{head} button').focus()")
    page.press("Enter")
    values = page.run(COLUMN.format(at))
    assert values == sorted(values)
    assert page.run(f"document.querySelector('{head}').getAttribute('aria-sort')") == "ascending"
    page.press("Space")
    assert page.run(COLUMN.format(at)) == sorted(values, reverse=True)
    assert page.run(f"document.querySelector('{head}').getAttribute('aria-sort')") == "descending"
    assert page.run("document.querySelectorAll('#main-table th[aria-sort]').length") == 1
    assert "main.sort=" in page.run("location.hash")


def test_filters_show_rows_count_them_and_stay_in_the_address(open_report: Open) -> None:
    page = open_report()
    every = page.run(ROWS + ".length")
    choose(page, "form[data-for='main.'] select[name=model]", LABEL)
    shown = page.run(ROWS + ".map(row => row.cells[0].textContent)")
    assert set(shown) == {LABEL}
    count = "document.querySelector(\"[data-of='main-table']\").textContent"
    assert page.run(count) == f"{len(shown)} of {every} rows"
    again = open_report(page.run("location.hash")[1:])
    assert again.run(ROWS + ".length") == len(shown)
    click(page, "form[data-for='main.'] button[type=reset]")
    page.run("new Promise(done => setTimeout(done, 20))")
    assert page.run(ROWS + ".length") == every
    assert page.run("location.hash") == ""


def test_columns_of_an_arm_can_be_chosen(open_report: Open) -> None:
    page = open_report()
    visible = "[...document.querySelectorAll('#main-table th')].filter(th => !th.hidden).map(th => th.textContent)"
    every = page.run(visible)
    choose(page, "form[data-for='main.'] select[data-columns]", "dual-pol vs radar")
    chosen = page.run(visible)
    assert chosen[:2] == every[:2]
    assert "dual-pol vs radar" in chosen
    assert "radar" not in chosen
    assert page.run(f"{ROWS}.every(row => [...row.cells].filter(c => !c.hidden).length === {len(chosen)})")


def test_search_finds_labels(open_report: Open) -> None:
    page = open_report()
    choose(page, "form[data-for='thresholds.'] input[type=search]", "a LAW")
    names = page.run(
        "[...document.querySelectorAll('#thresholds-table tbody tr')].map(row => row.cells[0].textContent)"
    )
    assert set(names) == {"A law"}


def test_the_slider_goes_over_lead_times_by_keyboard(open_report: Open) -> None:
    page = open_report()
    shown = "[...document.querySelectorAll('figure[data-frame]')].filter(f => !f.hidden).map(f => f.dataset.frame)"
    output = "document.querySelector('.slide output').textContent"
    assert set(page.run(shown)) == {"0"}
    assert page.run(output) == "+6 min"
    page.run("document.querySelector('.slide input').focus()")
    page.press("ArrowRight")
    assert set(page.run(shown)) == {"1"}
    assert page.run("document.querySelector('.slide input').getAttribute('aria-valuetext')") == "+12 min"
    page.press("End")
    assert set(page.run(shown)) == {str(len(LEADS) - 1)}
    assert page.run(output) == "+60 min"


def test_figures_are_enlarged_and_left_by_keyboard(open_report: Open) -> None:
    page = open_report()
    page.run("document.querySelector('#figures ~ .figures .enlarge').focus()")
    opener = page.run("document.activeElement.getAttribute('aria-label')")
    page.press("Enter")
    assert page.run("document.querySelector('#lightbox').open")
    first = page.run("document.querySelector('#lightbox p').textContent")
    assert opener == f"Enlarge: {first}"
    page.press("ArrowRight")
    second = page.run("document.querySelector('#lightbox p').textContent")
    assert second != first
    page.press("ArrowLeft")
    assert page.run("document.querySelector('#lightbox p').textContent") == first
    page.press("Escape")
    assert not page.run("document.querySelector('#lightbox').open")
    assert page.run("document.activeElement.getAttribute('aria-label')") == opener


def test_the_first_key_offers_to_skip_to_the_content(open_report: Open) -> None:
    page = open_report()
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    assert page.run("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Enter")
    assert page.run("document.activeElement.id") == "content"


@pytest.mark.parametrize("width", [375, 320])
def test_a_phone_scrolls_tables_and_not_the_page(open_report: Open, width: int) -> None:
    page = open_report(width=width, height=700)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.querySelector('.scroll').scrollWidth > document.querySelector('.scroll').clientWidth")


def background(page: BrowserPage) -> int:
    color: str = page.run("getComputedStyle(document.documentElement).backgroundColor")
    return sum(int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(","))


def test_the_page_follows_the_system_and_its_own_button(open_report: Open) -> None:
    light, dark = background(open_report()), background(page := open_report(dark=True))
    assert light > 700 > 100 > dark
    click(page, ".theme")
    assert background(page) == light
    assert background(open_report(dark=True)) == light  # the choice is remembered
    click(page, ".theme")
    assert background(page) == dark
    page.run("localStorage.clear()")


def test_text_stands_out_in_both(open_report: Open) -> None:
    contrast = """(() => {
      const light = text => { const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map(Number).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const card = light(getComputedStyle(document.querySelector('.scroll')).backgroundColor);
      return ['.note', '.better .mark', 'td', 'nav a', '.worse .mark, .count'].map(name => {
        const ink = light(getComputedStyle(document.querySelector(name)).color);
        return (Math.max(ink, card) + 0.05) / (Math.min(ink, card) + 0.05); });
    })()"""
    for dark in (False, True):
        page = open_report(dark=dark)
        assert min(page.run(contrast)) >= 4.5  # WCAG 2.2, level AA


def test_a_drawing_has_the_color_of_its_words(open_report: Open) -> None:
    page = open_report()
    colors = """[...document.querySelectorAll('#main-table .better, #main-table .worse')].map(cell =>
      ['.bar', '.mark'].map(part => getComputedStyle(cell.querySelector(part)).color))"""
    found = page.run(colors)
    assert found
    assert all(bar == mark for bar, mark in found)


def test_paper_has_all_rows_and_unfolded_texts(open_report: Open) -> None:
    page = open_report("main.model=A+law")
    kept = page.run(ROWS + ".length")
    page.run("addEventListener('beforeprint', () => { window.printed = [" + ROWS + ".length,"
             " document.querySelectorAll('details:not([open])').length]; })")  # fmt: skip
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF-")
    assert pdf.count(b"/Type /Page\n") > 2
    assert page.run("window.printed") == [2 * kept, 0]
    assert page.run(ROWS + ".length") == kept
    assert page.run("document.querySelectorAll('details[open]').length") == 0
    page.show_as(print_media=True)
    hidden = (
        "[...document.querySelectorAll('.filters, .slide, .tools')].every(e => getComputedStyle(e).display === 'none')"
    )
    assert page.run(hidden)


def test_every_control_has_a_name_and_headings_are_in_order(open_report: Open) -> None:
    page = open_report()
    unnamed = "[...document.querySelectorAll('input, select')].filter(c => !c.labels[0]?.textContent.trim())"
    assert page.run(unnamed + ".length") == 0
    assert (
        page.run("[...document.querySelectorAll('button')].filter(b => !(b.ariaLabel || b.textContent.trim())).length")
        == 0
    )
    assert page.run("[...document.images].filter(i => !i.closest('dialog') && !i.alt).length") == 0
    levels = page.run("[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = page.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    links = page.run("[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))")
    assert set(links) <= set(ids)


def test_a_command_is_copied_or_selected(open_report: Open) -> None:
    page = open_report()
    click(page, ".copy")
    page.run("new Promise(done => setTimeout(done, 50))")
    assert page.run("document.querySelector('.copy + .count').textContent") in (
        "copied",
        "selected: copy it with your keyboard",
    )


def test_it_can_be_read_without_its_script(browser: Browser, report: Path, tmp_path: Path) -> None:
    text = report.read_text("utf-8")
    plain = tmp_path / "plain.html"
    plain.write_text(text.rpartition("<script>")[0] + "</body></html>", "utf-8")
    page = browser.open(plain)
    assert page.run("[...document.querySelectorAll('figure')].every(f => f.offsetHeight > 0)")
    assert page.run("document.querySelector('.filters').offsetHeight") == 0
    assert page.run("document.querySelectorAll('#main-table tbody tr').length") > 0
    assert page.problems == []


def test_what_is_not_in_the_file_is_refused_and_noticed(browser: Browser, report: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.html"
    other.write_text(
        report.read_text("utf-8").replace("</main>", '<img alt="" src="https://example.org/x.png"></main>')
    )
    page = browser.open(other)
    assert "Content Security Policy" in "".join(page.problems)
    page.run("console.error('an error')")
    assert "an error" in "".join(page.problems)
