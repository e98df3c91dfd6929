"""Read SIGMET/IRIS raw products as a tree of sweeps with correct azimuths for every moment.

xradar 0.12.0 shifts the first moment that it loads of a sweep, and the azimuths, by one ray against all others (its
issue 357). The moments are therefore loaded a second time, with the ray table of the first load.
"""

from pathlib import Path
from typing import Any

import numpy as np

FOLD, IS_FINE = "fold_deg", "is_fine"
"""Attributes: the folding interval of a phase, where it is not 360°; whether a moment has 16 bits."""
_EIGHT_BIT_PHASE, _HALF_TURN = "DB_PHIDP", 180.0
_SIXTEEN_BITS = ("2", "16")
_RHI = 2
_DIMENSIONS = ("azimuth", "range")


def open_sigmet_tree(path: str | Path) -> Any:
    """Return the product as an `xarray.DataTree` of `sweep_0`, `sweep_1`, …, like xradar's other readers."""
    import xarray as xr
    from xradar.io.backends.iris import IrisRawFile

    with IrisRawFile(str(path), loaddata=False) as product:
        longitude, latitude, altitude = product.site_coords
        sweeps = {f"/sweep_{n - 1}": _sweep(product, n) for n in product.data}
    site = {"latitude": latitude, "longitude": longitude, "altitude": altitude}
    return xr.DataTree.from_dict({"/": xr.Dataset(site), **sweeps})


def _sweep(product: Any, number: int) -> Any:
    import xarray as xr
    from xradar.io.backends.iris import iris_mapping

    sweep = product.data[number]
    wanted = [name for name in sweep["ingest_data_hdrs"] if name in iris_mapping]
    product.get_moment(number, wanted[0])
    del sweep["sweep_data"]
    product.get_sweep(number, wanted)
    loaded = sweep["sweep_data"]
    moments = {iris_mapping[n]: (_DIMENSIONS, np.ma.filled(loaded[n], np.nan), _attributes(n)) for n in wanted}
    start = next(iter(sweep["ingest_data_hdrs"].values()))["sweep_start_time"]
    time = np.datetime64(start.replace(tzinfo=None), "ns") + loaded["dtime"].astype("timedelta64[s]")
    mode = "rhi" if product.scan_mode == _RHI else "azimuth_surveillance"
    return xr.Dataset(
        {**moments, "sweep_mode": mode},
        coords={
            "azimuth": loaded["azimuth"],
            "elevation": ("azimuth", loaded["elevation"]),
            "time": ("azimuth", time),
            "range": _range_m(product),
        },
    )


def _attributes(name: str) -> dict[str, float]:
    fold = {FOLD: _HALF_TURN} if name == _EIGHT_BIT_PHASE else {}
    return {**fold, IS_FINE: float(name.endswith(_SIXTEEN_BITS))}


def _range_m(product: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    info = product.ingest_header["task_configuration"]["task_range_info"]
    bins, step = info["number_output_bins"], info["step_output_bins"]
    # Some products give 0 as the range of the first bin: its near edge and not its centre.
    return (((info["range_first_bin"] or step / 2) + step * np.arange(bins)) / 100).astype(np.float32)
