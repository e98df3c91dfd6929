"""Identify radar formats by content, and read files of them into a `Volume`."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from polarcast.data.errors import BadInput, not_installed
from polarcast.data.ingest.claims import HDF5, NETCDF3, check_claims
from polarcast.data.ingest.unpack import unpacked
from polarcast.data.ingest.volumes.assemble import to_volume
from polarcast.data.ingest.volumes.pieces import joined
from polarcast.data.ingest.volumes.readers import odim
from polarcast.data.ingest.volumes.readers.cfradial import (
    CFRADIAL1,
    CFRADIAL2,
    SWEEP,
    has_rays,
    read_cfradial1,
    read_cfradial2,
)
from polarcast.data.ingest.volumes.readers.library import (
    FURUNO,
    GAMIC,
    NEXRAD,
    RAINBOW,
    SIGMET,
    read_with_xradar,
)
from polarcast.data.ingest.volumes.readers.raw import RawVolume
from polarcast.data.ingest.volumes.readers.uf import UF
from polarcast.data.ingest.volumes.volume import RadarSite, Volume

ODIM = odim.KIND
KNOWN = (NEXRAD, CFRADIAL1, CFRADIAL2, ODIM, SIGMET, RAINBOW, GAMIC, UF, FURUNO)
LIBRARIES = {ODIM: "h5py", CFRADIAL1: "netCDF4", CFRADIAL2: "netCDF4"}
"""Library that reads each format; the others are read with xradar."""
_NEXRAD_HEADS = (b"AR2V", b"ARCHIVE2")
_SIGMET_PRODUCT_HEADER = 27
_FURUNO_SUFFIXES, _FURUNO_VERSIONS = (".scn", ".scnx"), (3, 10, 103)
_NOT_SUPPORTED = {
    b"SSWB": "DORADE", b"VOLD": "DORADE", b"COMM": "DORADE", b"SDUS": "NEXRAD level III",
b"BUFR": "BUFR", b"\x04\x00\xa8Z": "CSU-CHILL", b"\x00\x00\x03\xf8": "MDV",
}  # fmt: skip
"""First bytes of radar formats that are known, and can't be read."""
_PACKED = {
    b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "Zstandard", b"\x1f\x9d": "compress (.Z)", b"\x1f\x8b": "gzip in gzip",
    b"7z\xbc\xaf": "7z", b"Rar!": "RAR", b"\x04\x22\x4d\x18": "LZ4",
}  # fmt: skip
"""First bytes of compressed content that is not unpacked."""
_TAR, _TAR_AT = b"ustar", 257
_GRIDDED = {HDF5: "HDF5 or netCDF", **dict.fromkeys(NETCDF3, "netCDF"), b"GRIB": "GRIB"}
_GRIDDED_SUFFIXES = (".nc", ".nc4", ".cdf")
_SWEEP_GROUP = re.compile(rf"{SWEEP}_?\d+")
_CONVERT = "convert it to CfRadial, for example with LROSE RadxConvert"


def format_of(path: Path) -> str | None:
    """Return the radar format of an uncompressed file, identified by its content; None for any other file.

    An ODIM file is one whatever its object is; `read_volume` tells which objects are not volumes.
    """
    with path.open("rb") as stream:
        head = stream.read(12)
    if head.startswith(_NEXRAD_HEADS):
        return NEXRAD
    if head[:8] == HDF5 or head[:4] in NETCDF3:
        return _format_of_hdf(path)
    if head[:7] == b"<volume":
        return RAINBOW
    if b"UF" in (head[:2], head[2:4], head[4:6]):
        return UF
    if path.suffix.lower() in _FURUNO_SUFFIXES and int.from_bytes(head[2:4], "little") in _FURUNO_VERSIONS:
        return FURUNO
    return SIGMET if len(head) == 12 and int.from_bytes(head[:2], "little") == _SIGMET_PRODUCT_HEADER else None


def holds_a_volume(path: Path) -> bool:
    """Whether a file is of a format that is never delivered in pieces, which its first bytes tell."""
    with path.open("rb") as stream:
        return stream.read(8).startswith(_NEXRAD_HEADS)


