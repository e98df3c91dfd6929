"""Nowcasts of pysteps in which echo moves and changes, each spatial scale at its own pace: S-PROG, ANVIL and STEPS.

Where pysteps can't fit how echo changes, as on fields that are constant or don't change at all, the plain extrapolation
stands in, as it is the limit of full persistence; an ensemble's members are then all the same.
"""

from dataclasses import dataclass
from math import log2, log10

import numpy as np

from polarcast.data.errors import BadInput
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.nowcast.extrapolation import Extrapolation, ExtrapolationConfig, at_least
from polarcast.models.nowcast.pysteps_bridge import Fields, pysteps_library

_OF_1_MM, _EXPONENT = 10 * log10(200), 1.6
"""Z = 200 R^1.6 (Marshall, Langille & Palmer 1947), in decibels: dBZ = 23.0 + 1.6 · 10 log10 R."""
_DRY_BELOW_THRESHOLD = 5.0
"""A pixel without rain is so many dB of rain rate below the threshold, as pysteps has it."""
_FEWEST_LEVELS = 3
_NO_FIT = (ValueError, RuntimeError, IndexError)
"""Raised by pysteps: for a scale without variance, for a process that is not stationary or singular; for one pixel."""


@dataclass
class CascadeConfig(ExtrapolationConfig):
    """Configuration of S-PROG, and what others have in common with it."""

    ar_order: int = setting(2, ALWAYS)
    """Order of the autoregression, a number of frames; 1 or 2 is what pysteps advises."""
    threshold: float = setting(0.1, ALWAYS)
    """Rain rate in mm/h, by Z = 200 R^1.6, below which there is no rain, seen or forecast; 0.1 is 7 dBZ."""
    levels: int = setting(6, ALWAYS)
    """Number of spatial scales; on a small grid no more than its side has octaves of wavelength, but 3 at least."""

    def __post_init__(self) -> None:
        """Raises BadInput for a value that is too small."""
        super().__post_init__()
        at_least("ar_order", self.ar_order, 1)
        at_least("levels", self.levels, _FEWEST_LEVELS)
        if not 10 * log10(max(self.threshold, 1e-9)) > -_OF_1_MM / _EXPONENT:
            raise BadInput(
                f"no echo, 0 dBZ, is more than {self.threshold} mm/h", "model.threshold", "give 0.04 or more"
            )


@dataclass
class ANVILConfig(CascadeConfig):
    """Configuration of ANVIL."""

    # With order 2 pysteps divides 0 by 0 wherever a scale does not change.
    ar_order: int = setting(1, ALWAYS)
    """Order of the autoregression of changes, a number of frames; 1 or 2 is what pysteps advises."""


@dataclass
class STEPSConfig(CascadeConfig):
    """Configuration of STEPS."""

    spacing_km: float = setting(1.0, ALWAYS)
    """Side of a pixel in km: with the time step, how far motion is perturbed and rain may spread."""
    step_minutes: float = setting(6.0, ALWAYS)
    """Time from frame to frame in minutes."""

    def __post_init__(self) -> None:
        """Raises BadInput for a value that is too small."""
        super().__post_init__()
        _positive("spacing_km", self.spacing_km)
        _positive("step_minutes", self.step_minutes)


class CascadeNowcast(Extrapolation):
    """What these methods share: rain rates in dB, with a threshold, and a way out."""

    config: CascadeConfig
    frames_besides_order = 1
    """Frames that the autoregression needs besides its order."""

    @classmethod
    def frames_needed(cls, config: ExtrapolationConfig) -> int:
        """Fewest frames that must be seen."""
        assert isinstance(config, CascadeConfig)
        return max(config.motion_frames, config.ar_order + cls.frames_besides_order)

    @property
    def floor_dbz(self) -> float:
        """Reflectivity of the rain-rate threshold."""
        return _OF_1_MM + _EXPONENT * self._threshold_db

    def advance(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """The frames to come at one height, as `Extrapolation.advance`."""
        needed = self.config.ar_order + self.frames_besides_order
        try:
            return self.changed(zh[-needed:], motion, members, seed)
        except _NO_FIT:
            return self.carried(zh, motion)

    def changed(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """As `advance`, from as many frames as the order needs; raises what pysteps does where it can't fit."""
        raise NotImplementedError

    @property
    def _threshold_db(self) -> float:
        return 10 * log10(self.config.threshold)

    def _levels(self, zh: Fields) -> int:
        return max(_FEWEST_LEVELS, min(self.config.levels, int(log2(min(zh.shape[1:]) / 2))))

    def _rain_db(self, zh: Fields) -> Fields:
        """10 log10 of the rain rate in mm/h, as pysteps' examples feed S-PROG and STEPS."""
        rain = (zh - _OF_1_MM) / _EXPONENT
        return np.where(rain >= self._threshold_db, rain, self._threshold_db - _DRY_BELOW_THRESHOLD)

    def _dbz(self, rain_db: Fields) -> Fields:
        """Back to dBZ, with 0 below the threshold and where pysteps has no number."""
        return np.where(rain_db >= self._threshold_db, _OF_1_MM + _EXPONENT * rain_db, 0)


class SPROG(CascadeNowcast):
    """S-PROG (Seed 2003): scales fade as fast as they were seen to; intensities stay distributed as they were."""

    def changed(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """(1, lead, y, x) in dBZ."""
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
    """ANVIL (Pulkkinen et al. 2020): scales go on growing or decaying, which differs from place to place.

    It runs on rain rates in mm/h, as in pysteps' example. It has no number wherever an earlier frame did not see what
    the last one did, having been moved up; the plain extrapolation stands in there.
    """

    frames_besides_order = 2

    def changed(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """(1, lead, y, x) in dBZ."""
        rain_db = self._rain_db(zh)
        ahead = pysteps_library().anvil(
            np.where(rain_db >= self._threshold_db, 10 ** (rain_db / 10), 0),
            motion,
            self.lead_frames,
            n_cascade_levels=self._levels(zh),
            ar_order=self.config.ar_order,
        )
        # Dry pixels become -inf, which is below any threshold.
        return np.where(np.isfinite(ahead), self._dbz(10 * np.log10(ahead)), self.carried(zh, motion))


class STEPS(CascadeNowcast):
    """STEPS (Bowler, Pierce & Seed 2006): scales fade and noise takes their place; motion is perturbed, too.

    All heights of a member have the same random numbers, so that a storm is displaced as one. Member k is the same
    however many are asked for. Rain that the frame before did not have at all, or at the very edge alone, is clutter to
    pysteps: it is forecast dry.
    """

    ensemble = True
    config: STEPSConfig

    def changed(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """(m, lead, y, x) in dBZ."""
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


def _positive(key: str, value: float) -> None:
    if not value > 0:
        raise BadInput(f"must be positive, got {value}", f"model.{key}", "give a larger value")
