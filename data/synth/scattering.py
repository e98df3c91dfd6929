"""C-band radar quantities of rain with a given drop-size distribution (DSD).

N(D) = Nw f(mu) (D/Dm)^mu exp(-(4+mu) D/Dm), the normalized gamma DSD (Testud et al. 2001, J. Appl. Meteor. 40). Rain
rate and all linear radar quantities are proportional to Nw, so per unit of rain rate they depend only on (Dm, mu). A
small look-up table over these two parameters is built from the shipped scattering of 161 single drops.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

DROP_TABLE = Path(__file__).with_name("drop_table_c_band.npz")
DM_RANGE_MM = (0.45, 3.6)
MU_RANGE = (-1.0, 18.0)
LARGEST_DROP_MM = 8.0

_TABLE_SHAPE = (128, 33)
# Removing these powers of Dm leaves residuals flat enough for bilinear interpolation (< 1%, < 0.05 dB).
_POWERS = {"zh": 7.0 - 4.67, "zdr": 0.0, "kdp": 5.0 - 4.67, "ah": 4.0 - 4.67, "adp": 5.0 - 4.67}
_NODES = 128


@dataclass(frozen=True)
class Observables:
    """Radar quantities of rain, each with the shape of the inputs."""

    zh: Array
    """Reflectivity at horizontal polarization, dBZ."""
    zdr: Array
    """Differential reflectivity, dB."""
    kdp: Array
    """Specific differential phase, deg/km."""
    ah: Array
    """One-way specific attenuation at horizontal polarization, dB/km."""
    adp: Array
    """One-way specific differential attenuation, dB/km."""


def fall_speed(diameter_mm: Array) -> Array:
    """Terminal fall speed of a raindrop in m/s (polynomial of Brandes et al. 2002, J. Appl. Meteor. 41)."""
    d = diameter_mm
    speed = -0.1021 + 4.932 * d - 0.9551 * d**2 + 0.07934 * d**3 - 0.002362 * d**4
    return np.maximum(speed, 0.0)


def gamma_dsd(diameter_mm: Array, dm_mm: Array, mu: Array, nw: Array | float = 1.0) -> Array:
    """Number concentration N(D) in m^-3 mm^-1 of a normalized gamma DSD with intercept `nw` (m^-3 mm^-1)."""
    from scipy.special import gammaln

    log_f = np.log(6 / 4**4) + (mu + 4) * np.log(mu + 4) - gammaln(mu + 4)
    x = diameter_mm / dm_mm
    return np.asarray(nw * np.exp(log_f + mu * np.log(x) - (4 + mu) * x))


@cache
def _single_drops() -> dict[str, Callable[[Array], Array]]:
    """Interpolants of single-drop scattering over diameter (mm).

    Each quantity is divided by a power of D before interpolation, so that the splines do not oscillate.
    """
    from scipy.interpolate import CubicSpline  # slow to import, and the registry of models imports this module

    with np.load(DROP_TABLE) as drops:
        d = drops["diameter_mm"]
        columns = {k: drops[k] for k in ("zh", "zv", "ah", "av", "kdp")}

    def interpolant(values: Array, power: float) -> Callable[[Array], Array]:
        spline = CubicSpline(d, values / d**power)
        return lambda x: spline(np.clip(x, d[0], d[-1])) * x**power

    powers = {"zh": 6.0, "zv": 6.0, "ah": 3.0, "av": 3.0, "kdp": 3.0}
    return {k: interpolant(v, powers[k]) for k, v in columns.items()}


def integrate_dsd(dm_mm: Array, mu: Array) -> dict[str, Array]:
    """Integrate radar quantities per unit Nw over drop diameter, up to min(3 Dm, 8 mm).

    Args:
        dm_mm: Mass-weighted mean drop diameter in mm, (n,).
        mu: Shape parameter of the gamma DSD, (n,).

    Returns:
        Linear zh, zv (mm^6 m^-3), kdp (deg/km), ah, av (dB/km) and rain_rate (mm/h), each (n,), for
        Nw = 1 m^-3 mm^-1.
    """
    dm, shape = np.asarray(dm_mm)[:, None], np.asarray(mu)[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    top = np.minimum(3 * dm, LARGEST_DROP_MM)
    d = 0.5 * top * (nodes + 1)
    number = gamma_dsd(d, dm, shape) * weights * 0.5 * top
    moments = {k: (f(d) * number).sum(axis=1) for k, f in _single_drops().items()}
    rain_rate = 6e-4 * np.pi * (d**3 * fall_speed(d) * number).sum(axis=1)
    return {**moments, "rain_rate": rain_rate}


@dataclass(frozen=True)
class DsdTable:
    """Radar quantities per 1 mm/h of rain on a grid of (ln Dm, ln(mu+4)), divided by powers of Dm."""

    values: npt.NDArray[np.float32]
    """Shape (ln Dm * ln(mu+4), 5): zh and zdr in dB; kdp, ah, adp in linear units; divided by Dm^power."""
    shape: tuple[int, int]

    def look_up(self, dm_mm: Array, mu: Array, rain_rate: Array) -> Observables:
        """Interpolate bilinearly; Dm and mu outside the table's range are clipped to it."""
        ln_dm = np.log(np.clip(dm_mm, *DM_RANGE_MM), dtype=np.float32)
        flat = _interpolate(self.values, self.shape, *_grid_position(ln_dm, mu, self.shape))
        ratio = {k: np.exp(p * ln_dm) for k, p in _POWERS.items() if k not in ("zh", "zdr")}
        slope = np.float32(10 / np.log(10) * _POWERS["zh"])
        zh = flat[..., 0] + slope * ln_dm + np.float32(10) * np.log10(np.maximum(rain_rate, np.float32(1e-9)))
        linear = [flat[..., i] * ratio[k] * rain_rate for i, k in ((2, "kdp"), (3, "ah"), (4, "adp"))]
        return Observables(zh, flat[..., 1], *linear)


