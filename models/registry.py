"""Model registry. To add a model, write a config dataclass and a `Forecaster`, and add a line to `MODELS`."""

from dataclasses import dataclass, fields
from typing import Any

from polarcast.data.errors import BadInput, nearest, shown
from polarcast.models.diffusion.autoencoder import Autoencoder, AutoencoderConfig
from polarcast.models.diffusion.conditional import (
    CombinedDiffusion,
    CombinedDiffusionConfig,
    Diffusion,
    DiffusionConfig,
)
from polarcast.models.diffusion.latent import LatentDiffusion, LatentDiffusionConfig
from polarcast.models.diffusion.merge import Merge, MergeConfig, ModelMean, ModelMeanConfig, Stacked, StackedConfig
from polarcast.models.diffusion.post_process import MemberMean, MemberMeanConfig, PostProcess, PostProcessConfig
from polarcast.models.diffusion.residual import ResidualDiffusion, ResidualDiffusionConfig
from polarcast.models.external import ExternalConfig
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.nowcast.advected import Advected, AdvectedConfig
from polarcast.models.nowcast.bagging import Bagging, BaggingConfig
from polarcast.models.nowcast.cascades import ANVIL, SPROG, STEPS, ANVILConfig, CascadeConfig, STEPSConfig
from polarcast.models.nowcast.convgru import ConvGRU, ConvGRUConfig
from polarcast.models.nowcast.extrapolation import Extrapolation, ExtrapolationConfig
from polarcast.models.nowcast.furenet import FURENet, FURENetConfig
from polarcast.models.nowcast.persistence import Persistence, PersistenceConfig
from polarcast.models.nowcast.probability_matched import ProbabilityMatched, ProbabilityMatchedConfig
from polarcast.models.nowcast.residual import ResidualNowcast, ResidualNowcastConfig
from polarcast.models.nowcast.simvp import SimVP, SimVPConfig
from polarcast.models.qpe.attainable import Attainable, AttainableConfig
from polarcast.models.qpe.boosting import Boosting, BoostingConfig
from polarcast.models.qpe.power_law import PowerLaw, PowerLawConfig
from polarcast.models.qpe.unet import UNet, UNetConfig
from polarcast.models.qpe.wf_unet import WFUNet, WFUNetConfig


@dataclass(frozen=True)
class RegisteredModel:
    """Registry entry: configuration, constructor and properties of a model."""

    config: type[Any]
    make: type[Forecaster]
    tasks: tuple[str, ...]
    trained: bool
    """Whether the model trains by gradient descent; others are fitted in one pass or need no fit."""
    needs_base: bool = False
    """Whether the model is built around a trained base model."""
    several_bases: bool = False
    """Whether it is built around two or more of them."""
    sees_truth: bool = False
    """Whether the model receives the target as input: its scores are an upper bound for other models, not a result."""
    any_inputs: bool = False
    """Whether the model picks what it needs from any heights and frames, and any variables that include its own."""
    external: bool = False
    """Whether the forecasts were made by other software, so that there is no model to train or run."""
    cost: float = 1.0
    """Time of a training step (an evaluation if the model is not trained), relative to that of the U-Net."""

    def build(self, config: Any, inputs: InputSpec, *bases: Forecaster) -> Forecaster:
        """Return the model with randomly initialized weights.

        Raises:
            BadInput: the configuration or a base model is invalid.
        """
        return self.make(config, inputs, bases) if self.several_bases else self.make(config, inputs, *bases)

    @property
    def has_widths(self) -> bool:
        """Whether channel widths set the size of the model, so that `match_params` can solve for them."""
        return any(f.name == "widths" for f in fields(self.config))


_QPE, _NOWCAST = ("qpe",), ("nowcast",)

