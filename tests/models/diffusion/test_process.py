from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polarcast.data.errors import BadInput
from polarcast.models.diffusion.process import PREDICTIONS, SCHEDULES, Level, Process

PROCESSES = [
    Process(prediction, schedule, terminal, shift)
    for prediction in PREDICTIONS
    for schedule in SCHEDULES
    for terminal in (False, True)
    for shift in (1.0, 4.0)
    if not (prediction == "eps" and terminal)
]


def scheduled(schedule: str, terminal: bool) -> Level:
    return Process("v", schedule, terminal).at(torch.linspace(0, 1, 201, dtype=torch.float64))


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_signal_decreases_and_noise_increases(schedule: str, terminal: bool) -> None:
    alpha, sigma = scheduled(schedule, terminal)
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() > 0).all()
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    assert (alpha[0], sigma[0]) == (1, 0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_zero_terminal_removes_all_signal(schedule: str) -> None:
    assert scheduled(schedule, True).alpha[-1] == 0
    assert 0 < scheduled(schedule, False).alpha[-1] < 0.03


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_grid_runs_from_noise_to_clean(process: Process) -> None:
    for steps in (1, 2, 7):
        grid = process.grid(steps)
        assert len(grid) == steps + 1
        assert grid[-1] == (1, 0)
        assert grid[0][0] < 0.03
        assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(grid))


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.05, 0.95))
def test_every_prediction_type_recovers_the_clean_field(x0: float, noise: float, t: float) -> None:
    clean, eps = torch.tensor([x0], dtype=torch.float64), torch.tensor([noise], dtype=torch.float64)
    for process in PROCESSES:
        level = process.levels(torch.tensor([t], dtype=torch.float64))
        alpha, sigma = float(level.alpha), float(level.sigma)
        output = process.target(clean, eps, level)
        torch.testing.assert_close(process.clean(output, alpha * clean + sigma * eps, alpha, sigma), clean)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.05, 0.95))
def test_v_determines_clean_field_and_noise(x0: float, noise: float, t: float) -> None:
    process = Process("v", "cosine", False)
    alpha, sigma = (float(part) for part in process.at(torch.tensor(t, dtype=torch.float64)))
    v, x = alpha * noise - sigma * x0, alpha * x0 + sigma * noise
    assert alpha * x - sigma * v == pytest.approx(x0, abs=1e-9)
    assert sigma * x + alpha * v == pytest.approx(noise, abs=1e-9)


def test_edm_equals_the_preconditioning_of_the_paper() -> None:
    ratio = torch.tensor([0.01, 0.5, 3.0, 100.0], dtype=torch.float64)
    level = Level(1 / (1 + ratio**2).sqrt(), ratio / (1 + ratio**2).sqrt())
    x0, noise, output = (torch.randn(4, dtype=torch.float64) for _ in range(3))
    # Karras et al. (2022), table 1, with unit variance of the data, for the unscaled y = x0 + s n.
    y, c_in = x0 + ratio * noise, 1 / (1 + ratio**2).sqrt()
    c_skip, c_out = 1 / (1 + ratio**2), ratio / (1 + ratio**2).sqrt()
    process = Process("edm", "cosine", False)
    ours = [process.clean(a, i * v, *pair) for a, i, v, pair in zip(output, c_in, y, level.steps(), strict=True)]
    torch.testing.assert_close(torch.stack(ours), c_skip * y + c_out * output)
    torch.testing.assert_close(process.target(x0, noise, level), (x0 - c_skip * y) / c_out)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_shift_scales_the_noise_of_all_training_and_sampling_levels(prediction: str) -> None:
    plain, shifted = (Process(prediction, "cosine", False, shift) for shift in (1.0, 4.0))
    times = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    (alpha, sigma), (less, more) = plain.levels(times), shifted.levels(times)
    torch.testing.assert_close(more / less, 4 * sigma / alpha)
    for (alpha, sigma), (less, more) in zip(plain.grid(5)[:-1], shifted.grid(5)[:-1], strict=True):
        assert more / less == pytest.approx(4 * sigma / alpha)


def test_invalid_processes_raise() -> None:
    with pytest.raises(BadInput, match="does not determine x0"):
        Process("eps", "cosine", True)
    with pytest.raises(BadInput, match="unknown schedule"):
        Process("v", "sigmoid", True)
    with pytest.raises(BadInput, match="unknown prediction"):
        Process("x0", "cosine", True)
    with pytest.raises(BadInput, match="noise factor 0"):
        Process("v", "cosine", True, 0.0)
