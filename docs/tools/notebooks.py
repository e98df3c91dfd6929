"""Notebooks of the documentation: run when the site is built, and shown with their output as ordinary pages."""

import base64
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.exceptions import PluginError
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from traitlets.config import Config

SECONDS = 180
"""Longest time of a cell."""
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class NotebookPage:
    """A notebook that was run: its Markdown, and its pictures by file name."""

    name: str
    text: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)


def run_notebooks(paths: Sequence[Path]) -> list[NotebookPage]:
    """Run notebooks at the same time, each in a new empty folder. Raises PluginError if a cell fails."""
    with ThreadPoolExecutor(max_workers=len(paths) or 1) as pool:
        return list(pool.map(run_notebook, paths))


def run_notebook(path: Path) -> NotebookPage:
    """Run a notebook in a new empty folder and return its page. Raises PluginError if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        own = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/.kernel"})  # TCP could be read by other users
        where = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, config=own, kernel_name="python3", timeout=SECONDS, resources=where, coalesce_streams=True
        )
        try:
            client.execute(env=_environment())
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise PluginError(f"{path}: a cell failed\n{_ANSI.sub('', str(error))}") from None
    page = NotebookPage(path.stem)
    parts = [part for cell in notebook.cells for part in _cell(cell, page)]
    link = f'<a href="{path.name}" download="{path.name}">Download this notebook</a>'
    page.text = "\n\n".join([*parts, link]) + "\n"
    return page


def _environment() -> dict[str, str]:
    """Return the environment of the kernel, in which `polarcast` is that of this Python."""
    found = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # Notebooks run at the same time: threads of one would wait for those of the others.
    return {"OMP_NUM_THREADS": "1", **os.environ, "PATH": found}


def _code(source: str) -> str:
    """Return a code block; a cell that begins with %%bash holds shell commands."""
    first, _, rest = source.partition("\n")
    return f"```bash\n{rest}\n```" if first.strip() == "%%bash" else f"```python\n{source}\n```"


def _cell(cell: Any, page: NotebookPage) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield cell.source
    elif cell.cell_type == "code" and cell.source.strip():
        yield _code(cell.source.strip())
        for output in cell.outputs:
            yield from output_text(output, page)


def output_text(output: Any, page: NotebookPage) -> Iterator[str]:
    """Yield the Markdown of an output; pictures go to the page. Progress on standard error is left out."""
    if output.output_type == "stream":
        if output.name == "stdout":
            yield _text(output.text)
        return
    data = output.get("data", {})
    if "image/png" in data:
        name = f"{page.name}-{len(page.pictures) + 1}.png"
        page.pictures[name] = base64.b64decode(data["image/png"])
        yield f"![Figure {len(page.pictures)} of the notebook]({name})"
    elif "text/markdown" in data:
        yield data["text/markdown"]
    elif "text/plain" in data:
        yield _text(data["text/plain"])


def _text(text: str) -> str:
    return f"````{{.text .output}}\n{_ANSI.sub('', text).rstrip()}\n````"
