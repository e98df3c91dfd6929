"""Attainable skill of rain-rate estimation: posterior means by self-normalized importance sampling.

Truth is drawn from the prior (log-normal rain rate, drop sizes from `DropPrior`) and observed with known noise. The
posterior mean is the estimate with the smallest mean squared error. It is a ratio of sums over particles, each weighted
by prior over proposal times likelihood. Particles are proposed uniformly in ln R, so heavy rain, which is rare under
the prior, gets as many as light rain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.synth.drops import DropPrior
from polarcast.data.synth.scattering import observe_rain
from polarcast.data.synth.world import GENERATOR, GENERATOR_VERSION, PRESETS, StormWorld

Array = npt.NDArray[np.floating]

VARIABLES = ("zh", "zdr", "kdp")
PIXEL_NOISE = (1.0, 0.2, 0.3)
"""Noise standard deviations of zh (dB), zdr (dB), kdp (deg/km) of one radar pixel."""
GRIDDED_NOISE = (0.5, 0.1, 0.15)
"""Noise standard deviations after averaging to a grid, in the same units."""
CLASSES_MMH = ((0.0, 10.0), (10.0, 30.0), (30.0, 50.0), (50.0, np.inf), (0.0, np.inf))

_REACH = 4.5
"""Standard deviations of the noise beyond which particles are ignored."""


@dataclass(frozen=True)
class RainPrior:
    """Prior of rain rate and drop sizes."""

    median_mmh: float = 2.0
    """Median rain rate, mm/h."""
    sd_ln: float = 1.4
    """Standard deviation of ln R."""
    limits_mmh: tuple[float, float] = (0.1, 180.0)
    """Minimum and maximum rain rate, mm/h."""
    drops: DropPrior = field(default_factory=DropPrior)
    """Prior of drop sizes given the rain rate."""

    def log_density(self, ln_rain: Array) -> Array:
        """Log density of ln R within the limits, up to a constant."""
        return -0.5 * ((ln_rain - np.log(self.median_mmh)) / self.sd_ln) ** 2


@dataclass(frozen=True)
class PixelErrors:
    """Difference between the rain in one pixel at 1 km and what a synthetic archive holds of it.

    The spatial smoothing of the noise keeps its variance in each pixel. Not included: residual attenuation (1% of the
    error), clutter, and the smoothing of kdp.
    """

    noise: tuple[float, float, float] = (0.8, 0.2, 0.2)
    """Standard deviations of zh (dB), zdr (dB), kdp (deg/km) at 38 dBZ and above."""
    growth: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors on the noise per 10 dB below 38 dBZ."""
    zdr_bias_db: float = 0.0
    """Calibration error of zdr, dB."""
    kdp_scale: float = 1.0
    """Factor on kdp."""

    @classmethod
    def of(cls, world: StormWorld) -> "PixelErrors":
        """Return the errors of an archive of this world."""
        return cls(world.noise, world.noise_growth, world.zdr_bias_db, world.kdp_scale)

    def archived(self, observables: Array) -> Array:
        """Return noise-free zh, zdr, kdp, (n, 3), with calibration errors."""
        return np.asarray(observables * (1.0, 1.0, self.kdp_scale) + (0.0, self.zdr_bias_db, 0.0))

    def noise_at(self, zh: Array) -> Array:
        """Return the noise of zh, zdr, kdp, (n, 3), given noise-free zh (n,) in dBZ; see `observe`."""
        below = np.clip(3.8 - zh / 10, 0, 4)
        return np.asarray(np.asarray(self.noise) * np.asarray(self.growth) ** below[:, None])


def world_of(provenance: Mapping[str, Any]) -> StormWorld:
    """Return the world of a synthetic archive of true rain, from its provenance.

    Raises:
        BadInput: it is another archive, or made by another version.
    """
    made_by = provenance.get("generator"), provenance.get("generator_version"), provenance.get("rain")
    preset = provenance.get("preset")
    if made_by != (GENERATOR, GENERATOR_VERSION, "true_R") or not isinstance(preset, str) or preset not in PRESETS:
        what = "attainable needs a synthetic archive with the true rain, whose drop sizes and noise are known"
        raise BadInput(what, provenance.get("root") or "data.shards", "make one with: polarcast data synth")
    if PRESETS[preset].varies_radar:
        what = f"attainable needs one drop climate and one radar, and those of {preset} differ between events"
        raise BadInput(what, provenance.get("root") or "data.shards", "make one with: polarcast data synth")
    return PRESETS[preset]


@dataclass(frozen=True)
class Particles:
    """Weighted samples of the truth."""

    rain: Array
    """Rain rate in mm/h, (n,)."""
    observables: Array
    """Noise-free zh, zdr, kdp, (n, 3)."""
    log_weight: Array
    """Log of the ratio of prior to proposal, (n,)."""


