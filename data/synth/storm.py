"""Latent random fields of the storm: vigour v drives growth g, and growth drives rain X.

Every wavenumber is a small linear system, so the step of one frame is exact: z' = A z + L noise with
A = expm(M dt/tau). The matrix M is the same for all wavenumbers if time is measured in units of their lifetime tau.
The state is stored in the storm's frame of reference. A phase shift moves it to any position over the ground without
interpolation blur.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.linalg import solve_continuous_lyapunov

from polarcast.data.synth.world import StormWorld

Complex = npt.NDArray[np.complex64]
Real = npt.NDArray[np.float32]

FRAME_MIN = 6.0
V, G, X, H = range(4)

_ORGANISED_KM = 150.0
_RATES = (1 / 1.5, 1 / 0.6, 1.0)
"""Relaxation rates of v, g, X in units of 1/tau."""


@dataclass(frozen=True)
class Chain:
    """Dynamics of (v, g, X) in units of tau: dz = M z dt + noise, and its stationary covariance."""

    drift: npt.NDArray[np.float64]
    """M, (3, 3), lower triangular."""
    covariance: npt.NDArray[np.float64]
    """Stationary covariance, (3, 3), unit diagonal."""


def make_chain(growth_from_vigour: float, rain_from_growth: float) -> Chain:
    """Solve for couplings that give g and X unit variance, with the given shares of it from their drivers.

    With a, b the relaxation rates of driver and driven, c = sqrt(share b / (correlation-time factor)),
    solved row by row.
    """
    drift = -np.diag(_RATES)
    noise = np.diag([2 * _RATES[0], 0.0, 0.0])
    for row, share in ((1, growth_from_vigour), (2, rain_from_growth)):
        drift[row, row - 1] = 1.0
        block = slice(0, row + 1)
        driven = solve_continuous_lyapunov(drift[block, block], -noise[block, block])[row, row]
        drift[row, row - 1] = np.sqrt(share / driven)
        noise[row, row] = 2 * _RATES[row] * (1 - share)
    return Chain(drift, solve_continuous_lyapunov(drift, -noise))


@dataclass(frozen=True)
class Modes:
    """The active Fourier modes of a square periodic domain, packed into vectors of length m."""

    size: int
    """Side length of the domain in pixels."""
    index: npt.NDArray[np.int64]
    """Position of each mode in the flattened half-spectrum of `rfft2`."""
    ky: Real
    """Wavenumber along y, cycles per km (1 km pixels)."""
    kx: Real
    """Wavenumber along x, cycles per km."""
    weight: Real
    """1, or sqrt 2 on the columns where `irfft2` uses only the Hermitian part of its input."""

    def phase(self, shift: tuple[float, float]) -> Complex:
        """Return the factor of each mode, (m,), that displaces a field by `shift` (y, x) km."""
        return np.exp(-2j * np.pi * (self.ky * shift[0] + self.kx * shift[1])).astype(np.complex64)

    def to_field(self, values: Complex) -> Real:
        """Transform the packed modes to a field (size, size)."""
        spectrum = np.zeros(self.size * (self.size // 2 + 1), np.complex64)
        spectrum[self.index] = values
        field = fft.irfft2(spectrum.reshape(self.size, -1), s=(self.size, self.size), norm="forward")
        return np.asarray(field, dtype=np.float32)


def make_modes(size: int, cutoff_km: float) -> Modes:
    """Make the modes with wavelengths above `cutoff_km`, without the domain mean."""
    ky, kx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    k = np.hypot(ky, kx)
    active = (k > 0) & (k <= 1 / cutoff_km)
    weight = np.where((kx == 0) | (kx == 0.5), np.sqrt(2), 1.0)
    pick = [a[active].astype(np.float32) for a in (ky, kx, weight)]
    return Modes(size, np.flatnonzero(active), *pick)


@dataclass(frozen=True)
class Dynamics:
    """Exact one-frame step of all modes, and their stationary distribution."""

    modes: Modes
    transition: Real
    """A, (m, 3, 3)."""
    innovation: Real
    """L, with L L^T the noise covariance of one step, (m, 3, 3)."""
    stationary: Real
    """Cholesky factor of the chain's stationary covariance, (3, 3)."""
    amplitude: Real
    """Standard deviation of each mode of v, g, X, (m,)."""
    texture_amplitude: Real
    """Standard deviation of each mode of h, (m,)."""
    texture_decay: Real
    """exp(-dt/tau) of each mode of h, (m,)."""
    vigour_on_rain: float
    """Regression coefficient (= correlation) of v on X."""


