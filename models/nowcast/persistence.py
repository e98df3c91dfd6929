"""The least that a nowcast has to beat: that nothing changes."""

from dataclasses import dataclass

from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.models.forecaster import Forecaster, InputSpec


@dataclass
class PersistenceConfig:
    """Persistence has nothing to configure."""


class Persistence(Forecaster):
    """The last frame seen, at every lead time."""

    def __init__(self, config: PersistenceConfig, inputs: InputSpec) -> None:
        super().__init__()
        self._lead_frames = inputs.lead_frames

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """zh in dBZ, (b, m = 1, t, z, y, x). Raises ValueError when zh is not among the variables."""
        last = batch.variable("zh")[:, None, -1:].clamp(min=0)
        return last.expand(-1, -1, self._lead_frames, -1, -1, -1)
