"""The verbs of `polarcast perf`."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.hpc.console import Json, print_json, print_text, progress

if TYPE_CHECKING:
    from polarcast.hpc.perf.measure import Measured

app = typer.Typer(help="Measure speed, side by side with what others reach.", no_args_is_help=True)


@app.command()
def loader(
    rounds: Annotated[int, typer.Option(help="That count, after one to warm up.")] = 7,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 256,
    folder: Annotated[Path | None, typer.Option(help="Where to make the data; a temporary folder by default.")] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="With litdata and MosaicML Streaming, in an environment made for them.")
    ] = False,
    as_json: bool = Json,
) -> None:
    """Collated nowcasting batches: mapped shards beside a plain copy and its peers; start-up and memory.

    Example: polarcast perf loader --peers --folder /local/nvme
    """
    from polarcast.hpc.perf.loader import LoaderSpec, measure_loader

    with tempfile.TemporaryDirectory(prefix="polarcast-perf-", dir=folder) as where, progress("rounds", rounds) as done:
        measured = measure_loader(Path(where), LoaderSpec(size=size), rounds, done, peers)
    _show(measured, as_json)


@app.command()
def writer(
    rounds: Annotated[int, typer.Option(help="That count, after one to warm up.")] = 5,
    workers: Annotated[int | None, typer.Option(help="Processes; the cores by default.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to make the data; a temporary folder by default.")] = None,
    as_json: bool = Json,
) -> None:
    """Packing an archive into shards beside plain tar of the same bytes.

    Example: polarcast perf writer --folder /local/nvme
    """
    from polarcast.hpc.perf.writer import WriterSpec, measure_writer

    processes = workers or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="polarcast-perf-", dir=folder) as where, progress("rounds", rounds) as done:
        measured = measure_writer(Path(where), WriterSpec(), rounds, processes, done)
    _show(measured, as_json)


def _show(measured: "Measured", as_json: bool) -> None:
    if as_json:
        print_json(measured.as_record())
        return
    from rich.table import Table

    table = Table(title=f"perf {measured.perf}, {measured.machine['cores']} cores")
    for column in ("contender", "median", "quartiles"):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for row in measured.rows:
        table.add_row(row.name, f"{row.value:.3g} {row.unit}", f"{row.low:.3g} … {row.high:.3g}")
    print_text(table)
    for name, value in measured.ratios.items():
        print_text(f"{name}: {value:.2f}")
