"""What to make of several samples: their mean, or what a network reads out of them (source paper §7.4)."""

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
from polarcast.models.diffusion.generative import Generative
from polarcast.models.diffusion.rain import RainSpace
from polarcast.models.diffusion.random_numbers import forecast_keys, mix, training_keys
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.qpe.unet import ResidualBlock, UNetBody, UNetConfig


@dataclass
class PostProcessConfig(UNetConfig):
    """Configuration of the post-processing U-Net."""

    samples: int = setting(1, ALWAYS)
    """Independent samples of the base that it sees; a combined diffusion already gives all its fields in one."""


@dataclass
class MemberMeanConfig:
    """Configuration of the plain mean of samples."""

    samples: int = setting(3, ALWAYS)
    """Independent samples of the base that are averaged."""


class MemberMean(Forecaster):
    """Mean of independent samples of a trained diffusion: nothing is trained.

    The control for whatever else is done with several samples: compare at an equal number of network evaluations.
    """

    def __init__(self, config: MemberMeanConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Raises BadInput when the base makes no samples."""
        super().__init__()
        self.config, self.base = config, frozen_sampler(base)

    @property
    def evaluations(self) -> int:
        """Evaluations of the base's network for one forecast."""
        return self.config.samples * self.base.evaluations

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Rain rate in mm/h, (b, m, t = 1, y, x); each member is the mean of samples of its own."""
        made = self.base.forecast(batch, members * self.config.samples, seed)
        return made.unflatten(1, (members, self.config.samples)).mean(2)


class PostProcess(Forecaster):
    """A U-Net that sees the base's samples and the radar fields, and corrects the samples' mean ("U-Net ensemble").

    The base is trained and never changed. It was trained on the same events, so its samples are better there than on
    new ones, and the correction learned is a little too small.
    """

    def __init__(self, config: PostProcessConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Raises BadInput when the base makes no samples."""
        super().__init__()
        self.config, self.base = config, frozen_sampler(base)
        self.blocks = (ResidualBlock,)
        self.space = RainSpace(config.rain_transform)
        self.net = UNetBody(config.samples * self.base.field_count + inputs.channels, 1, config.widths)
        # It begins as the mean of the samples.
        nn.init.zeros_(self.net.head.weight)
        nn.init.zeros_(self.net.head.bias)  # type: ignore[arg-type]

    @property
    def evaluations(self) -> int:
        """Evaluations of the base's network for one member of a forecast, beside one of the U-Net."""
        return self.config.samples * self.base.evaluations

    def loss(self, batch: Batch) -> Tensor:
        """Squared error of transformed rain plus a share of that in mm/h, as of `UNet`; samples are fresh each time."""
        corrected = self._corrected(batch, training_keys(batch))
        return rain_loss(corrected, last_rain(batch), self.config)

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Rain rate in mm/h, (b, m, t = 1, y, x); each member is made of samples of its own."""
        made = [self._corrected(batch, forecast_keys(batch, seed, m)) for m in range(members)]
        return torch.stack([self.space.rain_rate(one) for one in made], 1)

    def _corrected(self, batch: Batch, keys: Sequence[int]) -> Tensor:
        """Transformed rain, (b, 1, y, x)."""
        samples = self.space(self._samples(batch, keys))
        scaling = make_scaling(self.config.scaling, batch.variables, batch.radar)
        seen = torch.cat([samples, scaling.apply(batch.radar).flatten(1, 3)], 1)
        return samples.mean(1, keepdim=True) + self.net(seen)

    @torch.no_grad()
    def _samples(self, batch: Batch, keys: Sequence[int]) -> Tensor:
        """(b, samples · fields, y, x) in mm/h."""
        apart = [[mix(key, sample) for key in keys] for sample in range(self.config.samples)]
        return torch.cat([self.base.make(batch, some, self.base.denoising.sampler) for some in apart], 1)


def frozen_sampler(base: Forecaster) -> Generative:
    """A trained model that makes samples, frozen in place. Raises BadInput for a model that makes none."""
    if not isinstance(base, Generative):
        raise BadInput(f"{type(base).__name__} makes no samples", "model.base", "use a diffusion as base")
    freeze(base)
    return base
