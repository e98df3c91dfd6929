"""The verb `polarcast predict`."""

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.data.errors import BadInput
from polarcast.hpc.cli.checks import Trust, checked_run
from polarcast.hpc.utils.console import Json, plain, print_json, print_text, stages

if TYPE_CHECKING:
    from polarcast.hpc.inference.predict import Written

_RANGE = re.compile(r"([0-9]{0,9}):([0-9]{0,9})")


def predict(
    run: Annotated[
        str,
        typer.Argument(help="Run folder of a trained model or a physical baseline, or zoo:NAME; see polarcast zoo."),
    ],
    given: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="Folder of an event, archive, shards, one shard, radar volume, or gridded sequence."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.nc", help="Output file; a figure is written to OUT.png.")],
    event: Annotated[int | None, typer.Option(help="Number of the event, if the input has several.")] = None,
    members: Annotated[int | None, typer.Option(help="Ensemble size; the run's evaluate.members by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of generative models; the same seed gives the same forecast.")] = 0,
    frames: Annotated[
        str | None, typer.Option(help="Frames FIRST:END of the event to estimate, excluding END; all by default.")
    ] = None,
    issued: Annotated[
        int | None, typer.Option(help="Last input frame of a nowcast; the newest of the event by default.")
    ] = None,
    size: Annotated[
        int, typer.Option(help="Pixels per side, of 1 km, of the grid of a volume; at most, of a sequence.")
    ] = 256,
    no_picture: Annotated[bool, typer.Option("--no-picture", help="Write the netCDF file only.")] = False,
    trust: Trust = False,
    as_json: bool = Json,
) -> None:
    """Write the rain rate or nowcast of one event by a trained run as CF netCDF, with a figure.

    INPUT is data_dir_NNN of an archive in the layout of NJU-CPOL, such an archive, shards of `polarcast data shard`, or
    what `polarcast data ingest` reads: a radar volume, a gridded sequence, or a folder of either. Warnings about the
    input go to standard error and into the file. A net of the zoo stands in place of RUN by zoo: and its name, folder
    or URL.

    Example: polarcast predict runs/dualpol /data/NJU-CPOL rain.nc --event 12 --members 8

    Example: polarcast predict runs/furenet /data/NJU-CPOL/NJU_CPOL_update2308/dBZ/1.0km/data_dir_012 next_hour.nc

    Example: polarcast predict zoo:./nets/nowcast-mine sequence.nc next_hour.nc
    """
    from polarcast.hpc.inference.inputs import checked_input
    from polarcast.hpc.inference.limits import check_numbers
    from polarcast.hpc.inference.netcdf import checked_netcdf
    from polarcast.hpc.zoo.reference import checked_net, is_reference

    # Before torch is imported.
    check_numbers(members=members, seed=seed, size=size)
    span = _split_range(frames)
    checked_netcdf(out)
    folder = checked_net(run) if is_reference(run) else checked_run(Path(run))
    checked_input(given)
    from polarcast.hpc.inference.predict import PredictOptions
    from polarcast.hpc.inference.predict import predict as predict_event
    from polarcast.hpc.runs.folder import RunFolder
    from polarcast.hpc.zoo.net import ZooRun

    command = f"polarcast {shlex.join(sys.argv[1:])}"
    options = PredictOptions(event, members, seed, span, issued, size, not no_picture, command)
    opened = ZooRun(folder) if is_reference(run) else RunFolder(folder, trust)
    with stages() as bars:
        done = predict_event(opened, given, out, options, bars)
    _report(done, run, given, out, as_json)


def _report(done: "Written", run: str, given: Path, out: Path, as_json: bool) -> None:
    """Print the warnings to standard error, and what was written."""
    for warning in done.warnings:
        print(f"polarcast: warning: {plain(warning)}", file=sys.stderr)
    if as_json:
        print_json({"run": run, "input": str(given), **done.as_record()})
        return
    many = f", {done.members} members" if done.members > 1 else ""
    frames = "frame" if done.frames == 1 else "frames"
    what = f"{frames} of" if done.issued is None else f"{frames} after frame {done.issued} of"
    most = "" if done.rain_rate_max is None else f", up to {done.rain_rate_max:.1f} mm/h"
    most = most if done.zh_max is None else f", up to {done.zh_max:.1f} dBZ"
    print_text(f"{done.frames} {what} event {done.event:03d}{many}{most} in {plain(out)}")
    if done.picture:
        print_text(f"figure {plain(done.picture)}")


def _split_range(text: str | None) -> tuple[int | None, int | None]:
    """Parse `3:9` as (3, 9); an omitted end is None. Raises BadInput for other text."""
    if text is None:
        return None, None
    if not (found := _RANGE.fullmatch(text)):
        raise BadInput(f"{text!r} is not a range", "--frames", "give it as 3:9, 3: or :9")
    first, end = (int(part) if part else None for part in found.groups())
    return first, end
