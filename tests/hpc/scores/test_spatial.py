"""Compare FSS, spectra and histograms with pysteps and numpy, and check their properties."""

import numpy as np
import pytest
import torch

from polarcast.hpc.scores.fss import fractions, fss
from polarcast.hpc.scores.spectra import (
    histogram,
    joint_histogram,
    lost_variance,
    overlap,
    ring_sizes,
    spectrum,
    spectrum_ratio,
)
from tests.support.fields import PAIRS, SIZE, rain

THRESHOLDS, WINDOWS = (0.5, 5.0, 20.0, 50.0), (1, 2, 3, 8, 15, 31, 64)


@pytest.mark.parametrize("pair", [p for p in PAIRS if p != "missing values"])
def test_fss_equals_that_of_pysteps(pair: str) -> None:
    from pysteps.verification.spatialscores import fss as theirs

    forecast, observed = PAIRS[pair]
    ours = fss(fractions(forecast, observed, THRESHOLDS, WINDOWS).numpy())
    for i, frame in enumerate(zip(forecast.numpy(), observed.numpy(), strict=True)):
        for j, threshold in enumerate(THRESHOLDS):
            for k, window in enumerate(WINDOWS):
                with np.errstate(all="ignore"):
                    # pysteps also counts values at or above the threshold.
                    expected = theirs(*frame, threshold, window)
                undefined = not (frame[0] >= threshold).any() and not (frame[1] >= threshold).any()
                assert np.isnan(ours[i, j, k]) == undefined
                assert undefined or ours[i, j, k] == pytest.approx(expected, abs=1e-6)


def test_fss_is_bounded_and_reaches_its_asymptotic_value() -> None:
    sums = fractions(rain(1), rain(2), (5.0,), (1, 5, 15, 4 * SIZE + 1)).numpy()
    values = fss(sums)
    assert ((values >= 0) & (values <= 1)).all()
    a, b = ((r >= 5).double().mean((1, 2)).numpy() for r in (rain(1), rain(2)))
    # A window that always covers the whole field depends on the event frequencies only (asymptotic FSS).
    np.testing.assert_allclose(values[:, 0, -1], 2 * a * b / (a**2 + b**2), rtol=1e-7)


def test_fss_is_one_for_equal_fields_and_dice_for_one_pixel() -> None:
    assert fss(fractions(rain(1), rain(1), THRESHOLDS[:3], WINDOWS).numpy()) == pytest.approx(1)
    f, o = (r >= 5 for r in (rain(1), rain(2)))
    dice = (2 * (f & o).sum((1, 2)) / (f.sum((1, 2)) + o.sum((1, 2)))).numpy()
    np.testing.assert_allclose(fss(fractions(rain(1), rain(2), (5.0,), (1,)).numpy())[:, 0, 0], dice, rtol=1e-6)


def test_fractions_do_not_depend_on_batching() -> None:
    forecast, observed = PAIRS["a little off"]
    whole = fractions(forecast, observed, THRESHOLDS, WINDOWS)
    parts = [fractions(forecast[i : i + 1], observed[i : i + 1], THRESHOLDS, WINDOWS) for i in range(4)]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("size", [32, 64, 100])
def test_spectrum_equals_that_of_pysteps(size: int) -> None:
    from pysteps.utils.spectral import rapsd

    field = rain(3, frames=2, size=size // 4 * 4)
    expected = np.stack([rapsd(f.double().numpy(), fft_method=np.fft) for f in field])
    np.testing.assert_allclose(spectrum(field).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [40, 63, 64])
def test_lost_variance_equals_the_variance_ratio_of_the_fields(size: int) -> None:
    """The spectrum omits the corners of the wavenumber plane, where smooth fields have almost no power."""
    kernel = torch.ones(1, 1, 5, 5) / 25
    smooth, other = (
        torch.nn.functional.conv2d(rain(seed, frames=1, size=80)[:, None], kernel)[:, 0, :size, :size]
        for seed in (3, 4)
    )
    # Taper the fields, because the Fourier transform assumes periodic boundaries.
    smooth, other = (f * torch.hann_window(size)[:, None] * torch.hann_window(size) for f in (smooth, other))
    forecast, observed = (spectrum(f).sum(0).numpy() for f in (smooth, other))
    expected = 1 - smooth.double().var().item() / other.double().var().item()
    sizes = ring_sizes(size, tuple(range(size // 2)))
    assert lost_variance(forecast, observed, sizes) == pytest.approx(expected, abs=0.02)
    # Bands weight their rings by the mean ring size, which is nearly exact.
    bounds = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18)
    in_bands = (np.add.reduceat(f, bounds) for f in (forecast, observed))
    assert lost_variance(*in_bands, ring_sizes(size, bounds)) == pytest.approx(expected, abs=0.03)


def test_blurred_field_loses_variance() -> None:
    field = rain(3, size=64)
    blurred = torch.nn.functional.avg_pool2d(field[:, None], 9, 1, 4)[:, 0]
    a, b = (spectrum(f).sum(0).numpy() for f in (blurred, field))
    sizes = ring_sizes(64, tuple(range(32)))
    assert 0.2 < lost_variance(a, b, sizes) < 1
    assert lost_variance(b, b, sizes) == pytest.approx(0)
    assert spectrum_ratio(a, b)[20:].max() < 0.2
    with pytest.raises(ValueError, match="square"):
        spectrum(field[:, :10])


def test_histogram_equals_that_of_numpy() -> None:
    edges = (0.5, 5.0, 20.0)
    for frame, ours in zip(rain(4), histogram(rain(4), edges), strict=True):
        expected, _ = np.histogram(frame.numpy(), [-np.inf, *edges, np.inf])
        assert ours.tolist() == expected.tolist()


def test_joint_histogram_equals_that_of_numpy_on_valid_pixels() -> None:
    edges, forecasts, observations = (0.5, 1.0, 5.0, 20.0), rain(4), rain(5)
    observations[:, :3] = torch.nan
    bins = [-np.inf, *edges, np.inf]
    counts = joint_histogram(forecasts, observations, edges)
    for forecast, observed, ours in zip(forecasts, observations, counts, strict=True):
        valid = ~observed.isnan()
        expected, *_ = np.histogram2d(forecast[valid].numpy(), observed[valid].numpy(), [bins, bins])
        np.testing.assert_array_equal(ours.numpy(), expected)


def test_overlap_is_one_for_equal_and_zero_for_disjoint_histograms() -> None:
    a = histogram(rain(4), (0.5, 5.0, 20.0)).sum(0).numpy()
    assert overlap(a, 3 * a) == pytest.approx(1)
    assert overlap(np.array([1, 0]), np.array([0, 5])) == 0
