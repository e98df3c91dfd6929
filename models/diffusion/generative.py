"""Base class of generative rain models: training loss, validation score and ensemble forecasts."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.scaling import make_scaling
from polarcast.models.common.rain import last_rain
from polarcast.models.common.views import FeaturesConfig, with_features
from polarcast.models.diffusion.denoising import VALIDATION_MEMBERS, Denoising
from polarcast.models.diffusion.network import DenoisingBlock
from polarcast.models.diffusion.rain import RainSpace, collapse_alarm, score_of_members
from polarcast.models.diffusion.random_numbers import FORECASTS, forecast_keys, normal, training_keys
from polarcast.models.diffusion.samplers import Sampler
from polarcast.models.forecaster import Forecaster

_log = logging.getLogger("polarcast")


class Generative(Forecaster):
    """Forecaster around a `Denoising`; subclasses define target, condition and conversion to rain."""

    denoising: Denoising
    space: RainSpace
    scaling: str
    config: Any

    def __init__(self) -> None:
        super().__init__()
        self.blocks = (DenoisingBlock,)
        self._has_warned = False

    def target(self, batch: Batch) -> Tensor:
        """Return the standardized fields to diffuse, (b, c, y, x)."""
        raise NotImplementedError

    def condition(self, batch: Batch) -> Tensor:
        """Return the condition channels on the grid of the diffused fields, (b, k, y, x)."""
        return self.radar(batch)

    def weight(self, batch: Batch) -> Tensor | None:
        """Return the weight of each pixel in the loss, (b, 1, y, x); None for equal weights, the default."""
        return None

    def make(self, batch: Batch, keys: Sequence[int], sampler: Sampler) -> Tensor:
        """Sample rain, (b, fields, y, x) in mm/h, from noise given by one random key per window."""
        raise NotImplementedError

    @property
    def field_count(self) -> int:
        """Number of rain fields per sample."""
        return 1

    @property
    def evaluations(self) -> int:
        """Network evaluations per forecast member."""
        return self.denoising.evaluations()

    def target_shape(self, batch: Batch) -> tuple[int, int, int]:
        """Return the shape of the diffused fields of a sample, (c, y, x)."""
        y, x = batch.radar.shape[-2:]
        return self.field_count, y, x

    def radar(self, batch: Batch) -> Tensor:
        """Return scaled radar fields, and their views if the model has any, as channels, (b, views·t·v·z, y, x)."""
        scaled = make_scaling(self.scaling, batch.variables, batch.radar).apply(batch.radar)
        return (with_features(scaled, self.config) if isinstance(self.config, FeaturesConfig) else scaled).flatten(1, 3)

    def loss(self, batch: Batch) -> Tensor:
        """Return the weighted squared error of the prediction at random noise levels."""
        numbers = self.denoising.numbers_of(batch, self.target_shape(batch))
        return self.denoising.loss(self.target(batch), self.condition(batch), numbers, self.weight(batch))

    def loss_numbers(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the random numbers of the loss; see `Forecaster`."""
        return self.denoising.loss_numbers(training_keys(batch), self.target_shape(batch))

    def validation_loss(self, batch: Batch) -> Tensor:
        """Return the fair CRPS of two members sampled in at most 8 steps; see `score_of_members`.

        The training loss barely distinguishes denoisers that generate good rain from those that generate poor rain.
        Two members suffice: the score is fair and its noise averages out over windows. Every validation uses the same
        noise.
        """
        members = self._members(batch, VALIDATION_MEMBERS, 0, self.denoising.validation_sampler)
        self._warn_once(collapse_alarm(members, last_rain(batch)))
        return score_of_members(members, last_rain(batch), self.space)

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h, (b, m, t = 1, y, x); each member is the mean of the fields of one sample."""
        return self._members(batch, members, seed, self.denoising.sampler)

    @contextmanager
    def sampling_states(self) -> Iterator[list[Tensor]]:
        """Record the noisy input of each network evaluation, (y, x) of the first window."""
        states: list[Tensor] = []

        def keep(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            states.append(inputs[0][0, 0].float())

        with self.denoising.net.register_forward_pre_hook(keep):
            yield states

    def noise(self, keys: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the initial noise of the samples, (b, *shape)."""
        return normal(keys, FORECASTS, shape, device)

    @torch.no_grad()
    def _members(self, batch: Batch, members: int, seed: int, sampler: Sampler) -> Tensor:
        samples = [self.make(batch, forecast_keys(batch, seed, m), sampler) for m in range(members)]
        return torch.stack([sample.mean(1, keepdim=True) for sample in samples], 1)

    def _warn_once(self, alarm: str | None) -> None:
        if alarm and not self._has_warned:
            _log.warning("%s: %s", type(self).__name__, alarm)
            self._has_warned = True
