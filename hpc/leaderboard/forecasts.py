"""Forecasts of test windows made elsewhere: read them, check them, and score them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import Reader
from polarcast.data.npz import check_npz
from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.schema import RunConfig
from polarcast.hpc.distributed.world import World
from polarcast.hpc.evaluation.evaluate import score, scored_observation
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.runs.intact import require_intact
from polarcast.hpc.scores.records import Records

_NEEDS = ("event", "frame", "forecast")
_SHAPES = "give event (n,), frame (n,), and forecast (n, m, y, x) of rain or (n, m, t, z, y, x) of zh"
_RAIN_RATES, _REFLECTIVITIES = (-1.0, 1000.0), (-10.0, 100.0)
"""Least and largest forecast in mm/h and in dBZ: beyond are fill values, other units, and -32 dBZ for no echo."""

Window = tuple[int, int]
"""Event, and its frame with which the window begins."""


@dataclass(frozen=True)
class ForecastSet:
    """Forecasts of windows.

    Attributes:
        where: Where they are from, for messages.
        numbers: Number of each window's forecast.
        fields: Rain rate in mm/h, (n, m, y, x), or zh in dBZ, (n, m, t, z, y, x); float32.
    """

    where: str
    numbers: Mapping[Window, int]
    fields: torch.Tensor

    @property
    def is_nowcast(self) -> bool:
        """Whether they are of future zh, not of the rain rate."""
        return self.fields.ndim == 6

    @property
    def members(self) -> int:
        """Ensemble size."""
        return self.fields.shape[1]

    @property
    def lead_frames(self) -> int:
        """Number of lead times; 0 for rain."""
        return self.fields.shape[2] if self.is_nowcast else 0

    def sha256(self) -> str:
        """Return the SHA-256 of shape, windows and values."""
        found = hashlib.sha256(repr((tuple(self.fields.shape), list(self.numbers))).encode())
        found.update(self.fields.numpy().reshape(-1).data)
        return found.hexdigest()

    def require(self, windows: Iterable[Window]) -> None:
        """Raise BadInput unless there is a forecast of each window."""
        if missing := next((window for window in windows if window not in self.numbers), None):
            what = f"no forecast of event {missing[0]}, frame {missing[1]}"
            raise BadInput(what, self.where, "give all test windows")

    def of(self, batch: Batch) -> torch.Tensor:
        """Return the forecasts of a batch on its device, (b, m, 1, y, x) or (b, m, t, z, y, x)."""
        numbers = [self.numbers[window] for window in _windows_of(batch)]
        fields = self.fields[numbers].to(batch.radar.device)
        return fields if self.is_nowcast else fields[:, :, None]

    def checked(self, batch: Batch) -> torch.Tensor:
        """Return the forecasts of a batch as `of`.

        Raises:
            BadInput: a value at an observed pixel is not finite, or absurdly large.
        """
        fields = self.of(batch)
        by_height = fields if self.is_nowcast else fields[:, :, :, None]
        observed = ~scored_observation(batch).isnan()
        least, most = _REFLECTIVITIES if self.is_nowcast else _RAIN_RATES
        wrong = ~((by_height >= least) & (by_height <= most)) & observed[:, None]  # NaN is neither
        if wrong.any():
            first = int(wrong.flatten(1).any(1).nonzero()[0])
            values, (event, frame) = by_height[first][wrong[first]], _windows_of(batch)[first]
            share = f"{int(wrong[first].any(0).sum())} of {int(observed[first].sum())} observed pixels"
            what = f"{float(values[0]):g} at {share} of event {event}, frame {frame}"
            unit = "zh in dBZ (no echo is 0)," if self.is_nowcast else "a rain rate in mm/h"
            raise BadInput(what, self.where, f"give {unit} from {least:g} to {most:g} for each pixel")
        return fields


def _windows_of(batch: Batch) -> list[Window]:
    return list(zip(batch.event.tolist(), batch.frame.tolist(), strict=True))


def read_forecasts(source: Path | Mapping[str, Any]) -> ForecastSet:
    """Read forecasts of an npz file, or take arrays by name: `event`, `frame` and `forecast`.

    Raises:
        BadInput: the file is no npz file, claims implausibly much data, lacks an array, or an array has another shape
            or type; or a window is given twice.
    """
    where = "forecasts" if isinstance(source, Mapping) else str(source)
    try:
        if isinstance(source, Mapping):
            event, frame, fields = (_array(source[name]) for name in _NEEDS)
        else:
            check_npz(source)
            with np.load(source) as content:
                event, frame, fields = (content[name] for name in _NEEDS)
    except (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile, NotImplementedError) as error:
        fix = f"give {'arrays' if isinstance(source, Mapping) else 'an .npz file'} with {', '.join(_NEEDS)}"
        raise BadInput(f"no forecasts ({_reason(error)})", where, fix) from None
    if fields.ndim not in (4, 6) or not event.shape == frame.shape == fields.shape[:1] or not fields.size:
        shapes = f"event {event.shape}, frame {frame.shape}, forecast {fields.shape}"
        raise BadInput(f"shapes do not match: {shapes}", where, _SHAPES)
    for name, array, kinds in (("event", event, "iu"), ("frame", frame, "iu"), ("forecast", fields, "fiu")):
        if array.dtype.kind not in kinds:
            expected = "numbers" if "f" in kinds else "whole numbers"
            raise BadInput(f"{name} is of type {array.dtype}", where, f"give {expected}")
    numbers = {window: n for n, window in enumerate(zip(event.tolist(), frame.tolist(), strict=True))}
    if len(numbers) < len(event):
        twice = next(window for n, window in enumerate(zip(event.tolist(), frame.tolist(), strict=True))
                     if numbers[window] != n)  # fmt: skip
        raise BadInput(f"event {twice[0]}, frame {twice[1]} is there twice", where, "give each window once")
    with np.errstate(over="ignore"):  # larger than float32 is inf, which is refused where it counts
        values = np.ascontiguousarray(fields, np.float32)
    return ForecastSet(where, numbers, torch.from_numpy(values))


def _array(value: Any) -> Any:
    """Return an array of numpy; NaN where a masked one has no value."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    is_masked = np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any()
    return np.ma.filled(value.astype(np.float32), np.nan) if is_masked else np.asarray(value)


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def scored_forecasts(
    forecasts: ForecastSet, config: RunConfig, manifest: Manifest, any_values: bool = False
) -> Records:
    """Score forecasts of all test windows, as those of a run with this configuration.

    Args:
        forecasts: The forecasts; those of other windows are not used.
        config: Configuration of the run.
        manifest: Manifest of the shards.
        any_values: Whether values may be NaN or infinite, which the records then tell.

    Raises:
        BadInput: the forecasts have another shape than those of such a run, lack a window or have values that are not
            finite; or the shards lack what a score needs, or are damaged.
    """
    check_shape(forecasts, config, manifest)
    reader = _scoring_reader(config, manifest)
    forecasts.require(windows_in(reader))
    require_intact(reader, config.data, World())
    return score(forecasts.of if any_values else forecasts.checked, reader, World())


