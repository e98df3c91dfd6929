"""Write the report of a suite: verdict, data, tables, cases, analyses, cost and provenance on one page."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from polarcast.data.files import write_text
from polarcast.hpc.bench.costs import Cost
from polarcast.hpc.bench.failures import CellFailure
from polarcast.hpc.bench.figures.draw import FIGURES
from polarcast.hpc.bench.footnotes import footnote
from polarcast.hpc.bench.render import COST_TITLE
from polarcast.hpc.bench.report.cost import cost_table
from polarcast.hpc.bench.report.gallery_markup import gallery_markup
from polarcast.hpc.bench.report.paper import paper_table
from polarcast.hpc.bench.report.parts import Picture, ReportContext, Section
from polarcast.hpc.bench.report.sections import detectable_table, failure_table, support_table
from polarcast.hpc.bench.report.tables import all_numbers, score_table
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.bench.verdicts import verdicts
from polarcast.hpc.utils.pages import elements
from polarcast.hpc.utils.pages.page import render_page
from polarcast.hpc.utils.pages.tables import text_table

FIGURE_BUDGET = 7_000_000
"""Bytes of the figures of a page; the largest ones beyond are named instead, so that it stays below 15 MB."""
_MARKS = (
    "▲ better, ▼ worse: the 95% interval excludes zero, also after Holm's correction for the table.",
    "△ better, ▽ worse: it excludes zero, but not after this correction.",
    "≠ differs: it excludes zero, but the score has no better values, or the intervals do not tell the side.",
    "○ not shown: the interval includes zero. It may still be an effect that is too small for these events and seeds.",
    "? one seed: runs of other seeds may differ by an unknown amount.",
    "Bars of a column and score share an axis. The upright line is zero. A thick bar with a filled point excludes "
    "zero, a thin dashed one with a hollow point does not. An arrow at the end means that the interval goes on.",
)
_SENTENCES_OPEN = 6
"""Sentences below a table up to which they are not folded."""
_NAMES = frozenset(
    (
        "verdict",
        "setting",
        "cases",
        "power",
        "support",
        "failures",
        "cost",
        "figures",
        "provenance",
        "content",
        "lightbox",
    )
)
"""Names in the page that no table gets."""
Part = tuple[str, str, list[str]]
"""Name, title and content of a section."""


@dataclass
class FigureRoom:
    """Bytes that are left for the figures of a page."""

    left: int

    def takes(self, content: bytes) -> bool:
        """Return whether a file fits into what is left, as text; if it does, less is left."""
        size = len(content) * 4 // 3
        if size > self.left:
            return False
        self.left -= size
        return True


def write_report(
    path: Path,
    title: str,
    tables: Mapping[str, ComparisonTable],
    figures: Sequence[Path],
    about: Mapping[str, str],
    costs: Sequence[Cost] = (),
    sections: Sequence[Section] = (),
    *,
    verdict: Sequence[str] = (),
    with_paper: bool,
    failures: Sequence[CellFailure] = (),
    context: ReportContext | None = None,
) -> None:
    """Write `report.html`.

    Args:
        path: File to write.
        title: Heading of the page.
        tables: Tables by name.
        figures: PNG and GIF files to embed.
        about: Texts by heading, such as configuration and provenance, at the end of the page.
        costs: Parameters and FLOPs by model and arm.
        sections: Analyses, below the tables.
        verdict: Sentences on the suite, on top of the page.
        with_paper: Whether to show the source paper's numbers below the tables that it has as well.
        failures: Cells that failed.
        context: What is known of the suite beside its tables.
    """
    known, room = context or ReportContext(), FigureRoom(FIGURE_BUDGET)
    parts: list[Part] = [
        *_setting(known),
        *(_table(name, table, with_paper) for name, table in tables.items()),
        *_gallery(known),
        *(_section(section, tables, room) for section in sections),
        *_power(tables, known, room),
        *_support(tables),
        *_failures(failures),
        *_costs(tables, costs, known),
        *_figures(figures, room),
        *_provenance(about, known),
    ]
    content = [
        *elements.verdict("Verdict", verdict),
        *_warning(failures),
        elements.contents({name: text for name, text, _ in parts}),
        *(line for part in parts for line in elements.section(*part)),
    ]
    write_text(path, render_page(title, content))


def _warning(failures: Sequence[CellFailure]) -> list[str]:
    if not failures:
        return []
    count = len(failures)
    text = f"{count} run{'s' * (count != 1)} failed and {'are' if count != 1 else 'is'} missing here."
    return [f'<p class="warning"><strong>{text}</strong> <a href="#failures">What failed</a></p>']


def _setting(known: ReportContext) -> list[Part]:
    if not known.setting:
        return []
    return [("setting", "What was run on which data", [elements.facts(known.setting)])]


def _table(name: str, table: ComparisonTable, with_paper: bool) -> Part:
    paper = paper_table(name) if with_paper else []
    name = f"table-{name}" if name in _NAMES else name
    sentences = [f"<li>{escape(sentence)}</li>" for sentence in verdicts(table)]
    return name, table.title, [
        score_table(name, table),
        elements.notes([footnote(table)]),
        *([elements.folded("How to read marks and bars", elements.notes(_MARKS))] if sentences else []),
        elements.folded("All numbers, with tests and support", all_numbers(name, table)),
        *_sentences(sentences),
        *paper,
    ]  # fmt: skip


def _sentences(sentences: Sequence[str]) -> list[str]:
    """Return the verdicts on a table; many of them are folded."""
    if len(sentences) > _SENTENCES_OPEN:
        return [elements.folded(f"Verdict in {len(sentences)} sentences", f"<ul>{''.join(sentences)}</ul>")]
    return ["<h3>Verdict</h3>", "<ul>", *sentences, "</ul>"] if sentences else []


def _gallery(known: ReportContext) -> list[Part]:
    return [("cases", "Case gallery", gallery_markup(known.gallery))] if known.gallery else []


def _section(section: Section, tables: Container[str], room: FigureRoom) -> Part:
    name = section.name if section.name not in tables else f"analysis-{section.name}"
    return name, section.title, _analysis(name, section, room)


def _analysis(name: str, of: Section, room: FigureRoom) -> list[str]:
    """Return table, notes and figures of an analysis."""
    table = text_table(name, of.title, of.table.head, of.table.lines, of.table.labels)
    return [table, elements.notes(of.notes), *_pictures(of.pictures, room)]


def _power(tables: Mapping[str, ComparisonTable], known: ReportContext, room: FigureRoom) -> list[Part]:
    title = "Power: what these events and seeds could show"
    found = detectable_table(title, tables)
    plans = [
        line for plan in known.power for line in (f"<h3>{escape(plan.title)}</h3>", *_analysis(plan.name, plan, room))
    ]
    return [("power", title, [*found, *plans])] if found or plans else []


def _support(tables: Mapping[str, ComparisonTable]) -> list[Part]:
    title = "Support: events, groups, seeds and pixels"
    return [("support", title, [support_table(title, tables)])] if tables else []


def _failures(failures: Sequence[CellFailure]) -> list[Part]:
    title = "Failures"
    return [("failures", title, [failure_table(title, failures)])] if failures else []


def _costs(tables: Mapping[str, ComparisonTable], costs: Sequence[Cost], known: ReportContext) -> list[Part]:
    if not costs:
        return []
    note = (
        "Hours and energy are of the training of all seeds together, without base runs, which have rows of their own. "
        "kWh is empty where no device measures its energy."
    )
    notes = [elements.notes([note])] if known.spent else []
    return [("cost", f"{COST_TITLE}, beside skill", [cost_table(COST_TITLE, tables, costs, known.spent), *notes])]


def _figures(figures: Sequence[Path], room: FigureRoom) -> list[Part]:
    pictures = [Picture(file, _caption(file)) for file in figures]
    return [("figures", "Figures", _pictures(pictures, room))] if pictures else []


def _pictures(pictures: Sequence[Picture], room: FigureRoom) -> list[str]:
    """Return the figures that have room, and name the others."""
    if not pictures:
        return []
    contents = [(picture, picture.file.read_bytes()) for picture in pictures]
    fitting = [(picture, content) for picture, content in contents if room.takes(content)]
    lines = [elements.figure(content, one.file.suffix[1:], one.caption) for one, content in fitting]
    kept = {one.file for one, _ in fitting}
    left_out = [
        f"Left out here because of its size: {one.file.name}, {one.caption}" for one in pictures if one.file not in kept
    ]
    return ['<div class="figures">', *lines, "</div>", elements.notes(left_out)]


def _caption(file: Path) -> str:
    return (FIGURES[file.stem].draw.__doc__ or file.stem).splitlines()[0]


def _provenance(about: Mapping[str, str], known: ReportContext) -> list[Part]:
    commands = [elements.commands(known.commands)] if known.commands else []
    texts = [elements.folded_text(name, text) for name, text in about.items()]
    if not commands and not texts:
        return []
    return [("provenance", "Provenance, and how to make it again", [*commands, *texts])]
