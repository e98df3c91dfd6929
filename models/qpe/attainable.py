"""Best single-pixel estimate for synthetic storms, a reference for the networks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.data.synth.attainable import PixelErrors, RainPrior, draw_particles, posterior_mean, world_of
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.forecaster import Forecaster, InputSpec

Array = npt.NDArray[np.float64]

ZH_DBZ = np.arange(0.0, 70.1, 0.5)
ZDR_DB = np.arange(-2.0, 7.01, 0.1)
_LN_RAIN_EDGES = np.linspace(np.log(0.05), np.log(200), 60)


@dataclass
class AttainableConfig:
    """Configuration of the attainable estimate."""

    noise: list[float] | None = setting(None, ALWAYS, least=1e-3, most=100, shortest=3, longest=3)
    """Noise of zh (dB), zdr (dB) and kdp (deg/km) in one pixel, at any zh; by default that of the archive's preset."""
    particles: int = setting(50_000, ALWAYS, least=1, most=10**7)
    """Number of particles of the posterior mean."""


@dataclass(frozen=True)
class ArchiveRain(RainPrior):
    """Empirical rain-rate prior of an archive, which replaces the log-normal law."""

    ln_density: tuple[float, ...] = ()
    """Log density of ln R at the bin centers."""

    def log_density(self, ln_rain: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return the log density of ln R, up to a constant, within the limits."""
        middles = (_LN_RAIN_EDGES[1:] + _LN_RAIN_EDGES[:-1]) / 2
        return np.interp(ln_rain, middles, self.ln_density)


class Attainable(Forecaster):
    """Posterior mean of the rain rate given ZH (and ZDR) of one pixel at the lowest height.

    The prior combines the rain of the training split with the drop sizes of the archive's preset, whose noise and
    calibration errors are known, too. The estimate is no bound for estimates from several heights, which see the same
    rain with independent noise, nor for those that average the noise of neighboring pixels.
    """

    table: Tensor

    def __init__(self, config: AttainableConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config = config
        self.variables = tuple(v for v in ("zh", "zdr") if v in inputs.variables)
        self._provenance: Mapping[str, Any] = {}
        self._is_placebo = False
        self.register_buffer("table", torch.zeros(len(ZDR_DB), len(ZH_DBZ), dtype=torch.float64))

    def describe_data(self, provenance: Mapping[str, Any], is_placebo: bool = False) -> None:
        """Receive the provenance of the archive, which names the preset, and whether ZDR is of another event."""
        self._provenance, self._is_placebo = provenance, is_placebo

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the rain-rate prior and tabulate the posterior mean over ZH and ZDR.

        Raises:
            BadInput: the archive is not synthetic, so that its drop sizes and noise are unknown.
        """
        world = world_of(self._provenance)
        counts = sum(_rain_histogram(batch) for batch in batches)
        # The posterior mean given ZDR of another event, which is independent of the rain, is that given ZH alone.
        variables = ("zh",) if self._is_placebo else self.variables
        zdr = ZDR_DB if "zdr" in variables else ZDR_DB[:1]
        grid = np.stack(np.meshgrid(ZH_DBZ, zdr), -1).reshape(-1, 2)
        observed = np.concatenate([grid, np.zeros((len(grid), 1))], 1)
        prior = replace(_prior(np.asarray(counts)), drops=world.drops)
        cloud = draw_particles(prior, self.config.particles, np.random.default_rng(0))
        errors = PixelErrors.of(world)
        noise = errors.noise_at(cloud.observables[:, 0]) if self.config.noise is None else self.config.noise
        cloud = replace(cloud, observables=errors.archived(cloud.observables))
        means = posterior_mean(cloud, observed, noise, variables).reshape(len(zdr), len(ZH_DBZ))
        self.table.copy_(torch.from_numpy(np.broadcast_to(means, self.table.shape).copy()))

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h, (b, 1, t, y, x)."""
        zh = batch.variable("zh")[:, :, 0]
        zdr = batch.variable("zdr")[:, :, 0] if "zdr" in self.variables else torch.zeros_like(zh)
        at = torch.stack([_unit(zh, ZH_DBZ), _unit(zdr, ZDR_DB)], -1).flatten(1, 2)
        table = self.table.to(zh.dtype).expand(len(zh), 1, *self.table.shape)
        rain = F.grid_sample(table, at, mode="bilinear", padding_mode="border", align_corners=True)
        return torch.where(zh == 0, 0, rain.view_as(zh))[:, None]


def _rain_histogram(batch: Batch) -> Array:
    rain = batch.rain_rate[batch.variable("zh")[:, :, 0] != 0].double().numpy()
    return np.histogram(np.log(rain[rain > 0]), _LN_RAIN_EDGES)[0].astype(np.float64)


def _prior(counts: Array) -> ArchiveRain:
    limits = (float(np.exp(_LN_RAIN_EDGES[0])), float(np.exp(_LN_RAIN_EDGES[-1])))
    # Add 0.1 pixels to every bin: rates missing in the training events are rare, not impossible.
    return ArchiveRain(limits_mmh=limits, ln_density=tuple(np.log(counts + 0.1)))


def _unit(values: Tensor, grid: Array) -> Tensor:
    """Convert values to `grid_sample` coordinates: −1 at the first node, 1 at the last."""
    return 2 * (values - float(grid[0])) / float(grid[-1] - grid[0]) - 1
