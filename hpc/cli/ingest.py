"""The verb `polarcast data ingest`."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from collections.abc import Sequence

    from polarcast.data.ingest.run import IngestReport, IngestSettings
    from polarcast.data.ingest.volumes.volume import RadarSite

Workers = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Number of processes; it does not change the result.")
]
_ONLY_VOLUMES = ("phidp", "rhohv")
_NAMED = 3
"""Files that a line names at most."""
_WORTH_TELLING = 0.01
"""Share of the echo without a value from which on a line tells it."""
_volume = partial(typer.Option, rich_help_panel="Radar volumes")
_sequence = partial(typer.Option, rich_help_panel="Gridded sequences")


_Out = Annotated[Path, typer.Argument(help="Folder of the archive to write or to extend.")]
_Inputs = Annotated[
    list[Path] | None, typer.Argument(help="Files, Zarr folders, or folders of files.", metavar="VOLUME…")
]
_Size = Annotated[int, typer.Option(min=8, max=4096, help="Pixels per side.")]
_MinDbz = Annotated[float, typer.Option(help="Threshold in dBZ; weaker echo counts as none.")]
_StepMinutes = Annotated[float, typer.Option(help="Minutes between frames.")]
_MaxGapMinutes = Annotated[
    float, typer.Option(help="Longest gap within an event, of at most 24 hours; a longer one starts a new event.")
]
_Pictures = Annotated[bool, typer.Option("--pictures", help="Draw each event before and after processing.")]
_Variables = Annotated[str, typer.Option(help="Variables of every event; of sequences, those that the files have.")]
_Heights = Annotated[str, _volume(help="Heights above the radar in km.")]
_SpacingKm = Annotated[
    float | None, typer.Option(help="Pixel size: of the grid of volumes (default 1), or of sequences without axes.")
]
_MinRhohv = Annotated[float, _volume(help="Lowest RhoHV of precipitation.")]
_MaxTexture = Annotated[float, _volume(help="Largest phase texture of precipitation, degrees.")]
_Kdp = Annotated[
    str,
    _volume(
        help="How to retrieve KDP that a file lacks: vulpiani, maesaka, schneebeli (slow), wradlib; file for never."
    ),
]
_Attenuation = Annotated[
    str, _volume(help="How to correct zh and zdr for attenuation: none, linear (by the phase), zphi.")
]
_Band = Annotated[str | None, _volume(help="S, C or X; by default read from the files.")]
_Site = Annotated[str | None, _volume(help="LATITUDE,LONGITUDE,METRES of the radar, for files without its place.")]
_Rain = Annotated[
    str,
    _volume(help="Rain grid: kdp (R(KDP) as in NJU-CPOL), a (specific attenuation), zh_zdr, zh (Z–R), or none."),
]
_ZR = Annotated[str, _volume(help="A,B of Z = A R^B, for --rain zh.")]
_Variable = Annotated[
    list[str] | None,
    typer.Option(help="Name in the file (zh of volumes); or zh=NAME, zdr=NAME, kdp=, rain_rate=, phidp=, rhohv=NAME."),
]
_Units = Annotated[str | None, _sequence(help="Units such as dBZ, mm/h, 'mm per 5 min'.")]
_Scale = Annotated[float | None, _sequence(help="Packing: value = stored · scale + offset.")]
_Offset = Annotated[float | None, _sequence(help="Packing: value = stored · scale + offset.")]
_Nodata = Annotated[float | None, _sequence(help="Stored code of missing data, such as 255.")]
_Missing = Annotated[str, _sequence(help="What missing values mean: no-data or no-echo.")]
_Rows = Annotated[
    str | None, _sequence(help="north-first or south-first, for files that do not tell which row is north.")
]
_HeightKm = Annotated[float, _sequence(help="Height under which data without levels are stored.")]
_MinCoverage = Annotated[float, _sequence(help="Smallest share of valid pixels.")]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Tell what is in each file, and write nothing; OUT may be left out.")
]


def ingest(
    out: _Out, inputs: _Inputs = None, size: _Size = 256, min_dbz: _MinDbz = 5.0, step_minutes: _StepMinutes = 6.0,
    max_gap_minutes: _MaxGapMinutes = 15.0, pictures: _Pictures = False, workers: Workers = None,
    variables: _Variables = "zh,zdr,kdp", heights: _Heights = "1,3,7", spacing_km: _SpacingKm = None,
    min_rhohv: _MinRhohv = 0.8, max_texture: _MaxTexture = 20.0, kdp: _Kdp = "vulpiani",
    attenuation: _Attenuation = "none", band: _Band = None, site: _Site = None, rain: _Rain = "kdp",
    z_r: _ZR = "200,1.6", variable: _Variable = None, units: _Units = None, scale: _Scale = None,
    offset: _Offset = None, nodata: _Nodata = None, missing: _Missing = "no-data", rows: _Rows = None,
    height_km: _HeightKm = 1.0, min_coverage: _MinCoverage = 0.5, dry_run: _DryRun = False, as_json: bool = Json,
) -> None:  # fmt: skip
    """Convert radar volumes or gridded sequences to an archive in the layout of NJU-CPOL; resume after an interruption.

    Volumes: NEXRAD level II, CfRadial 1 and 2, ODIM HDF5, SIGMET/IRIS, Rainbow, GAMIC, UF, Furuno, also gzip, bzip2 and
    zip, also in pieces. Sequences: NetCDF, Zarr, npz, GRIB, ODIM composites, in dBZ or rain rate. Unusable files are
    listed and left out (exit code 1, or 2 if no file could be used). Requires the extra `ingest` of the package.

    Example: polarcast data ingest archive /data/KLBB/*_V06 --pictures
    Example: polarcast data ingest --dry-run /data/KLBB/*_V06
    """
    given = _inputs_of(out, inputs or [], dry_run)
    from polarcast.data.ingest import run
    from polarcast.data.ingest.grids.settings import GridSettings
    from polarcast.data.ingest.volumes.frame import VolumeSettings
    from polarcast.data.ingest.volumes.gridding import Grid

    given_names = _variables_of(variable or [])
    levels, names = split_numbers(heights, "--heights") or (), tuple(split_names(variables) or ())
    settings = run.IngestSettings(
        VolumeSettings(
            Grid(size, 1.0 if spacing_km is None else spacing_km, tuple(sorted(set(levels)))),
            names, min_dbz=min_dbz, min_rhohv=min_rhohv, max_texture_deg=max_texture,
            kdp=kdp, attenuation=attenuation, band=band, rain=rain, zr=_z_r_of(z_r), step_minutes=step_minutes,
            max_gap_minutes=max_gap_minutes, site=_site_of(site), names=_names_of_volumes(given_names),
        ),
        GridSettings(
            **_names_of_sequences(given_names), units=units, scale=scale, offset=offset, nodata=nodata, missing=missing,
            rows=rows, spacing_km=spacing_km, tile=size, min_dbz=min_dbz, height_km=height_km,
            heights_km=tuple(sorted(set(levels))), min_coverage=min_coverage, step_minutes=step_minutes,
            max_gap_minutes=max_gap_minutes, variables=names,
        ),
        pictures,
    )  # fmt: skip
    if dry_run:
        _preview(run.files_of(given), settings, processes_of(workers), as_json)
        return
    with stages() as bars:
        report = run.ingest(out, given, settings, processes_of(workers), bars)
    _report(out, report, as_json)


def _inputs_of(out: Path, inputs: list[Path], dry_run: bool) -> list[Path]:
    """Return the inputs that exist; of a dry run, the first argument may be one. Raises BadInput."""
    if dry_run:
        inputs = [*([out] if _is_input(out) else []), *inputs]
    else:
        checked_output(out, is_folder=True)
    if not inputs:
        raise BadInput("nothing to ingest", "VOLUME…", "give the folder of the archive, then files")
    if absent := [path for path in inputs if not os.path.exists(path)]:
        raise BadInput("no such file or folder", absent[0], "give radar volumes or gridded sequences")
    return inputs


def _is_input(path: Path) -> bool:
    """Whether the first argument is a file to read and not the archive to write."""
    return path.is_file() or path.suffix == ".zarr" or (path.is_dir() and not (path / "archive.json").exists())


def _preview(files: "Sequence[Path]", settings: "IngestSettings", workers: int, as_json: bool) -> None:
    """Print what is in each file; exit with 2 if no file can be used, with 1 if some can't."""
    from polarcast.data.ingest.preview import contents

    found = contents(files, settings.sequences, workers, settings.volumes)
    if as_json:
        print_json({"files": [one.as_record() for one in found]})
    else:
        for one in found:
            part = f", volume {one.volume}" if one.volume else ""
            print_text(f"{plain(one.file)}: {one.kind}{part}" if one.kind else plain(one.file))
            if one.problem:
                print_marked("  left out", "red", one.problem)
            for name, text in one.what.items():
                if text:
                    print_text(f"  {name:<7} {plain(text)}")
        print_text("nothing was written")
    problems = sum(bool(one.problem) for one in found)
    if problems:
        raise typer.Exit(FAILED if problems < len(found) else BAD_INPUT)


def _variables_of(given: list[str]) -> dict[str, Any]:
    """Return the settings of `--variable NAME` and `--variable zh=NAME`."""
    pairs = sorted(tuple(text.split("=", 1)) for text in given if "=" in text)
    plain_names = [text for text in given if "=" not in text]
    if len(plain_names) > 1 or len({name for name, _ in pairs}) < len(pairs):
        raise BadInput(f"--variable {' --variable '.join(given)}", fix="give one NAME, or one each: zh=NAME, zdr=NAME")
    return {"variable": plain_names[0] if plain_names else None, "names": tuple(pairs)}


def _names_of_volumes(given: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the names of fields of volumes; a name alone is that of zh."""
    from polarcast.data.ingest.volumes.volume import FIELDS

    named = dict(pair for pair in given["names"] if pair[0] in FIELDS)
    return tuple(({"zh": given["variable"]} | named if given["variable"] else named).items())


def _names_of_sequences(given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of names in sequences, which have no phase and no correlation coefficient."""
    return {**given, "names": tuple(pair for pair in given["names"] if pair[0] not in _ONLY_VOLUMES)}


def _z_r_of(text: str) -> tuple[float, float]:
    """Return a and b of `--z-r`."""
    numbers = split_numbers(text, "--z-r") or ()
    if len(numbers) != 2:
        raise BadInput(f"no a and b: {text!r}", "--z-r", "give both of Z = a R^b, such as 200,1.6")
    return numbers[0], numbers[1]


def _site_of(text: str | None) -> "RadarSite | None":
    """Return the site of `--site`."""
    from polarcast.data.ingest.volumes.site import is_place
    from polarcast.data.ingest.volumes.volume import RadarSite

    if text is None:
        return None
    numbers = split_numbers(text, "--site") or ()
    site = RadarSite(numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None
    if site is None or not is_place(site):
        raise BadInput(
            f"no place of a radar: {text!r}", "--site", "give latitude, longitude, metres: 33.65,-101.81,1000"
        )
    return site


def processes_of(workers: int | None) -> int:
    """Return the number of processes: as given, or one per core that this process may use."""
    return workers or usable_cores()


def _few(files: list[str]) -> str:
    """Return the names of the first files, and how many more there are."""
    names, more = [plain(os.path.basename(file)) for file in files[:_NAMED]], len(files) - _NAMED
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _missing(variable: str, shares: dict[str, float]) -> str:
    """Return the line on values that are missing where there is echo."""
    unit = {"kdp": "deg/km"}.get(variable, "dB")
    levels = {height: share for height, share in shares.items() if height != "all"}
    by_level = f": {', '.join(f'{share:.0%} at {height} km' for height, share in levels.items())}"
    more = by_level if len(levels) > 1 else ""
    return f"{variable.upper()} is missing at {shares['all']:.0%} of the echo (written as 0 {unit}){more}"


def _report(out: Path, report: "IngestReport", as_json: bool) -> None:
    if as_json:
        print_json({"archive": str(out), **report.as_record()})
    else:
        for file, reason in report.failed.items():
            print_marked("left out", "red", f"{file}: {reason}")
        for reason, number in report.dropped.items():
            print_text(f"dropped {number}: {plain(reason)} ({_few(report.dropped_from.get(reason, []))})")
        for variable, shares in report.missing.items():
            if shares["all"] >= _WORTH_TELLING:
                print_text(_missing(variable, shares))
        if report.known:
            print_text(f"{len(report.known)} files are already in the archive")
        print_text(f"{len(report.events)} new events in {plain(out)}")
        if report.events:
            print_text(f"next: polarcast data check {plain(out)}")
    has_result = bool(report.events or report.known)
    if report.failed or not has_result:
        raise typer.Exit(FAILED if has_result else BAD_INPUT)
