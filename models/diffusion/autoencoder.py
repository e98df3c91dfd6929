"""KL autoencoder of rain fields for latent diffusion (Kingma & Welling 2014; Rombach et al. 2022, §3.1)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.data.scaling import RAIN_TRANSFORMS
from polarcast.models.common.rain import last_rain
from polarcast.models.common.settings import ALWAYS, setting, widths_setting
from polarcast.models.diffusion.conditional import standard_rain
from polarcast.models.diffusion.rain import RainSpace
from polarcast.models.diffusion.random_numbers import NOISE, normal, training_keys
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.qpe.unet import ResidualBlock, require_halvable


@dataclass
class AutoencoderConfig:
    """Configuration of the rain autoencoder."""

    widths: list[int] = widths_setting([64, 128, 256])
    """Channels of each level, from full resolution down; each level after the first halves the grid."""
    latent_channels: int = setting(4, ALWAYS, least=1, most=1024)
    """Channels of the latent fields."""
    kl_weight: float = setting(1e-3, ALWAYS, least=0, most=10**6)
    """Weight of the Kullback–Leibler divergence (mean over latent values) relative to the mean squared error."""
    rain_transform: str = setting("log1p", ALWAYS, choices=RAIN_TRANSFORMS)
    """Transform of the encoded rain: log1p, sqrt or identity."""


class Autoencoder(Forecaster):
    """Autoencoder of rain fields; radar fields are not used."""

    def __init__(self, config: AutoencoderConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config = config
        self.blocks = (ResidualBlock,)
        self.space = RainSpace(config.rain_transform)
        self.standard = standard_rain(config.rain_transform)
        self.halvings = len(config.widths) - 1
        self.encoder = rain_encoder(config.widths, 2 * config.latent_channels)
        self.decoder = rain_decoder(config.widths, config.latent_channels)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit mean and standard deviation of transformed rain."""
        self.standard.fit(self.space(last_rain(batch).float()) for batch in batches)

    def loss(self, batch: Batch) -> Tensor:
        """Return the squared error of standardized rain plus the weighted KL divergence from a standard normal."""
        rain = self.standard(self.space(last_rain(batch)))
        mean, log_variance = self.encode(rain)
        (noise,) = (numbers.to(mean.device) for numbers in batch.random or self.loss_numbers(batch))
        error = F.mse_loss(self.decoder(mean + (log_variance / 2).exp() * noise).float(), rain)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        return error + self.config.kl_weight * divergence

    def loss_numbers(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the noise on the latents, (b, latent_channels, y / f, x / f); see `Forecaster`."""
        y, x = batch.radar.shape[-2:]
        shape = (self.config.latent_channels, y >> self.halvings, x >> self.halvings)
        return (normal(training_keys(batch), NOISE, shape, torch.device("cpu")),)

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return the *observed* rain of the batch, encoded and decoded, (b, 1, t = 1, y, x) in mm/h.

        This is not a forecast: its input is the target. Its score is an upper bound for latent diffusion.
        """
        mean, _ = self.encode(self.standard(self.space(last_rain(batch))))
        return self.decode(mean)[:, None]

    def encode(self, rain: Tensor) -> tuple[Tensor, Tensor]:
        """Map standardized rain (b, 1, y, x) to mean and log variance, both (b, latent_channels, y / f, x / f).

        Raises:
            BadInput: the grid can't be halved once per level.
        """
        require_halvable(rain, self.halvings)
        mean, log_variance = self.encoder(rain).float().chunk(2, 1)
        return mean, log_variance.clamp(-20, 10)

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents to rain rate in mm/h, (b, 1, y, x)."""
        return self.space.rain_rate(self.standard.restore(self.decoder(latents).float()))


def rain_encoder(widths: Sequence[int], out: int) -> nn.Sequential:
    """Build the encoder: (b, 1, y, x) → (b, out, y / f, x / f), f = 2^(levels − 1)."""
    levels: list[nn.Module] = [nn.Conv2d(1, widths[0], 3, padding=1), ResidualBlock(widths[0], widths[0])]
    for upper, lower in pairwise(widths):
        levels += [nn.AvgPool2d(2), ResidualBlock(upper, lower)]
    return nn.Sequential(*levels, nn.Conv2d(widths[-1], out, 1))


def rain_decoder(widths: Sequence[int], latents: int) -> nn.Sequential:
    """Build the decoder: (b, latents, y, x) → (b, 1, f y, f x), f = 2^(levels − 1)."""
    levels: list[nn.Module] = [nn.Conv2d(latents, widths[-1], 3, padding=1), ResidualBlock(widths[-1], widths[-1])]
    for lower, upper in pairwise(reversed(widths)):
        levels += [nn.Upsample(scale_factor=2.0, mode="nearest"), ResidualBlock(lower, upper)]
    return nn.Sequential(*levels, nn.Conv2d(widths[0], 1, 3, padding=1))
