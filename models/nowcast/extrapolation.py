"""Lagrangian persistence by pysteps (Pulkkinen et al. 2019), without training.

Each height is forecast independently. Motion is estimated by tracking features between frames (Lucas & Kanade 1981),
and echo is advected by a backward semi-Lagrangian scheme (Germann & Zawadzki 2002). Echo entering from outside the grid
is unknown and forecast as no echo.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.diffusion.random_numbers import forecast_keys
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.nowcast.pysteps_bridge import Fields, contained, pysteps_library

_SEED_MASK = 2**32 - 1
"""pysteps accepts 32-bit seeds only."""


@dataclass
class ExtrapolationConfig:
    """Configuration of Lagrangian persistence."""

    motion_frames: int = setting(3, ALWAYS, least=2, most=1000)
    """Number of last frames used to estimate motion, 2 or more."""


class Extrapolation(Forecaster):
    """Lagrangian persistence: the last input frame advected along its motion.

    The random numbers of stochastic subclasses depend only on seed, event and first frame.
    """

    ensemble = False
    """Whether the method makes the requested number of members; otherwise it makes one."""

    def __init__(self, config: ExtrapolationConfig, inputs: InputSpec) -> None:
        """Raise BadInput without zh, with too few frames, or if pysteps is not installed."""
        super().__init__()
        if "zh" not in inputs.variables:
            raise BadInput("extrapolation needs zh, which is not an input", "data.variables", "add zh")
        if inputs.frames < (least := self.frames_needed(config)):
            raise BadInput(f"{inputs.frames} input frames are too few", "data.seen_frames", f"give {least} or more")
        pysteps_library()
        self.config, self.lead_frames = config, inputs.lead_frames

    @classmethod
    def frames_needed(cls, config: ExtrapolationConfig) -> int:
        """Return the minimum number of input frames."""
        return config.motion_frames

    @property
    def floor_dbz(self) -> float:
        """Reflectivity in dBZ; a height whose last frame does not exceed it is forecast dry."""
        return 0.0

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return zh in dBZ, (b, m, t, z, y, x) float32, 0 where there is no echo. Raises ValueError without zh."""
        zh, members = batch.variable("zh"), members if self.ensemble else 1
        if zh.is_meta:
            # Meta tensors, used to count shapes and FLOPs, have no values.
            return zh.new_empty(len(batch), members, self.lead_frames, *zh.shape[2:], dtype=torch.float32)
        observed = zh.detach().double().nan_to_num(0).clamp(min=0).transpose(1, 2).cpu().numpy()
        seeds = [key & _SEED_MASK for key in forecast_keys(batch, seed, 0)]
        with contained():
            ahead = [[self._height(z, members, s) for z in window] for window, s in zip(observed, seeds, strict=True)]
        return torch.from_numpy(np.stack(ahead, dtype=np.float32)).to(zh.device).permute(0, 2, 3, 1, 4, 5)

    def advance(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """Forecast one height.

        Args:
            zh: Input frames, (t, y, x) in dBZ, 0 where there is no echo.
            motion: Motion to the right and down, (2, y, x) in pixels per frame.
            members: Requested ensemble size.
            seed: 32-bit random seed.

        Returns:
            Forecast, (m or 1, lead, y, x) in dBZ, finite.
        """
        return self.extrapolate(zh, motion)

    def extrapolate(self, zh: Fields, motion: Fields) -> Fields:
        """Advect the last of the frames (t, y, x) to the lead times, (1, lead, y, x) in dBZ."""
        return np.nan_to_num(pysteps_library().extrapolation(zh[-1], motion, self.lead_frames))[None]

    def _height(self, zh: Fields, members: int, seed: int) -> Fields:
        """Forecast one height: (t, y, x) → (m, lead, y, x)."""
        shape = (members, self.lead_frames, *zh.shape[1:])
        if not (zh[-1] > self.floor_dbz).any():
            return np.zeros(shape)
        motion = pysteps_library().lucas_kanade(zh[-self.config.motion_frames :])
        return np.broadcast_to(self.advance(zh, motion, members, seed), shape)
