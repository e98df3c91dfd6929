"""Write SIGMET/IRIS raw products with the structure tables of xradar, because no library writes them."""

import struct
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

_RECORD = 6144
_PRODUCT_HDR, _INGEST_HEADER, _INGEST_DATA_HEADER, _RAW = 27, 23, 24, 15
_RHI, _PPI = 2, 4
_WAVELENGTH_HUNDREDTH_CM = 535
# Number of the 16-bit data type and encoding by field (IRIS Programmer's Manual, §4.4). Code 0 is no data.
_TYPES = {
    "zh": (9, lambda v: v * 100 + 32768),
    "zdr": (12, lambda v: v * 100 + 32768),
    "kdp": (15, lambda v: v * 100 + 32768),
    "rhohv": (20, lambda v: v * 65536 + 1),
    "phidp": (24, lambda v: np.mod(v, 360) * 65534 / 360 + 1),
}


def write_sigmet(path: Path, scan: Any) -> Path:
    """Write a `radar_files.Scan` as a raw product."""
    from xradar.io.backends import iris

    names = [n for n in sorted(_TYPES, key=lambda n: _TYPES[n][0]) if n in scan.fields]
    body = b"".join(_sweep(iris, scan, names, number, e) for number, e in enumerate(scan.elevations, start=1))
    size = 2 * _RECORD + len(body)
    path.write_bytes(_padded(_product_hdr(iris, scan, size)) + _padded(_ingest_header(iris, scan, names)) + body)
    return path


def pack(structure: Mapping[str, Any], values: Mapping[str, Any], order: str = "<") -> bytes:
    """Pack a structure of xradar's tables; members without a value are zero."""
    unknown = set(values) - set(structure)
    assert not unknown, unknown
    out = b""
    for name, kind in structure.items():
        value = values.get(name)
        form = kind.get("fmt", kind.get("size"))
        if form is None:
            out += pack(kind, value or {}, order)
        elif isinstance(value, bytes):
            out += struct.pack(order + form, value)
        else:
            out += bytes(struct.calcsize(order + form)) if value is None else struct.pack(order + form, value)
    return out


def _padded(content: bytes) -> bytes:
    assert len(content) <= _RECORD
    return content.ljust(_RECORD, b"\0")


def _angle(degrees: float, bits: int) -> int:
    return round(degrees % 360 / 360 * 2**bits) % 2**bits


def _time(iris: Any, time: str) -> bytes:
    when = datetime.fromisoformat(time)
    seconds = when.hour * 3600 + when.minute * 60 + when.second
    parts = {"seconds": seconds, "year": when.year, "month": when.month, "day": when.day}
    return pack(iris.YMDS_TIME, parts)


def _head(number: int, size: int) -> dict[str, int]:
    return {"structure_identifier": number, "format_version": 8, "bytes_in_structure": size}


def _product_hdr(iris: Any, scan: Any, size: int) -> bytes:
    time = _time(iris, scan.time)
    configuration = {
        "structure_header": _head(26, 320), "product_type_code": _RAW, "generation_time": time,
        "sweep_ingest_time": time, "file_ingest_time": time, "product_name": b"RAW", "task_name": b"TEST",
    }  # fmt: skip
    end = {
        "ingest_time": time, "number_bins": scan.gates, "wavelength": _WAVELENGTH_HUNDREDTH_CM, "prf": 1000,
        "latitude": _angle(scan.site["latitude"], 32), "longitude": _angle(scan.site["longitude"], 32),
    }  # fmt: skip
    content = {
        "structure_header": _head(_PRODUCT_HDR, size), "product_configuration": configuration, "product_end": end,
    }  # fmt: skip
    return pack(iris.PRODUCT_HDR, content)


def _ingest_header(iris: Any, scan: Any, names: list[str]) -> bytes:
    configuration = {
        "number_files": 1, "number_sweeps_completed": len(scan.elevations), "ray_header_bytes": 12,
        "volume_scan_start_time": _time(iris, scan.time), "number_rays_sweep": scan.rays,
        "latitude_radar": _angle(scan.site["latitude"], 32), "longitude_radar": _angle(scan.site["longitude"], 32),
        "altitude_radar": round(scan.site["altitude"] * 100), "height_radar": round(scan.site["altitude"]),
    }  # fmt: skip
    mask = {"mask_word_0": sum(1 << _TYPES[name][0] for name in names)}
    step = round(scan.gate_m * 100)
    ranges = {
        "range_first_bin": step // 2, "range_last_bin": step // 2 + (scan.gates - 1) * step,
        "number_input_bins": scan.gates, "number_output_bins": scan.gates,
        "step_input_bins": step, "step_output_bins": step,
    }  # fmt: skip
    task = {
        "task_dsp_info": {"dsp_data_mask0": mask, "dsp_data_mask1": mask, "prf": 1000},
        "task_range_info": ranges,
        "task_scan_info": {"antenna_scan_mode": _RHI if scan.is_rhi else _PPI, "sweep_number": len(scan.elevations)},
        "task_misc_info": {"wavelength": _WAVELENGTH_HUNDREDTH_CM},
    }
    content = {
        "structure_header": _head(_INGEST_HEADER, 4884), "ingest_configuration": configuration,
        "task_configuration": task,
    }  # fmt: skip
    return pack(iris.INGEST_HEADER, content)


def _sweep(iris: Any, scan: Any, names: list[str], number: int, elevation: float) -> bytes:
    """Return the records of one sweep: headers, then for each ray all data types in turn."""
    payload = b"".join(_data_header(iris, scan, name, number, elevation) for name in names)
    first_ray = 12 + len(payload)
    codes = {name: _codes(scan.truth(elevation)[name], name) for name in names}
    for ray, azimuth in enumerate(scan.azimuth):
        for name in names:
            payload += _ray(scan, azimuth, elevation, codes[name][ray])
    return b"".join(_records(iris, payload, number, first_ray))


def _codes(values: np.ndarray, name: str) -> np.ndarray:
    valid = np.isfinite(values)
    return np.where(valid, np.round(_TYPES[name][1](np.where(valid, values, 0))), 0).astype("<u2")


def _data_header(iris: Any, scan: Any, name: str, number: int, elevation: float) -> bytes:
    content = {
        "structure_header": _head(_INGEST_DATA_HEADER, 76), "sweep_start_time": _time(iris, scan.time),
        "sweep_number": number, "number_rays_per_sweep": scan.rays, "number_rays_file_expected": scan.rays,
        "number_rays_file_written": scan.rays, "fixed_angle": _angle(elevation, 16), "bits_per_bin": 16,
        "data_type": _TYPES[name][0],
    }  # fmt: skip
    return pack(iris.INGEST_DATA_HEADER, content)


def _ray(scan: Any, azimuth: float, elevation: float, codes: np.ndarray) -> bytes:
    """Return one run of uncompressed words, followed by the end of the ray."""
    half = 180 / scan.rays
    angles = [_angle(azimuth - half, 16), _angle(elevation, 16), _angle(azimuth + half, 16), _angle(elevation, 16)]
    words = struct.pack("<4HhH", *angles, scan.gates, 0) + codes.tobytes()
    return struct.pack("<H", 0x8000 | (len(words) // 2)) + words + struct.pack("<H", 1)


def _records(iris: Any, payload: bytes, number: int, first_ray: int) -> Iterator[bytes]:
    room = _RECORD - 12
    for start in range(0, len(payload), room):
        head = {"sweep_number": number, "first_ray_byte_offset": first_ray if start == 0 else -1, "sweep_ray_number": 1}
        yield _padded(pack(iris.RAW_PROD_BHDR, head) + payload[start : start + room])
