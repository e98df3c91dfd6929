"""The best rain-rate estimate any method can make from given observations: exact posterior means by weighted particles.

Truth is drawn from the prior - rain rate log-normal, drop sizes by `DropPrior` - and observed with known
noise. The mean of the posterior, the estimate with the least mean square error there is, is a ratio of sums
over particles weighted by prior over proposal times likelihood (self-normalised importance sampling).
Particles are proposed flat in ln R, so heavy rain, rare under the prior, has as many as light rain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from polarcast.data.synth.drops import DropPrior
from polarcast.data.synth.scattering import observe_rain

Array = npt.NDArray[np.floating]

VARIABLES = ("zh", "zdr", "kdp")
PIXEL_NOISE = (1.0, 0.2, 0.3)
"""Standard deviations of zh (dB), zdr (dB), kdp (deg/km) of one radar pixel."""
GRIDDED_NOISE = (0.5, 0.1, 0.15)
"""The same after averaging to a grid."""
CLASSES_MMH = ((0.0, 10.0), (10.0, 30.0), (30.0, 50.0), (50.0, np.inf), (0.0, np.inf))

_REACH = 4.5


@dataclass(frozen=True)
class RainPrior:
    """Which rain falls, and of which drops."""

    median_mmh: float = 2.0
    """Median rain rate, mm/h."""
    sd_ln: float = 1.4
    """Standard deviation of ln R."""
    limits_mmh: tuple[float, float] = (0.1, 180.0)
    """Least and largest rain rate, mm/h."""
    drops: DropPrior = field(default_factory=DropPrior)
    """Drop sizes at given rain rate."""

    def log_density(self, ln_rain: Array) -> Array:
        """Log of the density of ln R, up to a constant, within the limits."""
        return -0.5 * ((ln_rain - np.log(self.median_mmh)) / self.sd_ln) ** 2


@dataclass(frozen=True)
class Particles:
    """Possible truths."""

    rain: Array
    """Rain rate in mm/h, (n,)."""
    seen: Array
    """Noise-free zh, zdr, kdp, (n, 3)."""
    log_weight: Array
    """Log of prior over proposal, (n,)."""


@dataclass(frozen=True)
class Skill:
    """Error of an estimate within a class of true rain rates."""

    low_mmh: float
    high_mmh: float
    rmse: float
    """Root-mean-square error, mm/h."""
    normalised_error: float
    """Sum of absolute errors over sum of rain."""
    count: int


def observe_prior(prior: RainPrior, rain: Array, rng: np.random.Generator) -> Array:
    """Noise-free zh, zdr, kdp, (n, 3), of rain rates (n,) with drops drawn from the prior."""
    dm = prior.drops.dm(rain, rng.normal(0.0, prior.drops.dm_sd, len(rain)))
    seen = observe_rain(dm, prior.drops.mu(dm, rng.normal(size=len(rain))), rain)
    return np.stack([seen.zh, seen.zdr, seen.kdp], axis=1)


def draw_particles(prior: RainPrior, n: int, rng: np.random.Generator) -> Particles:
    """Particles proposed flat in ln R within the prior's limits."""
    low, high = np.log(prior.limits_mmh)
    ln_rain = rng.uniform(low, high, n)
    seen = observe_prior(prior, np.exp(ln_rain), rng)
    return Particles(np.exp(ln_rain), seen, prior.log_density(ln_rain))


def posterior_mean(particles: Particles, observed: Array, noise: Sequence[float], variables: Sequence[str]) -> Array:
    """Posterior mean rain rate in mm/h, (n,), given noisy observations.

    Args:
        particles: From `draw_particles`; 100,000 make the sampling error of the estimate negligible.
        observed: zh, zdr, kdp with noise, (n, 3).
        noise: Their standard deviations in dB, dB, deg/km.
        variables: Which of `VARIABLES` the estimate may use; at least one.

    Raises:
        ValueError: no variable, or an unknown one.
    """
    if not variables or set(variables) - set(VARIABLES):
        raise ValueError(f"variables {tuple(variables)}: choose from {VARIABLES}")
    used = [VARIABLES.index(v) for v in variables]
    # In units of the noise and sorted by the first variable: particles far off in it alone have no weight.
    order = np.argsort(particles.seen[:, used[0]])
    sd = np.asarray(noise, dtype=np.float64)[used]
    seen, target = particles.seen[order][:, used] / sd, np.asarray(observed)[:, used] / sd
    rain, log_weight = particles.rain[order], particles.log_weight[order]
    estimate = np.empty(len(target))
    for i, (start, stop) in enumerate(_within_reach(seen[:, 0], target[:, 0])):
        misfit = seen[start:stop] - target[i]
        log_posterior = log_weight[start:stop] - 0.5 * np.einsum("ij,ij->i", misfit, misfit)
        weight = np.exp(log_posterior - log_posterior.max())
        estimate[i] = weight @ rain[start:stop] / weight.sum()
    return estimate


def _within_reach(seen: Array, target: Array) -> npt.NDArray[np.int64]:
    """First and last + 1 of the sorted particles near each target, (n, 2); outliers get the nearest thousand."""
    least = min(1000, len(seen))
    start = np.searchsorted(seen, target - _REACH)
    stop = np.searchsorted(seen, target + _REACH)
    return np.stack([np.minimum(start, len(seen) - least), np.maximum(stop, least)], axis=1)


def score(estimate: Array, rain: Array, weight: Array | None = None) -> list[Skill]:
    """Errors of `estimate` (n,) against `rain` (n,), mm/h, in each of `CLASSES_MMH`; the last class is all rain.

    `weight` (n,) says how often each case occurs, where cases were not drawn as often as they occur.
    """
    weight = np.ones(len(rain)) if weight is None else weight
    skills = []
    for low, high in CLASSES_MMH:
        chosen = (rain >= low) & (rain < high)
        w, error, truth = weight[chosen], estimate[chosen] - rain[chosen], rain[chosen]
        with np.errstate(invalid="ignore"):
            rmse = np.sqrt((w @ error**2) / w.sum())
            relative = (w @ np.abs(error)) / (w @ truth)
        skills.append(Skill(low, high, float(rmse), float(relative), int(chosen.sum())))
    return skills


def attainable_skill(
    variables: Sequence[str],
    noise: Sequence[float] = PIXEL_NOISE,
    *,
    prior: RainPrior | None = None,
    cases: int = 8_000,
    particles: int = 100_000,
    seed: int = 0,
) -> list[Skill]:
    """Skill of the posterior mean under the prior, per class of rain and over all.

    Args:
        variables: Subset of `VARIABLES` the estimate may use.
        noise: Standard deviations of zh (dB), zdr (dB), kdp (deg/km).
        prior: Of rain and drops; the default is that of the preset `meiyu`.
        cases: Number of truths, flat in ln R and weighted by the prior, so that heavy rain is well sampled; equal seeds
            give equal truths and noise for every subset of variables.
        particles: Number of particles.
        seed: Of truths, noise and particles.
    """
    prior = prior or RainPrior()
    truth_rng, particle_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    truth = draw_particles(prior, cases, truth_rng)
    observed = truth.seen + truth_rng.normal(size=truth.seen.shape) * np.asarray(noise)
    cloud = draw_particles(prior, particles, particle_rng)
    estimate = posterior_mean(cloud, observed, noise, variables)
    return score(estimate, truth.rain, np.exp(truth.log_weight))
