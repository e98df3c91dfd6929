"""Physical first guess of rain networks: they learn its error instead of the rain itself.

The law between radar and rain explains most of the rain. A network that starts from it needs a fraction of the steps.
Downscaling diffusions start from a regression in the same way (CorrDiff, Mardani et al. 2025).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import scale_rain
from polarcast.models.common.rain import MOST_MMH
from polarcast.models.common.settings import setting
from polarcast.models.forecaster import InputSpec
from polarcast.models.qpe.power_law import PowerLaw, PowerLawConfig

FIRST_GUESSES = ("none", "power_law")


@dataclass
class FirstGuessConfig:
    """Setting of the networks that can start from a first guess."""

    first_guess: str = setting("none", choices=FIRST_GUESSES)
    """Rain estimate that the network corrects: none, or power_law, fitted to the variables of the run."""


class FirstGuess(nn.Module):
    """Transformed rain of a power law, R(ZH) or R(ZH, ZDR), at the last frame."""

    def __init__(self, transform: str, inputs: InputSpec) -> None:
        """Build around a power law, published until `fit` is called. Raises BadInput without reflectivity."""
        super().__init__()
        if "zh" not in inputs.variables:
            raise BadInput("the power law needs zh", "model.first_guess", "use none, or an arm with zh")
        self.transform = transform
        self.law = PowerLaw(PowerLawConfig("fitted"), inputs)

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the coefficients of the law to training batches."""
        self.law.fit(batches)

    def forward(self, batch: Batch) -> Tensor:
        """Return transformed rain, (b, 1, y, x)."""
        rain_rate = self.law.forecast(batch)[:, 0, -1:].float().clamp(max=MOST_MMH)
        return scale_rain(rain_rate, self.transform)

    def channel(self, guess: Tensor) -> Tensor:
        """Return the guess scaled to about [0, 1], the range of the radar channels."""
        return guess / scale_rain(torch.full_like(guess[:1, :, :1, :1], MOST_MMH), self.transform)


def make_first_guess(config: FirstGuessConfig, transform: str, inputs: InputSpec) -> FirstGuess | None:
    """Return the first guess of a configuration, or None."""
    return FirstGuess(transform, inputs) if config.first_guess == "power_law" else None
