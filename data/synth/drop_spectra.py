"""Compare measured drop spectra with the drop sizes of a preset: relations, and the attainable gain of ZDR and KDP.

The truth is the rain rate of every minute. Its radar variables are observed with known noise, and the rain rate is
estimated by the posterior mean (`attainable.posterior_mean`) from the minutes of other blocks of time. The preset has
the same rain rates, and drop sizes of its own. A gain that differs is therefore one of drop sizes, not of climate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.synth.attainable import GRIDDED_NOISE, Particles, RainPrior, observe_prior, posterior_mean
from polarcast.data.synth.drops import DropPrior
from polarcast.data.synth.scattering import observe_spectra

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

NAMES: Mapping[str, tuple[str, ...]] = {
    "rain": ("rain", "rain_rate", "rain_array", "r"),
    "zh": ("zh", "dbz", "dbz_array", "reflectivity"),
    "zdr": ("zdr", "zdr_db", "zdr_db_array"),
    "kdp": ("kdp", "kdp_array"),
    "time": ("time", "time_array"),
    "spectra": ("n", "nd", "spectra"),
    "diameter": ("d", "d_center_mm", "diameter_mm"),
    "width": ("d_width_mm", "width_mm"),
}
"""Keys of a file by what they contain, in lower case."""
SETS: Mapping[str, tuple[str, ...]] = {"ZH": ("zh",), "ZH, ZDR": ("zh", "zdr"), "ZH, ZDR, KDP": ("zh", "zdr", "kdp")}
"""Variables that an estimate may use, by the name of the set."""
ZDR_AT, KDP_AT = (20, 25, 30, 35, 40, 45), (30, 35, 40, 45)
"""Reflectivities in dBZ at which ZDR and KDP are compared."""
_HALF_WIDTH_DB, _FEWEST_AT = 1.5, 20
_BLOCKS, _FEWEST, _MOST = 20, 100, 12_000
_MOST_MMH, _MOST_DBZ = 250.0, 60.0
"""Beyond them, spectra contain hail or splashes."""
_REPEATS = 4
"""Drop sizes drawn from the preset for each measured minute; they are the particles."""
_DRAWS = 2000
_FORM = "write rain, and zh, zdr, kdp; or spectra n (time, diameter), d_center_mm, d_width_mm"


@dataclass(frozen=True)
class DropMinutes:
    """Rain and radar variables of measured drop spectra.

    Attributes:
        name: Site.
        rain: Rain rate in mm/h, (n,).
        observables: Noise-free ZH (dBZ), ZDR (dB), KDP (deg/km), (n, 3).
        block: Number of the block of time of each minute, (n,); minutes of one block are not independent.
        implausible: Number of minutes that are left out: no rain has so much water or such reflectivity.
    """

    name: str
    rain: Array
    observables: Array
    block: Numbers
    implausible: int = 0


@dataclass(frozen=True)
class DropRelation:
    """Median of a variable at a reflectivity: measured, and of the preset; NaN where there are too few minutes."""

    variable: str
    at_dbz: int
    measured: float
    preset: float
    minutes: int


@dataclass(frozen=True)
class AttainableGain:
    """Error of the best estimate from a set of variables, and its gain over ZH alone, with its 95% interval.

    Attributes:
        truth: `measured` drops, or those of the `preset`.
        estimator: Drops that the estimate assumes: `measured` or `preset`.
        variables: Name of the set.
        rmse: Root-mean-square error in mm/h.
        normalised_error: Sum of absolute errors divided by the sum of rain.
        gain: 1 − RMSE ÷ RMSE of ZH alone; 0 for ZH.
        low, high: 95% interval of the gain, over blocks of time.
    """

    truth: str
    estimator: str
    variables: str
    rmse: float
    normalised_error: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class DropComparison:
    """Measured drop spectra beside the drop sizes of a preset."""

    site: str
    preset: str
    minutes: int
    blocks: int
    relations: tuple[DropRelation, ...]
    gains: tuple[AttainableGain, ...]

    def as_record(self) -> dict[str, Any]:
        """Return the record for `--json`; undefined numbers are None."""
        record = asdict(self)
        for row in (*record["relations"], *record["gains"]):
            row.update({k: None for k, v in row.items() if isinstance(v, float) and not np.isfinite(v)})
        return record


def read_drop_minutes(path: Path, least_mmh: float = 1.0) -> DropMinutes:
    """Read the minutes of an npz file with rain of at least `least_mmh`.

    Args:
        path: File with keys of `NAMES`: radar variables that were computed from spectra, or the spectra themselves,
            (time, diameter) in m^-3 mm^-1, with centers and widths of the diameters in mm.
        least_mmh: Minimum rain rate in mm/h.

    Raises:
        BadInput: The file is unreadable, lacks a key, arrays differ in length, or there are fewer than 100 minutes.
    """
    arrays = _arrays(path)
    if "spectra" in arrays:
        values = _of_spectra(arrays, path)
    else:
        if missing := [name for name in ("rain", "zh", "zdr", "kdp") if name not in arrays]:
            raise BadInput(f"no {missing[0]}", path, _FORM)
        values = {name: _numbers(arrays[name], name, path) for name in ("rain", "zh", "zdr", "kdp")}
    lengths = {name: len(array) for name, array in values.items()}
    if len(set(lengths.values())) > 1:
        raise BadInput(f"arrays of different lengths: {lengths}", path, "write one value of each for every minute")
    table = np.stack([values[name] for name in ("rain", "zh", "zdr", "kdp")], axis=1)
    rainy = np.isfinite(table).all(1) & (table[:, 0] >= least_mmh)
    wet = rainy & (table[:, 0] <= _MOST_MMH) & (table[:, 1] <= _MOST_DBZ)
    if wet.sum() < _FEWEST:
        raise BadInput(f"{wet.sum()} minutes of {least_mmh:g} mm/h and more", path, f"give {_FEWEST} or more")
    blocks = _blocks(arrays.get("time"), wet)
    chosen = slice(None, None, -(-int(wet.sum()) // _MOST))
    table = table[wet][chosen]
    return DropMinutes(path.stem, table[:, 0], table[:, 1:], blocks[chosen], int((rainy & ~wet).sum()))


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {key.lower(): content[key] for key in content.files}
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"can't be read ({error})", path, _FORM) from None
    except AttributeError:  # one array (npy) has no names
        raise BadInput("one array without names", path, _FORM) from None
    return {name: found[key] for name, keys in NAMES.items() for key in keys if key in found}


def _numbers(values: npt.NDArray[Any], name: str, path: Path) -> Array:
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise BadInput(f"{name} is {values.dtype} {values.shape}", path, "write one number for every minute")
    return values.astype(np.float64)


def _of_spectra(arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> dict[str, Array]:
    if missing := [name for name in ("diameter", "width") if name not in arrays]:
        raise BadInput(f"spectra without {missing[0]}", path, _FORM)
    number = np.asarray(arrays["spectra"], dtype=np.float64)
    diameter, width = (_numbers(arrays[name], name, path) for name in ("diameter", "width"))
    if number.ndim != 2 or number.shape[1] != len(diameter) or len(width) != len(diameter):
        raise BadInput(f"spectra {number.shape} of {len(diameter)} diameters", path, _FORM)
    rain, observables = observe_spectra(number, diameter, width)
    found = {"rain": rain, "zh": observables.zh, "zdr": observables.zdr, "kdp": observables.kdp}
    return {name: values.astype(np.float64) for name, values in found.items()}


def _blocks(time: npt.NDArray[Any] | None, wet: npt.NDArray[np.bool_]) -> Numbers:
    """Return the block of each wet minute: its day, or one of 20 equal parts of the record if it has few days."""
    if time is not None and np.issubdtype(time.dtype, np.datetime64) and len(time) == len(wet):
        days = np.unique(time[wet].astype("datetime64[D]"), return_inverse=True)[1]
        if days.max() + 1 >= _BLOCKS:
            return days.astype(np.int64)
    count = int(wet.sum())
    return np.arange(count) * min(_BLOCKS, count) // count


def compare_drops(
    minutes: DropMinutes,
    preset: str,
    drops: DropPrior,
    noise: Sequence[float] = GRIDDED_NOISE,
    seed: int = 0,
) -> DropComparison:
    """Compare measured drop spectra with the drop sizes of a preset, at the same rain rates.

    Args:
        minutes: Measured minutes.
        preset: Name of the preset.
        drops: Its drop sizes.
        noise: Noise standard deviations of ZH (dB), ZDR (dB), KDP (deg/km).
        seed: Seed of drop sizes, noise and intervals.
    """
    rng = np.random.default_rng(seed)
    prior = RainPrior(drops=drops)
    drawn = np.asarray(observe_prior(prior, minutes.rain, rng), dtype=np.float64)
    modelled = DropMinutes(preset, minutes.rain, drawn, minutes.block)
    relations = [
        *(_relation("ZDR", 1, at, minutes, modelled) for at in ZDR_AT),
        *(_relation("KDP", 2, at, minutes, modelled) for at in KDP_AT),
    ]
    errors = rng.normal(size=minutes.observables.shape) * np.asarray(noise)
    clouds = {
        "measured": Particles(minutes.rain, minutes.observables, np.zeros(len(minutes.rain))),
        "preset": _cloud(minutes.rain, prior, rng),
    }
    gains = [
        gain
        for truth, estimator in (("measured", "measured"), ("preset", "preset"), ("measured", "preset"))
        for gain in _gains(
            truth, estimator, minutes if truth == "measured" else modelled, clouds[estimator], errors, noise, seed
        )
    ]
    blocks = len(np.unique(minutes.block))
    return DropComparison(minutes.name, preset, len(minutes.rain), blocks, tuple(relations), tuple(gains))


def _relation(name: str, column: int, at: int, measured: DropMinutes, modelled: DropMinutes) -> DropRelation:
    near = [np.abs(one.observables[:, 0] - at) < _HALF_WIDTH_DB for one in (measured, modelled)]
    medians = [
        float(np.median(one.observables[chosen, column])) if chosen.sum() >= _FEWEST_AT else float("nan")
        for one, chosen in zip((measured, modelled), near, strict=True)
    ]
    return DropRelation(name, at, medians[0], medians[1], int(near[0].sum()))


def _cloud(rain: Array, prior: RainPrior, rng: np.random.Generator) -> Particles:
    """Draw drop sizes several times for every minute; the minute of particle i is i modulo their number."""
    repeated = np.tile(rain, _REPEATS)
    return Particles(repeated, observe_prior(prior, repeated, rng), np.zeros(len(repeated)))


def _gains(
    truth: str, estimator: str, minutes: DropMinutes, cloud: Particles, errors: Array, noise: Sequence[float], seed: int
) -> list[AttainableGain]:
    observed = minutes.observables + errors
    estimates = {name: _estimate(minutes, observed, cloud, noise, used) for name, used in SETS.items()}
    misfits = {name: estimate - minutes.rain for name, estimate in estimates.items()}
    draws = _resampled(minutes.block, seed)
    squares = {name: draws @ np.bincount(minutes.block, misfit**2) for name, misfit in misfits.items()}
    base = float(np.mean(misfits["ZH"] ** 2))
    return [
        _gain(truth, estimator, name, misfit, minutes.rain, base, 1 - np.sqrt(squares[name] / squares["ZH"]))
        for name, misfit in misfits.items()
    ]


def _gain(
    truth: str, estimator: str, name: str, misfit: Array, rain: Array, base: float, gains: Array
) -> AttainableGain:
    """Return one row of the table, from the errors (n,), the mean square of ZH alone, and resampled gains (draws,)."""
    rmse = float(np.sqrt(np.mean(misfit**2)))
    low, high = np.quantile(gains, [0.025, 0.975])
    return AttainableGain(
        truth=truth,
        estimator=estimator,
        variables=name,
        rmse=rmse,
        normalised_error=float(np.abs(misfit).sum() / rain.sum()),
        gain=1 - rmse / float(np.sqrt(base)),
        low=float(low),
        high=float(high),
    )


def _estimate(
    minutes: DropMinutes, observed: Array, cloud: Particles, noise: Sequence[float], used: Sequence[str]
) -> Array:
    """Return posterior means, (n,), of each block from the particles of the other blocks."""
    estimate = np.empty(len(minutes.rain))
    of_particles = np.tile(minutes.block, len(cloud.rain) // len(minutes.block))
    folds = minutes.block % _BLOCKS
    for fold in np.unique(folds):
        mine, others = folds == fold, of_particles % _BLOCKS != fold
        particles = Particles(cloud.rain[others], cloud.observables[others], cloud.log_weight[others])
        estimate[mine] = posterior_mean(particles, observed[mine], noise, used)
    return estimate


def _resampled(block: Numbers, seed: int) -> Array:
    """Return how often each block is drawn in each bootstrap sample, (draws, blocks)."""
    count = int(block.max()) + 1
    present = np.bincount(block, minlength=count) > 0
    share = present / present.sum()
    return np.random.default_rng(seed).multinomial(int(present.sum()), share, size=_DRAWS).astype(np.float64)
