"""What nowcasting networks share: scaled fields in, scaled zh of the coming frames out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import Scaling, make_scaling
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.common.standardize import Standard
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.nowcast.losses import LOSSES
from polarcast.models.nowcast.views import View, raw

_STANDARD = "standard"
_SCALINGS = ("range", "frame", _STANDARD)
STRONGEST_DBZ = 78.0
"""More than hail gives. Nothing in a network keeps it from saying thousands where it is shown what it has hardly ever
seen, such as a lost frame."""


@dataclass
class NowcastConfig:
    """How a network speaks of reflectivity and what its errors cost; configurations of networks inherit it."""

    scaling: str = setting("range", ALWAYS)
    """range; frame, which is inverted with the last frame seen; or standard: what goes in has mean 0 and variance 1
    over training events, so that tenths of a dB of zdr count as much as some dBZ; the forecast is as with range."""
    loss: str = setting("mse", ALWAYS)
    """mse, balanced (weighted by echo strength), or sharp (with the amplitudes of the spectrum)."""

    def __post_init__(self) -> None:
        """Raises BadInput for a scaling or a loss there is not."""
        for key, there in (("scaling", _SCALINGS), ("loss", tuple(LOSSES))):
            if getattr(self, key) not in there:
                raise BadInput(
                    f"unknown value {getattr(self, key)!r}", f"model.{key}", f"there are: {', '.join(there)}"
                )


class NetworkNowcast(Forecaster):
    """A forecaster around a network (b, t, v, z, y, x) → (b, lead, z, y, x), both scaled."""

    net: nn.Module

    def __init__(self, config: NowcastConfig, inputs: InputSpec, views: Sequence[View] = (raw,)) -> None:
        super().__init__()
        self.config, self.inputs, self._views = config, inputs, views
        if config.scaling == _STANDARD:
            self.standard = Standard(len(views) * len(inputs.variables) * len(inputs.heights_km))

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn mean and standard deviation of each view, variable and height, where the scaling needs them."""
        if self.config.scaling == _STANDARD:
            self.standard.fit(self._viewed(batch).flatten(0, 1).flatten(1, 3) for batch in batches)

    def seen(self, batch: Batch) -> Sequence[Tensor]:
        """What goes into the network, or into each of several: scaled radar (b, t, v, z, y, x) in one view each."""
        viewed = self._viewed(batch)
        if self.config.scaling == _STANDARD:
            viewed = self.standard(viewed.flatten(2, 4)).view_as(viewed)
        return viewed.unbind(2)

    def seen_zh(self, zh: Tensor) -> Tensor:
        """Scaled zh (b, t, z, y, x) as its frames go into the network in the first view: standardised or not."""
        if self.config.scaling != _STANDARD:
            return zh
        # Channels are in the order of `seen`: view, variable, height.
        heights = len(self.inputs.heights_km)
        first = self.inputs.variables.index("zh") * heights
        of_zh = slice(first, first + heights)
        return (zh - self.standard.mean[of_zh]) / self.standard.std[of_zh]

    def _viewed(self, batch: Batch) -> Tensor:
        """(b, t, view, v, z, y, x), between 0 and 1 before it is standardised."""
        rule = _rule_of_forecasts(self.config)
        radar = make_scaling(rule, batch.variables, batch.radar).apply(batch.radar)
        views = [view(radar) for view in self._views]
        return torch.stack(views, 2) if len(views) > 1 else views[0].unsqueeze(2)  # of one, nothing is copied

    def scaled_forecast(self, batch: Batch) -> Tensor:
        """Scaled zh of the coming frames, (b, t, z, y, x)."""
        return self.net(self.seen(batch)[0])

    def loss(self, batch: Batch) -> Tensor:
        """The configured loss of scaled zh. Raises BadInput for a grid that the network can't take."""
        return LOSSES[self.config.loss](self.scaled_forecast(batch), scaled_target(self.config, batch))

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """zh in dBZ of the coming frames, (b, m = 1, t, z, y, x), from 0 (no echo) to `STRONGEST_DBZ`."""
        scaled = self.scaled_forecast(batch).float()
        return zh_scaling(self.config, batch).invert(scaled[:, :, None])[:, :, 0].clamp(0, STRONGEST_DBZ)[:, None]


def scaled_target(config: NowcastConfig, batch: Batch) -> Tensor:
    """Scaled zh of the coming frames, (b, t, z, y, x), as observed."""
    return zh_scaling(config, batch).apply(batch.required_target_zh[:, :, None])[:, :, 0]


def zh_scaling(config: NowcastConfig, batch: Batch) -> Scaling:
    """The scaling of zh alone, as (b, t, v = 1, z, y, x): of nothing but the last frame seen, so that no limit leaks.

    Raises:
        BadInput: the frame rule, without zh among the inputs.
    """
    if config.scaling == "frame" and "zh" not in batch.variables:
        raise BadInput("the limits of zh's frames are not known without zh", "model.scaling", "use range")
    # The range rule does not look at what it is given.
    last = batch.variable("zh")[:, -1:, None] if "zh" in batch.variables else batch.radar
    return make_scaling(_rule_of_forecasts(config), ("zh",), last)


def _rule_of_forecasts(config: NowcastConfig) -> str:
    return "range" if config.scaling == _STANDARD else config.scaling
