"""The verb `polarcast data ingest`."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.data.cores import usable_cores
from polarcast.data.errors import BadInput
from polarcast.data.files import checked_output
from polarcast.hpc.utils.console import (
    Json,
    plain,
    print_json,
    print_marked,
    print_text,
    split_names,
    split_numbers,
    stages,
)
from polarcast.hpc.utils.exit_codes import BAD_INPUT, FAILED

if TYPE_CHECKING:
    from polarcast.data.ingest.run import IngestReport

Workers = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Number of processes; it does not change the result.")
]
_volume = partial(typer.Option, rich_help_panel="Radar volumes")
_sequence = partial(typer.Option, rich_help_panel="Gridded sequences")


def ingest(
    out: Annotated[Path, typer.Argument(help="Folder of the archive to write or to extend.")],
    inputs: Annotated[list[Path], typer.Argument(help="Files, Zarr folders, or folders of files.", metavar="VOLUME…")],
    size: Annotated[int, typer.Option(min=8, max=4096, help="Pixels per side.")] = 256,
    min_dbz: Annotated[float, typer.Option(help="Threshold in dBZ; weaker echo counts as none.")] = 5.0,
    step_minutes: Annotated[float, typer.Option(help="Minutes between frames.")] = 6.0,
    max_gap_minutes: Annotated[
        float, typer.Option(help="Longest gap within an event, of at most 24 hours; a longer one starts a new event.")
    ] = 15.0,
    pictures: Annotated[bool, typer.Option("--pictures", help="Draw each event before and after processing.")] = False,
    workers: Workers = None,
    variables: Annotated[str, _volume(help="Variables of every event.")] = "zh,zdr,kdp",
    heights: Annotated[str, _volume(help="Heights above the radar in km.")] = "1,3,7",
    spacing_km: Annotated[
        float | None, typer.Option(help="Pixel size: of the grid of volumes (default 1), or of sequences without axes.")
    ] = None,
    min_rhohv: Annotated[float, _volume(help="Lowest RhoHV of precipitation.")] = 0.8,
    max_texture: Annotated[float, _volume(help="Largest phase texture of precipitation, degrees.")] = 20.0,
    attenuation: Annotated[bool, _volume("--attenuation", help="Correct zh and zdr by the phase.")] = False,
    band: Annotated[str | None, _volume(help="S, C or X; by default read from the files.")] = None,
    rain: Annotated[str, _volume(help="Rain grid: kdp (R(KDP) as in NJU-CPOL), or none.")] = "kdp",
    variable: Annotated[str | None, _sequence(help="Name in the file, if it is ambiguous.")] = None,
    units: Annotated[str | None, _sequence(help="Units such as dBZ, mm/h, 'mm per 5 min'.")] = None,
    height_km: Annotated[float, _sequence(help="Height under which it is stored.")] = 1.0,
    min_coverage: Annotated[float, _sequence(help="Smallest share of valid pixels.")] = 0.5,
    as_json: bool = Json,
) -> None:
    """Convert radar volumes or gridded sequences to an archive in the layout of NJU-CPOL; resume after an interruption.

    Volumes: NEXRAD level II, CfRadial 1 and 2, ODIM HDF5, SIGMET/IRIS, also gzip, bzip2 and zip. Sequences: NetCDF,
    Zarr, npz with a time axis, in dBZ or rain rate. Unusable files are listed and left out (exit code 1, or 2 if no
    file could be used). Requires the extra `ingest` of the package.

    Example: polarcast data ingest archive /data/KLBB/*_V06 --pictures
    """
    checked_output(out, is_folder=True)
    if missing := [path for path in inputs if not os.path.exists(path)]:
        raise BadInput("no such file or folder", missing[0], "give radar volumes or gridded sequences")
    from polarcast.data.ingest import run
    from polarcast.data.ingest.grids.settings import GridSettings
    from polarcast.data.ingest.volumes.frame import VolumeSettings
    from polarcast.data.ingest.volumes.gridding import Grid

    levels = split_numbers(heights, "--heights") or ()
    settings = run.IngestSettings(
        VolumeSettings(
            Grid(size, 1.0 if spacing_km is None else spacing_km, tuple(sorted(set(levels)))),
            tuple(split_names(variables) or ()), min_dbz=min_dbz, min_rhohv=min_rhohv, max_texture_deg=max_texture,
            attenuation=attenuation, band=band, rain=rain, step_minutes=step_minutes, max_gap_minutes=max_gap_minutes,
        ),
        GridSettings(
            variable=variable, units=units, spacing_km=spacing_km, tile=size, min_dbz=min_dbz, height_km=height_km,
            min_coverage=min_coverage, step_minutes=step_minutes, max_gap_minutes=max_gap_minutes,
        ),
        pictures,
    )  # fmt: skip
    with stages() as bars:
        report = run.ingest(out, inputs, settings, processes_of(workers), bars)
    _report(out, report, as_json)


def processes_of(workers: int | None) -> int:
    """Return the number of processes: as given, or one per core that this process may use."""
    return workers or usable_cores()


def _report(out: Path, report: "IngestReport", as_json: bool) -> None:
    if as_json:
        print_json({"archive": str(out), **report.as_record()})
    else:
        for file, reason in report.failed.items():
            print_marked("left out", "red", f"{file}: {reason}")
        for reason, number in report.dropped.items():
            print_text(f"dropped {number}: {reason}")
        if report.known:
            print_text(f"{len(report.known)} files are already in the archive")
        print_text(f"{len(report.events)} new events in {plain(out)}")
        if report.events:
            print_text(f"next: polarcast data check {plain(out)}")
    if report.failed:
        raise typer.Exit(FAILED if report.events or report.known else BAD_INPUT)
