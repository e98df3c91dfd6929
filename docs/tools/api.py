"""Page of the Python API: every name of `polarcast`, rendered by mkdocstrings from signatures and docstrings."""

import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path

import polarcast
from docs.tools.markdown import escaped, paragraphs, table
from docs.tools.pages import ROOT

PAGE = "reference/api.md"
FOLDERS = ("data", "models", "hpc", "slurm", "sweeps")
HEAD = """# Python API

```python
import polarcast as pc
```

Names are imported when they are first used. Examples are in the guide [Python](../guides/python.md).
"""


def copy_packages(target: Path) -> None:
    """Copy the code to a folder under its names, `polarcast`, `polarcast.data` and so on.

    mkdocstrings reads files and does not import, and the folders of this checkout have other names.
    """
    for folder, name in {"hpc/api": "", **dict(zip(FOLDERS, FOLDERS, strict=True))}.items():
        shutil.copytree(ROOT / folder, target / "polarcast" / name, ignore=_only_python, dirs_exist_ok=True)


def _only_python(folder: str, found: list[str]) -> list[str]:
    return [name for name in found if not (name.endswith(".py") or (Path(folder) / name).is_dir())]


def names() -> dict[str, list[str]]:
    """Return the names of `polarcast` by kind."""
    found: dict[str, list[str]] = {"Functions": [], "Classes": [], "Exceptions": [], "Scores": []}
    for name in polarcast.__all__:
        found[_kind(getattr(polarcast, name))].append(name)
    return found


def _kind(value: object) -> str:
    if inspect.ismodule(value):
        return "Scores"
    if inspect.isclass(value):
        return "Exceptions" if issubclass(value, BaseException) else "Classes"
    return "Functions"


def pages() -> dict[str, str]:
    """Return the page of the API."""
    lines = [HEAD, table(["name", "use"], (row for found in names().values() for row in map(_row, found)))]
    for kind, found in names().items():
        lines += [f"## {kind} {{#{kind.lower()}}}", *(text for name in found for text in _section(name))]
    return {PAGE: "\n\n".join(lines) + "\n"}


def _row(name: str) -> tuple[str, str]:
    return f"[`pc.{name}`](#polarcast.{name})", escaped(paragraphs(getattr(polarcast, name).__doc__)[0])


def _section(name: str) -> Iterator[str]:
    yield f"::: polarcast.{name}"
