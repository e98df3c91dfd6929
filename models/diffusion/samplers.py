"""From noise to a sample, given x₀ as a denoiser sees it: three solvers of the probability-flow equation.

All are deterministic given the noise. A grid is a list of (α, σ) from noise to (1, 0), as `Process.grid` gives it.
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
"""(x, α, σ) → estimate of x₀, both (b, c, y, x)."""
SAMPLERS = ("ddim", "dpm", "heun")
_SMALLEST_SIGNAL = 2**-24
"""In place of 0 where a solver needs a finite σ/α."""


@dataclass(frozen=True)
class Sampler:
    """A solver and its number of steps.

    Raises:
        BadInput: an unknown name, or no step.
    """

    name: str
    steps: int

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise BadInput(f"unknown sampler {self.name!r}", "model.sampler", f"use one of: {', '.join(SAMPLERS)}")
        if self.steps < 1:
            raise BadInput(f"{self.steps} steps", "model.steps", "use at least one")

    def evaluations(self, grid: NoiseLevels) -> int:
        """How often the denoiser is asked on the way down a grid."""
        return sum(1 + (self.name == "heun" and _has_two_slopes(*pair)) for pair in pairwise(grid))

    def run(self, denoise: Denoise, noise: Tensor, grid: NoiseLevels) -> Tensor:
        """A sample (b, c, y, x) from noise of that shape."""
        solve = {"ddim": ddim, "dpm": dpm, "heun": heun}[self.name]
        return solve(denoise, noise, grid)


def ddim(denoise: Denoise, noise: Tensor, grid: NoiseLevels) -> Tensor:
    """Song et al. (2021), eq. 12, with σ = 0: the source paper's sampler."""
    x = noise
    for (alpha, sigma), following in pairwise(grid):
        x = _step(x, denoise(x, alpha, sigma), (alpha, sigma), following)
    return x


def dpm(denoise: Denoise, noise: Tensor, grid: NoiseLevels) -> Tensor:
    """DPM-Solver++ (2M) of Lu et al. (2022), algorithm 2, as diffusers has it, on our grid instead of its own."""
    from diffusers import DPMSolverMultistepScheduler

    # A decorator hides from type checkers what the class offers.
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
    """Karras et al. (2022), algorithm 1: Heun's method for y = x/α in s = σ/α, whose slope dy/ds is the noise.

    The step from noise alone, where y is infinite, and the one to s = 0 are DDIM's, which is Euler's method in s.
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

    ε̂ = ε_c + s (ε_c − ε_u): s = 0 is no guidance. Then the spread of each field is brought back to that of ε_c, by the
    share φ. The source paper's eq. 7.10, ε_c + s' ε_u, has weights that do not sum to one, so that ε̂ is no noise
    of unit variance; divided by their sum it is ours with s = −s'/(1 + s'), a pull *towards* the unconditional.

    Args:
        conditional: Answer that knows the condition, (b, c, y, x).
        unconditional: Answer that does not.
        scale: s.
        rescale: φ, from 0 to 1.
    """
    answer = conditional + scale * (conditional - unconditional)
    spread, wanted = (a.std((1, 2, 3), keepdim=True) for a in (answer, conditional))
    return answer * (rescale * wanted / spread.clamp(min=1e-8) + 1 - rescale)


def _step(x: Tensor, x0: Tensor, here: tuple[float, float], there: tuple[float, float]) -> Tensor:
    """Keep x₀ and the noise, change their shares."""
    return there[0] * x0 + there[1] * _noise(x, x0, here)


def _noise(x: Tensor, x0: Tensor, level: tuple[float, float]) -> Tensor:
    alpha, sigma = level
    return (x - alpha * x0) / sigma


def _has_two_slopes(here: tuple[float, float], there: tuple[float, float]) -> bool:
    return here[0] > 0 and there[1] > 0
