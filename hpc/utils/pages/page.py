"""Render a page: one HTML file with its style and script inside, which loads nothing."""

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path

from polarcast.hpc.utils.text import script_json

_HERE = Path(__file__).parent
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""The browser refuses everything that is not in the file, even if text of others got into its markup."""


def render_page(
    title: str,
    parts: Sequence[str],
    *,
    data: Mapping[str, object] | None = None,
    refresh_seconds: int | None = None,
) -> str:
    """Return a page that needs no other file and can be read without its script.

    The script adds sorting and filters to tables of `pages.tables`, enlarges figures, moves the slider of galleries and
    switches between light and dark.

    Args:
        title: Heading of the page, as text.
        parts: Content in order, as markup; texts of others must be escaped in it.
        data: Values for scripts by the name of a constant, such as `{"BOARDS": [...]}`.
        refresh_seconds: Seconds after which a browser loads the page again; by default never.

    Raises:
        ValueError: the name of a constant is no identifier, or the time to refresh is not positive.
    """
    if refresh_seconds is not None and refresh_seconds < 1:
        raise ValueError(f"refresh_seconds is {refresh_seconds}, not positive")
    body = [
        '<a class="skip" href="#content">Skip to content</a>',
        f'<header class="top"><h1>{escape(title)}</h1><div class="tools"></div></header>',
        '<main id="content" tabindex="-1">',
        *parts,
        "</main>",
        "<footer><p>Made by polarcast. This page needs no other file and no network.</p></footer>",
        f"<script>\n{_constants(data or {})}{_file('page.js')}</script>",
    ]
    head = "\n".join(_head(title, refresh_seconds))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n'
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _head(title: str, refresh_seconds: int | None) -> list[str]:
    refresh = [f'<meta http-equiv="refresh" content="{refresh_seconds}">'] if refresh_seconds else []
    return [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        *refresh,
        f"<title>{escape(title)}</title>",
        f"<style>\n{_file('style.css')}</style>",
    ]


def _constants(data: Mapping[str, object]) -> str:
    if odd := [name for name in data if not name.isidentifier()]:
        raise ValueError(f"{odd[0]!r} is no name of a constant")
    return "".join(f"const {name} = {script_json(value)};\n" for name, value in data.items())


@cache
def _file(name: str) -> str:
    return (_HERE / name).read_text("utf-8")
