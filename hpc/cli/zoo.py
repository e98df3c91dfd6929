"""The verbs `polarcast zoo`, `zoo list`, `zoo show` and `zoo add`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from polarcast.hpc.cli.checks import checked_run
from polarcast.hpc.utils.console import Json, plain, print_json, print_text

if TYPE_CHECKING:
    from polarcast.hpc.zoo.note import ZooNote


class _ListByDefault(TyperGroup):
    """Read `zoo` and `zoo --json` as `zoo list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] == "--json":
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ListByDefault)


@app.callback()
def _group() -> None:
    """List trained nets that come with polarcast, show one, or pack one's own.

    `polarcast zoo` is short for `polarcast zoo list`. A net stands for a run: polarcast predict zoo:NAME INPUT OUT.nc

    Example: polarcast zoo
    """


@app.command(name="list")
def list_nets(as_json: bool = Json) -> None:
    """List the nets that come with polarcast.

    Example: polarcast zoo list --json
    """
    from polarcast.hpc.zoo.reference import built_in

    nets = built_in()
    if as_json:
        print_json({"nets": [note.as_record() for note in nets.values()]})
    elif not nets:
        print_text("no nets come with this version of polarcast; pack your own: polarcast zoo add RUN --out FOLDER")
    else:
        print_text(_table(nets))


@app.command()
def show(
    net: Annotated[str, typer.Argument(help="Name of a net, its folder such as ./nets/mine, or its URL.")],
    as_json: bool = Json,
) -> None:
    """Show the card of a net: data, training, recorded scores with intervals, and what it is not for.

    Its files are verified first.

    Example: polarcast zoo show ./nets/nowcast-mine
    """
    from polarcast.hpc.zoo.note import CARD_PAGE, card_of, read_file, read_net
    from polarcast.hpc.zoo.reference import net_folder

    folder = net_folder(net)
    note = read_net(folder)
    if as_json:
        print_json({"folder": str(folder), "note": note.as_record(), "card": card_of(folder)})
        return
    print_text(read_file(folder / CARD_PAGE).decode(errors="replace").rstrip("\n"))


@app.command()
def add(
    run: Annotated[Path, typer.Argument(help="Run folder of a trained model or a physical baseline.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="New folder of the net.")],
    name: Annotated[str | None, typer.Option(help="Name of the net; that of the folder by default.")] = None,
    about: Annotated[str, typer.Option(help="One line about it.")] = "",
    license: Annotated[str, typer.Option(help="Licence of the weights, such as Apache-2.0.")] = "not stated",
    not_for: Annotated[list[str] | None, typer.Option(help="What it is not for, a line; repeatable.")] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Run whose scores on the same events stand beside its own in the card; repeatable."),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store weights as 16-bit floats, in half the space.")] = False,
    as_json: bool = Json,
) -> None:
    """Pack a finished run into a folder that others can use by path or URL.

    The folder holds configuration, weights, card and checksums; no shards, places, host names or secrets. Score the run
    first, with `polarcast evaluate`, so that the card has scores.

    Example: polarcast zoo add runs/furenet --out nets/nowcast-mine --license Apache-2.0 --beside runs/steps
    """
    for one in (run, *(beside or ())):
        checked_run(one)
    from polarcast.hpc.runs.folder import RunFolder
    from polarcast.hpc.zoo.pack import PackOptions, pack

    net = pack(RunFolder(run), out, PackOptions(name, about, license, not_for or (), beside or (), half))
    if as_json:
        print_json({"folder": str(out), "note": net.note.as_record()})
        return
    print_text(f"{net.note.name}: {_kilobytes(net.note)} in {plain(out)}")
    print_text(f"next: polarcast predict zoo:{plain(out.absolute())} INPUT OUT.nc")


def _table(nets: "dict[str, ZooNote]") -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("net", "for", "reads", "frames", "size", "licence", "about")
    for note in nets.values():
        heights = ", ".join(f"{height:g}" for height in note.heights_km)
        frames = f"{note.frames} → {note.lead_frames}" if note.lead_frames else str(note.frames)
        what = f"{', '.join(note.variables)} at {heights} km"
        row = (f"zoo:{note.name}", note.task, what, frames, _kilobytes(note), note.license, note.about)
        table.add_row(*map(escape, map(plain, row)))
    return table


def _kilobytes(note: "ZooNote") -> str:
    return f"{note.bytes / 1000:,.0f} kB"
