"""Diffusion of the residual of a deterministic nowcast, against blur (DiffCast, Yu et al. 2024)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.scaling import RANGES, RangeScaling
from polarcast.models.common.frozen import freeze
from polarcast.models.common.standardize import Standard
from polarcast.models.diffusion.denoising import VALIDATION_MEMBERS, Denoising, DenoisingConfig
from polarcast.models.diffusion.network import DenoisingBlock
from polarcast.models.diffusion.rain import fair_crps
from polarcast.models.diffusion.random_numbers import FORECASTS, forecast_keys, normal, training_keys
from polarcast.models.diffusion.samplers import Sampler
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.nowcast.network import MAX_DBZ

_ZH = RangeScaling(("zh",))
_MEMBERS_ON_GPU = 8


@dataclass
class ResidualNowcastConfig(DenoisingConfig):
    """Configuration of the residual diffusion nowcaster."""


class ResidualNowcast(Forecaster):
    """zh = nowcast of a trained, frozen base + a diffused residual, for all lead times and heights jointly.

    The residual, which grows with lead time, is standardized for each lead time and height by its statistics over the
    training events. The base was fitted to these, so residuals on new events are larger, especially if it overfits.
    """

    def __init__(self, config: ResidualNowcastConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Build around a trained nowcaster and freeze it in place."""
        super().__init__()
        freeze(base)
        self.base, self.blocks = base, (DenoisingBlock,)
        self._shape = (inputs.lead_frames, len(inputs.heights_km))
        fields = inputs.lead_frames * len(inputs.heights_km)
        self.standard = Standard(fields, 0.0, 0.1)
        self.denoising = Denoising(config, fields, inputs.channels + fields)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit mean and standard deviation of the residual at each lead time and height."""
        self.standard.fit(self._residual(batch) for batch in batches)

    def loss(self, batch: Batch) -> Tensor:
        """Return the squared error of the denoiser's prediction at random noise levels."""
        estimate = self._estimate(batch)
        residual = self.standard(_scaled(batch.required_target_zh) - estimate)
        numbers = self.denoising.numbers_of(batch, residual.shape[1:])
        return self.denoising.loss(residual, self._condition(batch, estimate), numbers)

    def loss_numbers(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the random numbers of the loss; see `Forecaster`."""
        shape = (self.denoising.fields, *batch.radar.shape[-2:])
        return self.denoising.loss_numbers(training_keys(batch), shape)

    def validation_loss(self, batch: Batch) -> Tensor:
        """Return the fair CRPS of two members sampled in at most 8 steps, in units of 65 dBZ."""
        members = self._members(batch, VALIDATION_MEMBERS, 0, self.denoising.validation_sampler)
        return fair_crps(members, batch.required_target_zh) / (RANGES["zh"][1] - RANGES["zh"][0])

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return zh in dBZ, (b, m, t, z, y, x); each member starts from independent noise."""
        return self._members(batch, members, seed, self.denoising.sampler)

    @torch.no_grad()
    def _members(self, batch: Batch, members: int, seed: int, sampler: Sampler) -> Tensor:
        estimate = self._estimate(batch)
        condition = self._condition(batch, estimate)
        per_pass, samples = _members_per_pass(estimate), []
        for first in range(0, members, per_pass):
            chosen = range(first, min(first + per_pass, members))
            keys = [key for member in chosen for key in forecast_keys(batch, seed, member)]
            estimates, conditions = (field.repeat(len(chosen), 1, 1, 1) for field in (estimate, condition))
            sample = self._sample(estimates, conditions, keys, sampler)
            samples.append(sample.unflatten(0, (len(chosen), len(batch))))
        return torch.cat(samples).movedim(0, 1)

    def _sample(self, estimate: Tensor, condition: Tensor, keys: Sequence[int], sampler: Sampler) -> Tensor:
        """Sample one nowcast for each key, (b, t, z, y, x) in dBZ."""
        noise = normal(keys, FORECASTS, estimate.shape[1:], estimate.device)
        limits = tuple(self.standard(limit - estimate) for limit in (0.0, MAX_DBZ / RANGES["zh"][1]))
        residual = self.standard.restore(self.denoising.sample(condition, noise, sampler, (limits[0], limits[1])))
        scaled = (estimate + residual).unflatten(1, self._shape)
        return _ZH.invert(scaled[:, :, None])[:, :, 0].clamp(min=0)

    def _condition(self, batch: Batch, estimate: Tensor) -> Tensor:
        """Return scaled radar fields and, last, the nowcast of the base, (b, k, y, x)."""
        return torch.cat([RangeScaling(batch.variables).apply(batch.radar).flatten(1, 3), estimate], 1)

    def _residual(self, batch: Batch) -> Tensor:
        return _scaled(batch.required_target_zh) - self._estimate(batch)

    @torch.no_grad()
    def _estimate(self, batch: Batch) -> Tensor:
        """Return the scaled nowcast of the base, (b, t·z, y, x), averaged over its members."""
        # `train()` also applies to the base, whose batch normalization would then update its statistics.
        return _scaled(self.base.eval().forecast(batch).float().mean(1))


def _members_per_pass(field: Tensor) -> int:
    """Return the batch size in members: several on a GPU to hide launch overhead, one on a CPU to fit its cache."""
    return _MEMBERS_ON_GPU if field.is_cuda else 1


def _scaled(zh: Tensor) -> Tensor:
    """Scale zh (b, t, z, y, x) in dBZ to channels (b, t·z, y, x)."""
    return _ZH.apply(zh[:, :, None]).flatten(1, 3)