@dataclass(frozen=True)
class Skill:
    """Errors of an estimate within one class of true rain rates."""

    low_mmh: float
    high_mmh: float
    rmse: float
    """Root-mean-square error, mm/h."""
    normalised_error: float
    """Sum of absolute errors divided by sum of rain."""
    count: int


def observe_prior(prior: RainPrior, rain: Array, rng: np.random.Generator) -> Array:
    """Compute noise-free zh, zdr, kdp, (n, 3), of rain rates (n,) with drop sizes drawn from the prior."""
    dm = prior.drops.dm(rain, rng.normal(0.0, prior.drops.dm_sd, len(rain)))
    observables = observe_rain(dm, prior.drops.mu(dm, rng.normal(size=len(rain))), rain)
    return np.stack([observables.zh, observables.zdr, observables.kdp], axis=1)


def draw_particles(prior: RainPrior, n: int, rng: np.random.Generator) -> Particles:
    """Draw particles uniformly in ln R within the prior's limits."""
    low, high = np.log(prior.limits_mmh)
    ln_rain = rng.uniform(low, high, n)
    observables = observe_prior(prior, np.exp(ln_rain), rng)
    return Particles(np.exp(ln_rain), observables, prior.log_density(ln_rain))


def posterior_mean(
    particles: Particles, observed: Array, noise: Sequence[float] | Array, variables: Sequence[str]
) -> Array:
    """Compute the posterior mean rain rate in mm/h, (n,), given noisy observations.

    Args:
        particles: Output of `draw_particles`; with 100,000 particles the sampling error is negligible.
        observed: zh, zdr, kdp with noise, (n, 3).
        noise: Noise standard deviations of zh (dB), zdr (dB), kdp (deg/km): (3,), or of each particle, (n, 3).
        variables: Subset of `VARIABLES` the estimate may use; at least one.

    Raises:
        ValueError: No variable, or an unknown one.
    """
    if not variables or set(variables) - set(VARIABLES):
        raise ValueError(f"variables {tuple(variables)}: choose from {VARIABLES}")
    used = [VARIABLES.index(v) for v in variables]
    # Sorted by the first variable: particles far off in it have negligible weight.
    order = np.argsort(particles.observables[:, used[0]])
    simulated, target = particles.observables[order][:, used], np.asarray(observed)[:, used]
    sd = np.broadcast_to(np.asarray(noise, dtype=np.float64), particles.observables.shape)[order][:, used]
    rain, log_weight = particles.rain[order], particles.log_weight[order] - np.log(sd).sum(1)
    estimate = np.empty(len(target))
    for i, (start, stop) in enumerate(_within_reach(simulated[:, 0], target[:, 0], _REACH * sd[:, 0].max())):
        misfit = (simulated[start:stop] - target[i]) / sd[start:stop]
        log_posterior = log_weight[start:stop] - 0.5 * np.einsum("ij,ij->i", misfit, misfit)
        weight = np.exp(log_posterior - log_posterior.max())
        estimate[i] = weight @ rain[start:stop] / weight.sum()
    return estimate


def _within_reach(simulated: Array, target: Array, reach: float) -> npt.NDArray[np.int64]:
    """Index range [start, stop) of the sorted particles near each target, (n, 2); outliers get the nearest 1000."""
    least = min(1000, len(simulated))
    start = np.searchsorted(simulated, target - reach)
    stop = np.searchsorted(simulated, target + reach)
    return np.stack([np.minimum(start, len(simulated) - least), np.maximum(stop, least)], axis=1)


def score(estimate: Array, rain: Array, weight: Array | None = None) -> list[Skill]:
    """Compute errors of `estimate` (n,) against `rain` (n,), mm/h, in each of `CLASSES_MMH`; the last is all rain.

    Args:
        estimate: Estimated rain rates, (n,), mm/h.
        rain: True rain rates, (n,), mm/h.
        weight: Frequency of each case, (n,), if cases were not sampled at their natural frequency; 1 by default.
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
    """Compute the skill of the posterior mean under the prior, per class of rain and over all rain.

    Args:
        variables: Subset of `VARIABLES` the estimate may use.
        noise: Noise standard deviations of zh (dB), zdr (dB), kdp (deg/km).
        prior: Prior of rain and drops; that of the preset `meiyu` by default.
        cases: Number of truths, uniform in ln R and weighted by the prior, so that heavy rain is well sampled. Equal
            seeds give equal truths and noise for every subset of variables.
        particles: Number of particles.
        seed: Seed of truths, noise and particles.
    """
    prior = prior or RainPrior()
    truth_rng, particle_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    truth = draw_particles(prior, cases, truth_rng)
    observed = truth.observables + truth_rng.normal(size=truth.observables.shape) * np.asarray(noise)
    cloud = draw_particles(prior, particles, particle_rng)
    estimate = posterior_mean(cloud, observed, noise, variables)
    return score(estimate, truth.rain, np.exp(truth.log_weight))