def read_volume(
    path: Path | Sequence[Path],
    wanted: Sequence[str] = ("zh", "zdr"),
    site: RadarSite | None = None,
    named: Mapping[str, str] | None = None,
) -> Volume:
    """Read one volume, which may be compressed (gzip, bzip2, zip of one file).

    Args:
        path: File to read, or all files of a volume in pieces.
        wanted: Required fields; sweeps without them (Doppler cuts) are skipped.
        site: Place of the radar, for files that do not tell it.
        named: Name in the file by field, where it is given.

    Raises:
        BadInput: The file is not a radar volume, is damaged, lacks a required field, or has fewer than two elevations.
            Also if a library is not installed.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    raws = [read_raw(one) for one in paths]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_volume(joined(raws) if len(raws) > 1 else raws[0], wanted, site, paths[0], named)


def read_raw(path: Path) -> RawVolume:
    """Read all sweeps of a file as they are; see `read_volume`."""
    with unpacked(path) as plain:
        kind = format_of(plain)
        if kind is None:
            raise _unknown(plain, path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check_claims(plain)
                return _with_sweeps(_read(plain, kind), path)
        except BadInput as error:
            raise error.at(path) from None
        except Exception as error:  # a damaged file can raise anything in a decoder
            raise _unreadable(kind, path, error) from None


def _read(path: Path, kind: str) -> RawVolume:
    readers = {ODIM: odim.read_odim, CFRADIAL1: read_cfradial1, CFRADIAL2: read_cfradial2}
    return readers[kind](path) if kind in readers else read_with_xradar(path, kind)


def _with_sweeps(raw: RawVolume, path: Path) -> RawVolume:
    if not raw.sweeps:
        raise BadInput("no sweeps", path, "give volumes with at least two elevations")
    return raw


def _unreadable(kind: str, path: Path, error: Exception) -> BadInput:
    if isinstance(error, ImportError):
        return not_installed(str(error.name or error), path, "ingest")
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return BadInput(f"can't be read as {kind} ({reason})", path, "copy it again from its source")


def _unknown(plain: Path, path: Path) -> BadInput:
    """Return the error for a file of unknown format, of one that is not supported, or for a damaged file."""
    with plain.open("rb") as stream:
        head = stream.read(_TAR_AT + len(_TAR))
    if not head:
        return BadInput("the file is empty", path, "copy it again from its source")
    for magic, name in _NOT_SUPPORTED.items():
        if head.startswith(magic):
            return BadInput(f"{name} is not supported", path, _CONVERT)
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            return BadInput(f"compressed content ({name})", path, "unpack it, and give what it holds")
    if head[_TAR_AT:] == _TAR:
        return BadInput("an archive of files (tar)", path, "unpack it, and give its files")
    if head.startswith((HDF5, *NETCDF3)):
        try:
            _root_of(plain)
        except BadInput as error:
            return error.at(path)
        except Exception as error:
            return _unreadable("HDF5 or netCDF", path, error)
    return _no_volume(head, plain, path)


def _no_volume(head: bytes, plain: Path, path: Path) -> BadInput:
    """Return the error for a whole file that is no volume, but may be a gridded sequence."""
    kind = next((name for magic, name in _GRIDDED.items() if head.startswith(magic)), None)
    if kind and plain != path:
        return BadInput(f"packed {kind} that is no radar volume", path, "unpack it, if it is a gridded sequence")
    known = f"use one of: {', '.join(KNOWN)}"
    if kind and kind != "GRIB" and path.suffix not in _GRIDDED_SUFFIXES:
        return BadInput(
            f"{kind} that is not a radar volume in a known format", path, f"name a sequence .nc, or {known}"
        )
    return BadInput("not a radar volume in a known format", path, known)


def _format_of_hdf(path: Path) -> str | None:
    try:
        conventions, names = _root_of(path)
        is_odim = "ODIM" in conventions.upper() or (_starts_with(path, HDF5) and odim.object_of(path) in odim.OBJECTS)
    except Exception:  # a damaged file has no format; the error type depends on the library
        return None
    if "scan0" in names and "dataset1" not in names:
        return GAMIC
    if is_odim:
        return ODIM
    if "sweep_start_ray_index" in names:
        return CFRADIAL1
    groups = [name for name in names if _SWEEP_GROUP.fullmatch(name)]
    if groups and (names & {"sweep_group_name", "sweep_fixed_angle"} or _have_rays(path, groups)):
        return CFRADIAL2
    return CFRADIAL1 if names >= {"azimuth", "elevation", "range"} and has_rays(path) else None


def _have_rays(path: Path, groups: Sequence[str]) -> bool:
    """Whether every one of some HDF5 groups has the coordinates of rays."""
    import h5py

    with h5py.File(path) as file:
        return all(isinstance(file[name], h5py.Group) and {"azimuth", "range"} <= set(file[name]) for name in groups)


def _root_of(path: Path) -> tuple[str, set[str]]:
    """Return conventions and names at the root.

    HDF5 is opened with h5py, because h5netcdf prints tracebacks when it fails to open a file.
    """
    import h5py
    import netCDF4

    if _starts_with(path, HDF5):
        with h5py.File(path) as file:
            conventions = file.attrs.get("Conventions", file.attrs.get("conventions", b""))
            return conventions.decode() if isinstance(conventions, bytes) else str(conventions), set(file)
    check_claims(path)
    with netCDF4.Dataset(path) as root:
        return str(getattr(root, "Conventions", "")), {str(name) for name in root.variables}


def _starts_with(path: Path, *magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(8).startswith(magic)
