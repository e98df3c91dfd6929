"""Speed of spatial verification compared with pysteps and scores, on equal fields and with equal results."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polarcast.data.errors import BadInput
from polarcast.hpc.perf.busy import neighbors
from polarcast.hpc.perf.measure import Measured, PerfRow, Run, busy_rows, interleaved, machine, ratio
from polarcast.hpc.scores.categorical import CATEGORICAL, categorical, multi_event_contingency
from polarcast.hpc.scores.fss import fractions, fss

THRESHOLDS = (0.5, 1.0, 5.0, 10.0, 20.0, 40.0)
WINDOWS = (1, 3, 5, 7, 9, 13, 17, 25, 33, 49, 65)
_UNIT = "frames × windows × thresholds / s"
_LEAST_SECONDS = 0.2
"""Shortest turn: longer than the time slices that neighbors take."""
OURS, PYSTEPS, SCORES = "polarcast", "pysteps", "scores"
_AGREE, _ONE_MORE_ROW = 1e-6, 1e-2
"""Tolerances. With zero padding, scores 2.7.0 sums over one row and one column of windows more than pixels."""

Work = Callable[[], Any]


def measure_scores(
    size: int, leads: int, rounds: int, on_round: Callable[[int], None] | None = None, busy: int = 0
) -> Measured:
    """Time FSS and multi-event contingency tables with their scores, over all windows and thresholds.

    Args:
        size: Pixels per side.
        leads: Number of frames.
        rounds: Measured rounds, after one warm-up round.
        on_round: Called with the number of rounds done.
        busy: Number of spinning neighbors in the busy half of each turn; 0 for no such half.

    Raises:
        BadInput: a library is not installed, or the fields are smaller than the largest window.
    """
    if size < max(WINDOWS):
        raise BadInput(f"windows have up to {max(WINDOWS)} pixels per side", "--size", f"give at least {max(WINDOWS)}")
    torch.set_num_threads(1)  # as scoring does
    forecast, observed = (_rain(seed, leads, size) for seed in (0, 1))
    contenders: dict[str, Work] = {
        f"FSS, {OURS}": partial(_fss_ours, forecast, observed),
        f"FSS, {PYSTEPS}": partial(_fss_pysteps, forecast, observed),
        f"FSS, {SCORES}": partial(_fss_scores, forecast, observed),
        f"tables, {OURS}": partial(_csi_ours, forecast, observed),
        f"tables, {PYSTEPS} on scipy": partial(_csi_pysteps, forecast, observed),
        f"tables, {SCORES} on scipy": partial(_csi_scores, forecast, observed),
    }
    notes = _agreement(contenders)
    amount = float(leads * len(WINDOWS) * len(THRESHOLDS))
    runs: dict[str, Run] = {name: _counted(work, amount) for name, work in contenders.items()}
    with neighbors(busy) as switch:
        rows = interleaved(runs, rounds, _UNIT, on_round, least_seconds=_LEAST_SECONDS, switch=switch)
    ratios, busy_ratios = (_ratios(found, list(contenders)) for found in (rows, busy_rows(rows)))
    return Measured("scores", machine(), rows, ratios, notes, busy, busy_ratios)


def _ratios(rows: list[PerfRow], names: list[str]) -> dict[str, float]:
    """Return the speed of polarcast as multiples of each library's, for FSS and tables; none without rows."""
    return {
        f"{ours} / {other.split(', ')[1]}": ratio(rows, ours, other)
        for ours in (f"FSS, {OURS}", f"tables, {OURS}")
        for other in names
        if rows and other.split(",")[0] == ours.split(",")[0] and other != ours
    }


