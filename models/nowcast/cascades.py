"""Cascade nowcasts by pysteps, in which echo moves and evolves by spatial scale: S-PROG, ANVIL and STEPS.

If pysteps cannot fit the evolution, as for constant or unchanging fields, the plain extrapolation is used instead, the
limit of full persistence. All members of an ensemble are then equal.
"""

from dataclasses import dataclass
from math import log2, log10

import numpy as np

from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.nowcast.extrapolation import Extrapolation, ExtrapolationConfig
from polarcast.models.nowcast.pysteps_bridge import Fields, pysteps_library

_DBZ_AT_1_MM, _EXPONENT = 10 * log10(200), 1.6
"""Z = 200 R^1.6 (Marshall, Langille & Palmer 1947), in decibels: dBZ = 23.0 + 1.6 · 10 log10 R."""
_MIN_MMH = 10 ** (-_DBZ_AT_1_MM / _EXPONENT / 10)
"""Rain rate of 0 dBZ, the value of no echo."""
_DRY_BELOW_THRESHOLD = 5.0
"""Offset in dB of dry pixels below the rain-rate threshold, as in pysteps."""
_MIN_LEVELS = 3
_FIT_ERRORS = (ValueError, RuntimeError, IndexError)
"""Errors of pysteps: a scale without variance, a non-stationary or singular process, a single pixel."""


@dataclass
class CascadeConfig(ExtrapolationConfig):
    """Configuration of S-PROG, and base of the other cascade configurations."""

    ar_order: int = setting(2, ALWAYS, least=1, most=100)
    """Order of the autoregression in frames; pysteps recommends 1 or 2."""
    threshold: float = setting(0.1, ALWAYS, above=_MIN_MMH, most=1000)
    """Rain rate in mm/h, by Z = 200 R^1.6, below which input and forecast are dry; 0.1 is 7 dBZ."""
    levels: int = setting(6, ALWAYS, least=_MIN_LEVELS, most=100)
    """Number of spatial scales; on a small grid limited to the octaves of wavelength of its side, but at least 3."""


@dataclass
class ANVILConfig(CascadeConfig):
    """Configuration of ANVIL."""

    # With order 2, pysteps divides 0 by 0 where a scale does not change.
    ar_order: int = setting(1, ALWAYS, least=1, most=100)
    """Order of the autoregression of changes, in frames; pysteps recommends 1 or 2."""


@dataclass
class STEPSConfig(CascadeConfig):
    """Configuration of STEPS."""

    spacing_km: float = setting(1.0, ALWAYS, least=1e-3, most=1000)
    """Pixel size in km; with the time step, it sets the perturbation of motion and the spread of rain."""
    step_minutes: float = setting(6.0, ALWAYS, least=1e-3, most=10_000)
    """Time between frames in minutes."""


class CascadeNowcast(Extrapolation):
    """Base class of cascade methods: rain rates in dB, threshold, and fallback to extrapolation."""

    config: CascadeConfig
    extra_frames = 1
    """Frames that the autoregression needs in addition to its order."""

    @classmethod
    def frames_needed(cls, config: ExtrapolationConfig) -> int:
        """Return the minimum number of input frames."""
        assert isinstance(config, CascadeConfig)
        return max(config.motion_frames, config.ar_order + cls.extra_frames)

    @property
    def floor_dbz(self) -> float:
        """Reflectivity of the rain-rate threshold in dBZ."""
        return _DBZ_AT_1_MM + _EXPONENT * self._threshold_db

    def advance(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """Forecast one height; see `Extrapolation.advance`."""
        needed = self.config.ar_order + self.extra_frames
        try:
            return self.evolve(zh[-needed:], motion, members, seed)
        except _FIT_ERRORS:
            return self.extrapolate(zh, motion)

    def evolve(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """Forecast one height from the frames that the order needs; errors of pysteps are not caught."""
        raise NotImplementedError

    @property
    def _threshold_db(self) -> float:
        return 10 * log10(self.config.threshold)

    def _levels(self, zh: Fields) -> int:
        return max(_MIN_LEVELS, min(self.config.levels, int(log2(min(zh.shape[1:]) / 2))))

    def _rain_db(self, zh: Fields) -> Fields:
        """Convert dBZ to 10 log10 of the rain rate in mm/h, the input of S-PROG and STEPS in the pysteps examples."""
        rain = (zh - _DBZ_AT_1_MM) / _EXPONENT
        return np.where(rain >= self._threshold_db, rain, self._threshold_db - _DRY_BELOW_THRESHOLD)

    def _dbz(self, rain_db: Fields) -> Fields:
        """Convert rain rate in dB to dBZ, 0 below the threshold and for missing values."""
        return np.where(rain_db >= self._threshold_db, _DBZ_AT_1_MM + _EXPONENT * rain_db, 0)


class SPROG(CascadeNowcast):
    """S-PROG (Seed 2003): scales decay at their observed rates; the distribution of intensities is preserved."""

    def evolve(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """Return the forecast, (1, lead, y, x) in dBZ."""
        ahead = pysteps_library().sprog(
            self._rain_db(zh),
            motion,
            self.lead_frames,
            precip_thr=self._threshold_db,
            n_cascade_levels=self._levels(zh),
            ar_order=self.config.ar_order,
        )
        return self._dbz(ahead)[None]


class ANVIL(CascadeNowcast):
    """ANVIL (Pulkkinen et al. 2020): growth and decay continue, with rates that vary in space.

    It uses rain rates in mm/h, as in the pysteps example. Where an earlier frame, advected to the last one, has no
    data, ANVIL returns missing values; these are replaced by the plain extrapolation.
    """

    extra_frames = 2

    def evolve(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """Return the forecast, (1, lead, y, x) in dBZ."""
        rain_db = self._rain_db(zh)
        ahead = pysteps_library().anvil(
            np.where(rain_db >= self._threshold_db, 10 ** (rain_db / 10), 0),
            motion,
            self.lead_frames,
            n_cascade_levels=self._levels(zh),
            ar_order=self.config.ar_order,
        )
        # Dry pixels become -inf, below any threshold.
        return np.where(np.isfinite(ahead), self._dbz(10 * np.log10(ahead)), self.extrapolate(zh, motion))


class STEPS(CascadeNowcast):
    """STEPS (Bowler, Pierce & Seed 2006): decaying scales are replaced by noise, and motion is perturbed.

    All heights of a member use the same random numbers, so that a storm is displaced as a whole. Member k does not
    depend on the ensemble size. Rain that the previous frame lacks, or has only at the edge, is clutter to pysteps and
    forecast dry.
    """

    ensemble = True
    config: STEPSConfig

    def evolve(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """Return the forecast, (m, lead, y, x) in dBZ."""
        ahead = pysteps_library().steps(
            self._rain_db(zh),
            motion,
            self.lead_frames,
            n_ens_members=members,
            precip_thr=self._threshold_db,
            n_cascade_levels=self._levels(zh),
            ar_order=self.config.ar_order,
            kmperpixel=self.config.spacing_km,
            timestep=self.config.step_minutes,
            seed=seed,
        )
        return self._dbz(ahead)
