"""Notebooks are committed without output, and what they call exists; `make docs` runs them."""

import re
from pathlib import Path

import nbformat
import pytest

from docs.tools.blocks import ROOT, Block
from docs.tools.commands import problems

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
INNER = re.compile(r"^ *(?:from|import) polarcast\.", re.M)
_BASH = "%%bash\n"
pytestmark = pytest.mark.docs


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_of(path: Path) -> list[Block]:
    """Return the code cells as blocks; their lines are counted from 1 in each cell."""
    cells = [(number, cell.source) for number, cell in enumerate(read(path).cells, 1) if cell.cell_type == "code"]
    return [
        Block(f"{path.name}, cell {number}", 1, "bash", "", source.removeprefix(_BASH))
        if source.startswith(_BASH)
        else Block(f"{path.name}, cell {number}", 1, "python", "", source)
        for number, source in cells
    ]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first-forecast", "score-your-own-model", "shards-in-a-dataloader"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_output(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert {cell.execution_count for cell in cells} == {None}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_commands_and_names_exist(path: Path) -> None:
    blocks = code_of(path)
    assert {block.language for block in blocks} == {"bash", "python"}
    assert [what for block in blocks for what in problems(block)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_lines_fit_the_page(path: Path) -> None:
    assert [line for cell in read(path).cells for line in cell.source.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_uses_public_names_only(path: Path) -> None:
    """What `import polarcast` gives, and commands."""
    assert [block.text for block in code_of(path) if INNER.search(block.text)] == []


def test_a_wrong_cell_is_found(tmp_path: Path) -> None:
    cells = ["%%bash\npolarcast data synth storms --evnets 3\n", "import polarcast as pc\npc.open_runs('a')\n"]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    nbformat.write(notebook, tmp_path / "wrong.ipynb")
    first, second = (what for block in code_of(tmp_path / "wrong.ipynb") for what in problems(block))
    assert first.startswith("wrong.ipynb, cell 1:1: No such option: --evnets")
    assert second.startswith("wrong.ipynb, cell 2:2: polarcast has no 'open_runs'")
