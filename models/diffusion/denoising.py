"""Diffusion process, denoising network and sampler: the core of all diffusion models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.common.settings import ALWAYS, setting, widths_setting
from polarcast.models.diffusion.network import DenoisingUNet
from polarcast.models.diffusion.process import PREDICTIONS, SCHEDULES, Level, Process
from polarcast.models.diffusion.random_numbers import DROPS, NOISE, evenly, normal, training_keys, uniform
from polarcast.models.diffusion.samplers import SAMPLERS, Sampler, guided

VALIDATION_MEMBERS = 2
"""Ensemble size in validation; two members suffice for a fair CRPS, whose noise averages out over windows."""
_VALIDATION_STEPS = 8


@dataclass
class DenoisingConfig:
    """Configuration of process, denoiser and sampler."""

    widths: list[int] = widths_setting([64, 128, 256, 384])
    """Channels of each level of the denoiser, from full resolution down; each level halves the grid."""
    prediction: str = setting("v", ALWAYS, choices=PREDICTIONS)
    """Prediction type: v, eps (source paper) or edm."""
    schedule: str = setting("cosine", ALWAYS, choices=SCHEDULES)
    """Noise schedule: cosine or linear; ignored by edm, which defines its own noise levels."""
    zero_terminal_snr: bool | None = setting(None, ALWAYS)
    """Whether the last noise level is pure noise, in training and sampling; None enables it for v only."""
    noise_shift: float = setting(1.0, least=1e-3, most=1000)
    """Factor on the noise at every time; about field width / 32 if forecasts may be displaced by several pixels."""
    drop: float = setting(0.0, ALWAYS, least=0, most=1)
    """Share of training samples whose condition is dropped; use 0.1 with guidance and 0 without."""
    guidance: float = setting(0.0, ALWAYS, least=-1000, most=1000)
    """Scale s of classifier-free guidance, ε_c + s (ε_c − ε_u); 0 disables it and the second network evaluation."""
    guidance_rescale: float = setting(0.7, ALWAYS, least=0, most=1)
    """Fraction of rescaling to the conditional spread after guidance, from 0 to 1."""
    sampler: str = setting("dpm", ALWAYS, choices=SAMPLERS)
    """Sampler: ddim (source paper), dpm or heun."""
    steps: int = setting(8, ALWAYS, least=1, most=10_000)
    """Sampler steps."""


class LossNumbers(NamedTuple):
    """Random numbers of the loss of one batch: noise level, noise and condition mask of each sample."""

    alpha: Tensor
    """Signal, (b,)."""
    sigma: Tensor
    """Noise, (b,)."""
    angle: Tensor
    """Network input for the level, (b,)."""
    noise: Tensor
    """Standard normal fields, (b, c, y, x)."""
    is_kept: Tensor
    """Condition mask, (b,): 1 to use the condition, 0 to drop it."""


class Denoising(nn.Module):
    """Denoising model of standardized fields (b, c, y, x): training loss and sampling."""

    def __init__(self, config: DenoisingConfig, fields: int, condition: int) -> None:
        """Build process, sampler and network.

        Args:
            config: Configuration of process, denoiser and sampler.
            fields: Number of diffused fields.
            condition: Number of condition channels.

        Raises:
            BadInput: unknown prediction, schedule or sampler, or guidance without condition dropout.
        """
        super().__init__()
        if config.guidance and not config.drop:
            raise BadInput("guidance is on, but the condition is never dropped in training", "model.drop", "use 0.1")
        self.config, self.fields = config, fields
        terminal = config.zero_terminal_snr
        is_terminal = config.prediction == "v" if terminal is None else terminal
        self.process = Process(config.prediction, config.schedule, is_terminal, config.noise_shift)
        self.sampler = Sampler(config.sampler, config.steps)
        self.net = DenoisingUNet(fields, condition, config.widths)

    @property
    def validation_sampler(self) -> Sampler:
        """Sampler used in validation: the configured one with at most 8 steps."""
        return Sampler(self.sampler.name, min(_VALIDATION_STEPS, self.sampler.steps))

    def evaluations(self, sampler: Sampler | None = None) -> int:
        """Return the number of network evaluations for one sample; guidance doubles it."""
        chosen = sampler or self.sampler
        return chosen.evaluations(self.process.grid(chosen.steps)) * (2 if self.config.guidance else 1)

    def loss_numbers(self, keys: Sequence[int], shape: Sequence[int]) -> LossNumbers:
        """Make the random numbers of the loss on the CPU.

        Args:
            keys: Random key of each sample; determines its noise level, noise and dropout.
            shape: Shape of the diffused fields of a sample, (c, y, x).
        """
        levels = self.process.levels(evenly(keys))
        is_kept = (uniform(keys, DROPS) >= self.config.drop).float()
        return LossNumbers(*levels, levels.angle, normal(keys, NOISE, shape, torch.device("cpu")), is_kept)

    def numbers_of(self, batch: Batch, shape: Sequence[int]) -> LossNumbers:
        """Return the random numbers of the loss of a batch: those made ahead, or new ones."""
        return LossNumbers(*batch.random) if batch.random else self.loss_numbers(training_keys(batch), shape)

    def loss(self, x0: Tensor, condition: Tensor, numbers: LossNumbers, weight: Tensor | None = None) -> Tensor:
        """Return the mean squared error of the prediction at one noise level per sample (Ho et al. 2020, eq. 14).

        Args:
            x0: Standardized fields, (b, c, y, x).
            condition: Condition channels, (b, k, y, x).
            numbers: Random numbers, on any device.
            weight: Pixel weights, (b, 1 or c, y, x).
        """
        level, noise = Level(numbers.alpha, numbers.sigma).over(x0), numbers.noise.to(x0.device)
        noisy = level.alpha * x0 + level.sigma * noise
        output = self.net(noisy, condition, numbers.angle.to(x0), numbers.is_kept.to(x0))
        error = (output.float() - self.process.target(x0, noise, level)).square()
        return error.mean() if weight is None else (weight * error).mean()

    def sample(
        self,
        condition: Tensor,
        noise: Tensor,
        sampler: Sampler | None = None,
        limits: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Sample standardized fields from noise, both (b, c, y, x).

        Args:
            condition: Condition channels, (b, k, y, x).
            noise: Standard normal noise; determines the sample.
            sampler: Sampler to use instead of the configured one.
            limits: Smallest and largest value of x₀; intermediate estimates are clamped to them.
        """

        def denoise(x: Tensor, alpha: float, sigma: float) -> Tensor:
            angle = torch.atan2(*(x.new_tensor(part).expand(len(x)) for part in (sigma, alpha))) * (2 / torch.pi)
            x0 = self.process.clean(self._guided_output(x, condition, angle).float(), x, alpha, sigma)
            return x0 if limits is None else x0.clamp(*limits)

        chosen = sampler or self.sampler
        return chosen.run(denoise, noise, self.process.grid(chosen.steps))

    def _guided_output(self, x: Tensor, condition: Tensor, angle: Tensor) -> Tensor:
        is_kept = torch.ones_like(angle)
        conditional = self.net(x, condition, angle, is_kept)
        if not self.config.guidance:
            return conditional
        unconditional = self.net(x, condition, angle, 0 * is_kept)
        return guided(conditional, unconditional, self.config.guidance, self.config.guidance_rescale)