def windows_in(reader: Reader) -> list[Window]:
    """Return the windows of a reader."""
    begins = reader.windows.begins(np.arange(len(reader)))
    return [(event, frame) for event, frame in begins.tolist()]


def check_shape(forecasts: ForecastSet, config: RunConfig, manifest: Manifest) -> None:
    """Raise BadInput unless the forecasts have the shape of those of a run with this configuration."""
    if forecasts.is_nowcast != config.is_nowcast:
        found, expected = ("zh", "rain") if forecasts.is_nowcast else ("rain", "zh")
        raise BadInput(f"has forecasts of {found}, the run of {expected}", forecasts.where, _SHAPES)
    _, _, *leads, y, x = forecasts.fields.shape
    expected_leads = [config.lead_frames, len(config.data.heights_km)] if config.is_nowcast else []
    if leads != expected_leads:
        what = f"has {leads[0]} lead times at {leads[1]} heights, the run {expected_leads[0]} at {expected_leads[1]}"
        raise BadInput(what, forecasts.where, "give those of the run")
    if (y, x) != manifest.shape:
        what = f"has fields of {y} × {x} pixels, the shards {manifest.shape[0]} × {manifest.shape[1]}"
        raise BadInput(what, forecasts.where, "forecast on the grid of the shards")


def _scoring_reader(config: RunConfig, manifest: Manifest) -> Reader:
    """Open the reader of the test windows of a run that reads little but what is scored."""
    heights = config.data.heights_km if config.is_nowcast else [manifest.heights_km[0]]
    data = replace(config.data, variables=[manifest.variables[0]], heights_km=heights, context=0)
    return build_reader(replace(config, data=data), manifest, "test", observed=True)
