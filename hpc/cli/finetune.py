"""The verb `polarcast finetune`."""

from pathlib import Path
from typing import Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.data.folder_kind import SUITE_FILE
from polarcast.hpc.cli.show import open_board, show_tables
from polarcast.hpc.utils.console import Json


def finetune(
    suite: Annotated[Path, typer.Argument(help="Folder of a finished suite, such as runs/demo.")],
    archive: Annotated[Path, typer.Option(help="Archive to fine-tune and score on.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Settings of the fine-tuned runs.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps; a tenth of the suite's by default.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Peak learning rate; a tenth of the suite's by default.")
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(help="Groups to leave out: source-day (default), day, event, or a CSV table event,group."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; SUITE/finetuned/<archive> by default.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="Runs at a time.")] = None,
    as_json: bool = Json,
) -> None:
    """Fine-tune a suite's runs on another archive, leave one event out, and print tables of the events left out.

    Each group of events is scored by runs that were fine-tuned on the other groups. Networks start from the suite's
    weights; models without training are fitted anew. A stopped command continues where it was.

    Example: polarcast finetune runs/demo --archive /data/NJU-CPOL --steps 200 --learning-rate 1e-4

    Example: polarcast finetune runs/demo --archive /data/NJU-CPOL train.average_decay=0.9 data.flip_rotate=true
    """
    if not (suite / SUITE_FILE).is_file():
        raise BadInput("not a suite", suite, "make one with: polarcast bench demo")
    if not archive.is_dir():
        raise BadInput("no such folder", archive, "give an archive")
    if out:
        checked_output(out, is_folder=True)
    from polarcast.hpc.bench.finetune import finetune as finetune_suite

    given = {"train.steps": steps, "train.learning_rate": learning_rate}
    words = [f"{key}={value}" for key, value in given.items() if value is not None]
    with open_board() as board:
        tables, folder = finetune_suite(
            suite, archive, board, overrides=[*(overrides or []), *words], group_by=groups, out=out, workers=workers
        )
    show_tables(tables, folder, as_json)
