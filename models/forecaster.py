"""Base class of all models: a training loss and a forecast in physical units."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from polarcast.data.batch import Batch


@dataclass(frozen=True)
class InputSpec:
    """Shape of a model's input and output: variables along v, heights along z, input frames and lead frames."""

    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    frames: int = 1
    lead_frames: int = 0
    """Frames to forecast after the input frames; 0 for an estimate at the time of the last input frame."""

    @property
    def channels(self) -> int:
        """Number of fields in one input window: frames × variables × heights."""
        return self.frames * len(self.variables) * len(self.heights_km)


class Forecaster(nn.Module):
    """Base class of models that train on batches of radar windows and forecast from them.

    QPE models forecast rain rate in mm/h, (b, m, t, y, x). Nowcasting models forecast zh in dBZ at the input heights,
    (b, m, t, z, y, x).
    """

    blocks: tuple[type[nn.Module], ...] = ()
    """Module types whose activations `train.checkpoint_activations` may recompute instead of storing."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the scalar training loss, a mean over all pixels: equal micro-batches average to the global loss."""
        raise NotImplementedError

    def validation_loss(self, batch: Batch) -> Tensor:
        """Return the score that validation averages and selects checkpoints by; smaller is better.

        The training loss by default. Generative models score their samples instead.
        """
        return self.loss(batch)

    def loss_numbers(self, batch: Batch) -> tuple[Tensor, ...] | None:
        """Return the random numbers of the loss of a batch, on the CPU; empty if the loss uses none, the default.

        `loss` takes them from `batch.random` if they are there, with the same result. A training step whose loss makes
        no random numbers on the host can be captured as a CUDA graph. None: it can't be separated from them.
        """
        return ()

    def describe_data(self, provenance: Mapping[str, Any], is_placebo: bool = False) -> None:
        """Receive what is known of the training data, before `fit`; does nothing by default.

        Args:
            provenance: Provenance of the archive, from the manifest of the shards.
            is_placebo: Whether all variables but zh come from other events.
        """

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit to the training batches before gradient descent; does nothing by default.

        Args:
            batches: Training batches; may be iterated more than once.
        """

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return a forecast in physical units, (b, m, t, y, x) or (b, m, t, z, y, x); m = 1 for deterministic models.

        Args:
            batch: Radar windows; targets are not used.
            members: Requested ensemble size; only generative models use it.
            seed: Random seed. The random numbers of a window depend only on this seed, the event, the frame and the
                member. They do not depend on the batch or the number of ranks.
        """
        raise NotImplementedError

    @classmethod
    def input_views(cls, config: Any) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return the transforms that parts of the model apply to scaled radar (b, t, v, z, y, x), by name.

        Args:
            config: Model configuration.

        Returns:
            Transforms by name; empty for a model that uses the fields unchanged.
        """
        return {}

    @contextmanager
    def sampling_states(self) -> Iterator[list[Tensor]]:
        """Record the intermediate states of sampling while the context is active.

        Yields:
            List to which each network evaluation appends one field (y, x) of the first window; it stays empty for
            models that do not sample.
        """
        yield []

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss; distributed wrappers such as DDP require it to run in `forward`."""
        return self.loss(batch)


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in model.parameters())
