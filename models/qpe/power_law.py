"""Physical baselines: rain rate as a power law of ZH, or of ZH and ZDR."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.forecaster import Forecaster, InputSpec

# R = a · Z^b · 10^(c·ZDR), Z in mm⁶/m³, ZDR in dB, R in mm/h
MARSHALL_PALMER = ((1 / 200) ** (1 / 1.6), 1 / 1.6, 0.0)
"""Z = 200 R^1.6 (Marshall, Langille & Palmer 1947)."""
BRINGI_CHANDRASEKAR = (0.0058, 0.91, -0.209)
"""R = 0.0058 Z^0.91 10^(−0.209 ZDR), C band (Bringi & Chandrasekar 2001)."""

_PIXELS_PER_BATCH = 250
_FIT_FLOOR_DBZ = 5.0


@dataclass
class PowerLawConfig:
    """Configuration of a power law."""

    coefficients: str = setting("published", ALWAYS, choices=("published", "fitted"))
    """Coefficients: published (Z = 200 R^1.6; R = 0.0058 Z^0.91 10^(−0.209 ZDR)) or fitted (least squares)."""
    cap_dbz: float = setting(55.0, ALWAYS, least=0, most=100)
    """Upper limit of reflectivity in dBZ; an operational measure against hail and clutter."""
    cap_zdr: float = setting(4.0, ALWAYS, least=0, most=100)
    """Upper limit of differential reflectivity in dB; the lower limit is 0."""


class PowerLaw(Forecaster):
    """R = a · Z^b · 10^(c·ZDR) at the lowest height; c = 0 if ZDR is not an input."""

    coefficients: Tensor

    def __init__(self, config: PowerLawConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config = config
        self.uses_zdr = "zdr" in inputs.variables
        law = BRINGI_CHANDRASEKAR if self.uses_zdr else MARSHALL_PALMER
        self.register_buffer("coefficients", torch.tensor(law, dtype=torch.float64))

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the coefficients by least squares in mm/h over sampled pixels; does nothing if they are published."""
        if self.config.coefficients == "published":
            return
        pairs = [self._pixels(batch, index) for index, batch in enumerate(batches)]
        predictors, rain = (np.concatenate(p) for p in zip(*pairs, strict=True))
        self.coefficients.copy_(torch.from_numpy(_least_squares(predictors, rain, self.uses_zdr)))

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h, (b, 1, t, y, x)."""
        zh, zdr = self._predictors(batch)
        a, b, c = self.coefficients.to(zh.dtype)
        rain = a * 10 ** (b * zh / 10 + c * zdr)
        return torch.where(zh == 0, 0, rain)[:, None]

    def _predictors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        zh = batch.variable("zh")[:, :, 0].clamp(max=self.config.cap_dbz)
        if not self.uses_zdr:
            return zh, torch.zeros_like(zh)
        return zh, batch.variable("zdr")[:, :, 0].clamp(0, self.config.cap_zdr)

    def _pixels(self, batch: Batch, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        zh, zdr = (p.double().flatten().numpy() for p in self._predictors(batch))
        rain = batch.rain_rate.double().flatten().numpy()
        echoes = np.flatnonzero(zh > _FIT_FLOOR_DBZ)
        drawn = np.random.default_rng(seed).permutation(echoes)[:_PIXELS_PER_BATCH]
        return np.stack([zh[drawn], zdr[drawn]], -1), rain[drawn]


def _least_squares(
    predictors: npt.NDArray[np.float64], rain: npt.NDArray[np.float64], uses_zdr: bool
) -> npt.NDArray[np.float64]:
    """Return the coefficients (a, b, c) that minimize Σ(R − a Z^b 10^(c ZDR))², starting from the published law."""
    from scipy.optimize import least_squares

    zh, zdr = predictors.T
    terms = 3 if uses_zdr else 2

    def residuals(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 10 ** (p[0] + p[1] * zh / 10 + (p[2] * zdr if uses_zdr else 0)) - rain

    law = BRINGI_CHANDRASEKAR if uses_zdr else MARSHALL_PALMER
    fit = least_squares(residuals, np.array([np.log10(law[0]), law[1], law[2]])[:terms], x_scale="jac").x
    return np.array([10 ** fit[0], fit[1], fit[2] if uses_zdr else 0.0])
