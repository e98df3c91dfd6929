"""Gradient boosting of single pixels (LightGBM; Ke et al. 2017): the row that shows what a network gains from space."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from polarcast.data.batch import Batch
from polarcast.data.errors import BadInput
from polarcast.data.scaling import RAIN_TRANSFORMS, scale_rain, unscale_rain
from polarcast.models.common.rain import last_rain
from polarcast.models.common.settings import ALWAYS, setting
from polarcast.models.forecaster import Forecaster, InputSpec

if TYPE_CHECKING:
    from lightgbm import Booster

Array = npt.NDArray[np.floating]
OBJECTIVES = ("tweedie", "poisson", "regression")


@dataclass
class BoostingConfig:
    """Configuration of gradient boosting on pixels."""

    trees: int = setting(300, ALWAYS)
    """Trees, each fitted to what the ones before leave."""
    leaves: int = setting(31, ALWAYS)
    """Leaves of a tree."""
    min_leaf: int = setting(20, ALWAYS)
    """Fewest pixels in a leaf."""
    learning_rate: float = setting(0.05, ALWAYS)
    """Share of a tree's answer that is taken."""
    objective: str = setting("tweedie", ALWAYS)
    """tweedie and poisson aim at the mean in mm/h with errors that grow with it; regression: least squares."""
    rain_transform: str = setting("identity", ALWAYS)
    """Space of the target: identity, log1p or sqrt; the mean of another than identity comes back too low in mm/h."""
    pixels: int = setting(200_000, ALWAYS)
    """Training pixels that are kept from one pass over the training split."""
    heavy_odds: float = setting(1.0, ALWAYS)
    """A pixel with rain R is kept with odds (1 + R)^this, and weighted against that: heavy rain is rare. 0: no."""
    neighbourhood: list[int] = setting([], ALWAYS)
    """Sides in pixels, odd, of squares whose mean of each field is a feature too, such as [3, 7]."""

    def __post_init__(self) -> None:
        """Raises BadInput for a setting there is not."""
        _one_of("objective", self.objective, OBJECTIVES)
        _one_of("rain_transform", self.rain_transform, RAIN_TRANSFORMS)
        if any(side < 1 or side % 2 == 0 for side in self.neighbourhood):
            raise BadInput(f"sides {self.neighbourhood} are not all odd", "model.neighbourhood", "for example [3,7]")
        if self.pixels < 1:
            raise BadInput(f"can't learn from {self.pixels} pixels", "model.pixels", "for example 200000")


