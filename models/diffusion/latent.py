"""Diffusion in the latent space of a trained autoencoder (Rombach et al. 2022; source paper, code listing)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import SCALINGS
from polarcast.models.common.frozen import freeze
from polarcast.models.common.rain import last_rain
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.common.standardize import Standard
from polarcast.models.diffusion.autoencoder import Autoencoder
from polarcast.models.diffusion.denoising import Denoising, DenoisingConfig
from polarcast.models.diffusion.generative import Generative
from polarcast.models.diffusion.samplers import Sampler
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.qpe.unet import require_halvable


@dataclass
class LatentDiffusionConfig(DenoisingConfig):
    """Configuration of the latent diffusion; `widths` start at the resolution of the latents."""

    scaling: str = setting("range", ALWAYS, choices=SCALINGS)
    """Scaling of the radar input: range or frame."""


class LatentDiffusion(Generative):
    """Conditional diffusion of rain latents, followed by decoding; the network runs on a 2^k times coarser grid.

    Detail that the autoencoder cannot reconstruct is lost, regardless of the radar input.
    """

    def __init__(self, config: LatentDiffusionConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Build around a trained autoencoder and freeze it in place.

        Raises:
            BadInput: the base is not an autoencoder.
        """
        super().__init__()
        if not isinstance(base, Autoencoder):
            raise BadInput(f"{type(base).__name__} has no latent space", "model.base", "use an autoencoder as base")
        freeze(base)
        self.config, self.base, self.scaling, self.space = config, base, config.scaling, base.space
        self.latents = base.config.latent_channels
        self.standard = Standard(self.latents)
        self.encoder = condition_encoder(inputs.channels, config.widths[0], base.halvings)
        self.denoising = Denoising(config, self.latents, config.widths[0])

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit mean and standard deviation of each latent channel."""
        self.standard.fit(self._latents(batch) for batch in batches)

    def target(self, batch: Batch) -> Tensor:
        """Return standardized latents of the observed rain, (b, latent_channels, y / f, x / f)."""
        return self.standard(self._latents(batch))

    def condition(self, batch: Batch) -> Tensor:
        """Return radar features on the latent grid, from a trained encoder, (b, widths[0], y / f, x / f)."""
        require_halvable(batch.radar, self.base.halvings)
        return self.encoder(self.radar(batch))

    def target_shape(self, batch: Batch) -> tuple[int, int, int]:
        """Return the shape of the latents of a sample, (latent_channels, y / f, x / f)."""
        y, x = batch.radar.shape[-2:]
        return self.latents, y >> self.base.halvings, x >> self.base.halvings

    def make(self, batch: Batch, keys: Sequence[int], sampler: Sampler) -> Tensor:
        """Sample rain, (b, 1, y, x) in mm/h."""
        condition = self.condition(batch)
        noise = self.noise(keys, (self.latents, *condition.shape[-2:]), condition.device)
        return self.base.decode(self.standard.restore(self.denoising.sample(condition, noise, sampler)))

    @torch.no_grad()
    def _latents(self, batch: Batch) -> Tensor:
        return self.base.encode(self.base.standard(self.base.space(last_rain(batch).float())))[0]


def condition_encoder(channels: int, width: int, halvings: int) -> nn.Sequential:
    """Build a strided convolutional encoder: (b, channels, y, x) → (b, width, y / 2^halvings, x / 2^halvings)."""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
    for _ in range(halvings):
        layers += [nn.SiLU(), nn.Conv2d(width, width, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)
