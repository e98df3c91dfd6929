"""Base class of nowcasting networks: scaling, loss and forecast of zh."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import SCALINGS, Scaling, make_scaling
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.common.standardize import Standard
from polarcast.models.common.views import View, raw
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.nowcast.losses import LOSSES

_STANDARD = "standard"
MAX_DBZ = 78.0
"""Upper limit of forecasts in dBZ, above the reflectivity of hail.

Networks may output thousands of dBZ for unusual input, such as a missing frame.
"""


@dataclass
class NowcastConfig:
    """Scaling and loss; base class of the nowcasting network configurations."""

    scaling: str = setting("range", ALWAYS, choices=(*SCALINGS, _STANDARD))
    """Scaling of the radar input: range, frame or standard.

    With `frame`, forecasts are scaled back with the limits of the last input frame. With `standard`, inputs have mean 0
    and variance 1 over the training events, so that tenths of a dB of zdr count as much as several dBZ; forecasts are
    scaled as with `range`.
    """
    loss: str = setting("mse", ALWAYS, choices=tuple(LOSSES))
    """Training loss: mse, balanced (weighted by echo strength) or sharp (with Fourier amplitudes)."""


class NetworkNowcast(Forecaster):
    """Forecaster around a network that maps scaled radar (b, t, v, z, y, x) to scaled zh (b, lead, z, y, x)."""

    net: nn.Module

    def __init__(self, config: NowcastConfig, inputs: InputSpec, views: Sequence[View] = (raw,)) -> None:
        super().__init__()
        self.config, self.inputs, self._views = config, inputs, views
        if config.scaling == _STANDARD:
            self.standard = Standard(len(views) * len(inputs.variables) * len(inputs.heights_km))

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit mean and standard deviation of each view, variable and height, if the scaling needs them."""
        if self.config.scaling == _STANDARD:
            self.standard.fit(self._viewed(batch).flatten(0, 1).flatten(1, 3) for batch in batches)

    def network_inputs(self, batch: Batch) -> Sequence[Tensor]:
        """Return the input of each member network: scaled radar (b, t, v, z, y, x), one view per member."""
        viewed = self._viewed(batch)
        if self.config.scaling == _STANDARD:
            viewed = self.standard(viewed.flatten(2, 4)).view_as(viewed)
        return viewed.unbind(2)

    def standardized_zh(self, zh: Tensor) -> Tensor:
        """Return scaled zh (b, t, z, y, x) as it enters the network in the first view, standardized if configured."""
        if self.config.scaling != _STANDARD:
            return zh
        # Order of channels in `network_inputs`: view, variable, height.
        heights = len(self.inputs.heights_km)
        first = self.inputs.variables.index("zh") * heights
        channels = slice(first, first + heights)
        return (zh - self.standard.mean[channels]) / self.standard.std[channels]

    def _viewed(self, batch: Batch) -> Tensor:
        """Return all views, (b, t, view, v, z, y, x), not yet standardized."""
        rule = _scaling_rule(self.config)
        radar = make_scaling(rule, batch.variables, batch.radar).apply(batch.radar)
        views = [view(radar) for view in self._views]
        return torch.stack(views, 2) if len(views) > 1 else views[0].unsqueeze(2)  # a single view needs no copy

    def scaled_forecast(self, batch: Batch) -> Tensor:
        """Return scaled zh of the lead frames, (b, t, z, y, x)."""
        return self.net(self.network_inputs(batch)[0])

    def loss(self, batch: Batch) -> Tensor:
        """Return the configured loss of scaled zh. Raises BadInput for an unsupported grid."""
        return LOSSES[self.config.loss](self.scaled_forecast(batch), scaled_target(self.config, batch))

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return zh in dBZ of the lead frames, (b, m = 1, t, z, y, x), from 0 (no echo) to `MAX_DBZ`."""
        scaled = self.scaled_forecast(batch).float()
        return zh_scaling(self.config, batch).invert(scaled[:, :, None])[:, :, 0].clamp(0, MAX_DBZ)[:, None]


def scaled_target(config: NowcastConfig, batch: Batch) -> Tensor:
    """Return observed, scaled zh of the lead frames, (b, t, z, y, x)."""
    return zh_scaling(config, batch).apply(batch.required_target_zh[:, :, None])[:, :, 0]


def zh_scaling(config: NowcastConfig, batch: Batch) -> Scaling:
    """Return the scaling of zh alone, (b, t, v = 1, z, y, x).

    Its limits come from the last input frame only, so that no target information leaks.

    Raises:
        BadInput: scaling is frame, but zh is not an input.
    """
    if config.scaling == "frame" and "zh" not in batch.variables:
        raise BadInput("scaling by frame needs zh, which is not an input", "model.scaling", "use range")
    # The range scaling ignores its fields.
    last = batch.variable("zh")[:, -1:, None] if "zh" in batch.variables else batch.radar
    return make_scaling(_scaling_rule(config), ("zh",), last)


def _scaling_rule(config: NowcastConfig) -> str:
    return "range" if config.scaling == _STANDARD else config.scaling
