"""Attenuation by rain: correct reflectivity and ZDR, and compute specific attenuation, with the differential phase."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep

NO_CORRECTION = "none"
SPECIFIC_ATTENUATION = "ah"
"""Name of the field of specific attenuation in dB/km, one way."""
RAIN_BELOW_M = 4000.0
"""Height above sea level below which echo is taken for rain by ZPHI: the freezing level that Py-ART assumes."""
# Two-way attenuation of ZH and ZDR in dB per degree of differential phase, by band: the coefficients of Py-ART
# (correct/attenuation.py, _param_attphilinear_table).
_DB_PER_DEG = {"S": (0.04, 0.004), "C": (0.08, 0.03), "X": (0.28, 0.04)}
# a: two-way attenuation in dB per degree; b: exponent of A ~ Z^b; c, d: of ADP = c A^d, dB/km. The coefficients of
# Py-ART (_param_attzphi_table).
_ZPHI = {
    "S": (0.02, 0.64884, 0.15917, 1.0804),
    "C": (0.08, 0.64884, 0.3, 1.0804),
    "X": (0.31916, 0.64884, 0.15917, 1.0804),
}
_LAST_GATES = 5
_NEPER = 0.2 * np.log(10)
"""Twice the attenuation in nepers of a decibel: A in dB/km is -(1/_NEPER) d ln(Z) / dr for two-way attenuation."""
_EARTH_M = 4 / 3 * 6_371_000.0
"""Radius of the earth at which beams are straight, in the standard atmosphere."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PhasedSweep:
    """What a correction uses of a sweep.

    Attributes:
        sweep: Sweep with zh, and with zdr if measured.
        phase: (a, r) in degrees from `unfolded_phase`.
        echo: (a, r), gates with precipitation.
        altitude_m: Of the radar above sea level.
    """

    sweep: Sweep
    phase: Real
    echo: Mask
    altitude_m: float


def check_method(name: str) -> None:
    """Check that a method exists. Raises BadInput if it doesn't."""
    known = (NO_CORRECTION, *METHODS)
    if name not in known:
        raise BadInput(f"unknown attenuation correction {name!r}", "--attenuation", f"choose from: {', '.join(known)}")


def correct_attenuation(rays: PhasedSweep, band: str, method: str = "linear") -> Sweep:
    """Return the sweep with zh and zdr corrected for attenuation by rain; never lowers them.

    Args:
        rays: Sweep, its unfolded phase and its echo.
        band: S, C or X.
        method: Name in `METHODS`.
    """
    lost = METHODS[method].path_attenuation(rays, band)
    fields = rays.sweep.fields
    corrected = {name: (fields[name] + db).astype(np.float32) for name, db in lost.items() if name in fields}
    return replace(rays.sweep, fields={**fields, **corrected})


def with_specific_attenuation(rays: PhasedSweep, band: str, of: Sweep) -> Sweep:
    """Add the specific attenuation by ZPHI in dB/km, one way, to the sweep `of`; NaN without echo below `RAIN_BELOW_M`.

    Args:
        rays: Sweep as measured, its unfolded phase and its echo.
        band: S, C or X.
        of: Sweep that gets the field; it may be corrected already.
    """
    specific, _ = zphi(rays, band)
    values = np.where(rays.echo & (heights_m(rays) < RAIN_BELOW_M), specific, np.nan).astype(np.float32)
    return replace(of, fields={**of.fields, SPECIFIC_ATTENUATION: values})


def attenuation_note(band: str, method: str) -> dict[str, Any]:
    """Return the method and its coefficients for the event's note."""
    return {"method": METHODS[method].description, "band": band, **METHODS[method].coefficients(band)}


