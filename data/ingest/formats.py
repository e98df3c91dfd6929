"""Read radar files into a `Volume` with xradar: NEXRAD level II, CfRadial 1 and 2, ODIM HDF5, SIGMET/IRIS."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.ingest.claims import check_claims
from polarcast.data.ingest.unpack import unpacked
from polarcast.data.ingest.volumes.sigmet import FOLD, open_sigmet_tree
from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep, Volume, band_of, find_names

NEXRAD, SIGMET, ODIM, CFRADIAL1, CFRADIAL2 = "NEXRAD level II", "SIGMET/IRIS", "ODIM HDF5", "CfRadial 1", "CfRadial 2"
_HDF5, _NETCDF3 = b"\x89HDF\r\n\x1a\n", (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_SIGMET_PRODUCT_HEADER = 27
_NEXRAD_VOLUME_HEADER = 24
_SIGMET_NO_DATA = {"zh": -31.9, "zdr": -7.99, "phidp": -1e-3, "rhohv": 0.0, "kdp": -300.0}
"""Code 0 means no data (IRIS Programmer's Manual, §4.4). Decoded from 8 or 16 bits it is at or below these values."""
_SIGMET_NOT_SCANNED_DBZ = 95.4
"""The highest code means an area that was not scanned. Decoded it is 95.5 dBZ in 8 bits and more in 16 bits."""
_BEYOND_M = 200e3
_FIRST_CODE_OF_DATA = 2


def format_of(path: Path) -> str | None:
    """Return the radar format of an uncompressed file, identified by its content; None for any other file."""
    with path.open("rb") as stream:
        head = stream.read(12)
    if head[:4] == b"AR2V" or head[:8] == b"ARCHIVE2":
        return NEXRAD
    if head[:8] == _HDF5 or head[:4] in _NETCDF3:
        return _format_of_hdf(path)
    return SIGMET if len(head) == 12 and int.from_bytes(head[:2], "little") == _SIGMET_PRODUCT_HEADER else None


def read_volume(path: Path, wanted: Sequence[str] = ("zh", "zdr")) -> Volume:
    """Read one volume, which may be compressed (gzip, bzip2, zip of one file).

    Args:
        path: File to read.
        wanted: Required fields; sweeps without them (Doppler cuts) are skipped.

    Raises:
        BadInput: The file is not a radar volume, is damaged, lacks a required field, or has fewer than two elevations.
            Also if a library is not installed.
    """
    with unpacked(path) as plain:
        kind = format_of(plain)
        if kind is None:
            raise _unknown(plain, path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check_claims(plain)
                if kind == NEXRAD and not _has_whole_records(plain):
                    raise BadInput("the file is truncated", path, "copy it again from its source")
                return _to_volume(_opener(kind)(str(plain)), kind, wanted, path, plain)
        except BadInput as error:
            raise error.at(path) from None
        except Exception as error:  # a damaged file can raise anything in a decoder
            raise _unreadable(kind, path, error) from None


def _unreadable(kind: str, path: Path, error: Exception) -> BadInput:
    if isinstance(error, ImportError):
        return BadInput(f"{error.name or error} is not installed", path, "pip install 'polarcast[ingest]'")
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
    return BadInput(f"can't be read as {kind} ({reason})", path, "copy it again from its source")


def _unknown(plain: Path, path: Path) -> BadInput:
    """Return the error for a file of unknown format, or for a damaged HDF5 or netCDF file."""
    if _starts_with(plain, _HDF5, *_NETCDF3):
        try:
            _root_of(plain)
        except BadInput as error:
            return error.at(path)
        except Exception as error:
            return _unreadable("HDF5 or netCDF", path, error)
    known = ", ".join((NEXRAD, CFRADIAL1, CFRADIAL2, ODIM, SIGMET))
    return BadInput("not a radar volume in a known format", path, f"use one of: {known}")


def _format_of_hdf(path: Path) -> str | None:
    try:
        conventions, names = _root_of(path)
    except Exception:  # a damaged file has no format; the error type depends on the library
        return None
    if "ODIM" in conventions.upper():
        return ODIM
    if "sweep_start_ray_index" in names:
        return CFRADIAL1
    return CFRADIAL2 if names & {"sweep_group_name", "sweep_fixed_angle"} else None


def _root_of(path: Path) -> tuple[str, set[str]]:
    """Return conventions and names at the root.

    HDF5 is opened with h5py, because h5netcdf prints tracebacks when it fails to open a file.
    """
    import h5py
    import xarray as xr

    if _starts_with(path, _HDF5):
        with h5py.File(path) as file:
            return str(file.attrs.get("Conventions", file.attrs.get("conventions", ""))), set(file)
    check_claims(path)
    with xr.open_dataset(path, decode_times=False) as root:
        return str(root.attrs.get("Conventions", "")), {str(name) for name in root.variables}


def _starts_with(path: Path, *magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(8).startswith(magic)


def _has_whole_records(path: Path) -> bool:
    """Whether a NEXRAD file ends at the end of a record.

    Cut in the first record of a sweep, it would be read as a volume without that sweep and the later ones. A length of
    either sign precedes each record (ICD 2620010, 7.3.4). xradar checks uncompressed files itself.
    """
    size, position = path.stat().st_size, _NEXRAD_VOLUME_HEADER
    with path.open("rb") as stream:
        while position < size:
            stream.seek(position)
            head = stream.read(6)
            if len(head) == 6 and head[4:] != b"BZ":
                return True
            position += 4 + abs(int.from_bytes(head[:4], "big", signed=True))
    return position == size


def _opener(kind: str) -> Callable[[str], Any]:
    import xradar

    openers: dict[str, Callable[[str], Any]] = {
        NEXRAD: xradar.io.open_nexradlevel2_datatree,
        SIGMET: open_sigmet_tree,
        ODIM: xradar.io.open_odim_datatree,
        CFRADIAL1: xradar.io.open_cfradial1_datatree,
        CFRADIAL2: xradar.io.open_cfradial2_datatree,
    }
    return openers[kind]


def _to_volume(tree: Any, kind: str, wanted: Sequence[str], path: Path, plain: Path) -> Volume:
    groups = [tree[name].to_dataset() for name in tree.children if name.startswith("sweep")]
    if not groups or len(groups) < int(tree.attrs.get("actual_elevation_cuts", 0)):
        raise BadInput("the file ends in the middle of a sweep", path, "copy it again from its source")
    available = sorted({str(name) for group in groups for name in group.data_vars if group[name].ndim == 2})
    names = find_names(available)
    if missing := [w for w in wanted if w not in names]:
        raise BadInput(
            f"the volume has no {missing[0].upper()}",
            path,
            f"remove it from --variables, or give files with it (present: {', '.join(available)})",
        )
    usable = [g for g in groups if all(names[w] in g for w in wanted)]
    sweeps = tuple(_to_sweep(group, names, kind) for group in usable if _rotates(group))
    if not sweeps:
        raise _no_usable_sweeps(usable, wanted, path)
    if len({round(float(s.elevation_deg.mean()), 1) for s in sweeps}) < 2:
        raise BadInput(
            f"{len(sweeps)} sweep{'s' * (len(sweeps) != 1)} of one elevation",
            path,
            "give volumes with at least two elevations; gridding at several heights needs them",
        )
    root = tree.to_dataset()
    where = {key: float(root[key] if key in root else groups[0][key]) for key in ("latitude", "longitude", "altitude")}
    return Volume(
        time=min(np.datetime64(g["time"].values.min(), "s") for g in usable),
        latitude=where["latitude"],
        longitude=where["longitude"],
        altitude_m=where["altitude"],
        band=_band(root, groups[0], kind, plain),
        sweeps=sweeps,
        names=names,
    )


def _mode(group: Any) -> str:
    return str(group["sweep_mode"].values).strip().lower() if "sweep_mode" in group else "azimuth_surveillance"


def _rotates(group: Any) -> bool:
    """Whether a sweep rotates in azimuth; RHI and vertically pointing sweeps can't be gridded to levels."""
    return _mode(group) in ("azimuth_surveillance", "sector", "manual_ppi", "ppi") and group.sizes.get("azimuth", 2) > 1


def _no_usable_sweeps(usable: Sequence[Any], wanted: Sequence[str], path: Path) -> BadInput:
    if not usable:
        return BadInput(
            f"no sweep has {' and '.join(w.upper() for w in wanted)} together", path, "choose fewer with --variables"
        )
    modes = ", ".join(sorted({_mode(group) for group in usable}))
    return BadInput(f"the sweeps do not rotate in azimuth ({modes})", path, "give volumes of PPI sweeps")


def _to_sweep(group: Any, names: dict[str, str], kind: str) -> Sweep:
    near = group.isel(range=np.flatnonzero(group["range"].values <= _BEYOND_M))
    fields = {ours: _values(near[theirs], ours, kind) for ours, theirs in names.items() if theirs in near}
    return Sweep(
        elevation_deg=near["elevation"].values.astype(np.float32),
        azimuth_deg=near["azimuth"].values.astype(np.float32),
        range_m=near["range"].values.astype(np.float32),
        fields=fields,
        phase_fold_deg=float(near[names["phidp"]].attrs.get(FOLD, 360)) if "phidp" in fields else 360.0,
        unseen=_unseen(near[names["zh"]], kind) if "zh" in fields else None,
    )


def _unseen(zh: Any, kind: str) -> Mask | None:
    """Return the gates (a, r) of zh that were not observed; None if the file does not tell them from no echo.

    They are range folded in NEXRAD, not scanned in SIGMET, and nodata in ODIM. An ODIM file without undetect may write
    nodata for no echo, too. CfRadial has one code for both.
    """
    values, coded = zh.values.astype(np.float32), {**zh.attrs, **zh.encoding}
    scale, offset = float(coded.get("scale_factor", 1)), float(coded.get("add_offset", 0))
    if kind == NEXRAD and "scale_factor" in coded:
        return np.isclose(values, offset + scale, atol=abs(scale) / 4)
    if kind == SIGMET:
        return np.asarray(values > _SIGMET_NOT_SCANNED_DBZ)
    if kind == ODIM and "_Undetect" in coded and _is_undetect(values, coded, scale, offset).any():
        return np.isnan(values)
    return None


def _is_undetect(values: Real, coded: dict[Any, Any], scale: float, offset: float) -> Mask:
    return np.isclose(values, float(coded["_Undetect"]) * scale + offset, atol=abs(scale) / 4)


def _values(variable: Any, name: str, kind: str) -> Real:
    """Return values (a, r) with NaN for the format's no-data and no-echo codes, which xradar leaves as numbers."""
    values = variable.values.astype(np.float32)
    coded = {**variable.attrs, **variable.encoding}
    scale, offset = float(coded.get("scale_factor", 1)), float(coded.get("add_offset", 0))
    if kind == NEXRAD and "scale_factor" in coded:
        # Codes 0 and 1 mean below threshold and range folded (ICD 2620002, table XVII).
        values[values < offset + scale * (_FIRST_CODE_OF_DATA - 0.5)] = np.nan
    elif kind == ODIM and "_Undetect" in coded:
        values[_is_undetect(values, coded, scale, offset)] = np.nan
    elif kind == SIGMET:
        values[~(values > _SIGMET_NO_DATA[name])] = np.nan
        if name == "zh":
            values[values > _SIGMET_NOT_SCANNED_DBZ] = np.nan
    return values


def _band(root: Any, group: Any, kind: str, plain: Path) -> str | None:
    if kind == NEXRAD:
        return "S"
    for place in (root, group):
        if "frequency" in place:
            return band_of(float(np.ravel(place["frequency"].values)[0]))
    wavelength_cm = _wavelength_cm(plain, kind)
    return band_of(29.979e9 / wavelength_cm) if wavelength_cm else None


def _wavelength_cm(plain: Path, kind: str) -> float:
    """Return the wavelength from the format's own headers; 0 if the file does not contain it."""
    if kind == SIGMET:
        from xradar.io.backends.iris import IrisRawFile

        with IrisRawFile(str(plain), loaddata=False) as product:
            return float(product.product_hdr["product_end"]["wavelength"]) / 100
    if kind == ODIM:
        import h5py

        with h5py.File(plain) as file:
            places = [file[name].attrs for name in ("how", "dataset1/how") if name in file]
            return next((float(how["wavelength"]) for how in places if "wavelength" in how), 0.0)
    return 0.0
