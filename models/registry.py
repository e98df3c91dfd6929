"""Every model by name. To add one: a config dataclass, a Forecaster, and a line here."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from polarcast.data.errors import BadInput
from polarcast.models.attainable import Attainable, AttainableConfig
from polarcast.models.forecaster import Forecaster, Inputs
from polarcast.models.power_law import PowerLaw, PowerLawConfig
from polarcast.models.unet import UNet, UNetConfig


@dataclass(frozen=True)
class Entry:
    """How to configure and build one model."""

    config: type[Any]
    build: Callable[[Any, Inputs], Forecaster]
    tasks: tuple[str, ...]
    trained: bool
    """Whether it learns by gradient descent; others are fitted in one pass, or need nothing."""

    @property
    def has_widths(self) -> bool:
        """Whether its size is set by channel widths, which `match_params` may solve for."""
        return any(f.name == "widths" for f in fields(self.config))


MODELS: dict[str, Entry] = {
    "unet": Entry(UNetConfig, UNet, ("qpe",), trained=True),
    "attainable": Entry(AttainableConfig, Attainable, ("qpe",), trained=False),
    "power_law": Entry(PowerLawConfig, PowerLaw, ("qpe",), trained=False),
}


def entry(name: str) -> Entry:
    """Look a model up. Raises BadInput for an unknown name, with the names there are."""
    if name not in MODELS:
        raise BadInput(f"unknown model {name!r}", "model.name", f"there are: {', '.join(sorted(MODELS))}")
    return MODELS[name]