@dataclass(frozen=True)
class Bands:
    """Anisotropy of rain bands: `stretch` times longer along `angle` (radians from +x to +y), shorter across."""

    stretch: float = 1.0
    angle: float = 0.0

    def wavenumber(self, modes: Modes) -> npt.NDArray[np.float64]:
        """Effective isotropic wavenumber of each mode, cycles per km."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        along, across = modes.kx * c + modes.ky * s, modes.ky * c - modes.kx * s
        return np.hypot(along * self.stretch, across / self.stretch).astype(np.float64)


ISOTROPIC = Bands()


def make_dynamics(world: StormWorld, modes: Modes, bands: Bands = ISOTROPIC) -> Dynamics:
    """Compute the step of every mode on a periodic domain."""
    k = bands.wavenumber(modes)
    tau = world.lifetime_32km_min * (1 / k / 32.0) ** world.lifetime_exponent
    tau = np.clip(tau, *world.lifetime_range_min)
    chain = make_chain(world.growth_from_vigour, world.rain_from_growth)
    transition, innovation = _tabulated_steps(chain, FRAME_MIN / tau, FRAME_MIN / np.array(world.lifetime_range_min))
    return Dynamics(
        modes=modes,
        transition=transition,
        innovation=innovation,
        stationary=np.linalg.cholesky(chain.covariance).astype(np.float32),
        amplitude=_organize(
            modes, _amplitude(modes, k, world.outer_scale_km, world.spectrum_exponent), world.organisation
        ),
        texture_amplitude=_amplitude(modes, k, world.texture_scale_km, world.spectrum_exponent),
        texture_decay=np.exp(-FRAME_MIN / (world.texture_lifetime * tau)).astype(np.float32),
        vigour_on_rain=float(chain.covariance[V, X]),
    )


def _tabulated_steps(
    chain: Chain, steps: npt.NDArray[np.float64], limits: npt.NDArray[np.float64]
) -> tuple[Real, Real]:
    """A and L, (m, 3, 3) each, for steps dt/tau within `limits`.

    Each mode uses the nearest of 2048 tabulated step lengths (0.2% apart), which avoids thousands of decompositions.
    """
    nodes = np.geomspace(limits.min(), limits.max(), 2048)
    transition = _transition(chain.drift, nodes)
    noise = chain.covariance - transition @ chain.covariance @ transition.transpose(0, 2, 1)
    innovation = np.linalg.cholesky(noise + 1e-12 * np.eye(3))
    nearest = np.rint(np.log(steps / nodes[0]) / np.log(nodes[1] / nodes[0])).astype(np.int64)
    nearest = np.clip(nearest, 0, len(nodes) - 1)
    return _taken(transition, nearest), _taken(innovation, nearest)


def _taken(table: npt.NDArray[np.floating[Any]], rows: npt.NDArray[np.int64]) -> Real:
    """Take matrices of a table, (m, 3, 3), such that each of their entries is contiguous over the modes."""
    entries = table.astype(np.float32).transpose(1, 2, 0)
    return np.ascontiguousarray(entries[..., rows]).transpose(2, 0, 1)


def _transition(drift: npt.NDArray[np.float64], steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """expm(drift * s) for every s in `steps`; the eigenvalues of `drift` are its distinct diagonal entries."""
    values, vectors = np.linalg.eig(drift)
    return np.einsum("ij,mj,jk->mik", vectors, np.exp(np.outer(steps, values)), np.linalg.inv(vectors)).real


def _amplitude(modes: Modes, k: npt.NDArray[np.float64], outer_km: float, exponent: float) -> Real:
    """Standard deviations of complex modes that sum to a field of unit variance."""
    power = (k**2 + outer_km**-2) ** -exponent
    # A half-spectrum mode and its mirror image both carry power; self-conjugate columns already contain both.
    total = 2 * (power / modes.weight**2).sum()
    return np.asarray(np.sqrt(power / total) * modes.weight, dtype=np.float32)


def _organize(modes: Modes, amplitude: Real, share: float) -> Real:
    """Move `share` of the variance to wavelengths above 150 km; on small domains, to the longest wavelengths."""
    large = np.hypot(modes.ky, modes.kx) < max(1 / _ORGANISED_KM, 1.01 / modes.size)
    flat = large * modes.weight / np.sqrt(2 * (large / modes.weight**2).sum())
    return np.sqrt((1 - share) * amplitude**2 + share * flat**2).astype(np.float32)


def draw_state(dynamics: Dynamics, rng: np.random.Generator) -> Complex:
    """Draw a state (4, m) of v, g, X, h from the stationary distribution."""
    noise = _complex_normal(rng, (4, len(dynamics.amplitude)))
    chain = dynamics.stationary @ noise[:3] * dynamics.amplitude
    return np.concatenate([chain, noise[3:] * dynamics.texture_amplitude]).astype(np.complex64)


def step_state(dynamics: Dynamics, state: Complex, rng: np.random.Generator) -> Complex:
    """Advance the state by one frame (6 min)."""
    noise = _complex_normal(rng, state.shape)
    new = np.empty_like(state)
    for i in range(3):
        new[i] = sum(dynamics.transition[:, i, j] * state[j] for j in range(i + 1))
        new[i] += dynamics.amplitude * sum(dynamics.innovation[:, i, j] * noise[j] for j in range(i + 1))
    kick = np.sqrt(1 - dynamics.texture_decay**2) * dynamics.texture_amplitude
    new[H] = dynamics.texture_decay * state[H] + kick * noise[H]
    return new


def _complex_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Complex:
    """Draw complex normal deviates of unit variance."""
    pairs = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(np.sqrt(0.5))
    return pairs.view(np.complex64)[..., 0]


@dataclass(frozen=True)
class CoarseModes:
    """Long modes of a domain, for fields on a grid of every `factor`-th pixel."""

    modes: Modes
    """Modes of the coarse grid, with wavenumbers in cycles per km."""
    pick: npt.NDArray[np.int64]
    """Positions among the modes of the full domain."""
    factor: int


def coarsen(modes: Modes, factor: int) -> CoarseModes:
    """Select the modes that a grid `factor` times coarser resolves; `factor` must divide the size."""
    size = modes.size // factor
    limit = 0.5 / factor
    pick = np.flatnonzero((np.abs(modes.ky) < limit) & (modes.kx < limit))
    rows = np.rint(modes.ky[pick] * modes.size).astype(np.int64) % size
    columns = np.rint(modes.kx[pick] * modes.size).astype(np.int64)
    flat = rows * (size // 2 + 1) + columns
    return CoarseModes(Modes(size, flat, modes.ky[pick], modes.kx[pick], modes.weight[pick]), pick, factor)
