"""A process and the network that undoes it: what all diffusion models here are made around."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.data.errors import BadInput
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.diffusion.network import DenoisingUNet
from polarcast.models.diffusion.process import Process
from polarcast.models.diffusion.random_numbers import DROPS, NOISE, evenly, normal, uniform
from polarcast.models.diffusion.samplers import Sampler, guided

JUDGED_MEMBERS = 2
"""Enough for a fair CRPS: its noise averages out over windows."""
_JUDGED_STEPS = 8


@dataclass
class DenoisingConfig:
    """Configuration of process, denoiser and sampler."""

    widths: list[int] = setting([64, 128, 256, 384], ALWAYS)
    """Channels of each level of the denoiser, from full resolution down; each level halves the grid."""
    prediction: str = setting("v", ALWAYS)
    """What the network predicts: v, eps (the source paper) or edm."""
    schedule: str = setting("cosine", ALWAYS)
    """How signal turns into noise: cosine or linear; edm has levels of its own."""
    zero_terminal_snr: bool | None = setting(None, ALWAYS)
    """Whether sampling starts from noise alone, and training knows it; by default for v only."""
    noise_shift: float = 1.0
    """Factor on the noise at every time; about field width / 32 where the truth may be some pixels away."""
    drop: float = setting(0.0, ALWAYS)
    """Share of training samples whose condition is dropped; guidance needs it, usual is 0.1, without it 0 is better."""
    guidance: float = setting(0.0, ALWAYS)
    """Scale s of classifier-free guidance, ε_c + s (ε_c − ε_u); 0 is none, and costs no second evaluation."""
    guidance_rescale: float = setting(0.7, ALWAYS)
    """Share by which guidance gives back the spread that it has added."""
    sampler: str = setting("dpm", ALWAYS)
    """Solver from noise to rain: ddim (the source paper), dpm or heun."""
    steps: int = setting(8, ALWAYS)
    """Steps of the sampler."""


class Denoising(nn.Module):
    """Learns to undo noise on standardised fields (b, c, y, x), and makes such fields from noise."""

    def __init__(self, config: DenoisingConfig, fields: int, condition: int) -> None:
        """Build for so many diffused fields, and so many condition channels.

        Raises:
            BadInput: an unknown prediction, schedule or sampler, or guidance without a model to guide away from.
        """
        super().__init__()
        if config.guidance and not config.drop:
            raise BadInput("guidance, but the condition is never dropped in training", "model.drop", "use 0.1")
        self.config, self.fields = config, fields
        terminal = config.zero_terminal_snr
        is_terminal = config.prediction == "v" if terminal is None else terminal
        self.process = Process(config.prediction, config.schedule, is_terminal, config.noise_shift)
        self.sampler = Sampler(config.sampler, config.steps)
        self.net = DenoisingUNet(fields, condition, config.widths)

    @property
    def judging_sampler(self) -> Sampler:
        """The configured one in at most 8 steps: what validation samples with."""
        return Sampler(self.sampler.name, min(_JUDGED_STEPS, self.sampler.steps))

    def evaluations(self, sampler: Sampler | None = None) -> int:
        """Evaluations of the network for one sample; guidance takes each twice."""
        chosen = sampler or self.sampler
        return chosen.evaluations(self.process.grid(chosen.steps)) * (2 if self.config.guidance else 1)

    def loss(self, x0: Tensor, condition: Tensor, keys: Sequence[int], weight: Tensor | None = None) -> Tensor:
        """Mean squared error of the prediction at one noise level a sample (Ho et al. 2020, eq. 14).

        Args:
            x0: Standardised fields, (b, c, y, x).
            condition: (b, k, y, x).
            keys: A number for each sample, from which its level, noise and dropping follow.
            weight: Of each pixel, (b, 1 or c, y, x).
        """
        levels = self.process.levels(evenly(keys))
        level = levels.over(x0)
        noise = normal(keys, NOISE, x0.shape[1:], x0.device)
        is_kept = (uniform(keys, DROPS) >= self.config.drop).to(x0)
        answer = self.net(level.alpha * x0 + level.sigma * noise, condition, levels.angle.to(x0), is_kept)
        error = (answer.float() - self.process.target(x0, noise, level)).square()
        return error.mean() if weight is None else (weight * error).mean()

    def sample(
        self,
        condition: Tensor,
        noise: Tensor,
        sampler: Sampler | None = None,
        limits: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Standardised fields from noise, both (b, c, y, x).

        Args:
            condition: (b, k, y, x).
            noise: Standard normal; with it the sample is determined.
            sampler: Another than the configured one.
            limits: Least and greatest value x₀ can have; estimates of it on the way are cut to that.
        """

        def denoise(x: Tensor, alpha: float, sigma: float) -> Tensor:
            angle = torch.atan2(*(x.new_tensor(part).expand(len(x)) for part in (sigma, alpha))) * (2 / torch.pi)
            x0 = self.process.clean(self._answer(x, condition, angle).float(), x, alpha, sigma)
            return x0 if limits is None else x0.clamp(*limits)

        chosen = sampler or self.sampler
        return chosen.run(denoise, noise, self.process.grid(chosen.steps))

    def _answer(self, x: Tensor, condition: Tensor, angle: Tensor) -> Tensor:
        is_kept = torch.ones_like(angle)
        answer = self.net(x, condition, angle, is_kept)
        if not self.config.guidance:
            return answer
        other = self.net(x, condition, angle, 0 * is_kept)
        return guided(answer, other, self.config.guidance, self.config.guidance_rescale)
