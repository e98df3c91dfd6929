"""Merges of the estimates of several trained models: their mean, a linear combination, or a U-Net (source paper §8.3).

A merge that is fitted should see events on which its bases were not trained (`data.hold_out`, `data.only_held_out`):
on their training events, the base that overfits most would look best.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polarcast.data.batch import Batch
from polarcast.data.scaling import make_scaling
from polarcast.models.common.frozen import freeze
from polarcast.models.common.rain import MOST_MMH, last_rain, rain_loss
from polarcast.models.common.settings import setting
from polarcast.models.common.views import views_per_field, with_features
from polarcast.models.diffusion.generative import Generative
from polarcast.models.diffusion.rain import RainSpace
from polarcast.models.diffusion.random_numbers import mix, training_keys
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.qpe.unet import RainUNetConfig, ResidualBlock, UNetBody

_MOST_SAMPLES = 1000


@dataclass
class ModelMeanConfig:
    """Configuration of the mean of several models."""

    samples: int = setting(1, least=1, most=_MOST_SAMPLES)
    """Number of independent samples of each generative base to average; other bases give one estimate."""


@dataclass
class StackedConfig(ModelMeanConfig):
    """Configuration of the linear combination of several models."""


@dataclass
class MergeConfig(RainUNetConfig):
    """Configuration of the U-Net that merges several models."""

    samples: int = setting(1, least=1, most=_MOST_SAMPLES)
    """Number of independent samples of each generative base to average; other bases give one estimate."""


class _Merged(Forecaster):
    """Forecaster around several trained, frozen bases."""

    config: ModelMeanConfig | MergeConfig
    base: nn.ModuleList

    def __init__(self, config: ModelMeanConfig | MergeConfig, bases: Sequence[Forecaster]) -> None:
        super().__init__()
        self.config = config
        self.base = nn.ModuleList(freeze(base) for base in bases)

    @property
    def evaluations(self) -> int | None:
        """Evaluations of the networks of random bases per forecast member; None if no base is random."""
        found = [getattr(base, "evaluations", None) or 0 for base in self.base]
        return self.config.samples * sum(found) or None

    def estimates(self, batch: Batch, members: int, seed: int) -> Tensor:
        """Return rain rate of each base in mm/h, (b, m, k, y, x); m = 1 if no base is random.

        Each member averages separate samples of a random base.
        """
        samples = self.config.samples
        # Random bases draw different noise.
        seeds = [mix(seed, number) if number else seed for number in range(len(self.base))]
        found = [self._of_base(b, batch, members * samples, s) for b, s in zip(self.base, seeds, strict=True)]
        most = members if self.evaluations else 1
        return torch.stack([one.expand(-1, most, -1, -1) for one in found], 2)

    def _of_base(self, base: nn.Module, batch: Batch, count: int, seed: int) -> Tensor:
        """Return the estimate of a base, averaged over the samples of each member, (b, m or 1, y, x)."""
        forecast: Any = base.forecast
        fields = forecast(batch, count, seed).float()[:, :, 0]
        return fields if fields.shape[1] == 1 else fields.unflatten(1, (-1, self.config.samples)).mean(2)


class ModelMean(_Merged):
    """Mean of several trained models in mm/h, without training: the control for other merges of the same models."""

    def __init__(self, config: ModelMeanConfig, inputs: InputSpec, bases: Sequence[Forecaster]) -> None:
        super().__init__(config, bases)

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h, (b, m, t = 1, y, x)."""
        return self.estimates(batch, members, seed).mean(2)[:, :, None]


class Stacked(_Merged):
    """Linear combination of several trained models in mm/h, with non-negative weights (Breiman 1996).

    The weights minimize the squared error in mm/h over all pixels of the events that it is fitted to. They need not add
    up to 1, so a common bias of the bases is corrected, too.
    """

    weights: Tensor

    def __init__(self, config: StackedConfig, inputs: InputSpec, bases: Sequence[Forecaster]) -> None:
        """Weigh all bases equally until `fit` is called."""
        super().__init__(config, bases)
        self.register_buffer("weights", torch.full((len(bases),), 1 / len(bases)))

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the weights by non-negative least squares; without any rain, they stay equal."""
        count = len(self.base)
        squares, products = np.zeros((count, count)), np.zeros(count)
        for batch in batches:
            estimates = self.estimates(batch, 1, 0)[:, 0].transpose(0, 1).flatten(1).double().cpu().numpy()
            squares += estimates @ estimates.T
            products += estimates @ last_rain(batch).flatten().double().cpu().numpy()
        if products.any():
            self.weights.copy_(torch.from_numpy(nonnegative_solution(squares, products)))

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h, (b, m, t = 1, y, x)."""
        weighted = torch.einsum("k,bmkyx->bmyx", self.weights, self.estimates(batch, members, seed))
        return weighted.clamp(max=MOST_MMH)[:, :, None]


