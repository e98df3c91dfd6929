"""Nowcasts without training, by pysteps (Pulkkinen et al. 2019): echo is carried along its motion.

Every height is forecast by itself. Its motion is found by following features from frame to frame (Lucas & Kanade 1981)
and echo moves along it backwards in time (semi-Lagrangian; Germann & Zawadzki 2002). What moves in from outside is not
known: it is forecast as no echo.
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
"""pysteps takes no larger seeds."""


@dataclass
class ExtrapolationConfig:
    """Configuration of Lagrangian persistence."""

    motion_frames: int = setting(3, ALWAYS)
    """Last frames that motion is estimated from, a number of 2 or more."""

    def __post_init__(self) -> None:
        """Raises BadInput for a value that is too small."""
        at_least("motion_frames", self.motion_frames, 2)


class Extrapolation(Forecaster):
    """The last frame seen, carried along its motion: Lagrangian persistence.

    Its random numbers, where a method has them, come from seed, event and first frame alone.
    """

    ensemble = False
    """Whether it makes as many members as it is asked for; one otherwise."""

    def __init__(self, config: ExtrapolationConfig, inputs: InputSpec) -> None:
        """Raises BadInput without zh, with too few frames, and where pysteps is not installed."""
        super().__init__()
        if "zh" not in inputs.variables:
            raise BadInput("there is nothing to extrapolate without zh", "data.variables", "add zh")
        if inputs.frames < (least := self.frames_needed(config)):
            raise BadInput(f"{inputs.frames} frames are too few", "data.seen_frames", f"give {least} or more")
        pysteps_library()
        self.config, self.lead_frames = config, inputs.lead_frames

    @classmethod
    def frames_needed(cls, config: ExtrapolationConfig) -> int:
        """Fewest frames that must be seen."""
        return config.motion_frames

    @property
    def floor_dbz(self) -> float:
        """A height without more than this in its last frame is dry, and stays so."""
        return 0.0

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """zh in dBZ, (b, m, t, z, y, x) float32, 0 where there is no echo. Raises ValueError for a batch without zh."""
        zh, members = batch.variable("zh"), members if self.ensemble else 1
        if zh.is_meta:
            # Shapes and costs are counted on tensors without content.
            return zh.new_empty(len(batch), members, self.lead_frames, *zh.shape[2:], dtype=torch.float32)
        seen = zh.detach().double().nan_to_num(0).clamp(min=0).transpose(1, 2).cpu().numpy()
        seeds = [key & _SEED_MASK for key in forecast_keys(batch, seed, 0)]
        with contained():
            ahead = [[self._height(z, members, s) for z in window] for window, s in zip(seen, seeds, strict=True)]
        return torch.from_numpy(np.stack(ahead, dtype=np.float32)).to(zh.device).permute(0, 2, 3, 1, 4, 5)

    def advance(self, zh: Fields, motion: Fields, members: int, seed: int) -> Fields:
        """The frames to come at one height.

        Args:
            zh: (t, y, x) in dBZ, 0 where there is no echo.
            motion: (2, y, x), to the right and down, in pixels from frame to frame.
            members: Asked for.
            seed: Of 32 bits.

        Returns:
            (m or 1, lead, y, x) in dBZ, finite.
        """
        return self.carried(zh, motion)

    def carried(self, zh: Fields, motion: Fields) -> Fields:
        """The last of the frames (t, y, x) carried along, (1, lead, y, x) in dBZ."""
        return np.nan_to_num(pysteps_library().extrapolation(zh[-1], motion, self.lead_frames))[None]

    def _height(self, zh: Fields, members: int, seed: int) -> Fields:
        """(t, y, x) → (m, lead, y, x)."""
        shape = (members, self.lead_frames, *zh.shape[1:])
        if not (zh[-1] > self.floor_dbz).any():
            return np.zeros(shape)
        motion = pysteps_library().lucas_kanade(zh[-self.config.motion_frames :])
        return np.broadcast_to(self.advance(zh, motion, members, seed), shape)


def at_least(key: str, value: int, least: int) -> None:
    """Raises BadInput for a setting of the model that is less than that."""
    if value < least:
        raise BadInput(f"{value} is too few", f"model.{key}", f"give {least} or more")
