"""What every model of the suite is: a loss to train on and a forecast in physical units."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from polarcast.data.batch import Batch


@dataclass(frozen=True)
class InputSpec:
    """What a model sees: names along v, heights along z, and number of frames; and how many frames it forecasts."""

    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    frames: int = 1
    lead_frames: int = 0
    """Frames to forecast after those seen; 0 for an estimate at the time of the last one."""

    @property
    def channels(self) -> int:
        """Fields in one window: frames × variables × heights."""
        return self.frames * len(self.variables) * len(self.heights_km)


class Forecaster(nn.Module):
    """A model that can be trained on, and asked for forecasts from, batches of radar windows.

    Forecasts are of rain rate in mm/h, (b, m, t, y, x), or, of a nowcasting model, of zh in dBZ at the heights seen,
    (b, m, t, z, y, x).
    """

    blocks: tuple[type[nn.Module], ...] = ()
    """The modules that `train.checkpoint_activations` may compute twice instead of keeping what is within them."""

    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss: a mean over all pixels, so that equal micro-batches average to the global loss."""
        raise NotImplementedError

    def validation_loss(self, batch: Batch) -> Tensor:
        """What validation averages, and chooses a checkpoint by: smaller is better. The loss by default.

        A generative model is judged by what it generates.
        """
        return self.loss(batch)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn in one pass over the training batches, before any gradient descent; nothing by default."""

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Forecast in physical units, (b, m, t, y, x) or (b, m, t, z, y, x); deterministic models return m = 1.

        Args:
            batch: Radar windows; the targets in it are not looked at.
            members: Ensemble size asked of a generative model.
            seed: Of its random numbers. Those of a window depend on nothing but this seed, its event and frame, and the
                member: not on the batch it comes in, nor on the number of ranks.
        """
        raise NotImplementedError

    @classmethod
    def input_views(cls, config: Any) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Functions of scaled radar (b, t, v, z, y, x) through which parts of the model see it, by name,
        for a configuration of the model.

        Empty for a model that sees the fields as they are.
        """
        return {}

    @contextmanager
    def sampling_states(self) -> Iterator[list[Tensor]]:
        """Record how a forecast made in this context emerges from noise.

        Yields:
            A list that grows by one field (y, x) of the first window for each evaluation of the network. It stays empty
            for models that do not sample.
        """
        yield []

    def forward(self, batch: Batch) -> Tensor:
        """The loss, under the name that distributed engines wrap."""
        return self.loss(batch)


def parameter_count(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in model.parameters())
