"""Read gauges from files and folders of both formats, and bring their intervals in order."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from polarcast.data.errors import BadInput
from polarcast.data.gauges.gauge import Gauge, differenced, joined, rebuilt_blocks, without_overlaps
from polarcast.data.gauges.options import GaugeData, GaugeOptions
from polarcast.data.gauges.read_csv import read_csv
from polarcast.data.gauges.read_netcdf import read_netcdf

NETCDF = (".nc", ".nc4", ".cdf", ".netcdf")
TABLES = (".csv", ".txt", ".tsv", ".dat")
THIN_OPTION = "--gauge-thin"


def read_gauges(paths: Sequence[Path], options: GaugeOptions | None = None) -> GaugeData:
    """Read gauges, in order of station.

    Args:
        paths: Tables, NetCDF files, or folders of these. Records of one station are joined.
        options: What the files do not say.

    Returns:
        Gauges without overlapping intervals, and lines on what was assumed or left out. Readings of counters are
        differenced, and amounts that were spread over shorter intervals are summed again.

    Raises:
        BadInput: Nothing is there, a file can't be read, or intervals overlap; see `read_csv` and `read_netcdf`.
    """
    options = options or GaugeOptions()
    files = [file for path in paths for file in _files_of(path)]
    found = [_read(file, options) for file in files]
    notes = [line for one in found for line in one.notes]
    whole: list[Gauge] = []
    for gauge in joined(gauge for one in found for gauge in one.gauges):
        kept, dropped = without_overlaps(gauge, options.overlaps, ", ".join(map(str, paths)), THIN_OPTION)
        if dropped:
            notes.append(f"{gauge.station}: {dropped} of {len(gauge)} intervals overlap an earlier one: left out")
        rebuilt, blocks = rebuilt_blocks(kept)
        if blocks > 1:
            notes.append(
                f"{gauge.station}: amounts come in equal runs of {blocks}: summed to intervals of "
                f"{rebuilt.minutes[0]:g} min"
            )
        whole.append(rebuilt)
    return GaugeData(tuple(whole), tuple(notes), tuple(files))


def _files_of(path: Path) -> Iterator[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in (*NETCDF, *TABLES))
        if not files:
            raise BadInput("no tables or NetCDF files in this folder", path, f"give files {', '.join(NETCDF + TABLES)}")
        yield from files
    elif path.is_file():
        yield path
    else:
        raise BadInput("no such file or folder", path, "give a table or NetCDF file of gauges, or a folder of them")


def _read(path: Path, options: GaugeOptions) -> GaugeData:
    found = read_netcdf(path, options) if _is_netcdf(path) else read_csv(path, options)
    if not (found.is_counter or options.cumulative):
        return found
    gauges, notes = [], list(found.notes)
    for gauge in joined(found.gauges):
        amounts, resets = differenced(gauge)
        if resets:
            notes.append(f"{path.name}: {gauge.station}: {resets} resets of the counter: missing")
        gauges.append(amounts)
    return GaugeData(tuple(gauges), tuple(notes), found.files)


def _is_netcdf(path: Path) -> bool:
    """Tell by the first bytes: NetCDF-3, or HDF5."""
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", path, "copy it again from its source") from None
    return start[:3] == b"CDF" or start == b"\x89HDF\r\n\x1a\n"