def _grid_position(ln_dm: Array, mu: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Fractional indices into the table."""
    low, high = np.log(DM_RANGE_MM).astype(np.float32)
    bottom, top = np.log(np.add(MU_RANGE, 4)).astype(np.float32)
    i = (ln_dm - low) * np.float32((shape[0] - 1) / (high - low))
    j = (np.log(np.clip(mu, *MU_RANGE) + 4) - bottom) * np.float32((shape[1] - 1) / (top - bottom))
    return np.clip(i, 0, shape[0] - 1), np.clip(j, 0, shape[1] - 1)


def _interpolate(values: Array, shape: tuple[int, int], i: Array, j: Array) -> Array:
    i0 = np.minimum(i.astype(np.int32), shape[0] - 2)
    j0 = np.minimum(j.astype(np.int32), shape[1] - 2)
    di, dj = (i - i0).astype(np.float32)[..., None], (j - j0).astype(np.float32)[..., None]
    corner = i0 * shape[1] + j0
    low = values[corner] * (1 - dj) + values[corner + 1] * dj
    high = values[corner + shape[1]] * (1 - dj) + values[corner + shape[1] + 1] * dj
    return np.asarray(low * (1 - di) + high * di)


def _build_table() -> DsdTable:
    dm = np.geomspace(DM_RANGE_MM[0], DM_RANGE_MM[1], _TABLE_SHAPE[0])
    mu = np.geomspace(MU_RANGE[0] + 4, MU_RANGE[1] + 4, _TABLE_SHAPE[1]) - 4
    grid_dm, grid_mu = (a.ravel() for a in np.meshgrid(dm, mu, indexing="ij"))
    m = integrate_dsd(grid_dm, grid_mu)
    rate = m["rain_rate"]
    columns = (
        10 * np.log10(m["zh"] / rate / grid_dm ** _POWERS["zh"]),
        10 * np.log10(m["zh"] / m["zv"]),
        m["kdp"] / rate / grid_dm ** _POWERS["kdp"],
        m["ah"] / rate / grid_dm ** _POWERS["ah"],
        (m["ah"] - m["av"]) / rate / grid_dm ** _POWERS["adp"],
    )
    return DsdTable(np.stack(columns, axis=-1).astype(np.float32), _TABLE_SHAPE)


@cache
def dsd_table() -> DsdTable:
    """Return the look-up table, built once per process (about 0.1 s)."""
    return _build_table()


def observe_rain(dm_mm: Array, mu: Array, rain_rate: Array) -> Observables:
    """Compute radar quantities of rain at C band (5.35 cm, 20 C water, Thurai 2007 drop shapes, canting 7 deg).

    Args:
        dm_mm: Mass-weighted mean drop diameter in mm, any shape; clipped to 0.45-3.6 mm.
        mu: Shape parameter of the gamma DSD, same shape; clipped to -1 ... 18.
        rain_rate: Rain rate in mm/h, same shape.
    """
    return dsd_table().look_up(np.asarray(dm_mm), np.asarray(mu), np.asarray(rain_rate))


def observe_spectra(number: Array, diameter_mm: Array, width_mm: Array) -> tuple[Array, Observables]:
    """Compute rain rate and radar quantities of measured drop spectra, with the same drops as `observe_rain`.

    Args:
        number: Number concentration in m^-3 mm^-1, (n, bins).
        diameter_mm: Centers of the bins in mm, (bins,); drops above 8 mm are left out.
        width_mm: Widths of the bins in mm, (bins,).

    Returns:
        Rain rate in mm/h, and radar quantities, (n,) each; zh and zdr are NaN without drops.
    """
    kept = (np.asarray(diameter_mm) > 0) & (np.asarray(diameter_mm) <= LARGEST_DROP_MM)
    d = np.asarray(diameter_mm, dtype=np.float64)[kept]
    drops = np.nan_to_num(np.asarray(number, dtype=np.float64)[:, kept]) * np.asarray(width_mm)[kept]
    m = {name: drops @ single(d) for name, single in _single_drops().items()}
    rain = 6e-4 * np.pi * (drops @ (d**3 * fall_speed(d)))
    with np.errstate(divide="ignore", invalid="ignore"):
        zh, zdr = 10 * np.log10(m["zh"]), 10 * np.log10(m["zh"] / m["zv"])
    zh[~np.isfinite(zh)] = np.nan
    return rain, Observables(zh, zdr, m["kdp"], m["ah"], m["ah"] - m["av"])


def log10_nw(dm_mm: Array, mu: Array, rain_rate: Array) -> Array:
    """Compute log10 of the intercept Nw (m^-3 mm^-1) that gives `rain_rate` (mm/h), for 1-d arrays."""
    return np.log10(np.asarray(rain_rate) / integrate_dsd(np.asarray(dm_mm), np.asarray(mu))["rain_rate"])
