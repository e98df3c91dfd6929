"""Probability matching: the network determines the location of echo, the last input frame its intensities.

A network trained on squared errors forecasts the conditional mean, with too little strong echo; losses with more weight
on strong echo give too much. The rank order of pixels is more reliable than their values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.common.frozen import freeze
from polarcast.models.common.settings import setting
from polarcast.models.forecaster import Forecaster, InputSpec


@dataclass
class ProbabilityMatchedConfig:
    """Configuration of probability matching."""

    mean_of: int = setting(1, least=1, most=10_000)
    """Ensemble size of a generative base; if above 1, the ensemble mean is matched to the values of all members."""


class ProbabilityMatched(Forecaster):
    """Nowcast of a trained base with its values replaced in rank order, without training.

    The values of a single forecast come from the last input frame, as in S-PROG of pysteps. Those of an ensemble mean
    come from the members (Ebert 2001, §2).
    """

    def __init__(self, config: ProbabilityMatchedConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Build around a trained nowcaster and freeze it in place.

        Raises:
            BadInput: zh is not an input.
        """
        super().__init__()
        if "zh" not in inputs.variables:
            raise BadInput("probability matching needs zh, which is not an input", "data.variables", "add zh")
        freeze(base)
        self.base, self.mean_of = base, config.mean_of

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return zh in dBZ, (b, m, t, z, y, x); m = 1 if a mean is configured.

        Raises:
            BadInput: a mean is configured, but the base makes a single forecast.
        """
        if self.mean_of > 1:
            return matched_mean(self._ensemble(batch, seed))
        return matched(self.base.forecast(batch, members, seed), batch.variable("zh")[:, None, -1:])

    def _ensemble(self, batch: Batch, seed: int) -> Tensor:
        ensemble = self.base.forecast(batch, self.mean_of, seed)
        if ensemble.shape[1] == 1:
            # Matching a single forecast to its own values would not change it.
            raise BadInput("the base makes no members to average", "model.mean_of", "leave it out")
        return ensemble


def matched_mean(ensemble: Tensor) -> Tensor:
    """Return the probability-matched mean: the mean with every m-th of the sorted member values (Ebert 2001, §2).

    Args:
        ensemble: Ensemble, (b, m, …, y, x) in dBZ, 0 where there is no echo.

    Returns:
        Matched mean, (b, 1, …, y, x) in dBZ.
    """
    members, shape = ensemble.shape[1], ensemble.shape[-2:]
    values = ensemble.movedim(1, -3).flatten(-3).sort(dim=-1).values[..., members // 2 :: members]
    return matched(ensemble.mean(1), values.unflatten(-1, shape))[:, None]


def matched(forecast: Tensor, pattern: Tensor) -> Tensor:
    """Assign the values of one field to another in rank order; pixels without echo in the forecast stay without echo.

    Args:
        forecast: Field that gives the order, (…, y, x) in dBZ, 0 where there is no echo.
        pattern: Field that gives the values, broadcastable to `forecast`, in dBZ; missing values count as no echo.

    Returns:
        Matched field, shaped like `forecast`.
    """
    fields = forecast.flatten(-2)
    values = pattern.to(fields.dtype).nan_to_num(0).clamp(min=0).flatten(-2).sort(dim=-1).values.expand_as(fields)
    # A stable sort orders equal values the same way on every device.
    order = torch.argsort(fields, dim=-1, stable=True)
    return torch.zeros_like(fields).scatter(-1, order, values).where(fields > 0, 0).view_as(forecast)
