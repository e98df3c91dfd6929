"""Diffusion of what a deterministic nowcast leaves open: the field's answer to blur (DiffCast, Yu et al. 2024)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.scaling import RANGES, RangeScaling
from polarcast.models.common.frozen import freeze
from polarcast.models.common.standardize import Standard
from polarcast.models.diffusion.denoising import JUDGED_MEMBERS, Denoising, DenoisingConfig
from polarcast.models.diffusion.network import DenoisingBlock
from polarcast.models.diffusion.rain import fair_crps
from polarcast.models.diffusion.random_numbers import FORECASTS, forecast_keys, normal, training_keys
from polarcast.models.diffusion.samplers import Sampler
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.nowcast.network import STRONGEST_DBZ

_ZH = RangeScaling(("zh",))
_MEMBERS_ON_GPU = 8


@dataclass
class ResidualNowcastConfig(DenoisingConfig):
    """Configuration of the residual diffusion nowcaster."""


class ResidualNowcast(Forecaster):
    """zh = nowcast of a trained, frozen base + a diffused residual, all lead times and heights together.

    The residual is standardised for each lead time and height by its statistics over the training events: it grows with
    lead time. There the base has seen the answer, so on new events residuals are larger, the more the base has
    overfitted.
    """

    def __init__(self, config: ResidualNowcastConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Build around a trained nowcaster, which is frozen in place."""
        super().__init__()
        freeze(base)
        self.base, self.blocks = base, (DenoisingBlock,)
        self._shape = (inputs.lead_frames, len(inputs.heights_km))
        fields = inputs.lead_frames * len(inputs.heights_km)
        self.standard = Standard(fields, 0.0, 0.1)
        self.denoising = Denoising(config, fields, inputs.channels + fields)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn mean and standard deviation of the residual at each lead time and height."""
        self.standard.fit(self._residual(batch) for batch in batches)

    def loss(self, batch: Batch) -> Tensor:
        """Squared error of the denoiser's prediction at random noise levels."""
        estimate = self._estimate(batch)
        residual = self.standard(_scaled(batch.required_target_zh) - estimate)
        return self.denoising.loss(residual, self._condition(batch, estimate), training_keys(batch))

    def validation_loss(self, batch: Batch) -> Tensor:
        """Fair CRPS of two members made with at most 8 steps of the configured sampler, in units of 65 dBZ."""
        members = self._members(batch, JUDGED_MEMBERS, 0, self.denoising.judging_sampler)
        return fair_crps(members, batch.required_target_zh) / (RANGES["zh"][1] - RANGES["zh"][0])

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """zh in dBZ, (b, m, t, z, y, x); each member begins with noise of its own."""
        return self._members(batch, members, seed, self.denoising.sampler)

    @torch.no_grad()
    def _members(self, batch: Batch, members: int, seed: int, sampler: Sampler) -> Tensor:
        estimate = self._estimate(batch)
        condition = self._condition(batch, estimate)
        together, made = _together(estimate), []
        for first in range(0, members, together):
            chosen = range(first, min(first + together, members))
            keys = [key for member in chosen for key in forecast_keys(batch, seed, member)]
            estimates, conditions = (field.repeat(len(chosen), 1, 1, 1) for field in (estimate, condition))
            made.append(self._make(estimates, conditions, keys, sampler).unflatten(0, (len(chosen), len(batch))))
        return torch.cat(made).movedim(0, 1)

    def _make(self, estimate: Tensor, condition: Tensor, keys: Sequence[int], sampler: Sampler) -> Tensor:
        """A nowcast for each key, (b, t, z, y, x) in dBZ."""
        noise = normal(keys, FORECASTS, estimate.shape[1:], estimate.device)
        limits = tuple(self.standard(limit - estimate) for limit in (0.0, STRONGEST_DBZ / RANGES["zh"][1]))
        residual = self.standard.restore(self.denoising.sample(condition, noise, sampler, (limits[0], limits[1])))
        scaled = (estimate + residual).unflatten(1, self._shape)
        return _ZH.invert(scaled[:, :, None])[:, :, 0].clamp(min=0)

    def _condition(self, batch: Batch, estimate: Tensor) -> Tensor:
        """Scaled radar fields and, last, the base's nowcast, (b, k, y, x)."""
        return torch.cat([RangeScaling(batch.variables).apply(batch.radar).flatten(1, 3), estimate], 1)

    def _residual(self, batch: Batch) -> Tensor:
        return _scaled(batch.required_target_zh) - self._estimate(batch)

    @torch.no_grad()
    def _estimate(self, batch: Batch) -> Tensor:
        """The base's scaled nowcast, (b, t·z, y, x); of a base with members the mean."""
        # Training turns on what is within, too: the base's normalisation would take up what it is shown.
        return _scaled(self.base.eval().forecast(batch).float().mean(1))


def _together(field: Tensor) -> int:
    """Members at once: a GPU would wait for its host between the many small steps of each; a CPU's cache holds one."""
    return _MEMBERS_ON_GPU if field.is_cuda else 1


def _scaled(zh: Tensor) -> Tensor:
    """zh (b, t, z, y, x) in dBZ → scaled channels (b, t·z, y, x)."""
    return _ZH.apply(zh[:, :, None]).flatten(1, 3)
