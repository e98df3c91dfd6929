"""The error of an estimate without that of the gauges, where the truth is known."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from polarcast.data.gauges.correlation import Correlation
from polarcast.data.gauges.virtual import VirtualErrors, virtual_gauges
from polarcast.hpc.evaluation.gauges.pairs import Pairs
from polarcast.hpc.evaluation.gauges.reference_error import fit_correlations, separate
from tests.support.gauge_archive import frame_times, place
from tests.support.gauge_pairs import pairs_with

Real = npt.NDArray[np.float64]
LAW = Correlation(8.0, 1.0, 0.97)
STATIONS, DAYS, PER_DAY, CELLS = 12, 16, 8, 5
EVENTS = 6


def network(seed: int, trials: int) -> tuple[Real, Real, Real, Real]:
    """Return places (stations, 2) in km, and gauges, estimates and truth, (trials, stations, intervals) in mm.

    Rain is a lognormal field with the correlation of `LAW` on 200 m cells of 1 km pixels, and a factor of the day. A
    gauge is in any cell, with a random error of the law's nugget. The estimate has an error of its own.
    """
    rng = np.random.default_rng(seed)
    corner, cell = rng.uniform(0, 25, (STATIONS, 2)), rng.integers(0, CELLS**2, STATIONS)
    inner = (np.stack(np.divmod(np.arange(CELLS**2), CELLS), -1) + 0.5) / CELLS
    points = (corner[:, None] + inner).reshape(-1, 2)
    apart = np.hypot(*(points[:, None] - points).transpose(2, 0, 1))
    sd = 0.5
    latent = np.log1p(np.exp(-((apart / LAW.km) ** LAW.shape)) * math.expm1(sd**2)) / sd**2
    values, vectors = np.linalg.eigh(latent)
    root = (vectors * np.sqrt(np.clip(values, 0, None))).astype(np.float32)
    n = DAYS * PER_DAY
    rain = np.exp(sd * (rng.standard_normal((trials * n, len(points)), np.float32) @ root.T) - sd**2 / 2)
    rain = rain.reshape(trials, n, STATIONS, -1) * np.repeat(rng.lognormal(0, 0.2, (trials, DAYS, 1, 1)), PER_DAY, 1)
    truth, gauge = rain.mean(-1, dtype=np.float64), rain[:, :, np.arange(STATIONS), cell].astype(np.float64)
    gauge = gauge + gauge.std() * math.sqrt((1 - LAW.nugget) / LAW.nugget) * rng.standard_normal(gauge.shape)
    estimate = truth * rng.lognormal(-0.06, 0.35, truth.shape)
    return corner, *(v.transpose(0, 2, 1) for v in (gauge, estimate, truth))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def networks() -> list[tuple[Real, Real, Real, Real]]:
    """Return 100 networks, of two samples each."""
    return [network(seed, 2) for seed in range(100)]


@pytest.mark.parametrize("given", [LAW, None])
def test_intervals_cover_the_true_error(
    given: Correlation | None, networks: list[tuple[Real, Real, Real, Real]]
) -> None:
    """Of 200 samples, 95% intervals hold the true error as often as chance allows.

    Limits are the 0.1% and 99.9% points of the binomial distribution, with 93% to 98% of coverage, as errors of rain
    are skewed. The intervals are as wide as the values scatter, and the values are right within 4%: from a correlation
    that is estimated, they are a few percent too small, as correlations of rain are estimated too low.
    """
    true = math.sqrt(float(np.mean([np.square(estimate - truth).mean() for _, _, estimate, truth in networks])))
    against_gauges = math.sqrt(float(np.mean([np.square(estimate - g).mean() for _, g, estimate, _ in networks])))
    found = [
        separate(pairs_with(gauge[k], {"r": estimate[k]}, PER_DAY, corner), ["r"], 1.0, given, draws=200)["r"]
        for corner, gauge, estimate, _ in networks
        for k in (0, 1)
    ]
    assert not any(one.why_not for one in found)
    covered = sum(one.of_estimate.low <= true <= one.of_estimate.high for one in found)
    assert stats.binom.ppf(0.001, 200, 0.93) <= covered <= stats.binom.ppf(0.999, 200, 0.98)
    values = np.log([one.of_estimate.value for one in found])
    assert math.exp(np.median(values)) == pytest.approx(true, rel=0.04)
    assert against_gauges > 1.07 * true
    width = np.median([math.log(one.of_estimate.high / one.of_estimate.low) for one in found])
    assert width == pytest.approx(2 * 1.96 * values.std(), rel=0.25)


def test_virtual_gauges_in_a_storm_give_the_true_error() -> None:
    """100 m variability, tips of 0.2 mm and wind, in rain of which everything is known."""
    from polarcast.data.synth.generate import PRESETS, generate_event

    rng, size, frames, minutes = np.random.default_rng(1), 32, 40, 60.0
    pixels = [(int(y), int(x)) for y, x in rng.integers(2, size - 2, (40, 2))]
    amounts, estimates, truths = list[Real](), list[Real](), list[Real]()
    errors = VirtualErrors(variability=0.6)
    for event in range(EVENTS):
        rain = generate_event(PRESETS["tiny"], 11, event, size, frames).rain.astype(np.float64)
        gauges, truth = virtual_gauges(
            rain, frame_times(event, frames), pixels, place(size), minutes=minutes, errors=errors, seed=event
        )
        amounts.append(np.stack([gauge.mm for gauge in gauges]) / (1 - errors.wind_loss))
        truths.append(truth)
        estimates.append(truth * rng.lognormal(-0.03, 0.25, truth.shape))
    gauge, estimate, truth = (np.concatenate(v, 1) for v in (amounts, estimates, truths))
    corner = np.array([(-y, x) for y, x in pixels], np.float64)
    pairs = pairs_with(gauge, {"r": estimate}, gauge.shape[1] // EVENTS, corner)
    found = separate(pairs, ["r"], 1.0)["r"]
    true = math.sqrt(float(np.square(estimate - truth).mean()))
    assert found.of_estimate.low <= true <= found.of_estimate.high
    assert found.rmse > 1.02 * true
    assert abs(found.of_estimate.value - true) < abs(found.rmse - true)


@pytest.mark.parametrize("law", [Correlation(6.0, 0.8, 0.97), Correlation(30.0, 1.5, 1.0), Correlation(3.0, 1.0, 0.8)])
def test_a_correlation_is_found_from_its_values(law: Correlation) -> None:
    km = np.linspace(0.8, 40, 60)
    scale, shape, nugget = fit_correlations(np.stack([law.at(km)] * 2), np.ones((2, 60)), km)
    found = Correlation(float(scale[1]), float(shape[1]), float(nugget[1]))
    np.testing.assert_allclose(found.at(km), law.at(km), atol=0.02)
    assert found.nugget == pytest.approx(law.nugget, abs=0.02)


def network_pairs(stations: int = 12, n: int = 128, spread_km: float = 25.0, noise: float = 0.3) -> Pairs:
    rng = np.random.default_rng(2)
    common = rng.gamma(0.5, 2.0, n)
    gauge = common * rng.lognormal(0, 0.1, (stations, n))
    return pairs_with(gauge, {"r": gauge + noise}, 8, rng.uniform(0, spread_km, (stations, 2)))


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        (network_pairs(stations=4), "6 pairs of gauges have 20 common intervals, 10 are needed"),
        (network_pairs(n=16), "0 pairs of gauges have 20 common intervals"),
        (network_pairs(spread_km=900.0), "the nearest gauges are .* km apart, for pixels of 1 km"),
        (network_pairs(noise=0.001), "the gauges' error, .* mm, is not below the RMSE against gauges"),
    ],
)
def test_what_is_not_supported_is_not_estimated(pairs: Pairs, why: str) -> None:
    import re

    found = separate(pairs, ["r"], 1.0)["r"]
    assert re.match(why, found.why_not), found.why_not
    assert math.isnan(found.of_estimate.value)
    assert found.rmse == pytest.approx(float(np.abs(pairs.estimates["r"] - pairs.gauge).mean()), rel=1e-6)


def test_a_given_correlation_needs_no_pairs_of_gauges() -> None:
    pairs = network_pairs(stations=4, noise=1.0)
    found = separate(pairs, ["r"], 1.0, Correlation(8.0))["r"]
    assert not found.why_not
    assert found.of_estimate.value < found.rmse
    assert math.hypot(found.of_estimate.value, found.of_gauge) == pytest.approx(found.rmse)
