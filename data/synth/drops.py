"""Prior of the drop-size distribution (DSD) given the rain rate.

ln Dm = ln(a R^b) + delta with delta ~ N(0, sd). mu = Dm^-0.72 / s^2 - 4 with s ~ LN(s_median, s_sd), clipped. The
width of measured spectra depends on their mean diameter in this way (Ulbrich & Atlas 1998; Williams et al. 2014,
J. Appl. Meteor. Climatol. 53).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polarcast.data.synth.scattering import MU_RANGE

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class DropPrior:
    """Climatology of drop sizes."""

    dm_coefficient_mm: float = 1.15
    """Median Dm at 1 mm/h, mm."""
    dm_exponent: float = 0.14
    """Slope of ln Dm against ln R."""
    dm_sd: float = 0.20
    """Standard deviation of ln Dm at a given rain rate."""
    width_median: float = 0.31
    """Median of the normalized spectral width s, mm^-0.36."""
    width_sd: float = 0.15
    """Standard deviation of ln s."""

    def dm(self, rain_rate: Array, delta: Array | float) -> Array:
        """Mass-weighted mean diameter in mm at `rain_rate` (mm/h); `delta` is the deviation of ln Dm."""
        ln_dm = np.log(self.dm_coefficient_mm) + self.dm_exponent * np.log(np.maximum(rain_rate, 0.01)) + delta
        return np.exp(ln_dm)

    def mu(self, dm_mm: Array, width_deviate: Array | float) -> Array:
        """Shape parameter mu; `width_deviate` is a standard normal deviate of ln s."""
        width = self.width_median * np.exp(self.width_sd * np.asarray(width_deviate))
        return np.clip(np.asarray(dm_mm) ** -0.72 / width**2 - 4, *MU_RANGE)
