"""Diffusion of the residual of a deterministic estimate (CorrDiff, Mardani et al. 2025; DiffCast, Yu et al. 2024)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.models.common.frozen import freeze
from polarcast.models.common.rain import last_rain
from polarcast.models.common.settings import setting
from polarcast.models.common.standardize import Standard
from polarcast.models.common.views import views_per_field
from polarcast.models.diffusion.conditional import RainDiffusionConfig
from polarcast.models.diffusion.denoising import Denoising
from polarcast.models.diffusion.generative import Generative
from polarcast.models.diffusion.rain import RainSpace, rain_weight
from polarcast.models.diffusion.samplers import Sampler
from polarcast.models.forecaster import Forecaster, InputSpec


@dataclass
class ResidualDiffusionConfig(RainDiffusionConfig):
    """Configuration of the residual diffusion."""

    fields: int = setting(1, least=1, most=1000)
    """Number of residual fields diffused together and averaged, as in the combined diffusion."""


class ResidualDiffusion(Generative):
    """Transformed rain = estimate of a trained, frozen base + a diffused residual.

    The residual is standardized by its statistics over the training events. The base was fitted to these, so residuals
    on new events are larger than the generated ones, especially if the base overfits.
    """

    def __init__(self, config: ResidualDiffusionConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Build around a trained forecaster and freeze it in place."""
        super().__init__()
        freeze(base)
        self.config, self.base, self.scaling = config, base, config.scaling
        self.space = RainSpace(config.rain_transform)
        self.standard = Standard(1, 0.0, 0.2)
        self.denoising = Denoising(config, config.fields, views_per_field(config) * inputs.channels + 1)

    @property
    def field_count(self) -> int:
        """Number of residual fields diffused together."""
        return self.config.fields

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit mean and standard deviation of the residual."""
        self.standard.fit(self._residual(batch) for batch in batches)

    def target(self, batch: Batch) -> Tensor:
        """Return the standardized residual, (b, fields, y, x); all fields are equal."""
        return self.standard(self._residual(batch)).expand(-1, self.field_count, -1, -1)

    def condition(self, batch: Batch) -> Tensor:
        """Return radar fields and, last, the base's estimate of transformed rain, (b, k + 1, y, x)."""
        return torch.cat([self.radar(batch), self._estimate(batch)], 1)

    def weight(self, batch: Batch) -> Tensor | None:
        """Return the heavy-rain weight of each pixel, (b, 1, y, x), or None if it is not configured."""
        share = self.config.heavy_weight
        return rain_weight(last_rain(batch), share) if share else None

    def make(self, batch: Batch, keys: Sequence[int], sampler: Sampler) -> Tensor:
        """Return the estimate plus sampled residuals, (b, fields, y, x) in mm/h."""
        condition = self.condition(batch)
        estimate = condition[:, -1:]
        noise = self.noise(keys, (self.field_count, *estimate.shape[-2:]), estimate.device)
        low, high = (self.standard(limit - estimate) for limit in self.space.limits(noise))
        residual = self.standard.restore(self.denoising.sample(condition, noise, sampler, (low, high)))
        return self.space.rain_rate(estimate + residual)

    def _residual(self, batch: Batch) -> Tensor:
        return self.space(last_rain(batch).float()) - self._estimate(batch)

    @torch.no_grad()
    def _estimate(self, batch: Batch) -> Tensor:
        """Return the base's transformed rain, (b, 1, y, x), averaged over its members."""
        return self.space(self.base.forecast(batch).float().mean(1))
