import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polarcast.hpc.scores.metrics import METRICS, compute
from polarcast.hpc.scores.sums import COLUMNS, EventSums, common_events, frame_sums, read_sums, write_sums


def score(name: str, forecast: list[list[float]], observed: list[list[float]]) -> float:
    sums = frame_sums(torch.tensor([forecast]), torch.tensor([observed])).numpy()
    return float(compute(name, sums.sum((0, 1)), len(observed) * len(observed[0])))


def fields(seed: int, n: int = 3, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(80 * torch.rand(n, size, size, generator=generator) ** 3 for _ in range(2))  # type: ignore[return-value]


FORECAST, OBSERVED = [[1.0, 4.0], [0.0, 10.0]], [[2.0, 4.0], [1.0, 20.0]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("paper_mse", (1 + 0 + 1 + 100) / 4),
        ("rmse", (102 / 4) ** 0.5),
        ("paper_rbias", 12 / 27),
        ("ne", 100 * 12 / 27),
        ("nb", -100 * 12 / 27),
        ("paper_mre", (12 / 4) / 27),
        # level: 1 + 0.35 · 19 = 7.65: one hit
        ("paper_csi", 1.0),
    ],
)
def test_by_hand(name: str, value: float) -> None:
    assert score(name, FORECAST, OBSERVED) == pytest.approx(value)


def test_csi_counts_hits_misses_and_false_alarms() -> None:
    # range 0 … 10, level 3.5: hit, miss, false alarm, correct no
    assert score("paper_csi", [[9.0, 0.0], [4.0, 1.0]], [[10.0, 5.0], [3.0, 0.0]]) == pytest.approx(1 / 3)


def test_mre_and_rbias_differ_by_the_pixels_of_a_sample() -> None:
    forecast, observed = fields(0, n=4, size=8)
    sums = frame_sums(forecast, observed).numpy().sum((0, 1))
    ratio = compute("paper_rbias", sums, 64) / compute("paper_mre", sums, 64)
    assert ratio == pytest.approx(64)


@given(st.integers(0, 10_000))
def test_sums_against_numpy(seed: int) -> None:
    forecast, observed = fields(seed)
    f, o = forecast.double().numpy().ravel(), observed.double().numpy().ravel()
    found = dict(zip(COLUMNS, frame_sums(forecast, observed).numpy().sum((0, 1)), strict=True))
    expected = {
        "pixels": f.size, "sum_obs": o.sum(), "sum_fc": f.sum(), "sum_abs_error": abs(f - o).sum(),
        "sum_sq_error": ((f - o) ** 2).sum(), "sum_sq_obs": o @ o, "sum_sq_fc": f @ f, "sum_obs_fc": f @ o,
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name


@given(st.integers(0, 10_000))
def test_merging_is_exact_whatever_the_parts(seed: int) -> None:
    forecast, observed = fields(seed, n=6)
    events = np.array([1, 1, 2, 2, 2, 3])
    frames = frame_sums(forecast, observed).numpy()
    merged = EventSums.of_frames(events, frames, 36)
    for i, event in enumerate(merged.events):
        members = frame_sums(forecast[events == event], observed[events == event]).numpy()
        np.testing.assert_allclose(merged.sums[i], members.sum(0), rtol=1e-12)
    np.testing.assert_allclose(merged.sums.sum(0), frames.sum(0), rtol=1e-12)


def test_rain_classes_follow_the_observation() -> None:
    observed = torch.tensor([[[0.0, 9.99, 10.0, 29.0, 30.0, 50.0, 400.0]]])
    pixels = frame_sums(torch.zeros_like(observed), observed)[0, :, COLUMNS.index("pixels")]
    assert pixels.tolist() == [2, 2, 1, 2]


@given(st.integers(0, 10_000))
def test_a_perfect_forecast_scores_perfectly(seed: int) -> None:
    observed = fields(seed)[1]
    sums = frame_sums(observed, observed).numpy().sum((0, 1))
    for name, metric in METRICS.items():
        assert compute(name, sums, 36) == pytest.approx(metric.perfect, abs=1e-12), name


@pytest.mark.parametrize("name", ["paper_rbias", "paper_mre", "paper_csi", "ne", "nb"])
def test_without_rain_ratios_are_undefined_not_zero(name: str) -> None:
    assert np.isnan(score(name, [[0.0, 1.0]], [[0.0, 0.0]]))


def test_scores_survive_the_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    forecast, observed = fields(1)
    scores = EventSums.of_frames(np.array([4, 9, 9]), frame_sums(forecast, observed).numpy(), 36)
    write_sums(tmp_path / "s" / "scores.parquet", scores)
    back = read_sums(tmp_path / "s" / "scores.parquet")
    np.testing.assert_array_equal(back.events, [4, 9])
    np.testing.assert_array_equal(back.sums, scores.sums)
    assert back.pixels_per_sample == 36


def test_runs_scored_on_different_events_are_not_compared() -> None:
    one = EventSums(np.array([1, 2]), np.zeros((2, 4, len(COLUMNS))), 1)
    other = EventSums(np.array([1, 3]), np.zeros((2, 4, len(COLUMNS))), 1)
    with pytest.raises(Exception, match="different events"):
        common_events([one, other])
