"""What every model that makes rain out of noise has in common: training, forecasts, judgement."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.scaling import make_scaling
from polarcast.models.common.rain import last_rain
from polarcast.models.diffusion.denoising import JUDGED_MEMBERS, Denoising
from polarcast.models.diffusion.network import DenoisingBlock
from polarcast.models.diffusion.rain import RainSpace, collapse_alarm, score_of_members
from polarcast.models.diffusion.random_numbers import FORECASTS, forecast_keys, normal, training_keys
from polarcast.models.diffusion.samplers import Sampler
from polarcast.models.forecaster import Forecaster

_log = logging.getLogger("polarcast")


class Generative(Forecaster):
    """A forecaster around a `Denoising`; a subclass says what is diffused, given what, and how rain comes of it."""

    denoising: Denoising
    space: RainSpace
    scaling: str

    def __init__(self) -> None:
        super().__init__()
        self.blocks = (DenoisingBlock,)
        self._has_warned = False

    def target(self, batch: Batch) -> Tensor:
        """The standardised fields to be diffused, (b, c, y, x)."""
        raise NotImplementedError

    def condition(self, batch: Batch) -> Tensor:
        """What is known, on the grid of the diffused fields, (b, k, y, x)."""
        return self.radar(batch)

    def weight(self, batch: Batch) -> Tensor | None:
        """Weight of each pixel in the loss, (b, 1, y, x); equal by default."""
        return None

    def make(self, batch: Batch, keys: Sequence[int], sampler: Sampler) -> Tensor:
        """Rain made of the noise that the keys name, one key a window: (b, fields, y, x) in mm/h."""
        raise NotImplementedError

    @property
    def field_count(self) -> int:
        """Rain fields that one sample consists of."""
        return 1

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for one member of a forecast."""
        return self.denoising.evaluations()

    def radar(self, batch: Batch) -> Tensor:
        """Scaled radar fields as channels, (b, t·v·z, y, x)."""
        return make_scaling(self.scaling, batch.variables, batch.radar).apply(batch.radar).flatten(1, 3)

    def loss(self, batch: Batch) -> Tensor:
        """Weighted squared error of the network's prediction at random noise levels."""
        keys = training_keys(batch)
        return self.denoising.loss(self.target(batch), self.condition(batch), keys, self.weight(batch))

    def validation_loss(self, batch: Batch) -> Tensor:
        """Fair CRPS of two members made with at most 8 steps of the configured sampler; see `score_of_members`.

        The training loss hardly tells a good denoiser from one that makes poor rain. Two members suffice: the score is
        fair, and its noise averages out over windows; it is the same noise at each validation.
        """
        made = self._members(batch, JUDGED_MEMBERS, 0, self.denoising.judging_sampler)
        self._warn(collapse_alarm(made, last_rain(batch)))
        return score_of_members(made, last_rain(batch), self.space)

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Rain rate in mm/h, (b, m, t = 1, y, x); each member is the mean of the fields of one sample."""
        return self._members(batch, members, seed, self.denoising.sampler)

    @contextmanager
    def sampling_states(self) -> Iterator[list[Tensor]]:
        """Record the noisy field that the network is given at each evaluation, (y, x) of the first window."""
        states: list[Tensor] = []

        def keep(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            states.append(inputs[0][0, 0].float())

        with self.denoising.net.register_forward_pre_hook(keep):
            yield states

    def noise(self, keys: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
        """What samples begin with, (b, *shape)."""
        return normal(keys, FORECASTS, shape, device)

    @torch.no_grad()
    def _members(self, batch: Batch, members: int, seed: int, sampler: Sampler) -> Tensor:
        made = [self.make(batch, forecast_keys(batch, seed, m), sampler) for m in range(members)]
        return torch.stack([one.mean(1, keepdim=True) for one in made], 1)

    def _warn(self, alarm: str | None) -> None:
        if alarm and not self._has_warned:
            _log.warning("%s: %s", type(self).__name__, alarm)
            self._has_warned = True
