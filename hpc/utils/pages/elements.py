"""Pieces of a page: figures, lists of facts, contents, notes, commands."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

_LONG = 60
"""Characters from which a fact has a line of its own."""
_KINDS = {"png": "image/png", "gif": "image/gif"}


def section(name: str, title: str, lines: Iterable[str]) -> list[str]:
    """Return a section, with a heading that `contents` can link to, as markup."""
    name = escape(name)
    return [f'<section aria-labelledby="{name}">', f'<h2 id="{name}">{escape(title)}</h2>', *lines, "</section>"]


def verdict(title: str, sentences: Iterable[str]) -> list[str]:
    """Return the result of a page, a paragraph a sentence, as markup; it stands out."""
    lines = [f"<p>{escape(sentence)}</p>" for sentence in sentences]
    head = f'<h2 id="verdict">{escape(title)}</h2>'
    return ['<section class="verdict" aria-labelledby="verdict">', head, *lines, "</section>"] if lines else []


def contents(entries: Mapping[str, str]) -> str:
    """Return links to sections, by name and title."""
    links = [f'<li><a href="#{escape(name)}">{escape(title)}</a></li>' for name, title in entries.items()]
    return "\n".join(['<nav aria-label="On this page">', "<h2>On this page</h2>", "<ul>", *links, "</ul>", "</nav>"])


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and their values as a list."""
    return f'<dl class="facts">{"".join(_fact(name, value) for name, value in pairs)}</dl>'


def _fact(name: str, value: str) -> str:
    kind = ' class="wide"' if len(value) > _LONG else ""
    return f"<div{kind}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def notes(lines: Iterable[str]) -> str:
    """Return notes, one a line."""
    return "".join(f'<p class="note">{escape(line)}</p>' for line in lines)


def folded(title: str, content: str) -> str:
    """Return markup that a click unfolds, and that is unfolded in print."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def folded_text(title: str, text: str) -> str:
    """Return text as it is, such as a configuration, that a click unfolds."""
    return folded(title, f'<pre tabindex="0">{escape(text)}</pre>')


def commands(lines: Sequence[str]) -> str:
    """Return commands with a button that copies them."""
    return f'<pre class="commands" tabindex="0"><code>{escape(chr(10).join(lines))}</code></pre>'


def image(content: bytes, kind: str, text: str, *, pixels: bool = False) -> str:
    """Return an image with its content.

    Args:
        content: The file.
        kind: `png` or `gif`.
        text: What it shows, for screen readers.
        pixels: Whether its pixels stay sharp when it is enlarged.
    """
    encoded = base64.b64encode(content).decode()
    sharp = ' class="pixels"' if pixels else ""
    return f'<img{sharp} alt="{escape(text)}" src="data:{_KINDS[kind]};base64,{encoded}">'


def figure(content: bytes, kind: str, caption: str) -> str:
    """Return a figure that a click enlarges, with its caption. See `image`."""
    return f'<figure class="zoom">{image(content, kind, caption)}<figcaption>{escape(caption)}</figcaption></figure>'
