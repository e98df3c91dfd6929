"""Conditional diffusion of rain rate (source paper §7.3), for one field or several fields together (§7.4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.scaling import RAIN_TRANSFORMS, SCALINGS
from polarcast.models.common.rain import last_rain
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.common.standardize import Standard
from polarcast.models.common.views import FeaturesConfig, views_per_field
from polarcast.models.diffusion.denoising import Denoising, DenoisingConfig
from polarcast.models.diffusion.generative import Generative
from polarcast.models.diffusion.rain import RainSpace, rain_weight
from polarcast.models.diffusion.random_numbers import forecast_keys
from polarcast.models.diffusion.samplers import Sampler
from polarcast.models.forecaster import InputSpec
from polarcast.models.qpe.first_guess import FirstGuessConfig, make_first_guess

_RAIN_GUESS = {"log1p": (0.5, 0.9), "sqrt": (0.7, 1.2), "identity": (2.0, 6.0)}
"""Initial mean and standard deviation of transformed rain, close to those of the synthetic storms."""


@dataclass
class RainDiffusionConfig(FeaturesConfig, DenoisingConfig):
    """Configuration shared by the diffusions of rain on the grid of the radar."""

    scaling: str = setting("range", ALWAYS, choices=SCALINGS)
    """Scaling of the radar input: range or frame."""
    rain_transform: str = setting("log1p", ALWAYS, choices=RAIN_TRANSFORMS)
    """Transform of the diffused rain: log1p, sqrt or identity."""
    heavy_weight: float = setting(0.0, ALWAYS, least=0, most=10**6)
    """Weight w in the pixel weight 1 + w·R/(10 mm/h); values above 0 bias samples toward heavy rain."""


@dataclass
class DiffusionConfig(FirstGuessConfig, RainDiffusionConfig):
    """Configuration of the conditional diffusion."""


@dataclass
class CombinedDiffusionConfig(DiffusionConfig):
    """Configuration of the combined diffusion."""

    fields: int = setting(3, ALWAYS, least=1, most=1000)
    """Number of rain fields diffused together."""


def standard_rain(transform: str) -> Standard:
    """Return an unfitted standardization of transformed rain."""
    return Standard(1, *_RAIN_GUESS[transform])


class Diffusion(Generative):
    """Conditional diffusion of rain rate given the radar fields, or of its difference from a first guess."""

    def __init__(self, config: DiffusionConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config, self.scaling = config, config.scaling
        self.space = RainSpace(config.rain_transform)
        self.standard = standard_rain(config.rain_transform)
        self.first_guess = make_first_guess(config, config.rain_transform, inputs)
        channels = views_per_field(config) * inputs.channels
        self.denoising = Denoising(config, self.field_count, channels + (self.first_guess is not None))

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the first guess, if there is one, and mean and standard deviation of what is diffused."""
        if self.first_guess:
            self.first_guess.fit(batches)
        self.standard.fit(self._diffused(batch) for batch in batches)

    def target(self, batch: Batch) -> Tensor:
        """Return transformed, standardized rain or its difference from the first guess; all fields are equal.

        Returns:
            (b, fields, y, x).
        """
        return self.standard(self._diffused(batch)).expand(-1, self.field_count, -1, -1)

    def condition(self, batch: Batch) -> Tensor:
        """Return radar fields and, last, the first guess if there is one, (b, k, y, x)."""
        if not self.first_guess:
            return self.radar(batch)
        return torch.cat([self.radar(batch), self.first_guess.channel(self.first_guess(batch))], 1)

    def _diffused(self, batch: Batch) -> Tensor:
        """Return transformed rain, or its difference from the first guess, (b, 1, y, x)."""
        rain = self.space(last_rain(batch).float())
        return rain - self.first_guess(batch) if self.first_guess else rain

    def weight(self, batch: Batch) -> Tensor | None:
        """Return the heavy-rain weight of each pixel, (b, 1, y, x), or None if it is not configured."""
        share = self.config.heavy_weight
        return rain_weight(last_rain(batch), share) if share else None

    def make(self, batch: Batch, keys: Sequence[int], sampler: Sampler) -> Tensor:
        """Sample rain, (b, fields, y, x) in mm/h."""
        noise = self.noise(keys, (self.field_count, *batch.radar.shape[-2:]), batch.radar.device)
        guess = self.first_guess(batch) if self.first_guess else torch.zeros_like(noise[:, :1])
        low, high = (self.standard(limit - guess) for limit in self.space.limits(noise))
        sample = self.denoising.sample(self.condition(batch), noise, sampler, (low, high))
        return self.space.rain_rate(guess + self.standard.restore(sample))


class CombinedDiffusion(Diffusion):
    """Several noisy rain fields denoised together and averaged (source paper §7.4, "average ensemble").

    Each field has independent noise in training and sampling, but all fields share one target, as in the paper. The
    optimal denoiser therefore averages the fields, whose mean has √fields less noise, and predicts the same rain for
    all. The fields are thus several estimates of *one* sample that differ by network error only. Their mean reduces
    that error; it is not an ensemble mean. The fair control is `MemberMean` of a `Diffusion` at equal cost. For an
    ensemble, request members: each member starts from independent noise in all its fields.
    """

    config: CombinedDiffusionConfig

    def __init__(self, config: CombinedDiffusionConfig, inputs: InputSpec) -> None:
        super().__init__(config, inputs)

    @property
    def field_count(self) -> int:
        """Number of rain fields diffused together."""
        return self.config.fields

    @torch.no_grad()
    def fields(self, batch: Batch, seed: int = 0) -> Tensor:
        """Return the fields of the first member before averaging, (b, fields, y, x) in mm/h."""
        return self.make(batch, forecast_keys(batch, seed, 0), self.denoising.sampler)
