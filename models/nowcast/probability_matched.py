"""A nowcast with the histogram of the last frame seen: where echo is, the network says; how strong, the radar.

Trained on squared errors, a network forecasts the mean of what may come, with too little strong echo; on errors that
weigh more in strong echo, too much of it. What it does know is the order: which pixel will have more than which.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.models.common.frozen import freeze
from polarcast.models.forecaster import Forecaster, InputSpec


@dataclass
class ProbabilityMatchedConfig:
    """Configuration of a probability-matched nowcast."""

    mean_of: int = 1
    """Members asked of a generative base; of more than one, their mean is matched with the values of all of them."""


class ProbabilityMatched(Forecaster):
    """The nowcast of a trained base, each field with other values in the order of its own: nothing is trained.

    Those of one forecast are the last frame's (what pysteps does to S-PROG), those of an ensemble's mean its members'
    (Ebert 2001, §2).
    """

    def __init__(self, config: ProbabilityMatchedConfig, inputs: InputSpec, base: Forecaster) -> None:
        """Build around a trained nowcaster, which is frozen in place.

        Raises:
            BadInput: there is no zh among the inputs, or a mean of less than one member.
        """
        super().__init__()
        if config.mean_of < 1:
            raise BadInput(f"model.mean_of = {config.mean_of}", "model", "give 1 or more")
        if "zh" not in inputs.variables:
            raise BadInput("there are no values to match without zh", "data.variables", "add zh")
        freeze(base)
        self.base, self.mean_of = base, config.mean_of

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """zh in dBZ, (b, m, t, z, y, x); m = 1 of a mean. Raises BadInput for a mean of a base without members."""
        if self.mean_of > 1:
            return matched_mean(self._ensemble(batch, seed))
        return matched(self.base.forecast(batch, members, seed), batch.variable("zh")[:, None, -1:])

    def _ensemble(self, batch: Batch, seed: int) -> Tensor:
        made = self.base.forecast(batch, self.mean_of, seed)
        if made.shape[1] == 1:
            # Matched with its own values, a single forecast would come out as it went in.
            raise BadInput("the base makes no members to take the mean of", "model.mean_of", "leave it out")
        return made


def matched_mean(ensemble: Tensor) -> Tensor:
    """The mean of an ensemble, with the values of its members: of all of them in order, every m-th (Ebert 2001, §2).

    Args:
        ensemble: (b, m, …, y, x) in dBZ, 0 where there is no echo.

    Returns:
        (b, 1, …, y, x).
    """
    members, shape = ensemble.shape[1], ensemble.shape[-2:]
    values = ensemble.movedim(1, -3).flatten(-3).sort(dim=-1).values[..., members // 2 :: members]
    return matched(ensemble.mean(1), values.unflatten(-1, shape))[:, None]


def matched(forecast: Tensor, pattern: Tensor) -> Tensor:
    """The values of one field in the order of another; where that has no echo, there is none.

    Args:
        forecast: (…, y, x) in dBZ, 0 where there is no echo.
        pattern: As many dimensions, or broadcast to them, in dBZ; what is missing counts as no echo.

    Returns:
        Like forecast.
    """
    fields = forecast.flatten(-2)
    values = pattern.to(fields.dtype).nan_to_num(0).clamp(min=0).flatten(-2).sort(dim=-1).values.expand_as(fields)
    # Stable, so that equal values have the same order on every device.
    order = torch.argsort(fields, dim=-1, stable=True)
    return torch.zeros_like(fields).scatter(-1, order, values).where(fields > 0, 0).view_as(forecast)
