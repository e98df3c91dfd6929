"""Write NEXRAD level II files of message 31 with the structure tables of xradar, because no library writes them."""

import bz2
import struct
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.sigmet_file import pack

_METADATA_BYTES = 134 * 2432
_MESSAGES_OF_A_RECORD = 120
_START, _INTERMEDIATE, _END, _START_OF_VOLUME, _END_OF_VOLUME = range(5)
_FEEDHORN_M = 10
# Name, bits, scale and offset by field. Code 0 is below threshold, and code 1 is range folded.
MOMENTS = {
    "zh": (b"REF", 8, 2.0, 66.0),
    "zdr": (b"ZDR", 8, 16.0, 128.0),
    "phidp": (b"PHI", 16, 2.8361, 2.0),
    "rhohv": (b"RHO", 8, 300.0, -60.5),
}


def write_nexrad(path: Path, scan: Any) -> Path:
    """Write a `radar_files.Scan`, with a Doppler cut without ZDR after the first sweep, as in real files."""
    assert scan.rays % _MESSAGES_OF_A_RECORD == 0, "a sweep must start with a record, because xradar relies on it"
    cuts = [(scan.elevations[0], scan.fields), (scan.elevations[0], ("zh",))]
    cuts += [(elevation, scan.fields) for elevation in scan.elevations[1:]]
    messages = [m for number, cut in enumerate(cuts, 1) for m in _messages(scan, number, *cut, number == len(cuts))]
    starts = range(0, len(messages), _MESSAGES_OF_A_RECORD)
    records = [bytes(_METADATA_BYTES), *(b"".join(messages[i : i + _MESSAGES_OF_A_RECORD]) for i in starts)]
    path.write_bytes(_volume_header(scan) + b"".join(_compressed(record) for record in records))
    return path


def _compressed(record: bytes) -> bytes:
    packed = bz2.compress(record)
    return struct.pack(">i", len(packed)) + packed


def _time(scan: Any) -> tuple[int, int]:
    """Return days (1 January 1970 is 1) and milliseconds of the day."""
    since = datetime.fromisoformat(scan.time) - datetime(1970, 1, 1)
    return since.days + 1, since.seconds * 1000


def _volume_header(scan: Any) -> bytes:
    from xradar.io.backends import nexrad_level2 as level2

    days, milliseconds = _time(scan)
    content = {"tape": b"AR2V0006.", "extension": b"001", "date": days, "time": milliseconds, "icao": b"KTST"}
    return pack(level2.VOLUME_HEADER, content, ">")


def _messages(scan: Any, number: int, elevation: float, names: tuple[str, ...], is_last: bool) -> Iterator[bytes]:
    truth = scan.truth(elevation)
    codes = {name: _codes(truth[name], name) for name in MOMENTS if name in names}
    for ray, azimuth in enumerate(scan.azimuth):
        status = _INTERMEDIATE
        if ray == 0:
            status = _START_OF_VOLUME if number == 1 else _START
        elif ray == scan.rays - 1:
            status = _END_OF_VOLUME if is_last else _END
        where = {
            "azimuth_number": ray + 1, "azimuth_angle": azimuth, "elevation_number": number,
            "elevation_angle": elevation, "radial_status": status, "azimuth_resolution": 2, "cut_sector": 1,
        }  # fmt: skip
        yield _message(scan, where, [*_constants(scan), *(_moment(scan, n, c[ray]) for n, c in codes.items())])


def _codes(values: np.ndarray, name: str) -> np.ndarray:
    _, bits, scale, offset = MOMENTS[name]
    valid = np.isfinite(values)
    no_data = np.arange(values.shape[1]) % 2
    return np.where(valid, np.round(np.where(valid, values, 0) * scale + offset), no_data).astype(f">u{bits // 8}")


def _message(scan: Any, where: dict[str, Any], blocks: list[bytes]) -> bytes:
    from xradar.io.backends import nexrad_level2 as level2

    days, milliseconds = _time(scan)
    starts = level2.LEN_MSG_31 + np.cumsum([0, *(len(block) for block in blocks)])
    pointers = {f"block_pointer_{i}": int(start) for i, start in enumerate(starts[:-1], 1)}
    time = {"collect_ms": milliseconds, "collect_date": days}
    head = {"id": b"KTST", "block_count": len(blocks), "radial_length": int(starts[-1]), **time, **where, **pointers}
    body = pack(level2.MSG_31, head, ">") + b"".join(blocks)
    size = (level2.LEN_MSG_HEADER + len(body)) // 2
    message = {"size": size, "type": 31, "date": days, "ms": milliseconds, "segments": 1, "seg_num": 1}
    return bytes(12) + pack(level2.MSG_HEADER, message, ">") + body


def _constants(scan: Any) -> list[bytes]:
    from xradar.io.backends import nexrad_level2 as level2

    volume = {
        "lat": scan.site["latitude"], "lon": scan.site["longitude"],
        "height": round(scan.site["altitude"]) - _FEEDHORN_M, "feedhorn_height": _FEEDHORN_M,
    }  # fmt: skip
    contents = {"VOL": volume, "ELV": {}, "RAD": {"unambig_range": 4600, "nyquist_vel": 800}}
    tables = level2.DATA_BLOCK_CONSTANT_IDENTIFIERS
    return [b"R" + name.encode() + pack(tables[name], content, ">") for name, content in contents.items()]


def _moment(scan: Any, name: str, codes: np.ndarray) -> bytes:
    from xradar.io.backends import nexrad_level2 as level2

    nexrad, bits, scale, offset = MOMENTS[name]
    content = {
        "ngates": scan.gates, "first_gate": round(scan.gate_m / 2), "gate_spacing": round(scan.gate_m),
        "word_size": bits, "scale": scale, "offset": offset,
    }  # fmt: skip
    block = b"D" + nexrad + pack(level2.GENERIC_DATA_BLOCK, content, ">") + codes.tobytes()
    return block + bytes(len(block) % 2)
