"""The diffusion process: x_t = α x₀ + σ ε with α² + σ² = 1, what a network predicts of it, and which levels it visits.

Everything is written in this variance-preserving form; times t are in [0, 1], from clean to noise.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from polarcast.data.errors import BadInput

PREDICTIONS = ("eps", "v", "edm")
SCHEDULES = ("cosine", "linear")
_LEAST_SIGNAL = 0.02
"""Signal that is left at t = 1 of the cosine schedule: noise predicted there is off by 1/0.02 in x₀, no more."""
_BETA = (0.1, 20.0)
"""Rates at t = 0 and 1 of the linear schedule: those of Ho et al. (2020) for 1000 steps, in continuous time."""
_EDM_LN_SIGMA = (-1.2 + math.log(2), 1.2)
_EDM_SIGMAS = (0.004, 160.0)
"""Karras et al. (2022, table 1), in units of the data's standard deviation: theirs are for one of 0.5."""
_EDM_RHO = 7.0


class Level(NamedTuple):
    """Noise levels: share of signal α and of noise σ, tensors of one shape in float64."""

    alpha: Tensor
    sigma: Tensor

    @property
    def angle(self) -> Tensor:
        """What a network is told of the level: 2/π · arctan(σ/α), 0 when clean, 1 for noise alone."""
        return torch.atan2(self.sigma, self.alpha) / (math.pi / 2)

    def over(self, x: Tensor) -> "Level":
        """Levels (b,) brought to the shape, type and device of fields (b, c, y, x)."""
        alpha, sigma = (part.to(x)[:, None, None, None] for part in self)
        return Level(alpha, sigma)

    def steps(self) -> list[tuple[float, float]]:
        """Pairs (α, σ)."""
        return list(zip(self.alpha.tolist(), self.sigma.tolist(), strict=True))


@dataclass(frozen=True)
class Process:
    """Schedule and prediction type.

    Attributes:
        prediction: `eps`, the noise (Ho et al. 2020; the source paper); `v` = α ε − σ x₀ (Salimans & Ho 2022); `edm`,
            the preconditioned network of Karras et al. (2022). On data of unit variance their c_in, c_skip and c_out
            make its target −v, with the same weight at all levels: what `edm` brings are their distribution of levels
            in training and their levels in sampling, in place of a schedule.
        schedule: `cosine` or `linear`; see `signal`.
        zero_terminal: Whether nothing is left of the data at t = 1 (Lin et al. 2023). Impossible for `eps`, which says
            nothing about x₀ there; of no effect on `edm`.
        shift: Factor on σ/α at every time. What is n pixels wide stands out of noise n times as strong as that which
            hides one pixel: with 1, where storms go in a wide field is settled within a sampler's first step, as the
            mean of all that may be (Hoogeboom et al. 2023, eq. 4, who take field width / 64).

    Raises:
        BadInput: an unknown name, a shift that is not positive, or `eps` with zero terminal signal.
    """

    prediction: str
    schedule: str
    zero_terminal: bool
    shift: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("prediction", self.prediction, PREDICTIONS),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if value not in known:
                raise BadInput(f"unknown {name} {value!r}", f"model.{name}", f"use one of: {', '.join(known)}")
        if not self.shift > 0:
            raise BadInput(
                f"noise times {self.shift}", "model.noise_shift", "give a positive number; 1 changes nothing"
            )
        if self.prediction == "eps" and self.zero_terminal:
            fix = "use prediction v, or zero_terminal_snr=false"
            raise BadInput("noise predicted from noise alone says nothing", "model.zero_terminal_snr", fix)

    def levels(self, u: Tensor) -> Level:
        """Levels to train at from uniform numbers u (b,): t = u, or for `edm` quantiles of a normal law of ln σ/α."""
        if self.prediction != "edm":
            return self.at(u)
        mean, deviation = _EDM_LN_SIGMA
        # 0 and 1 themselves have no quantile.
        return _of_ratio(self.shift * torch.exp(mean + deviation * torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9))))

    def at(self, t: Tensor) -> Level:
        """Levels at times t."""
        alpha = signal(t, self.schedule)
        if self.zero_terminal:
            first, last = signal(t.new_tensor([0.0, 1.0]), self.schedule)
            # Lin et al. (2023), algorithm 1: √ᾱ is shifted and stretched.
            alpha = (alpha - last) * first / (first - last)
        noise = self.shift * torch.sqrt((1 - alpha**2).clamp(min=0))
        whole = torch.hypot(alpha, noise)
        return Level(alpha / whole, noise / whole)

    def grid(self, steps: int) -> list[tuple[float, float]]:
        """Pairs (α, σ) of a sampler's steps, from noise to clean; steps + 1 of them, the last (1, 0).

        Times from 1 on at equal distance ("trailing" in Lin et al. 2023), or Karras et al. (2022), eq. 5.
        """
        share = torch.arange(steps, dtype=torch.float64, device="cpu") / steps
        if self.prediction != "edm":
            return [*self.at(1 - share).steps(), (1.0, 0.0)]
        low, high = (sigma ** (1 / _EDM_RHO) for sigma in _EDM_SIGMAS)
        ramp = share * steps / max(1, steps - 1)
        return [*_of_ratio(self.shift * (high + ramp * (low - high)) ** _EDM_RHO).steps(), (1.0, 0.0)]

    def target(self, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        """What the network is to answer; fields (b, c, y, x), levels of a shape that fits them."""
        alpha, sigma = level
        if self.prediction == "eps":
            return noise
        v = alpha * noise - sigma * x0
        return v if self.prediction == "v" else -v

    def clean(self, output: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """x₀ from a network's answer at x = α x₀ + σ ε."""
        if self.prediction == "eps":
            return (x - sigma * output) / alpha
        return alpha * x - sigma * output if self.prediction == "v" else alpha * x + sigma * output


def signal(t: Tensor, schedule: str) -> Tensor:
    """Signal share α at times t in [0, 1].

    `cosine` (Nichol & Dhariwal 2021) in the form of Song's implicit models: an angle that grows evenly, here until
    α = 0.02. `linear`: ln α = −½ ∫β with β from 0.1 to 20.
    """
    if schedule == "cosine":
        return torch.cos(t * math.acos(_LEAST_SIGNAL))
    low, high = _BETA
    return torch.exp(-(low * t + (high - low) * t**2 / 2) / 2)


def _of_ratio(ratio: Tensor) -> Level:
    """Levels with σ/α given: the σ of Karras et al. for unscaled data."""
    alpha = 1 / torch.sqrt(1 + ratio**2)
    return Level(alpha, ratio * alpha)