def zphi(rays: PhasedSweep, band: str) -> tuple[Values, Values]:
    """Return the specific attenuation of zh in dB/km, one way, and its two-way sum along the path in dB; (a, r) each.

    The total is a ΔΦ, and Z^b tells where along the ray it is lost:

        A(r) = Z(r)^b C / (I(0) + C I(r)),  I(r) = 0.46 b ∫_r^end Z^b dr,  C = 10^(0.1 b a ΔΦ) − 1

    with the measured, attenuated Z (Testud et al. 2000, J. Atmos. Oceanic Technol. 17, eqs. 14–17). Its sum along the
    path is (10 / b) log10[(1 + C) I(0) / (I(0) + C I(r))].

    Only echo below `RAIN_BELOW_M` attenuates. Py-ART's function of this name adds a ΔΦ to Z before, and so moves
    attenuation away from the radar, by up to a third where it totals 3 dB; the totals agree.
    """
    a, b, _, _ = _ZPHI[band]
    rain = rays.echo & np.isfinite(rays.sweep.fields["zh"]) & (heights_m(rays) < RAIN_BELOW_M)
    power = np.where(rain, 10 ** (0.1 * b * np.where(rain, rays.sweep.fields["zh"], 0).astype(np.float64)), 0.0)
    beyond = _NEPER * b * _to_the_end(power, np.diff(rays.sweep.range_m).mean() / 1000)
    growth = 10 ** (0.1 * b * a * _total_phase(rays.phase, rain))[:, None] - 1
    whole = beyond[:, :1]
    denominator = np.where(whole > 0, whole + growth * beyond, 1.0)
    path = 10 / b * np.log10(np.where(whole > 0, (1 + growth) * whole / denominator, 1.0))
    return power * growth / denominator, np.maximum(path, 0)


def heights_m(rays: PhasedSweep) -> Values:
    """Return the heights of the gates above sea level, (a, r) in metres (Doviak & Zrnić 1993, eq. 2.28b)."""
    angle = np.deg2rad(rays.sweep.elevation_deg.astype(np.float64))[:, None]
    distance = rays.sweep.range_m.astype(np.float64)[None]
    above = np.sqrt(distance**2 + _EARTH_M**2 + 2 * distance * _EARTH_M * np.sin(angle)) - _EARTH_M
    return np.asarray(above + rays.altitude_m)


def _total_phase(phase: Real, rain: Mask) -> Values:
    """Return the phase at the end of each ray's rain, (a,) in degrees: the median of its last gates, at least 0."""
    rays = zip(phase, rain, strict=True)
    ends = [np.median(ray[valid][-_LAST_GATES:]) if valid.any() else 0.0 for ray, valid in rays]
    return np.maximum(np.array(ends, dtype=np.float64), 0)


def _to_the_end(values: Values, step: float) -> Values:
    """Return the integral of values (a, r) from each gate to the end of the ray (trapezoids)."""
    pieces = (values[:, 1:] + values[:, :-1]) / 2 * step
    return np.concatenate([np.cumsum(pieces[:, ::-1], axis=1)[:, ::-1], np.zeros((len(values), 1))], axis=1)


def _of_phase(rays: PhasedSweep, band: str) -> dict[str, Any]:
    accumulated = np.maximum.accumulate(np.maximum(rays.phase, 0), axis=1)
    return {name: a * accumulated for name, a in zip(("zh", "zdr"), _DB_PER_DEG[band], strict=True)}


def _of_zphi(rays: PhasedSweep, band: str) -> dict[str, Any]:
    """Return two-way attenuation and differential attenuation, the sum of ADP = c A^d along the path."""
    specific, path = zphi(rays, band)
    _, _, c, d = _ZPHI[band]
    differential = c * specific**d
    step = np.diff(rays.sweep.range_m).mean() / 1000
    before = np.concatenate(
        [np.zeros((len(specific), 1)), np.cumsum(differential[:, 1:] + differential[:, :-1], axis=1) * step], axis=1
    )
    return {"zh": path, "zdr": before}


@dataclass(frozen=True)
class AttenuationMethod:
    """One way to correct attenuation.

    Attributes:
        description: Name with the source, for the event's note.
        path_attenuation: (rays, band) → two-way loss of zh and zdr in dB, (a, r) by name; never negative.
        coefficients: Coefficients of a band for the event's note.
    """

    description: str
    path_attenuation: Callable[[PhasedSweep, str], dict[str, Any]]
    coefficients: Callable[[str], dict[str, Any]]


def _zphi_coefficients(band: str) -> dict[str, Any]:
    return {**dict(zip("abcd", _ZPHI[band], strict=True)), "rain_below_m": RAIN_BELOW_M}


METHODS = {
    "linear": AttenuationMethod(
        "linear in the differential phase (Bringi et al. 1990)", _of_phase, lambda _: {}
    ),
    "zphi": AttenuationMethod(
        "ZPHI (Testud et al. 2000, doi:10.1175/1520-0426(2000)017<0332:TRPAAT>2.0.CO;2), with Py-ART's coefficients",
        _of_zphi, _zphi_coefficients,
    ),
}  # fmt: skip
"""Methods by the name in `--attenuation`."""
