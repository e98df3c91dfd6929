"""Retrieve KDP from the unfolded differential phase, by the method of choice."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from polarcast.data.errors import BadInput
from polarcast.data.ingest.volumes.censor import window_gates
from polarcast.data.ingest.volumes.phase import smoothing_gates
from polarcast.data.ingest.volumes.pyart_bridge import pyart_library, to_pyart
from polarcast.data.ingest.volumes.volume import Mask, Real, Sweep

FROM_FILE = "file"
"""Take KDP from the files only, and never retrieve it."""
KDP_WINDOW_KM = 4.0
KDP_ITERATIONS = 2
"""Chosen from windows of 3 to 7 km and 2 or 10 iterations, on phases of known KDP with 3° of noise and 250 m gates.

The RMSE is 0.17 deg/km where KDP is 0.3–1 deg/km, without bias. Cores of 2 deg/km keep four fifths of their value in
storms of 6 km radius or more, and two thirds in those of 4 km.
"""
_MAESAKA_LENGTH_M, _MAESAKA_ITERATIONS, _MAESAKA_GATES = 6000.0, 200, 20
"""Length scale of the smoothness term, which makes it independent of the gate spacing; iterations; gates at either end
that set the boundary conditions (Py-ART's default). Chosen as the window, of 2.5 to 8 km and 50 to 1500 iterations."""
_MAESAKA_SPACING_M = 500.0
"""Smallest gate spacing. The iteration does not converge on shorter gates: cores of 2 deg/km lose half on 100 m."""
_SCHNEEBELI_SPACING_M = 150.0
"""Largest gate spacing of the filter. Py-ART undoes its delay by 13 gates, whatever their length: cores of 2 deg/km
are lost on gates of 1 km, and half a deg/km on gates of 250 m."""
_SCHNEEBELI_MARGIN_M = 3000.0
_UNFOLDED_MOST_DEG = 360.0
"""Phase beyond which wradlib discards gates."""
_PLAUSIBLE_DEG_PER_KM = {"S": 14.0, "C": 20.0, "X": 40.0}
"""KDP from which Vulpiani's method takes a value for an artefact, by band, as in Py-ART (retrieve/kdp_proc.py)."""

Phase = npt.NDArray[np.float64]
Retrieval = Callable[[Sweep, Real, Mask, str], npt.NDArray[Any]]


@dataclass(frozen=True)
class KdpMethod:
    """One way to retrieve KDP.

    Attributes:
        description: Name with the source, for the event's note.
        package: Package that has it, as on PyPI.
        retrieve: (sweep, unfolded phase (a, r), echo (a, r), band) → KDP (a, r) in deg/km.
        settings: Settings for the event's note.
    """

    description: str
    package: str
    retrieve: Retrieval
    settings: dict[str, float] = field(default_factory=dict)


def check_method(name: str) -> None:
    """Check that a method exists and is installed.

    Raises:
        BadInput: The method is unknown, or its package is not installed.
    """
    if name not in (*METHODS, FROM_FILE):
        raise BadInput(f"unknown KDP method {name!r}", "--kdp", f"choose from: {', '.join((*METHODS, FROM_FILE))}")
    if name == "wradlib" and find_spec("wradlib") is None:
        raise BadInput("wradlib is not installed", "--kdp", "pip install wradlib")


def retrieve_kdp(sweep: Sweep, phase: Real, echo: Mask, band: str, method: str = "vulpiani") -> Sweep:
    """Add kdp in deg/km to the sweep; NaN where there is no echo, and everywhere if rays are too short.

    Args:
        sweep: Sweep that the phase belongs to.
        phase: (a, r) in degrees from `unfolded_phase`: no folds, no gaps, zero at the start of each ray.
        echo: (a, r), gates with precipitation.
        band: S, C or X.
        method: Name in `METHODS`.

    Raises:
        BadInput: The method's package is not installed.
    """
    chosen = METHODS[method]
    if phase.shape[1] <= _window(sweep):
        return replace(sweep, fields={**sweep.fields, "kdp": np.full_like(phase, np.nan)})
    kdp = chosen.retrieve(sweep, phase, echo, band)
    return replace(sweep, fields={**sweep.fields, "kdp": np.where(echo, kdp, np.nan).astype(np.float32)})


def retrieval_note(sweep: Sweep, method: str = "vulpiani") -> dict[str, Any]:
    """Return the library, method and settings of the KDP retrieval for the event's note."""
    chosen = METHODS[method]
    return {
        "library": f"{chosen.package} {version(chosen.package)}",
        "kdp": f"{chosen.description} on the unfolded, median-filtered phase",
        **chosen.settings,
        "median_gates": smoothing_gates(sweep),
    }


def _window(sweep: Sweep) -> int:
    """Return the window in gates; even, as Vulpiani's method requires."""
    return 2 * max(1, round(window_gates(sweep, KDP_WINDOW_KM) / 2))


def _vulpiani(sweep: Sweep, phase: Real, echo: Mask, band: str) -> npt.NDArray[Any]:
    """Return KDP by Vulpiani's method, with the phase continued beyond both ends of the rays.

    Py-ART writes 0 over half a window at the ends, and its iterations lower the gates next to it. The continuation
    mirrors the phase at the end in distance and value, which keeps its slope.
    """
    gates, window = phase.shape[1], _window(sweep)
    beyond = min(3 * window // 2, gates - 1)
    long = np.pad(phase, ((0, 0), (beyond, beyond)), mode="reflect", reflect_type="odd").astype(phase.dtype)
    ranges = (_spacing_m(sweep) * np.arange(long.shape[1])).astype(np.float32)
    kdp, _ = pyart_library().retrieve.kdp_vulpiani(
        to_pyart(replace(sweep, range_m=ranges, fields={}), {"differential_phase": long}),
        psidp_field="differential_phase", band=band, windsize=window, n_iter=KDP_ITERATIONS,
    )  # fmt: skip
    return np.asarray(np.ma.filled(kdp["data"], np.nan)[:, beyond : beyond + gates])


def _wradlib(sweep: Sweep, phase: Real, echo: Mask, band: str) -> npt.NDArray[Any]:
    """Return KDP by wradlib; its own unfolding is off, because the phase is unfolded already."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from wradlib.dp import phidp_kdp_vulpiani
    except ImportError as error:
        raise BadInput(f"{error.name} is not installed", "--kdp", "pip install wradlib") from None
    _, kdp = phidp_kdp_vulpiani(
        phase.astype(np.float64), dr=_spacing_m(sweep) / 1000, winlen=_window(sweep) + 1, niter=KDP_ITERATIONS,
        copy=True, th2=_PLAUSIBLE_DEG_PER_KM[band], th3=-np.inf,
    )  # fmt: skip
    return np.where(phase > _UNFOLDED_MOST_DEG, np.nan, kdp)


def _maesaka(sweep: Sweep, phase: Real, echo: Mask, band: str) -> npt.NDArray[Any]:
    """Return KDP by Maesaka's method, which is never negative; the phase has no system phase left to check."""
    spacing = max(_MAESAKA_SPACING_M, _spacing_m(sweep))
    averaged = uniform_filter1d(phase.astype(np.float64), max(1, round(spacing / _spacing_m(sweep))), axis=1)
    gates = _gates(sweep, spacing)

    def retrieved(rays: Sweep, chosen: Phase) -> npt.NDArray[Any]:
        kdp, _, _ = pyart_library().retrieve.kdp_maesaka(
            to_pyart(rays, {"differential_phase": chosen}), psidp_field="differential_phase", check_outliers=False,
            length_scale=_MAESAKA_LENGTH_M, maxiter=_MAESAKA_ITERATIONS, n=min(_MAESAKA_GATES, len(gates) // 2),
        )  # fmt: skip
        return np.ma.filled(kdp["data"], np.nan)

    return _on_gates(sweep, gates, _interpolated(gates, sweep.range_m, averaged), retrieved)


def _schneebeli(sweep: Sweep, phase: Real, echo: Mask, band: str) -> npt.NDArray[Any]:
    """Return KDP by Schneebeli's Kalman filters; only of the echo and a margin, because they are slow."""
    gates = _gates(sweep, min(_SCHNEEBELI_SPACING_M, _spacing_m(sweep)))
    near = np.stack([_is_near(gates, sweep.range_m[ray]) for ray in echo])

    def retrieved(rays: Sweep, chosen: Phase) -> npt.NDArray[Any]:
        with _reproducible_noise():
            kdp, _, _ = pyart_library().retrieve.kdp_schneebeli(
                to_pyart(rays, {"differential_phase": chosen}), psidp_field="differential_phase", band=band,
                parallel=False,
            )  # fmt: skip
        return np.ma.filled(kdp["data"], np.nan)

    long = _interpolated(gates, sweep.range_m, phase)
    return _on_gates(sweep, gates, np.where(near, long, np.nan), retrieved)


def _on_gates(sweep: Sweep, gates: Phase, phase: Phase, retrieved: Callable[[Sweep, Phase], npt.NDArray[Any]]) -> Phase:
    """Return KDP at the gates of the sweep, from the phase at other gates.

    Rays without a phase, which have too little echo, have no KDP either: 0.
    """
    out = np.zeros((len(phase), len(sweep.range_m)))
    has_phase = np.nan_to_num(phase).any(axis=1)
    if has_phase.any():
        rays = replace(
            sweep, azimuth_deg=sweep.azimuth_deg[has_phase], elevation_deg=sweep.elevation_deg[has_phase],
            range_m=gates.astype(np.float32), fields={}, unseen=None,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kdp = retrieved(rays, phase[has_phase])
        out[has_phase] = _interpolated(sweep.range_m, gates, kdp)
    return out


def _gates(sweep: Sweep, spacing_m: float) -> Phase:
    """Return the ranges of gates of this spacing over the length of the sweep."""
    first, last = float(sweep.range_m[0]), float(sweep.range_m[-1])
    return np.arange(first, last + spacing_m / 2, spacing_m)


def _is_near(gates: Phase, echo_m: Real) -> npt.NDArray[np.bool_]:
    """Whether gates are between the first and the last echo, or a little beyond."""
    if len(echo_m) == 0:
        return np.zeros(len(gates), bool)
    return (gates >= echo_m[0] - _SCHNEEBELI_MARGIN_M) & (gates <= echo_m[-1] + _SCHNEEBELI_MARGIN_M)


def _interpolated(at: npt.NDArray[Any], ranges: npt.NDArray[Any], values: npt.NDArray[Any]) -> Phase:
    """Return values (a, r) at other ranges; NaN is left out, and the ends are extended."""
    valid = np.isfinite(values)
    rays = zip(values, valid, strict=True)
    return np.stack([np.interp(at, ranges[v], ray[v]) if v.any() else np.zeros(len(at)) for ray, v in rays])


@contextmanager
def _reproducible_noise() -> Iterator[None]:
    """Seed the global generator, from which Py-ART pads the rays with noise, and restore its state."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _spacing_m(sweep: Sweep) -> float:
    return float(np.diff(sweep.range_m).mean())


METHODS = {
    "vulpiani": KdpMethod(
        "kdp_vulpiani (Vulpiani et al. 2012, doi:10.1175/JAMC-D-10-05024.1)", "arm_pyart", _vulpiani,
        {"window_km": KDP_WINDOW_KM, "iterations": KDP_ITERATIONS},
    ),
    "maesaka": KdpMethod(
        "kdp_maesaka (Maesaka et al. 2012, ERAD; rain only: never negative)", "arm_pyart", _maesaka,
        {
            "length_km": _MAESAKA_LENGTH_M / 1000, "iterations": _MAESAKA_ITERATIONS,
            "least_spacing_m": _MAESAKA_SPACING_M,
        },
    ),
    "schneebeli": KdpMethod(
        "kdp_schneebeli (Schneebeli et al. 2014, doi:10.1109/TGRS.2013.2287017)", "arm_pyart", _schneebeli,
        {"largest_spacing_m": _SCHNEEBELI_SPACING_M},
    ),
    "wradlib": KdpMethod(
        "phidp_kdp_vulpiani (Vulpiani et al. 2012, doi:10.1175/JAMC-D-10-05024.1)", "wradlib", _wradlib,
        {"window_km": KDP_WINDOW_KM, "iterations": KDP_ITERATIONS},
    ),
}  # fmt: skip
"""Methods by the name in `--kdp`."""