class Merge(_Merged):
    """U-Net that corrects the mean of several models, given their estimates and the radar fields.

    Like `PostProcess`, but of several models: samples of generative bases are drawn anew at each step.
    """

    config: MergeConfig

    def __init__(self, config: MergeConfig, inputs: InputSpec, bases: Sequence[Forecaster]) -> None:
        super().__init__(config, bases)
        self.blocks = (ResidualBlock,)
        self.space = RainSpace(config.rain_transform)
        self.net = UNetBody(len(bases) + views_per_field(config) * inputs.channels, 1, config.widths)
        # Zero initialization: the output starts as the mean of the bases.
        nn.init.zeros_(self.net.head.weight)
        nn.init.zeros_(self.net.head.bias)  # type: ignore[arg-type]

    def loss(self, batch: Batch) -> Tensor:
        """Return the `rain_loss` of the corrected mean."""
        keys = training_keys(batch) if self._samples_in_loss else ()
        return rain_loss(self._corrected(batch, self._drawn(batch, keys)), last_rain(batch), self.config)

    def loss_numbers(self, batch: Batch) -> tuple[Tensor, ...] | None:
        """Return None if a base is sampled within the loss, step by step on the host; see `Forecaster`."""
        return None if self._samples_in_loss else ()

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h, (b, m, t = 1, y, x); each member uses separate samples of random bases."""
        estimates = self.estimates(batch, members, seed).unbind(1)
        return torch.stack([self.space.rain_rate(self._corrected(batch, one)) for one in estimates], 1)

    @property
    def _samples_in_loss(self) -> bool:
        return any(isinstance(base, Generative) for base in self.base)

    def _corrected(self, batch: Batch, estimates: Tensor) -> Tensor:
        """Return the corrected mean in transformed rain, (b, 1, y, x), of the estimates of the bases (b, k, y, x)."""
        scaling = make_scaling(self.config.scaling, batch.variables, batch.radar)
        radar = with_features(scaling.apply(batch.radar), self.config).flatten(1, 3)
        mean = self.space(estimates.mean(1, keepdim=True))
        return mean + self.net(torch.cat([self.space(estimates), radar], 1))

    @torch.no_grad()
    def _drawn(self, batch: Batch, keys: Sequence[int]) -> Tensor:
        """Return the estimate of each base in mm/h, (b, k, y, x); samples of generative bases by the keys."""
        return torch.cat([self._draw(number, base, batch, keys) for number, base in enumerate(self.base)], 1)

    def _draw(self, number: int, base: nn.Module, batch: Batch, keys: Sequence[int]) -> Tensor:
        """Return the estimate of one base, (b, 1, y, x)."""
        if not isinstance(base, Generative):
            return self._of_base(base, batch, self.config.samples, 0)
        chosen = [[mix(key, number * _MOST_SAMPLES + sample) for key in keys] for sample in range(self.config.samples)]
        made = [base.make(batch, one, base.denoising.sampler).mean(1, keepdim=True) for one in chosen]
        return torch.cat(made, 1).mean(1, keepdim=True)


def nonnegative_solution(squares: np.ndarray[Any, Any], products: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return w ≥ 0 that minimizes wᵀ A w − 2 wᵀ b, the non-negative least squares of its normal equations.

    Args:
        squares: A = XᵀX, (k, k).
        products: b = Xᵀy, (k,).
    """
    from scipy.optimize import nnls

    # Any root R of A has |R w − R⁺ᵀ b|² = wᵀ A w − 2 wᵀ b + const; equal bases make A singular.
    values, vectors = np.linalg.eigh(squares)
    kept = values > values.max() * 1e-12
    root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return np.asarray(nnls(root, (vectors[:, kept].T @ products) / np.sqrt(values[kept]))[0])