def _agreement(contenders: dict[str, Work]) -> dict[str, str]:
    """Return the largest difference of each library from polarcast.

    Raises:
        BadInput: a library is not installed.
        ValueError: a difference exceeds its tolerance.
    """
    try:
        with redirect_stdout(sys.stderr):  # pysteps prints a greeting when it is imported
            values = {name: np.asarray(work(), float) for name, work in contenders.items()}
    except ImportError as error:
        fix = "pip install 'polarcast[nowcast]' scores"
        raise BadInput(f"{error.name} is not installed", "perf scores", fix) from None
    notes = {}
    for name, theirs in values.items():
        ours = values[f"{name.split(',')[0]}, {OURS}"]
        difference = float(np.nanmax(np.abs(ours - theirs), initial=0))
        if difference > (_ONE_MORE_ROW if name == f"FSS, {SCORES}" else _AGREE):
            raise ValueError(f"{name} differs from polarcast by {difference}: the timings are not comparable")
        if theirs is not ours:
            notes[f"largest difference, {name}"] = f"{difference:.1e}"
    return notes


def _counted(work: Work, amount: float) -> Run:
    def run() -> float:
        work()
        return amount

    return run


def _rain(seed: int, frames: int, size: int) -> Tensor:
    """Return patches of rain, (n, y, x) in mm/h."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(frames, 1, size // 16, size // 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")[:, 0]
    return (30 * smooth).clamp(min=0)


def _fss_ours(forecast: Tensor, observed: Tensor) -> Any:
    return fss(fractions(forecast, observed, THRESHOLDS, WINDOWS).numpy())


def _fss_pysteps(forecast: Tensor, observed: Tensor) -> Any:
    from pysteps.verification.spatialscores import fss as theirs

    pairs = list(zip(forecast.numpy(), observed.numpy(), strict=True))
    return [[[theirs(f, o, t, w) for w in WINDOWS] for t in THRESHOLDS] for f, o in pairs]


def _fss_scores(forecast: Tensor, observed: Tensor) -> Any:
    import xarray as xr
    from scores.spatial import fss_2d_single_field

    pairs = [[xr.DataArray(f.numpy()).values for f in pair] for pair in zip(forecast, observed, strict=True)]
    return [
        [
            [fss_2d_single_field(f, o, event_threshold=t, window_size=(w, w), zero_padding=True) for w in WINDOWS]
            for t in THRESHOLDS
        ]
        for f, o in pairs
    ]


def _csi_ours(forecast: Tensor, observed: Tensor) -> Any:
    counts = multi_event_contingency(forecast, observed, THRESHOLDS, WINDOWS).numpy()
    return {name: categorical(name, counts) for name in CATEGORICAL}["csi"]


def _widened(forecast: Tensor) -> list[Any]:
    from scipy.ndimage import maximum_filter

    return [maximum_filter(forecast.numpy(), size=(1, w, w), mode="constant") for w in WINDOWS]


def _csi_pysteps(forecast: Tensor, observed: Tensor) -> Any:
    from pysteps.verification.detcatscores import det_cat_fct

    fields = observed.numpy()
    by_window = [
        [[det_cat_fct(f, o, t)["CSI"] for t in THRESHOLDS] for f, o in zip(wide, fields, strict=True)]
        for wide in _widened(forecast)
    ]
    return np.moveaxis(np.array(by_window), 0, 2)


def _csi_scores(forecast: Tensor, observed: Tensor) -> Any:
    import xarray as xr
    from scores.categorical import ThresholdEventOperator

    dims = ("frame", "y", "x")
    observation = xr.DataArray(observed.numpy(), dims=dims)
    operator = ThresholdEventOperator()
    by_window = []
    for wide in _widened(forecast):
        widened = xr.DataArray(wide, dims=dims)
        managers = [operator.make_contingency_manager(widened, observation, event_threshold=t) for t in THRESHOLDS]
        tables = [m.transform(preserve_dims="frame") for m in managers]
        for table in tables:  # the same scores as the other contenders
            table.heidke_skill_score(), table.hanssen_and_kuipers_discriminant(), table.equitable_threat_score()
        by_window.append(np.stack([t.critical_success_index().values for t in tables], -1))
    return np.moveaxis(np.array(by_window), 0, 2)
