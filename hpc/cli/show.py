"""Progress and tables printed by several verbs."""

from pathlib import Path
from typing import TYPE_CHECKING

from polarcast.hpc.utils.console import print_json, print_text, stderr

if TYPE_CHECKING:
    from polarcast.hpc.bench.run import Tables
    from polarcast.hpc.utils.progress import ProgressBoard


def open_board(quiet: bool = False) -> "ProgressBoard":
    """Return a progress board on standard error."""
    from polarcast.hpc.utils.progress import ProgressBoard

    console = stderr()
    console.quiet = quiet
    return ProgressBoard(console)


def show_tables(tables: "Tables", folder: Path, as_json: bool) -> None:
    """Print the tables of a suite, the verdict on it, and the path of its report."""
    from rich.text import Text

    from polarcast.hpc.bench.render import as_record, terminal_table
    from polarcast.hpc.bench.verdict import FILE

    verdict = (folder / "tables" / FILE).read_text("utf-8").splitlines()
    if as_json:
        records = {name: as_record(table) for name, table in tables.items()}
        print_json({"folder": str(folder), "tables": records, "verdict": verdict})
        return
    for table in tables.values():
        print_text(terminal_table(table))
    for sentence in verdict:
        print_text(Text(sentence))
    print_text(f"report: {folder}/report.html; tables: {folder}/tables; figures: {folder}/figures")
