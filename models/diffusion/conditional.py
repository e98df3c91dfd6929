"""Conditional diffusion of rain rates (source paper §7.3), singly or several fields at once (§7.4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.models.common.rain import last_rain
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.common.standardize import Standard
from polarcast.models.diffusion.denoising import Denoising, DenoisingConfig
from polarcast.models.diffusion.generative import Generative
from polarcast.models.diffusion.rain import RainSpace, rain_weight
from polarcast.models.diffusion.random_numbers import forecast_keys
from polarcast.models.diffusion.samplers import Sampler
from polarcast.models.forecaster import InputSpec

_RAIN_GUESS = {"log1p": (0.5, 0.9), "sqrt": (0.7, 1.2), "identity": (2.0, 6.0)}
"""Mean and standard deviation of transformed rain, before they are fitted; about those of the synthetic storms."""


@dataclass
class DiffusionConfig(DenoisingConfig):
    """Configuration of the conditional diffusion."""

    scaling: str = setting("range", ALWAYS)
    """Scaling of the radar input: range or frame."""
    rain_transform: str = setting("log1p", ALWAYS)
    """Space in which rain is diffused: log1p, sqrt or identity."""
    heavy_weight: float = setting(0.0, ALWAYS)
    """Weight w of heavy rain in training, 1 + w·R/(10 mm/h) for each pixel; above 0 samples lean towards heavy rain."""


@dataclass
class CombinedDiffusionConfig(DiffusionConfig):
    """Configuration of the combined diffusion."""

    fields: int = setting(3, ALWAYS)
    """Rain fields that are diffused together."""


def standard_rain(transform: str) -> Standard:
    """A standardisation for transformed rain that has not seen any yet."""
    return Standard(1, *_RAIN_GUESS[transform])


class Diffusion(Generative):
    """Rain rate made of noise under the condition of radar fields of one time."""

    def __init__(self, config: DiffusionConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config, self.scaling = config, config.scaling
        self.space = RainSpace(config.rain_transform)
        self.standard = standard_rain(config.rain_transform)
        self.denoising = Denoising(config, self.field_count, inputs.channels)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn mean and standard deviation of transformed rain."""
        self.standard.fit(self.space(last_rain(batch).float()) for batch in batches)

    def target(self, batch: Batch) -> Tensor:
        """Transformed and standardised rain, (b, fields, y, x): every field is the same."""
        return self.standard(self.space(last_rain(batch))).expand(-1, self.field_count, -1, -1)

    def weight(self, batch: Batch) -> Tensor | None:
        """More for heavy rain, if that is configured, (b, 1, y, x)."""
        share = self.config.heavy_weight
        return rain_weight(last_rain(batch), share) if share else None

    def make(self, batch: Batch, keys: Sequence[int], sampler: Sampler) -> Tensor:
        """Rain made of noise, (b, fields, y, x) in mm/h."""
        noise = self.noise(keys, (self.field_count, *batch.radar.shape[-2:]), batch.radar.device)
        least, most = (self.standard(limit) for limit in self.space.limits(noise))
        made = self.denoising.sample(self.condition(batch), noise, sampler, (least, most))
        return self.space.rain_rate(self.standard.restore(made))


class CombinedDiffusion(Diffusion):
    """Several noisy rain fields denoised together, and merged by their mean (source paper §7.4, "average ensemble").

    Each field has noise of its own, in training and in sampling, but there is one truth only, and it is the target of
    all fields, as in the paper. So the network learns that all fields hide the same rain: the best denoiser takes their
    mean, whose noise is √fields weaker, and gives one answer for all. What it makes are then several views of *one*
    sample, which agree in the end up to the network's errors. Their mean takes off part of these errors; it is not the
    mean of an ensemble. The honest control is `MemberMean` of a `Diffusion` at equal cost. For an ensemble ask for
    members: each begins with noise of its own in all its fields.
    """

    config: CombinedDiffusionConfig

    def __init__(self, config: CombinedDiffusionConfig, inputs: InputSpec) -> None:
        super().__init__(config, inputs)

    @property
    def field_count(self) -> int:
        """Rain fields that are diffused together."""
        return self.config.fields

    @torch.no_grad()
    def fields(self, batch: Batch, seed: int = 0) -> Tensor:
        """The fields of the forecast's first member before they are merged, (b, fields, y, x) in mm/h."""
        return self.make(batch, forecast_keys(batch, seed, 0), self.denoising.sampler)
