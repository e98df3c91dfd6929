"""Radar quantities of ice at 7 km, above the melting layer.

Z = 200 A^1.6 minus 8-13 dB for ice of rain-equivalent content A. ZDR decreases as aggregates and graupel grow, and
increases in strong updrafts (the ZDR column). KDP increases with Z, with values of dendritic growth layers and anvils
(e.g. Kumjian 2013, J. Operational Meteor. 1).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ice:
    """Radar quantities at 7 km, each (y, x)."""

    zh: Real
    """Reflectivity, dBZ."""
    zdr: Real
    """Differential reflectivity, dB."""
    kdp: Real
    """Specific differential phase, deg/km."""


def observe_ice(
    content: Real, updraft: Real, deficit_db: float, zdr_db: float = 0.25, kdp_deg_km: float = 0.055
) -> Ice:
    """Compute the radar quantities of ice.

    Args:
        content: Rain-equivalent ice content, mm/h, (y, x).
        updraft: Updraft strength, 0-1, (y, x).
        deficit_db: Reflectivity of rain minus that of ice with the same content, dB.
        zdr_db: ZDR at 20 dBZ without updraft, dB.
        kdp_deg_km: KDP at 20 dBZ, deg/km.
    """
    f = np.float32
    zh = f(23.0103 - deficit_db) + f(16.0) * np.log10(np.maximum(content, f(1e-6)))
    zdr = f(zdr_db) - f(0.012) * (zh - 20) + f(0.8) * np.maximum(updraft - f(0.6), 0)
    kdp = np.minimum(f(kdp_deg_km) * np.exp(f(0.045 * np.log(10)) * (zh - 20)), f(1.2))
    return Ice(zh, zdr, kdp)
