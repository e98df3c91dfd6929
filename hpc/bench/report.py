"""Write the report of a suite: tables, figures and configuration in one self-contained HTML page."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from polarcast.data.files import write_text
from polarcast.hpc.bench.costs import Cost
from polarcast.hpc.bench.figures.draw import FIGURES
from polarcast.hpc.bench.footnotes import footnote
from polarcast.hpc.bench.layout import TableLayout, lay_out
from polarcast.hpc.bench.render import COST_TITLE, cost_grid
from polarcast.hpc.bench.table import ComparisonTable
from polarcast.hpc.bench.verdicts import verdicts

_PAPER = Path(__file__).with_name("paper.yaml")
_FIGURES = "Figures"
_META = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.85rem }
table { display: block; overflow-x: auto }
th, td { padding: 0.15rem 0.6rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap }
th.label, td.label { text-align: left }
th:first-child, td:first-child { position: sticky; left: 0; background: Canvas }
figure { margin: 1.5rem 0 } img { max-width: 100%; background: white }
figcaption, .note { font-size: 0.85rem; opacity: 0.8; white-space: pre-line }
pre { overflow-x: auto; font-size: 0.8rem } details { margin: 1rem 0 }
@media print {
  :root { color-scheme: light } body { max-width: none; margin: 0 }
  table { display: table; font-size: 0.65rem } figure, tr { break-inside: avoid } h2, h3 { break-after: avoid }
}
"""


@dataclass(frozen=True)
class Picture:
    """A PNG or GIF file and its caption."""

    file: Path
    caption: str


@dataclass(frozen=True)
class Section:
    """An analysis of trained runs as a section of the report.

    Attributes:
        name: Name of the section, for links.
        title: Heading.
        table: Its numbers.
        notes: What they rest on, one a line.
        pictures: Its figures.
    """

    name: str
    title: str
    table: TableLayout
    notes: Sequence[str]
    pictures: Sequence[Picture]


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
) -> None:
    """Write `report.html`.

    Args:
        path: File to write.
        title: Heading of the page.
        tables: Tables by name.
        figures: PNG and GIF files to embed.
        about: Texts by heading, such as configuration and provenance, collapsed at the end of the page.
        costs: Parameters and FLOPs by model and arm.
        sections: Analyses, below the tables.
        verdict: Sentences on the suite, on top of the page.
        with_paper: Whether to show the source paper's numbers below the tables that it has as well.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(one)}</p>" for one in verdict),
        *_contents(tables, sections, figures),
    ]
    for name, table in tables.items():
        parts += _table(name, table) + (_paper_table(name) if with_paper else [])
    parts += [line for section in sections for line in _section(section)]
    parts += _cost_table(costs)
    pictures = [Picture(file, _caption(file)) for file in figures]
    parts += [f'<h2 id="figures">{_FIGURES}</h2>', *map(_figure, pictures)] if figures else []
    parts += [
        f"<details><summary>{escape(k)}</summary><pre>{escape(text)}</pre></details>" for k, text in about.items()
    ]
    head = f"{_META}<title>{escape(title)}</title><style>{_STYLE}</style>"
    write_text(
        path, f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"
    )


def _contents(tables: Mapping[str, ComparisonTable], sections: Sequence[Section], figures: Sequence[Path]) -> list[str]:
    named = {name: table.title for name, table in tables.items()} | {of.name: of.title for of in sections}
    named |= {"figures": _FIGURES} if figures else {}
    return ["<ul>", *(f'<li><a href="#{escape(k)}">{escape(text)}</a></li>' for k, text in named.items()), "</ul>"]


def _table(name: str, table: ComparisonTable) -> list[str]:
    grid = lay_out(table)
    return [
        f'<h2 id="{escape(name)}">{escape(table.title)}</h2>',
        _grid(grid.head, grid.lines, grid.labels),
        f'<p class="note">{escape(footnote(table))}</p>',
        *_verdict(table),
    ]


def _cost_table(costs: Sequence[Cost]) -> list[str]:
    if not costs:
        return []
    grid = cost_grid(costs)
    return [f'<h2 id="cost">{COST_TITLE}</h2>', _grid(grid.head, grid.lines, grid.labels)]


def _verdict(table: ComparisonTable) -> list[str]:
    """Return what the intervals of a table show, one sentence for each model and comparison."""
    sentences = [f"<li>{escape(sentence)}</li>" for sentence in verdicts(table)]
    return ["<h3>Verdict</h3>", "<ul>", *sentences, "</ul>"] if sentences else []


def _grid(head: Sequence[str], lines: Iterable[Sequence[str]], labels: int) -> str:
    rows = [f"<tr>{_cells('th', head, labels)}</tr>", *(f"<tr>{_cells('td', line, labels)}</tr>" for line in lines)]
    return "<table>" + "\n".join(rows) + "</table>"


def _cells(tag: str, texts: Sequence[str], labels: int) -> str:
    kinds = [' class="label"' if i < labels else "" for i in range(len(texts))]
    return "".join(f"<{tag}{kind}>{escape(text)}</{tag}>" for kind, text in zip(kinds, texts, strict=True))


def _paper_table(name: str) -> list[str]:
    from omegaconf import OmegaConf

    known: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(_PAPER))  # type: ignore[assignment]
    if name not in known:
        return []
    lines = [[model, *map(str, values)] for model, values in known[name]["rows"].items()]
    note = known[name].get("note", "")
    return [
        "<h3>Numbers in the source paper</h3>",
        _grid(["model", *known[name]["columns"]], lines, 1),
        *([f'<p class="note">{escape(note)}</p>'] if note else []),
    ]


def _section(section: Section) -> list[str]:
    return [
        f'<h2 id="{escape(section.name)}">{escape(section.title)}</h2>',
        _grid(section.table.head, section.table.lines, section.table.labels),
        *(f'<p class="note">{escape(note)}</p>' for note in section.notes),
        *map(_figure, section.pictures),
    ]


def _caption(file: Path) -> str:
    return (FIGURES[file.stem].draw.__doc__ or file.stem).splitlines()[0]


def _figure(picture: Picture) -> str:
    content = base64.b64encode(picture.file.read_bytes()).decode()
    caption = escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/{picture.file.suffix[1:]};base64,{content}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
