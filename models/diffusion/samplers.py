"""Samplers: three solvers of the probability-flow ODE, given a denoiser that estimates x₀.

All are deterministic given the noise. A grid is a list of (α, σ) from noise to (1, 0); see `Process.grid`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from polarcast.data.errors import BadInput

NoiseLevels = Sequence[tuple[float, float]]
Denoise = Callable[[Tensor, float, float], Tensor]
"""Denoiser (x, α, σ) → estimate of x₀; x and x₀ are (b, c, y, x)."""
SAMPLERS = ("ddim", "dpm", "heun")
_SMALLEST_SIGNAL = 2**-24
"""Replaces α = 0 in solvers that need a finite σ/α."""


@dataclass(frozen=True)
class Sampler:
    """Solver name and number of steps.

    Raises:
        BadInput: unknown name, or fewer than one step.
    """

    name: str
    steps: int

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise BadInput(f"unknown sampler {self.name!r}", "model.sampler", f"choose from: {', '.join(SAMPLERS)}")
        if self.steps < 1:
            raise BadInput(f"{self.steps} steps are too few", "model.steps", "give 1 or more")

    def evaluations(self, grid: NoiseLevels) -> int:
        """Return the number of denoiser evaluations over a grid."""
        return sum(1 + (self.name == "heun" and _has_two_slopes(*pair)) for pair in pairwise(grid))

    def run(self, denoise: Denoise, noise: Tensor, grid: NoiseLevels) -> Tensor:
        """Return a sample (b, c, y, x) from noise of the same shape."""
        solve = {"ddim": ddim, "dpm": dpm, "heun": heun}[self.name]
        return solve(denoise, noise, grid)


def ddim(denoise: Denoise, noise: Tensor, grid: NoiseLevels) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12, with σ = 0), the sampler of the source paper."""
    x = noise
    for (alpha, sigma), following in pairwise(grid):
        x = _step(x, denoise(x, alpha, sigma), (alpha, sigma), following)
    return x


def dpm(denoise: Denoise, noise: Tensor, grid: NoiseLevels) -> Tensor:
    """DPM-Solver++ (2M) (Lu et al. 2022, algorithm 2), as implemented in diffusers, on the given grid."""
    from diffusers import DPMSolverMultistepScheduler

    # A decorator hides the class attributes from type checkers.
    solver: Any = DPMSolverMultistepScheduler(prediction_type="sample")
    solver.set_timesteps(len(grid) - 1)
    solver.set_begin_index(0)
    ratios = [sigma / max(alpha, _SMALLEST_SIGNAL) for alpha, sigma in grid]
    solver.sigmas = torch.tensor(ratios, dtype=torch.float64, device="cpu")
    x = noise
    for time, (alpha, sigma) in zip(solver.timesteps, grid, strict=False):
        x = solver.step(denoise(x, alpha, sigma), time, x).prev_sample
    return x


def heun(denoise: Denoise, noise: Tensor, grid: NoiseLevels) -> Tensor:
    """Heun's method (Karras et al. 2022, algorithm 1) for y = x/α in s = σ/α, whose slope dy/ds is the noise.

    The step from pure noise, where y is infinite, and the step to s = 0 are DDIM steps (Euler's method in s).
    """
    x = noise
    for here, there in pairwise(grid):
        x0 = denoise(x, *here)
        guess = _step(x, x0, here, there)
        if _has_two_slopes(here, there):
            slope = (_noise(x, x0, here) + _noise(guess, denoise(guess, *there), there)) / 2
            stretch = there[0] / here[0]
            x = stretch * x + (there[1] - stretch * here[1]) * slope
        else:
            x = guess
    return x


def guided(conditional: Tensor, unconditional: Tensor, scale: float, rescale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2022), rescaled (Lin et al. 2023, eq. 14–16); for any prediction type.

    ε̂ = ε_c + s (ε_c − ε_u); s = 0 disables guidance. The spread of each field is then rescaled toward that of ε_c, by
    the fraction φ. The weights of the source paper's eq. 7.10, ε_c + s' ε_u, do not sum to one, so ε̂ does not have
    unit variance. Normalized by their sum, it is the above with s = −s'/(1 + s'): guidance *toward* the unconditional.

    Args:
        conditional: Network output with the condition, (b, c, y, x).
        unconditional: Network output without the condition, (b, c, y, x).
        scale: Guidance scale s.
        rescale: Rescaling fraction φ, from 0 to 1.
    """
    output = conditional + scale * (conditional - unconditional)
    spread, target = (a.std((1, 2, 3), keepdim=True) for a in (output, conditional))
    return output * (rescale * target / spread.clamp(min=1e-8) + 1 - rescale)


def _step(x: Tensor, x0: Tensor, here: tuple[float, float], there: tuple[float, float]) -> Tensor:
    """Move to another level, with x₀ and the noise unchanged."""
    return there[0] * x0 + there[1] * _noise(x, x0, here)


def _noise(x: Tensor, x0: Tensor, level: tuple[float, float]) -> Tensor:
    alpha, sigma = level
    return (x - alpha * x0) / sigma


def _has_two_slopes(here: tuple[float, float], there: tuple[float, float]) -> bool:
    return here[0] > 0 and there[1] > 0
