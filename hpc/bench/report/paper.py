"""The source paper's numbers, as a table below those of the suite that has them as well."""

from functools import cache
from pathlib import Path
from typing import Any

from polarcast.hpc.utils.pages.elements import notes
from polarcast.hpc.utils.pages.tables import text_table

_PAPER = Path(__file__).with_name("paper.yaml")


def paper_table(name: str) -> list[str]:
    """Return the paper's numbers of a table as markup; empty if it has none."""
    known = _numbers()
    if name not in known:
        return []
    lines = [[model, *map(str, values)] for model, values in known[name]["rows"].items()]
    note = known[name].get("note", "")
    title = "Numbers in the source paper"
    table = text_table(f"{name}-paper", title, ["model", *known[name]["columns"]], lines, 1)
    return [f"<h3>{title}</h3>", table, notes([note] if note else [])]


@cache
def _numbers() -> dict[str, Any]:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(_PAPER))  # type: ignore[return-value]
