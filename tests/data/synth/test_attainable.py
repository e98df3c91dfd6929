"""Attainable skill against reference values, and properties of posterior means."""

import numpy as np
import pytest

from polarcast.data.explore.measures import published_estimates
from polarcast.data.synth.attainable import (
    GRIDDED_NOISE,
    PIXEL_NOISE,
    RainPrior,
    attainable_skill,
    draw_particles,
    posterior_mean,
    score,
)

# Overall RMSE (mm/h), NE, and RMSE at 50 mm/h and more, from an independent implementation.
REFERENCE = [
    (PIXEL_NOISE, ("zh",), 4.73, 0.327, 33.7),
    (PIXEL_NOISE, ("zh", "zdr"), 2.88, 0.225, 19.6),
    (PIXEL_NOISE, ("zh", "zdr", "kdp"), 2.15, 0.200, 10.9),
    (GRIDDED_NOISE, ("zh",), 4.63, 0.312, 32.7),
    (GRIDDED_NOISE, ("zh", "zdr"), 1.81, 0.139, 12.3),
    (GRIDDED_NOISE, ("zh", "zdr", "kdp"), 1.39, 0.126, 7.4),
]


@pytest.mark.parametrize(("noise", "variables", "rmse", "error", "heavy"), REFERENCE)
def test_reference_skill_is_reproduced(noise, variables, rmse, error, heavy):
    skills = attainable_skill(variables, noise, cases=5000, particles=40_000)
    assert skills[-1].rmse == pytest.approx(rmse, rel=0.08)
    assert skills[-1].normalised_error == pytest.approx(error, rel=0.05)
    assert skills[-2].rmse == pytest.approx(heavy, rel=0.12)


def test_with_low_noise_zh_is_limited_by_drop_sizes_but_dual_pol_is_not():
    low_noise = (0.1, 0.02, 0.02)
    zh_only, dual_pol = (
        attainable_skill(v, low_noise, cases=1000, particles=40_000)[-1] for v in (("zh",), ("zh", "zdr", "kdp"))
    )
    assert zh_only.normalised_error == pytest.approx(0.31, abs=0.03)
    assert dual_pol.normalised_error < 0.08


def test_mean_of_posterior_means_is_the_mean_of_the_prior():
    """E[E[R|y]] = E[R]; truths uniform in ln R are weighted by the prior."""
    rng = np.random.default_rng(2)
    truth, cloud = draw_particles(RainPrior(), 4000, rng), draw_particles(RainPrior(), 40_000, rng)
    observed = truth.observables + rng.normal(size=truth.observables.shape) * PIXEL_NOISE
    estimate = posterior_mean(cloud, observed, PIXEL_NOISE, ("zh", "zdr", "kdp"))
    weight = np.exp(truth.log_weight)
    assert weight @ estimate == pytest.approx(weight @ truth.rain, rel=0.02)


def test_estimate_stays_within_the_prior_for_implausible_observations():
    cloud = draw_particles(RainPrior(), 5000, np.random.default_rng(0))
    implausible = np.array([[-60.0, 0.0, 0.0], [120.0, 30.0, -20.0], [40.0, -30.0, 50.0]])
    for variables in (("zh",), ("kdp",), ("zh", "zdr", "kdp")):
        estimate = posterior_mean(cloud, implausible, PIXEL_NOISE, variables)
        assert np.isfinite(estimate).all()
        assert (estimate >= 0.1).all()
        assert (estimate <= 180).all()


@pytest.mark.parametrize("variables", [(), ("zh", "rho")])
def test_unknown_variables_are_rejected(variables):
    cloud = draw_particles(RainPrior(), 2000, np.random.default_rng(0))
    with pytest.raises(ValueError, match="choose from"):
        posterior_mean(cloud, np.zeros((1, 3)), PIXEL_NOISE, variables)


@pytest.mark.parametrize(("name", "error"), [("R(Z)", 0.35), ("R(K)", 0.22), ("R(K,ZDR)", 0.17)])
def test_published_estimators_have_the_expected_error(name, error):
    truth = draw_particles(RainPrior(), 30_000, np.random.default_rng(4))
    estimate = published_estimates(*truth.observables.T)[name]
    skill = score(estimate, truth.rain, np.exp(truth.log_weight))[-1]
    assert skill.normalised_error == pytest.approx(error, abs=0.015)


def test_score_matches_hand_calculation():
    skills = score(np.array([1.0, 20.0, 60.0]), np.array([2.0, 20.0, 100.0]))
    assert [s.count for s in skills] == [1, 1, 0, 1, 3]
    assert skills[0].rmse == pytest.approx(1.0)
    assert np.isnan(skills[2].rmse)
    assert skills[-1].normalised_error == pytest.approx(41 / 122)
