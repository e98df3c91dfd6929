"""Persistence: the simplest baseline, a forecast of no change."""

from dataclasses import dataclass

from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.models.forecaster import Forecaster, InputSpec


@dataclass
class PersistenceConfig:
    """Configuration of persistence, without options."""


class Persistence(Forecaster):
    """Forecast of the last input frame at every lead time."""

    def __init__(self, config: PersistenceConfig, inputs: InputSpec) -> None:
        super().__init__()
        self._lead_frames = inputs.lead_frames

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return zh in dBZ, (b, m = 1, t, z, y, x). Raises ValueError if zh is not an input."""
        last = batch.variable("zh")[:, None, -1:].clamp(min=0)
        return last.expand(-1, -1, self._lead_frames, -1, -1, -1)