MODELS: dict[str, RegisteredModel] = {
    "unet": RegisteredModel(UNetConfig, UNet, _QPE, trained=True),
    "wf_unet": RegisteredModel(WFUNetConfig, WFUNet, _QPE, trained=True, cost=1.6),
    "diffusion": RegisteredModel(DiffusionConfig, Diffusion, _QPE, trained=True, cost=1.8),
    "combined_diffusion": RegisteredModel(CombinedDiffusionConfig, CombinedDiffusion, _QPE, trained=True, cost=1.8),
    "autoencoder": RegisteredModel(
        AutoencoderConfig, Autoencoder, _QPE, trained=True, sees_truth=True, any_inputs=True
    ),
    "latent_diffusion": RegisteredModel(LatentDiffusionConfig, LatentDiffusion, _QPE, trained=True, needs_base=True),
    "residual_diffusion": RegisteredModel(
        ResidualDiffusionConfig, ResidualDiffusion, _QPE, trained=True, needs_base=True, cost=2.2
    ),
    "post_process": RegisteredModel(PostProcessConfig, PostProcess, _QPE, trained=True, needs_base=True, cost=2.0),
    "member_mean": RegisteredModel(MemberMeanConfig, MemberMean, _QPE, trained=False, needs_base=True, cost=8.0),
    "merge": RegisteredModel(MergeConfig, Merge, _QPE, trained=True, needs_base=True, several_bases=True, cost=2.0),
    "stacked": RegisteredModel(StackedConfig, Stacked, _QPE, trained=False, needs_base=True, several_bases=True),
    "model_mean": RegisteredModel(ModelMeanConfig, ModelMean, _QPE, trained=False, needs_base=True, several_bases=True),
    "boosting": RegisteredModel(BoostingConfig, Boosting, _QPE, trained=False),
    "attainable": RegisteredModel(AttainableConfig, Attainable, _QPE, trained=False, any_inputs=True),
    "power_law": RegisteredModel(PowerLawConfig, PowerLaw, _QPE, trained=False, any_inputs=True),
    "persistence": RegisteredModel(PersistenceConfig, Persistence, _NOWCAST, trained=False, any_inputs=True, cost=0.1),
    "extrapolation": RegisteredModel(
        ExtrapolationConfig, Extrapolation, _NOWCAST, trained=False, any_inputs=True, cost=0.7
    ),
    "sprog": RegisteredModel(CascadeConfig, SPROG, _NOWCAST, trained=False, any_inputs=True, cost=1.5),
    "anvil": RegisteredModel(ANVILConfig, ANVIL, _NOWCAST, trained=False, any_inputs=True, cost=2.0),
    "steps": RegisteredModel(STEPSConfig, STEPS, _NOWCAST, trained=False, any_inputs=True, cost=8.0),
    "residual_nowcast": RegisteredModel(
        ResidualNowcastConfig, ResidualNowcast, _NOWCAST, trained=True, needs_base=True, cost=2.3
    ),
    "probability_matched": RegisteredModel(
        ProbabilityMatchedConfig, ProbabilityMatched, _NOWCAST, trained=False, needs_base=True, cost=1.5
    ),
    "furenet": RegisteredModel(FURENetConfig, FURENet, _NOWCAST, trained=True),
    "furenet_advected": RegisteredModel(AdvectedConfig, Advected, _NOWCAST, trained=True, cost=2.3),
    "bagging": RegisteredModel(BaggingConfig, Bagging, _NOWCAST, trained=True, cost=4.5),
    "simvp": RegisteredModel(SimVPConfig, SimVP, _NOWCAST, trained=True, cost=1.8),
    "convgru": RegisteredModel(ConvGRUConfig, ConvGRU, _NOWCAST, trained=True, cost=3.5),
}


EXTERNAL = "external"
"""Kind of runs that `leaderboard add` makes of forecasts. It is not in `MODELS`, whose models can be built."""
# Other software does not say whether it depends on a seed; like a trained model, it is one of many possible ones.
_EXTERNAL = RegisteredModel(ExternalConfig, Forecaster, (*_QPE, *_NOWCAST), trained=True, external=True)


def get_model(name: str) -> RegisteredModel:
    """Return the registry entry of a model, or of the kind `EXTERNAL`.

    Raises:
        BadInput: the name is unknown; the message lists the registered names, the nearest one first.
    """
    if name == EXTERNAL:
        return _EXTERNAL
    if not isinstance(name, str) or name not in MODELS:
        fix = f"{nearest(name, MODELS)} choose from: {', '.join(sorted(MODELS))}".strip()
        raise BadInput(f"unknown model {shown(name)}", "model.name", fix)
    return MODELS[name]
