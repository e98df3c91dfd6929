import torch

from polarcast.data.batch import Batch
from polarcast.models.diffusion.random_numbers import NOISE, evenly, forecast_keys, mix, normal, training_keys, uniform

CPU = torch.device("cpu")


def make_batch(events: list[int], frames: list[int], draw: list[int] | None = None) -> Batch:
    places = None if draw is None else torch.tensor(draw)
    radar = torch.zeros(len(events), 1, 1, 1, 2, 2)
    return Batch(radar, None, torch.tensor(events), torch.tensor(frames), ("zh",), (1.0,), places)


def test_noise_depends_only_on_the_key() -> None:
    alone, among = normal([5], NOISE, (1, 4, 4), CPU), normal([3, 5, 8], NOISE, (1, 4, 4), CPU)
    assert torch.equal(alone[0], among[1])


def test_keys_that_differ_in_any_of_64_bits_give_independent_noise() -> None:
    noise = normal([1, 1 + 2**32, 1 + 2**60, 2], NOISE, (64,), CPU)
    assert noise.corrcoef().fill_diagonal_(0).abs().max() < 0.6


def test_noise_is_standard_normal() -> None:
    noise = normal(range(100), NOISE, (1, 32, 32), CPU)
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01
    assert abs(float((noise**4).mean()) - 3) < 0.1


def test_mix_depends_on_the_order_of_numbers() -> None:
    keys = {mix(a, b) for a in range(100) for b in range(100)}
    assert len(keys) == 10_000


def test_training_keys_come_from_the_sample_index_or_event_and_frame() -> None:
    assert training_keys(make_batch([1, 1], [0, 0], [7, 8])) == [7, 8]
    first, same, other = training_keys(make_batch([1, 1, 2], [3, 3, 3]))
    assert first == same != other


def test_forecast_keys_depend_on_seed_window_and_member() -> None:
    batch = make_batch([4], [2])
    keys = {forecast_keys(batch, seed, member)[0] for seed in (0, 1) for member in (0, 1)}
    assert len(keys) == 4
    assert forecast_keys(batch, 0, 0) == forecast_keys(make_batch([4, 9], [2, 2], [1, 5]), 0, 0)[:1]


def test_consecutive_keys_cover_the_levels_evenly() -> None:
    for start in (0, 1_000_003):
        gaps = evenly(range(start, start + 16)).sort().values.diff()
        assert gaps.max() < 2 / 16
    assert uniform(range(1000), NOISE).mean().sub(0.5).abs() < 0.05
