"""Virtual gauges, and the variance between a point and an area, against what is known by other means."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from polarcast.data.errors import BadInput
from polarcast.data.gauges.correlation import Correlation, area_point_factor
from polarcast.data.gauges.virtual import VirtualErrors, tipped, virtual_gauges, within_pixels
from tests.support.gauge_archive import frame_times, moving_rain, place


@pytest.mark.parametrize(
    "law", [Correlation(8.0), Correlation(3.0, 0.6, 0.95), Correlation(0.5, 1.8, 1.0), Correlation(40.0, 1.0, 0.9)]
)
@pytest.mark.parametrize("side", [0.5, 1.0, 4.0])
def test_the_variance_between_point_and_area(law: Correlation, side: float) -> None:
    """Var(Z(u) − mean Z) of a field with this covariance, over random gauges u, on a fine grid of points."""
    y, x = np.mgrid[:16, :16]
    points = side * (np.stack([y.ravel(), x.ravel()], -1) + 0.5) / 16
    rng = np.random.default_rng(1)
    gauges = rng.uniform(0, side, (300, 2))
    between, within = (law.at(cdist(points, other)) for other in (gauges, points))
    # A point of the grid stands for its cell, not for itself.
    np.fill_diagonal(within, law.at(np.array([0.52 * side / 16]))[0])
    expected = 1 - 2 * between.mean() + within.mean()
    assert area_point_factor(law, side) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("text", ["", "8,", "a,b", "8,1,1,1", "0", "-3", "8,3", "8,1,1.2", "8,1,0", "nan"])
def test_correlations_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="correlation"):
        Correlation.parse(text)


def test_correlations_are_read() -> None:
    assert Correlation.parse("8,0.9,0.98") == Correlation(8.0, 0.9, 0.98)
    assert Correlation.parse("8") == Correlation(8.0, 1.0, 1.0)


def test_patterns_keep_the_mean_of_each_pixel() -> None:
    errors = VirtualErrors(variability=0.5)
    pattern = within_pixels(40, 60, 5.0, errors, seed=2)
    np.testing.assert_allclose(pattern.mean((2, 3)), 1.0)
    # The variance over cells is below that of the unsmoothed logarithm, as the mean of the pixel is taken out.
    assert 0.1 < np.log(pattern).std() < 0.5
    near, far = (np.corrcoef(pattern[:, :, 0, 0].ravel(), pattern[:, :, 0, i].ravel())[0, 1] for i in (1, 8))
    assert near > 0.5 > far
    assert not np.array_equal(pattern, within_pixels(40, 60, 5.0, errors, seed=3))
    np.testing.assert_array_equal(pattern[:3], within_pixels(40, 60, 5.0, errors, seed=2)[:3])


def test_tips_lose_no_water() -> None:
    mm = np.random.default_rng(4).gamma(0.3, 0.3, (200, 5))
    found = tipped(mm, 0.2)
    np.testing.assert_allclose(found / 0.2, np.rint(found / 0.2), atol=1e-9)
    waiting = mm.cumsum(0) - found.cumsum(0)
    assert waiting.min() > -1e-6
    assert waiting.max() < 0.2 + 1e-6
    np.testing.assert_array_equal(tipped(mm, 0), mm)


def test_gauges_without_errors_are_the_truth() -> None:
    rain = moving_rain(20, 32, seed=1)
    perfect = VirtualErrors(variability=0, bucket_mm=0, wind_loss=0)
    pixels = [(3, 5), (16, 16), (30, 12)]
    gauges, truth = virtual_gauges(rain, frame_times(0, 20), pixels, place(), minutes=30, errors=perfect)
    expected = np.stack([rain[:, y, x].reshape(4, 5).sum(1) * 0.1 for y, x in pixels])
    np.testing.assert_allclose(truth, expected)
    np.testing.assert_allclose([gauge.mm for gauge in gauges], expected)
    row, column = place().pixels_of(*(np.array([getattr(g, n) for g in gauges]) for n in ("latitude", "longitude")))
    np.testing.assert_array_equal(np.stack([np.rint(row), np.rint(column)], -1), pixels)
    assert gauges[0].ends.tolist() == frame_times(0, 20)[4::5].tolist()


def test_wind_takes_its_share() -> None:
    rain = moving_rain(40, 32, seed=1)
    errors = VirtualErrors(wind_loss=0.2, bucket_mm=0.0)
    pixels = [(y, x) for y in range(2, 30, 3) for x in range(2, 30, 3)]
    gauges, truth = virtual_gauges(rain, frame_times(0, 40), pixels, place(), minutes=60, errors=errors)
    assert sum(g.mm.sum() for g in gauges) / truth.sum() == pytest.approx(0.8, abs=0.03)
