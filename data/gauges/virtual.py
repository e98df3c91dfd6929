"""Virtual gauges in a known field, with the errors of real ones: a point for an area, tips, and wind.

They show whether an evaluation finds the error that is known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.data.gauges.gauge import Gauge, Times
from polarcast.data.gauges.places import GridPlace

Real = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VirtualErrors:
    """What makes a virtual gauge differ from the mean over its pixel.

    Attributes:
        variability: Standard deviation of the logarithm of rain between cells of a pixel; 0 for an even pixel.
        cells: Cells along each side of a pixel: 10 of 100 m for pixels of 1 km.
        cell_scale: Length over which cells are alike, in cells.
        minutes_alike: Time over which the pattern within a pixel persists.
        bucket_mm: Amount of a tip; 0 for a gauge that weighs.
        wind_loss: Share of the rain that wind carries past the gauge.
    """

    variability: float = 0.4
    cells: int = 10
    cell_scale: float = 4.0
    minutes_alike: float = 10.0
    bucket_mm: float = 0.2
    wind_loss: float = 0.05


def within_pixels(pixels: int, frames: int, step_minutes: float, errors: VirtualErrors, seed: int) -> Real:
    """Draw patterns of rain within pixels: factors of mean 1 over each pixel, (frames, pixels, cells, cells).

    The logarithm is a Gaussian field of smoothed noise, which persists as an autoregressive process.
    """
    rng = np.random.default_rng(seed)
    n = errors.cells
    distance = np.hypot(*np.meshgrid(np.fft.fftfreq(2 * n, 1 / (2 * n)), np.fft.fftfreq(2 * n, 1 / (2 * n))))
    spectrum = np.fft.rfft2(np.exp(-distance / errors.cell_scale))
    filter_ = np.sqrt(np.clip(spectrum.real, 0, None))
    keep = float(np.exp(-step_minutes / errors.minutes_alike))
    out = np.empty((frames, pixels, n, n))
    state = rng.standard_normal((pixels, 2 * n, 2 * n))
    for frame in range(frames):
        field = np.fft.irfft2(np.fft.rfft2(state) * filter_, s=(2 * n, 2 * n))[:, :n, :n]
        factor = np.exp(errors.variability * field)
        out[frame] = factor / factor.mean((1, 2), keepdims=True)
        state = keep * state + np.sqrt(1 - keep**2) * rng.standard_normal(state.shape)
    return out


def tipped(mm: Real, bucket_mm: float) -> Real:
    """Return the amounts that a tipping bucket reports, (t, …): water that does not fill it waits for the next tip."""
    if not bucket_mm:
        return mm
    tips = np.floor(np.cumsum(mm, axis=0) / bucket_mm + 1e-9)
    return np.asarray(bucket_mm * np.diff(tips, axis=0, prepend=0), np.float64)


def virtual_gauges(
    rain: Real,
    times: Times,
    pixels: Sequence[tuple[int, int]],
    place: GridPlace,
    *,
    minutes: float,
    errors: VirtualErrors | None = None,
    seed: int = 0,
) -> tuple[list[Gauge], Real]:
    """Put gauges into a field of true rain.

    Args:
        rain: True means over pixels, (t, y, x) in mm/h; each holds from the frame before to its time.
        times: Regular times of the frames in UTC, (t,).
        pixels: Row and column of each gauge.
        place: Where the grid lies.
        minutes: Length of the gauges' intervals, a multiple of the frames' step.
        errors: Errors of the gauges.
        seed: Seed of the patterns within pixels, and of the gauges' cells.

    Returns:
        The gauges, and the true amounts over their pixels, (gauges, intervals) in mm.
    """
    errors = errors or VirtualErrors()
    step = float(np.diff(times[:2])[0] / np.timedelta64(60, "s"))
    per = round(minutes / step)
    whole = len(times) // per * per
    rows, columns = (np.array([p[i] for p in pixels]) for i in (0, 1))
    truth = rain[:whole, rows, columns] * step / 60
    rng = np.random.default_rng([seed, 1])
    cell = rng.integers(0, errors.cells, (2, len(rows)))
    pattern = within_pixels(len(rows), whole, step, errors, seed)[:, np.arange(len(rows)), cell[0], cell[1]]
    caught = tipped(truth * pattern * (1 - errors.wind_loss), errors.bucket_mm)
    ends = times[per - 1 : whole : per]
    amounts, true = (values.reshape(-1, per, len(rows)).sum(1) for values in (caught, truth))
    offset = (cell + 0.5) / errors.cells - 0.5
    latitude, longitude = place.places_of(rows + offset[0], columns + offset[1])
    gauges = [
        Gauge.of(f"V{i:03d}", float(latitude[i]), float(longitude[i]), ends, np.full(len(ends), minutes), amounts[:, i])
        for i in range(len(rows))
    ]
    return gauges, np.asarray(true.T, np.float64)
