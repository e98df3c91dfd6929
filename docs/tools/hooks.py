"""Hooks of mkdocs: add the generated pages and the notebooks to the site and to its navigation."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[2]))
from docs.tools import api, reference, verbs
from docs.tools.notebooks import run_notebooks

_PACKAGES = tempfile.TemporaryDirectory(prefix="polarcast-docs-")
"""A copy of the code for mkdocstrings; removed at the end of the process."""
CLI_MARK = "reference/cli/"
"""In the navigation, this stands for the pages of the command line."""


class NotebookFile(File):
    """A notebook, which becomes a page of the site."""

    def is_documentation_page(self) -> bool:
        """Return that the file is a page, although it is no Markdown."""
        return True


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Prepare what mkdocstrings reads, and list the verbs in the navigation."""
    api.copy_packages(Path(_PACKAGES.name))
    python = config.plugins["mkdocstrings"].config.handlers.setdefault("python", {})
    python["paths"] = [_PACKAGES.name]
    config.nav = _with_verbs(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and run the notebooks."""
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    _add_notebooks(files, config)
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Copy the notebooks, which the pages offer for download."""
    for source in _notebooks(config):
        shutil.copy(source, Path(config.site_dir) / source.relative_to(config.docs_dir))


def _notebooks(config: MkDocsConfig) -> list[Path]:
    return sorted(Path(config.docs_dir).glob("notebooks/*.ipynb"))


def _add_notebooks(files: Files, config: MkDocsConfig) -> None:
    paths = _notebooks(config)
    for path, page in zip(paths, run_notebooks(paths), strict=True):
        source = files.get_file_from_path(path.relative_to(config.docs_dir).as_posix())
        if source is None:
            continue
        files.remove(source)
        files.append(NotebookFile.generated(config, source.src_uri, content=page.text))
        for name, content in page.pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))


def _with_verbs(nav: Any) -> Any:
    """Return the navigation in which the mark of the command line is replaced by its pages."""
    if nav == CLI_MARK:
        groups = [{group: [{verb.name: verb.page} for verb in found]} for group, found in verbs.groups().items()]
        return [f"{verbs.FOLDER}/index.md", *groups]
    if isinstance(nav, list):
        return [_with_verbs(part) for part in nav]
    return {title: _with_verbs(part) for title, part in nav.items()} if isinstance(nav, dict) else nav
