"""The site: broken links and failing cells fail its build, and it loads nothing from elsewhere."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort, PluginError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from docs.tools import notebooks, reference

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.docs


def build_pages(folder: Path, pages: dict[str, str], nav: Sequence[str] = ("index.md", "b.md")) -> None:
    """Build a few pages with the settings of the site, without what it generates."""
    (folder / "docs").mkdir()
    for name, text in pages.items():
        (folder / "docs" / name).write_text(text, encoding="utf-8")
    own = {"docs_dir": str(folder / "docs"), "site_dir": str(folder / "site"), "nav": list(nav), "theme": "mkdocs"}
    build(load_config(str(ROOT / "mkdocs.yml"), **own, hooks=[], plugins=[], extra_css=[]))


class TestStrict:
    def test_good_links_pass(self, tmp_path: Path) -> None:
        build_pages(tmp_path, {"index.md": "# A\n\n[b](b.md#there)\n", "b.md": "# B\n\n## There\n"})
        assert (tmp_path / "site/b.html").is_file()

    @pytest.mark.parametrize("target", ["c.md", "b.md#nowhere", "#nowhere", "/b.md", "images/none.png", "b"])
    def test_a_broken_link_fails(self, target: str, tmp_path: Path) -> None:
        with pytest.raises(Abort, match="1 warnings in strict mode"):
            build_pages(tmp_path, {"index.md": f"# A\n\n[b]({target})\n", "b.md": "# B\n"})

    def test_a_page_that_the_navigation_lacks_fails(self, tmp_path: Path) -> None:
        with pytest.raises(Abort, match="1 warnings in strict mode"):
            build_pages(tmp_path, {"index.md": "# A\n", "b.md": "# B\n"}, nav=["index.md"])

    def test_a_page_that_does_not_exist_fails(self, tmp_path: Path) -> None:
        with pytest.raises(Abort, match="1 warnings in strict mode"):
            build_pages(tmp_path, {"index.md": "# A\n"})


class TestNotebooks:
    def test_text_code_and_output_are_shown(self, tmp_path: Path) -> None:
        cells = [new_markdown_cell("# Title"), new_code_cell("print(6 * 7)\n'an' + 'swer'"), new_code_cell("")]
        nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")
        text = notebooks.run_notebook(tmp_path / "a.ipynb").text
        assert text.startswith("# Title\n\n```python\nprint(6 * 7)\n'an' + 'swer'\n```")
        assert "\n42\n" in text
        assert "\n'answer'\n" in text

    def test_shell_cells_are_shown_as_such(self, tmp_path: Path) -> None:
        nbformat.write(new_notebook(cells=[new_code_cell("%%bash\npolarcast --version\necho")]), tmp_path / "a.ipynb")
        text = notebooks.run_notebook(tmp_path / "a.ipynb").text
        assert text.startswith("```bash\npolarcast --version\necho\n```")
        assert "\npolarcast 0." in text

    def test_a_failing_cell_fails_the_build(self, tmp_path: Path) -> None:
        nbformat.write(new_notebook(cells=[new_code_cell("raise ValueError('no rain')")]), tmp_path / "a.ipynb")
        with pytest.raises(PluginError, match="no rain"):
            notebooks.run_notebook(tmp_path / "a.ipynb")

    @pytest.mark.parametrize("path", sorted(ROOT.glob("docs/notebooks/*.ipynb")), ids=lambda path: path.stem)
    def test_notebooks_are_stored_without_output(self, path: Path) -> None:
        cells = nbformat.read(path, as_version=4).cells
        assert [cell.source for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []

    def test_pictures_become_files(self, tmp_path: Path) -> None:
        page = notebooks.NotebookPage("a")
        picture = new_output("display_data", data={"image/png": "aGk=", "text/plain": "<Figure>"})
        assert list(notebooks.output_text(picture, page)) == ["![Figure 1 of the notebook](a-1.png)"]
        assert page.pictures == {"a-1.png": b"hi"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, built as `make docs` builds it; CI names the one that it has just built."""
    if built := os.environ.get("POLARCAST_SITE"):
        return Path(built)
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class TestWholeSite:
    def test_generated_pages_are_in_it(self, site: Path) -> None:
        assert [path for path in reference.pages() if not (site / path).with_suffix(".html").is_file()] == []

    def test_nothing_is_loaded_from_elsewhere(self, site: Path) -> None:
        loaded = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
        assert loaded.findall('<script defer src="https://example.org/a.js">')
        pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
        assert pages
        assert {str(path): found for path, text in pages.items() if (found := loaded.findall(text))} == {}

    def test_every_link_leads_to_a_file(self, site: Path) -> None:
        """Also those that are written in HTML, which mkdocs does not check."""
        lost = []
        for page in site.rglob("*.html"):
            for link in re.findall(r"\b(?:href|src)=\"([^\"]+)\"", page.read_text(encoding="utf-8")):
                to = urlsplit(link)
                target = (site if to.path.startswith("/") else page.parent) / unquote(to.path).lstrip("/")
                if not to.scheme and to.path and page.name != "404.html" and not target.exists():
                    lost.append((page.name, link))
        assert lost == []

    def test_search_finds_the_reference(self, site: Path) -> None:
        index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
        assert any("train.micro_batch" in entry["text"] for entry in index["docs"])
