"""Post-processing of diffusion samples: their mean, or a corrective U-Net (source paper §7.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import make_scaling
from polarcast.models.common.frozen import freeze
from polarcast.models.common.rain import last_rain, rain_loss
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.common.views import views_per_field, with_features
from polarcast.models.diffusion.generative import Generative
from polarcast.models.diffusion.rain import RainSpace
from polarcast.models.diffusion.random_numbers import forecast_keys, mix, training_keys
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.qpe.unet import RainUNetConfig, ResidualBlock, UNetBody


@dataclass
class PostProcessConfig(RainUNetConfig):
    """Configuration of the post-processing U-Net."""

    samples: int = setting(1, ALWAYS, least=1, most=1000)
    """Number of independent input samples of the base; one sample of a combined diffusion includes all its fields."""


@dataclass
class MemberMeanConfig:
    """Configuration of the mean of samples."""

    samples: int = setting(3, ALWAYS, least=1, most=1000)
    """Number of independent samples of the base to average."""


class MemberMean(Forecaster):
    """Mean of independent samples of a trained diffusion, without training.

    The control for other post-processing of samples: compare at an equal number of network evaluations.
    """

    def __init__(self, config: MemberMeanConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Raise BadInput if the base is not generative."""
        super().__init__()
        self.config, self.base = config, frozen_sampler(base)

    @property
    def evaluations(self) -> int:
        """Evaluations of the base network per forecast member."""
        return self.config.samples * self.base.evaluations

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h, (b, m, t = 1, y, x); each member is the mean of separate samples."""
        samples = self.base.forecast(batch, members * self.config.samples, seed)
        return samples.unflatten(1, (members, self.config.samples)).mean(2)


class PostProcess(Forecaster):
    """U-Net that corrects the mean of the base's samples, given samples and radar fields ("U-Net ensemble").

    The trained base is frozen. Its samples are better on its training events than on new events, so the learned
    correction is slightly too small.
    """

    def __init__(self, config: PostProcessConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Raise BadInput if the base is not generative."""
        super().__init__()
        self.config, self.base = config, frozen_sampler(base)
        self.blocks = (ResidualBlock,)
        self.space = RainSpace(config.rain_transform)
        channels = views_per_field(config) * inputs.channels
        self.net = UNetBody(config.samples * self.base.field_count + channels, 1, config.widths)
        # Zero initialization: the output starts as the mean of the samples.
        nn.init.zeros_(self.net.head.weight)
        nn.init.zeros_(self.net.head.bias)  # type: ignore[arg-type]

    @property
    def evaluations(self) -> int:
        """Evaluations of the base network per forecast member, excluding the one of the U-Net."""
        return self.config.samples * self.base.evaluations

    def loss(self, batch: Batch) -> Tensor:
        """Return the `rain_loss` of the corrected mean; samples are drawn anew at each step."""
        corrected = self._corrected(batch, training_keys(batch))
        return rain_loss(corrected, last_rain(batch), self.config)

    def loss_numbers(self, batch: Batch) -> None:
        """Return None: the base is sampled anew within the loss, step by step on the host."""

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h, (b, m, t = 1, y, x); each member uses separate samples."""
        corrected = [self._corrected(batch, forecast_keys(batch, seed, m)) for m in range(members)]
        return torch.stack([self.space.rain_rate(member) for member in corrected], 1)

    def _corrected(self, batch: Batch, keys: Sequence[int]) -> Tensor:
        """Return the corrected mean in transformed rain, (b, 1, y, x)."""
        samples = self.space(self._samples(batch, keys))
        scaling = make_scaling(self.config.scaling, batch.variables, batch.radar)
        radar = with_features(scaling.apply(batch.radar), self.config)
        inputs = torch.cat([samples, radar.flatten(1, 3)], 1)
        return samples.mean(1, keepdim=True) + self.net(inputs)

    @torch.no_grad()
    def _samples(self, batch: Batch, keys: Sequence[int]) -> Tensor:
        """Return all samples of the base, (b, samples · fields, y, x) in mm/h."""
        sample_keys = [[mix(key, sample) for key in keys] for sample in range(self.config.samples)]
        return torch.cat([self.base.make(batch, chosen, self.base.denoising.sampler) for chosen in sample_keys], 1)


def frozen_sampler(base: Forecaster) -> Generative:
    """Freeze a trained generative model in place and return it.

    Raises:
        BadInput: the model is not generative.
    """
    if not isinstance(base, Generative):
        raise BadInput(f"{type(base).__name__} makes no samples", "model.base", "use a diffusion model as base")
    freeze(base)
    return base
