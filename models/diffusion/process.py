"""Diffusion process x_t = α x₀ + σ ε with α² + σ² = 1: schedules, prediction types and noise levels.

All formulas use this variance-preserving form; time t is in [0, 1], from clean to noise.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from polarcast.data.errors import BadInput

PREDICTIONS = ("eps", "v", "edm")
SCHEDULES = ("cosine", "linear")
_MIN_SIGNAL = 0.02
"""Signal α of the cosine schedule at t = 1; errors of predicted noise grow by at most 1/0.02 in x₀."""
_BETA = (0.1, 20.0)
"""Rates β of the linear schedule at t = 0 and 1: Ho et al. (2020) for 1000 steps, in continuous time."""
_EDM_LN_SIGMA = (-1.2 + math.log(2), 1.2)
_EDM_SIGMAS = (0.004, 160.0)
"""Karras et al. (2022, table 1), in units of the standard deviation of the data, which is 0.5 in the paper."""
_EDM_RHO = 7.0


class Level(NamedTuple):
    """Noise levels: signal α and noise σ, float64 tensors of the same shape."""

    alpha: Tensor
    sigma: Tensor

    @property
    def angle(self) -> Tensor:
        """Network input for the level: 2/π · arctan(σ/α), from 0 (clean) to 1 (pure noise)."""
        return torch.atan2(self.sigma, self.alpha) / (math.pi / 2)

    def over(self, x: Tensor) -> "Level":
        """Broadcast levels (b,) to the shape, dtype and device of fields (b, c, y, x)."""
        alpha, sigma = (part.to(x)[:, None, None, None] for part in self)
        return Level(alpha, sigma)

    def steps(self) -> list[tuple[float, float]]:
        """Return pairs (α, σ)."""
        return list(zip(self.alpha.tolist(), self.sigma.tolist(), strict=True))


@dataclass(frozen=True)
class Process:
    """Diffusion process: noise schedule and prediction type.

    Attributes:
        prediction: `eps`, the noise (Ho et al. 2020; the source paper); `v` = α ε − σ x₀ (Salimans & Ho 2022); `edm`,
            the preconditioned network of Karras et al. (2022). For data of unit variance, their c_in, c_skip and
            c_out make the target −v with equal weight at all levels. `edm` thus differs by its distribution of
            training levels and its sampling levels, which replace the schedule.
        schedule: `cosine` or `linear`; see `signal`.
        zero_terminal: Whether the signal is zero at t = 1 (Lin et al. 2023). Invalid for `eps`, which does not
            determine x₀ there; no effect on `edm`.
        shift: Factor on σ/α at every time. A structure n pixels wide remains visible in noise n times stronger than a
            single pixel does. With a factor of 1, a sampler fixes the positions of storms in a wide field in its first
            step, as the mean of all possibilities. See Hoogeboom et al. (2023), eq. 4, who use field width / 64.

    Raises:
        BadInput: unknown name, shift not positive, or `eps` with zero terminal signal.
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
                raise BadInput(f"unknown {name} {value!r}", f"model.{name}", f"choose from: {', '.join(known)}")
        if not self.shift > 0:
            raise BadInput(
                f"noise factor {self.shift} is not positive", "model.noise_shift", "give a positive number such as 1"
            )
        if self.prediction == "eps" and self.zero_terminal:
            fix = "use prediction v, or zero_terminal_snr=false"
            raise BadInput("prediction eps does not determine x0 at zero signal", "model.zero_terminal_snr", fix)

    def levels(self, u: Tensor) -> Level:
        """Return training levels for uniform numbers u (b,): t = u, or normal quantiles of ln σ/α for `edm`."""
        if self.prediction != "edm":
            return self.at(u)
        mean, deviation = _EDM_LN_SIGMA
        # The quantiles of 0 and 1 are infinite.
        return _from_ratio(self.shift * torch.exp(mean + deviation * torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9))))

    def at(self, t: Tensor) -> Level:
        """Return the levels at times t."""
        alpha = signal(t, self.schedule)
        if self.zero_terminal:
            first, last = signal(t.new_tensor([0.0, 1.0]), self.schedule)
            # Lin et al. (2023), algorithm 1: shift and scale √ᾱ.
            alpha = (alpha - last) * first / (first - last)
        noise = self.shift * torch.sqrt((1 - alpha**2).clamp(min=0))
        whole = torch.hypot(alpha, noise)
        return Level(alpha / whole, noise / whole)

    def grid(self, steps: int) -> list[tuple[float, float]]:
        """Return the steps + 1 levels (α, σ) of a sampler, from noise to clean; the last is (1, 0).

        Times are evenly spaced from 1 ("trailing" in Lin et al. 2023); for `edm`, see Karras et al. (2022), eq. 5.
        """
        share = torch.arange(steps, dtype=torch.float64, device="cpu") / steps
        if self.prediction != "edm":
            return [*self.at(1 - share).steps(), (1.0, 0.0)]
        low, high = (sigma ** (1 / _EDM_RHO) for sigma in _EDM_SIGMAS)
        ramp = share * steps / max(1, steps - 1)
        return [*_from_ratio(self.shift * (high + ramp * (low - high)) ** _EDM_RHO).steps(), (1.0, 0.0)]

    def target(self, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        """Return the training target of the network for fields (b, c, y, x); levels must broadcast to them."""
        alpha, sigma = level
        if self.prediction == "eps":
            return noise
        v = alpha * noise - sigma * x0
        return v if self.prediction == "v" else -v

    def clean(self, output: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """Return x₀ given the network output at x = α x₀ + σ ε."""
        if self.prediction == "eps":
            return (x - sigma * output) / alpha
        return alpha * x - sigma * output if self.prediction == "v" else alpha * x + sigma * output


def signal(t: Tensor, schedule: str) -> Tensor:
    """Return the signal α at times t in [0, 1].

    `cosine` (Nichol & Dhariwal 2021): the angle arccos α increases linearly, up to α = 0.02.
    `linear`: ln α = −½ ∫β with β from 0.1 to 20.
    """
    if schedule == "cosine":
        return torch.cos(t * math.acos(_MIN_SIGNAL))
    low, high = _BETA
    return torch.exp(-(low * t + (high - low) * t**2 / 2) / 2)


def _from_ratio(ratio: Tensor) -> Level:
    """Return levels for a given σ/α, which is the σ of Karras et al. (2022) for unscaled data."""
    alpha = 1 / torch.sqrt(1 + ratio**2)
    return Level(alpha, ratio * alpha)