class Reservoir:
    """A bounded sample of an endless stream, with given odds and the weights that undo them.

    Priority sampling (Duffield, Lund & Thorup 2007): an item has the key u / odds, u uniform; the smallest keys stay,
    and an item weighs 1 / min(1, odds · τ), τ the smallest key that went. Sums so weighted are unbiased for the stream.
    Which items stay depends on their keys alone, not on the order or the portions they come in.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: list[tuple[Array, ...]] = []
        self._held = 0

    def __len__(self) -> int:
        return min(self._held, self.size)

    def offer(self, features: Array, rain: Array, odds: Array, random: np.random.Generator) -> None:
        """Items with features (n, f) and rain (n,), kept with odds (n,) > 0 by the numbers of `random`."""
        if len(rain):
            self._parts.append((features, rain, odds, random.random(len(rain)) / odds))
            self._held += len(rain)
        if self._held > 2 * self.size + 1:
            self._shrink()

    def drawn(self) -> tuple[Array, Array, Array]:
        """Features (n, f), rain (n,) and weights (n,) of what stayed, in the order of their keys."""
        self._shrink()
        features, rain, odds, keys = self._parts[0]
        first_gone = keys[self.size] if len(keys) > self.size else np.inf
        weights = 1 / np.minimum(1, odds * first_gone)
        return features[: self.size], rain[: self.size], weights[: self.size]

    def _shrink(self) -> None:
        whole = [np.concatenate(column) for column in zip(*self._parts, strict=True)]
        # One more than asked for: its key is the threshold.
        smallest = np.argsort(whole[-1], kind="stable")[: self.size + 1]
        self._parts = [tuple(column[smallest] for column in whole)]
        self._held = len(smallest)


class Boosting(Forecaster):
    """Rain rate of a pixel from all variables at all heights of that pixel, in a window's last frame.

    Where no height has an echo there is nothing to estimate from, and the rain is zero. Trees are kept as LightGBM's
    own text in a buffer of bytes, so that a file of weights holds them and running code does not come with it.
    """

    trees: Tensor

    def __init__(self, config: BoostingConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("trees", torch.zeros(0, dtype=torch.uint8))
        # Drawn as a network's weights are: another seed of the run keeps other pixels.
        self._seed = int(torch.randint(2**31 - 1, (1,), device="cpu"))
        self._booster: Booster | None = None

    def fit(self, batches: Iterable[Batch]) -> None:
        """Learn from pixels with an echo, of which those kept don't depend on how windows are batched.

        Raises:
            BadInput: no pixel of the training windows has an echo, or none of them rain.
        """
        kept = Reservoir(self.config.pixels)
        for batch in batches:
            echo, rain = _has_echo(batch), last_rain(batch)[:, 0].double().cpu().numpy()
            for name, features, wet, rate in zip(_names(batch), self._features(batch), echo, rain, strict=True):
                odds = (1 + rate[wet]) ** self.config.heavy_odds
                kept.offer(features[wet], rate[wet], odds, np.random.default_rng([self._seed, *name]))
        if not len(kept):
            raise BadInput("no training window has an echo", "data.shards", "use shards with radar echoes")
        features, rain, weights = kept.drawn()
        if not rain.any():
            raise BadInput("no training window has rain", "data.shards", "use shards with rain")
        # Without the list of settings at its end: that names the threads, on which the trees do not depend.
        text, _, _ = self._boost(features, rain, weights).model_to_string().partition("\nparameters:")
        self.trees = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(self.trees.device)
        self._booster = None

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Rain rate in mm/h of the last frame, (b, 1, t = 1, y, x). Raises ValueError before it is fitted."""
        echo = _has_echo(batch)
        scaled = np.zeros(echo.shape, np.float32)
        if echo.any():
            scaled[echo] = self._trees().predict(self._features(batch)[echo], num_threads=torch.get_num_threads())
        rain = unscale_rain(torch.from_numpy(scaled).to(batch.radar.device), self.config.rain_transform)
        return rain[:, None, None]

    def _features(self, batch: Batch) -> npt.NDArray[np.float32]:
        """(b, y, x, features)."""
        fields = batch.radar[:, -1].flatten(1, 2).float()
        means = [F.avg_pool2d(fields, n, 1, n // 2, count_include_pad=False) for n in self.config.neighbourhood]
        return torch.cat([fields, *means], 1).permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _boost(self, features: Array, rain: Array, weights: Array) -> "Booster":
        import lightgbm

        target = scale_rain(torch.from_numpy(rain), self.config.rain_transform).numpy()
        pixels = lightgbm.Dataset(features, target, weight=weights)
        return lightgbm.train(self._settings(), pixels, self.config.trees)

    def _settings(self) -> dict[str, Any]:
        return {
            "objective": self.config.objective,
            "num_leaves": self.config.leaves,
            "min_data_in_leaf": self.config.min_leaf,
            "learning_rate": self.config.learning_rate,
            "seed": self._seed,
            "num_threads": torch.get_num_threads(),
            "deterministic": True,
            "force_row_wise": True,  # chosen by a timing otherwise
            "verbosity": -1,
        }

    def _trees(self) -> "Booster":
        if not len(self.trees):
            raise ValueError("fit the trees, or load them, before asking for a forecast")
        if self._booster is None:
            import lightgbm

            self._booster = lightgbm.Booster(model_str=self.trees.cpu().numpy().tobytes().decode())
        return self._booster

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Take trees of any length: a buffer is only filled, and must have room before."""
        if (trees := state_dict.get(f"{prefix}trees")) is not None:
            self.trees = torch.empty_like(trees, device=self.trees.device)
            self._booster = None
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _has_echo(batch: Batch) -> npt.NDArray[np.bool_]:
    """(b, y, x): whether the last frame has an echo at any height."""
    return (batch.variable("zh")[:, -1] != 0).any(1).cpu().numpy()


def _names(batch: Batch) -> list[tuple[int, int]]:
    """Event and frame of each window's last frame."""
    last = batch.frame + batch.radar.shape[1] - 1
    return list(zip(batch.event.long().tolist(), last.long().tolist(), strict=True))


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadInput(f"unknown {name} {value!r}", f"model.{name}", f"there are: {', '.join(known)}")
