"""Pages of the documentation that are written by hand."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs/results"


def pages(root: Path = ROOT) -> list[Path]:
    """Return the README, the guide for contributors and the Markdown pages of docs, as far as a tree has them."""
    first = [root / "README.md", root / "CONTRIBUTING.md"]
    return [page for page in [*first, *sorted((root / "docs").rglob("*.md"))] if page.is_file()]
