"""Read NEXRAD level II, SIGMET/IRIS, Rainbow 5, GAMIC HDF5, Universal Format and Furuno with xradar."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.data.ingest.volumes.readers.raw import Moment, RawSweep, RawVolume
from polarcast.data.ingest.volumes.readers.sigmet import FOLD, IS_FINE, open_sigmet_tree
from polarcast.data.ingest.volumes.readers.uf import UF, read_uf
from polarcast.data.ingest.volumes.volume import RadarSite, band_of, find_names

NEXRAD, SIGMET, RAINBOW = "NEXRAD level II", "SIGMET/IRIS", "Rainbow 5"
GAMIC, FURUNO = "GAMIC HDF5", "Furuno"
_SIGMET_NO_DATA = {"zh": -31.9, "zdr": -7.99, "phidp": -1e-3, "rhohv": 0.0, "kdp": -300.0}
"""Code 0 means no data (IRIS Programmer's Manual, §4.4). Decoded from 8 bits it is at or below these values."""
_SIGMET_NO_DATA_FINE = {**_SIGMET_NO_DATA, "zh": -327.0, "zdr": -327.0, "kdp": -327.0}
"""The same of 16 bits, which hold a ZDR below −8 dB."""
_SIGMET_NOT_SCANNED_DBZ = 95.4
"""The highest code means an area that was not scanned. Decoded it is 95.5 dBZ in 8 bits and more in 16 bits."""
_NEXRAD_VOLUME_HEADER = 24
_LIGHT_CM_PER_S = 29.979e9
_XML_HEADER_BYTES = 2**16


def read_with_xradar(path: Path, kind: str) -> RawVolume:
    """Read the sweeps of a file in one of the formats above.

    Raises:
        BadInput: The file ends in the middle of a sweep, or of a record.
    """
    if (kind == NEXRAD and not _has_whole_records(path)) or (kind == UF and not _has_whole_uf_records(path)):
        raise BadInput("the file is truncated", path, "copy it again from its source")
    if kind == UF:
        return read_uf(path)
    tree = _opener(kind)(str(path))
    groups = [tree[name].to_dataset() for name in tree.children if name.startswith("sweep")]
    if not groups or len(groups) < int(tree.attrs.get("actual_elevation_cuts", 0)):
        raise BadInput("the file ends in the middle of a sweep", path, "copy it again from its source")
    root = tree.to_dataset()
    return RawVolume(
        kind,
        _site(root, groups[0], kind, path),
        tuple(_sweep(group, kind) for group in groups),
        "S" if kind == NEXRAD else _band(root, groups[0], kind, path),
    )


def _opener(kind: str) -> Callable[[str], Any]:
    import xradar

    openers: dict[str, Callable[[str], Any]] = {
        NEXRAD: xradar.io.open_nexradlevel2_datatree,
        SIGMET: open_sigmet_tree,
        RAINBOW: xradar.io.open_rainbow_datatree,
        GAMIC: xradar.io.open_gamic_datatree,
        FURUNO: xradar.io.open_furuno_datatree,
    }
    return openers[kind]


def _sweep(group: Any, kind: str) -> RawSweep:
    fields = {str(name): group[name] for name in group.data_vars if group[name].ndim == 2}
    ours = {theirs: name for name, theirs in find_names(list(fields)).items()}
    time = group["time"].values if "time" in group else np.full(group["azimuth"].shape, np.datetime64("NaT"))
    return RawSweep(
        elevation_deg=np.broadcast_to(group["elevation"].values, group["azimuth"].shape).astype(np.float32),
        azimuth_deg=group["azimuth"].values.astype(np.float32),
        range_m=group["range"].values.astype(np.float32),
        time=np.broadcast_to(time, group["azimuth"].shape).astype("datetime64[ms]"),
        moments={name: _moment(variable, ours.get(name, ""), kind) for name, variable in fields.items()},
        mode=str(group["sweep_mode"].values).strip().lower() if "sweep_mode" in group else "",
    )


def _moment(variable: Any, name: str, kind: str) -> Moment:
    """Return a field with NaN for the format's codes of no data and no echo, which xradar leaves as numbers."""
    values, coded = variable.values.astype(np.float32), {**variable.attrs, **variable.encoding}
    scale, offset = float(coded.get("scale_factor", 1)), float(coded.get("add_offset", 0))
    unseen, units = None, str(variable.attrs.get("units", ""))
    if kind == NEXRAD and "scale_factor" in coded:
        # Codes 0 and 1 mean below threshold and range folded (ICD 2620002, table XVII).
        unseen = np.isclose(values, offset + scale, atol=abs(scale) / 4)
        values[values < offset + 1.5 * scale] = np.nan
    elif kind == SIGMET and name:
        unseen = np.asarray(values > _SIGMET_NOT_SCANNED_DBZ) if name == "zh" else None
        no_data = _SIGMET_NO_DATA_FINE if variable.attrs.get(IS_FINE) else _SIGMET_NO_DATA
        values[~(values > no_data[name])] = np.nan
    elif kind in (RAINBOW, FURUNO) and "scale_factor" in coded:
        values[values < offset + scale / 2] = np.nan  # code 0: no data, or no echo
    if unseen is not None:
        values[unseen] = np.nan
    return Moment(values, units, unseen, has_no_echo=unseen is not None, fold_deg=float(variable.attrs.get(FOLD, 360)))


def _site(root: Any, group: Any, kind: str, path: Path) -> RadarSite:
    def number(name: str) -> float:
        place = next((place for place in (root, group) if name in place), None)
        return np.nan if place is None else float(np.nanmedian(np.asarray(place[name].values, np.float64)))

    code = _nexrad_station(path) if kind == NEXRAD else _name_of(root)
    return RadarSite(number("latitude"), number("longitude"), number("altitude"), code=code)


def _nexrad_station(path: Path) -> str:
    """Return the ICAO identifier in the volume header (ICD 2620010, 7.3.3); empty if it has none."""
    with path.open("rb") as stream:
        code = stream.read(_NEXRAD_VOLUME_HEADER)[20:24].decode("ascii", "replace").strip("\0 ")
    return code if code.isalnum() and len(code) == 4 else ""


def _name_of(root: Any) -> str:
    name = str(root.attrs.get("instrument_name", "")).strip()
    return "" if name == "None" else name


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


def _has_whole_uf_records(path: Path) -> bool:
    """Whether a Universal Format file ends at the end of a record; most programs put its length around each record."""
    size, position = path.stat().st_size, 0
    with path.open("rb") as stream:
        while position < size:
            stream.seek(position)
            head = stream.read(10)
            if head[4:6] == b"UF":
                position += 8 + int.from_bytes(head[:4], "big")
            elif head[:2] == b"UF":
                position += 2 * int.from_bytes(head[2:4], "big")
            else:
                return False
    return position == size


def _band(root: Any, group: Any, kind: str, path: Path) -> str | None:
    for place in (root, group):
        if "frequency" in place:
            return band_of(float(np.ravel(place["frequency"].values)[0]))
    wavelength_cm = _WAVELENGTH_CM.get(kind, lambda _: 0.0)(path)
    return band_of(_LIGHT_CM_PER_S / wavelength_cm) if wavelength_cm else None


def _gamic_wavelength_cm(path: Path) -> float:
    import h5py

    with h5py.File(path) as file:
        places = [file[name].attrs for name in ("how", "scan0/how") if name in file]
        waves = [how[name] for how in places for name in ("radar_wave_length", "wavelength") if name in how]
        return 100 * float(np.ravel(waves[0])[0]) if waves else 0.0


def _rainbow_wavelength_cm(path: Path) -> float:
    """Return the wavelength in the XML header, in metres there."""
    with path.open("rb") as stream:
        found = re.search(rb"<wavelen>\s*([0-9.eE+-]+)\s*</wavelen>", stream.read(_XML_HEADER_BYTES))
    return 100 * float(found[1]) if found else 0.0


def _sigmet_wavelength_cm(path: Path) -> float:
    from xradar.io.backends.iris import IrisRawFile

    with IrisRawFile(str(path), loaddata=False) as product:
        return float(product.product_hdr["product_end"]["wavelength"]) / 100


_WAVELENGTH_CM = {SIGMET: _sigmet_wavelength_cm, GAMIC: _gamic_wavelength_cm, RAINBOW: _rainbow_wavelength_cm}
