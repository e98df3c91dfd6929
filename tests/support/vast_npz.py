"""A small npz file of forecasts that claims to be huge."""

import io
import zipfile

import numpy as np


def vast() -> bytes:
    """Return a small file whose arrays claim 400 GB."""
    stream, header = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**11,)})
    with zipfile.ZipFile(stream, "w") as content:
        for name in ("event", "frame", "forecast"):
            content.writestr(f"{name}.npy", header.getvalue())
    return stream.getvalue()
