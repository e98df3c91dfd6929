"""Ice at 7 km, above the melting layer: lifted by the updraft, sheared ahead of the rain below.

Z = 200 A^1.6 less 8-13 dB for ice of rain-equivalent content A; ZDR falls as aggregates and graupel grow,
and rises in strong updrafts (the ZDR column); KDP rises with Z (values of dendritic growth layers and
anvils, e.g. Kumjian 2013, J. Operational Meteor. 1).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ice:
    """What a radar sees at 7 km, each (y, x)."""

    zh: Real
    """dBZ."""
    zdr: Real
    """dB."""
    kdp: Real
    """deg/km."""


def observe_ice(
    content: Real, updraft: Real, deficit_db: float, zdr_db: float = 0.25, kdp_deg_km: float = 0.055
) -> Ice:
    """Radar quantities of ice.

    Args:
        content: Rain-equivalent ice content, mm/h, (y, x).
        updraft: Strength of the updraft, 0-1, (y, x).
        deficit_db: How much weaker than rain of the same content ice reflects, dB.
        zdr_db: ZDR at 20 dBZ without updraft.
        kdp_deg_km: KDP at 20 dBZ.
    """
    f = np.float32
    zh = f(23.0103 - deficit_db) + f(16.0) * np.log10(np.maximum(content, f(1e-6)))
    zdr = f(zdr_db) - f(0.012) * (zh - 20) + f(0.8) * np.maximum(updraft - f(0.6), 0)
    kdp = np.minimum(f(kdp_deg_km) * np.exp(f(0.045 * np.log(10)) * (zh - 20)), f(1.2))
    return Ice(zh, zdr, kdp)
