"""Script that makes the single-drop scattering table `drop_table_c_band.npz` in this folder.

Run `python -m polarcast.data.synth.make_drop_table`. It needs rustmatrix (a T-matrix code, `pip install rustmatrix`),
which nothing else in the project uses.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

WAVELENGTH_MM = 53.5
WATER_INDEX_20C = complex(8.633, 1.289)
CANTING_DEG = 7.0
DIELECTRIC_FACTOR = 0.93
DIAMETERS_MM = np.linspace(0.1, 8.0, 161)
TABLE = Path(__file__).with_name("drop_table_c_band.npz")

_BACKWARD = (90.0, 90.0, 0.0, 180.0, 0.0, 0.0)
_FORWARD = (90.0, 90.0, 0.0, 0.0, 0.0, 0.0)


def axis_ratio(diameter_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Axis ratio, vertical / horizontal, of a raindrop.

    Source: Thurai et al. 2007, J. Atmos. Oceanic Technol. 24, eqs. 2-4.
    """
    d = diameter_mm
    small = 1.173 - 0.5165 * d + 0.4698 * d**2 - 0.1317 * d**3 - 0.0085 * d**4
    large = 1.065 - 0.0625 * d - 0.00399 * d**2 + 7.66e-4 * d**3 - 4.095e-5 * d**4
    return np.select([d < 0.7, d <= 1.5], [np.ones_like(d), small], large)


def scatter_one(diameter_mm: float, ratio: float, index: complex = WATER_INDEX_20C) -> tuple[float, ...]:
    """Compute the scattering of one drop per cubic meter, averaged over canting angles.

    Returns:
        zh and zv (mm^6 m^-3), the co-polar covariance amplitude in the same unit (for rho_hv), kdp (deg/km), and
        specific attenuation ah and av (dB/km).
    """
    from rustmatrix import Scatterer, orientation, radar

    drop = Scatterer(radius=diameter_mm / 2, wavelength=WAVELENGTH_MM, m=index, axis_ratio=1 / ratio)
    drop.Kw_sqr = DIELECTRIC_FACTOR
    drop.orient = orientation.orient_averaged_fixed
    drop.or_pdf = orientation.gaussian_pdf(CANTING_DEG)
    drop.n_alpha, drop.n_beta = 10, 20
    drop.set_geometry(_BACKWARD)
    zh, zv = radar.refl(drop, True), radar.refl(drop, False)
    covariance = radar.rho_hv(drop) * float(np.sqrt(zh * zv))
    drop.set_geometry(_FORWARD)
    return zh, zv, covariance, radar.Kdp(drop), radar.Ai(drop, True), radar.Ai(drop, False)


def make_table() -> dict[str, npt.NDArray[np.float64]]:
    """Compute the table: `diameter_mm` and the six quantities of `scatter_one`, each (161,)."""
    ratios = axis_ratio(DIAMETERS_MM)
    rows = np.array([scatter_one(float(d), float(r)) for d, r in zip(DIAMETERS_MM, ratios, strict=True)])
    names = ("zh", "zv", "covariance", "kdp", "ah", "av")
    return {"diameter_mm": DIAMETERS_MM, **dict(zip(names, rows.T, strict=True))}


if __name__ == "__main__":
    np.savez(TABLE, **make_table())  # type: ignore[arg-type]  # numpy types the keyword `allow_pickle` as bool
    print(f"wrote {TABLE} ({TABLE.stat().st_size} bytes)")
