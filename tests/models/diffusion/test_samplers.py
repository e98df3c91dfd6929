import math

import pytest
import torch
from torch import Tensor

from polarcast.data.errors import BadInput
from polarcast.models.diffusion.process import PREDICTIONS, SCHEDULES, Process
from polarcast.models.diffusion.samplers import SAMPLERS, Sampler, guided

MEAN, SPREAD = 0.7, 0.4


def make_process(prediction: str, schedule: str = "cosine") -> Process:
    return Process(prediction, schedule, zero_terminal=prediction == "v")


def gaussian(x: Tensor, alpha: float, sigma: float) -> Tensor:
    """Optimal denoiser for x0 ~ N(MEAN, SPREAD²)."""
    gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
    return MEAN + gain * (x - alpha * MEAN)


def exact_sample(noise: Tensor, alpha: float, sigma: float) -> Tensor:
    """Exact solution of the probability flow for that Gaussian, which maps noise to the same quantile."""
    return MEAN + SPREAD * (noise - alpha * MEAN) / math.sqrt(alpha**2 * SPREAD**2 + sigma**2)


def error(name: str, steps: int, process: Process) -> float:
    noise = torch.linspace(-2, 2, 9)[:, None, None, None]
    grid = process.grid(steps)
    return float((Sampler(name, steps).run(gaussian, noise, grid) - exact_sample(noise, *grid[0])).abs().max())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_perfect_denoiser_makes_every_step_exact(name: str, prediction: str, schedule: str) -> None:
    process = make_process(prediction, schedule)
    x0, noise = torch.randn(2, 2, 3, 4, 4).unbind(0)
    visited = []

    def perfect(x: Tensor, alpha: float, sigma: float) -> Tensor:
        visited.append((x, alpha, sigma))
        eps = (x - alpha * x0) / sigma
        levels = process.at(torch.zeros(1, dtype=torch.float64))._replace(
            alpha=torch.tensor(alpha), sigma=torch.tensor(sigma)
        )
        return process.clean(process.target(x0, eps, levels), x, alpha, sigma)

    grid = process.grid(6)
    samples = Sampler(name, 6).run(perfect, noise, grid)
    torch.testing.assert_close(samples, x0, atol=1e-4, rtol=1e-4)
    initial_noise = (noise - grid[0][0] * x0) / grid[0][1]
    for x, alpha, sigma in visited:
        torch.testing.assert_close(x, alpha * x0 + sigma * initial_noise, atol=2e-3, rtol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(("name", "steps"), [("ddim", 400), ("dpm", 60), ("heun", 60)])
def test_gaussian_samples_have_the_right_mean_and_variance(name: str, steps: int, prediction: str) -> None:
    process = make_process(prediction)
    noise = torch.randn(20_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    samples = Sampler(name, steps).run(gaussian, noise, process.grid(steps))
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(samples.std()) == pytest.approx(SPREAD, rel=0.02)


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpm", 2), ("heun", 2)])
def test_error_converges_with_the_order_of_the_solver(name: str, order: int) -> None:
    errors = [error(name, steps, make_process("edm")) for steps in (40, 80)]
    assert errors[0] / errors[1] > 0.95 * 2**order


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("name", "steps", "most"), [("ddim", 320, 0.01), ("dpm", 80, 0.005), ("heun", 80, 0.01)])
def test_samplers_map_noise_to_its_quantile(name: str, steps: int, most: float, schedule: str) -> None:
    assert error(name, steps, make_process("v", schedule)) < most


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_evaluations_equal_the_number_of_denoiser_calls(name: str, prediction: str) -> None:
    for steps in (1, 2, 5):
        process, sampler, calls = make_process(prediction), Sampler(name, steps), list[float]()

        def counted(x: Tensor, alpha: float, sigma: float, calls: list[float] = calls) -> Tensor:
            calls.append(alpha)
            return gaussian(x, alpha, sigma)

        sampler.run(counted, torch.zeros(1, 1, 1, 1), process.grid(steps))
        assert sampler.evaluations(process.grid(steps)) == len(calls)


def test_guidance_of_zero_returns_the_conditional_output() -> None:
    conditional, unconditional = torch.randn(2, 3, 1, 8, 8).unbind(0)
    torch.testing.assert_close(guided(conditional, unconditional, 0.0, 0.7), conditional)


def test_guidance_moves_away_from_the_unconditional_and_rescales_the_spread() -> None:
    conditional, unconditional = torch.randn(2, 3, 1, 8, 8).unbind(0)
    torch.testing.assert_close(guided(conditional, unconditional, 2.0, 0.0), 3 * conditional - 2 * unconditional)
    rescaled = guided(conditional, unconditional, 2.0, 1.0)
    torch.testing.assert_close(rescaled.std((1, 2, 3)), conditional.std((1, 2, 3)))


def test_invalid_samplers_raise() -> None:
    with pytest.raises(BadInput, match="ddim, dpm, heun"):
        Sampler("euler", 4)
    with pytest.raises(BadInput, match="0 steps are too few"):
        Sampler("ddim", 0)


def spread_of_wide_structures(process: Process, width: int = 16, steps: int = 16) -> float:
    """Standard deviation of samples if the truth is one standard normal value over width × width pixels."""
    pixels = width**2

    def best(x: Tensor, alpha: float, sigma: float) -> Tensor:
        return (alpha * pixels * x.mean((1, 2, 3), keepdim=True) / (alpha**2 * pixels + sigma**2)).expand_as(x)

    # Quantiles of the mean of width² pixels of noise, in place of random draws.
    quantiles = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)
    noise = (quantiles / width)[:, None, None, None].expand(-1, 1, width, width)
    return float(Sampler("dpm", steps).run(best, noise, process.grid(steps)).mean((1, 2, 3)).std())


def test_noise_shift_preserves_the_spread_of_wide_structures() -> None:
    assert spread_of_wide_structures(Process("v", "cosine", True, 1.0)) < 0.6
    assert spread_of_wide_structures(Process("v", "cosine", True, 4.0)) > 0.8
    assert spread_of_wide_structures(Process("v", "cosine", True, 4.0), steps=64) == pytest.approx(1, abs=0.05)
