"""Gradient boosting of single pixels (LightGBM; Ke et al. 2017), a reference for the value of spatial context."""

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
from polarcast.models.qpe.trees import checked_trees

if TYPE_CHECKING:
    from lightgbm import Booster

Array = npt.NDArray[np.floating]
OBJECTIVES = ("tweedie", "poisson", "regression")


@dataclass
class BoostingConfig:
    """Configuration of gradient boosting."""

    trees: int = setting(300, ALWAYS, least=1, most=100_000)
    """Number of trees."""
    leaves: int = setting(31, ALWAYS, least=2, most=131_072)
    """Maximum number of leaves per tree."""
    min_leaf: int = setting(20, ALWAYS, least=0, most=2**31 - 1)
    """Minimum number of pixels per leaf."""
    learning_rate: float = setting(0.05, ALWAYS, above=0, most=1000)
    """Shrinkage factor of each tree."""
    objective: str = setting("tweedie", ALWAYS, choices=OBJECTIVES)
    """Loss: tweedie or poisson (mean in mm/h, with errors that grow with the mean), or regression (least squares)."""
    rain_transform: str = setting("identity", ALWAYS, choices=RAIN_TRANSFORMS)
    """Transform of the target: identity, log1p or sqrt; all but identity underestimate the mean in mm/h."""
    pixels: int = setting(200_000, ALWAYS, least=1, most=10**9)
    """Number of training pixels sampled in one pass over the training split."""
    heavy_odds: float = setting(1.0, ALWAYS, least=0, most=10)
    """Exponent p of the sampling odds (1 + R)^p, undone by weights; oversamples rare heavy rain. 0 is uniform."""
    neighbourhood: list[int] = setting([], ALWAYS, least=1, most=9999, longest=100, distinct=True)
    """Odd side lengths in pixels of squares whose field means are additional features, such as [3, 7]."""

    def __post_init__(self) -> None:
        """Raise BadInput for a side that is not odd."""
        if any(side % 2 == 0 for side in self.neighbourhood):
            raise BadInput(f"sides {self.neighbourhood} are not all odd", "model.neighbourhood", "give odd sides")


class Reservoir:
    """Weighted reservoir sample of bounded size from a stream.

    Priority sampling (Duffield, Lund & Thorup 2007): an item has the key u / odds, u uniform. The items with the
    smallest keys are kept, with weights 1 / min(1, odds · τ), where τ is the smallest dropped key. Weighted sums are
    unbiased for the stream. The sample depends only on the keys, not on the order or chunking of the stream.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: list[tuple[Array, ...]] = []
        self._filled = 0

    def __len__(self) -> int:
        return min(self._filled, self.size)

    def offer(self, features: Array, rain: Array, odds: Array, random: np.random.Generator) -> None:
        """Add items with features (n, f), rain (n,) and odds (n,) > 0; `random` draws their keys."""
        if len(rain):
            self._parts.append((features, rain, odds, random.random(len(rain)) / odds))
            self._filled += len(rain)
        if self._filled > 2 * self.size + 1:
            self._shrink()

    def drawn(self) -> tuple[Array, Array, Array]:
        """Return features (n, f), rain (n,) and weights (n,) of the sample, sorted by key."""
        self._shrink()
        features, rain, odds, keys = self._parts[0]
        threshold = keys[self.size] if len(keys) > self.size else np.inf
        weights = 1 / np.minimum(1, odds * threshold)
        return features[: self.size], rain[: self.size], weights[: self.size]

    def _shrink(self) -> None:
        whole = [np.concatenate(column) for column in zip(*self._parts, strict=True)]
        # Keep one more than the size: its key is the threshold.
        smallest = np.argsort(whole[-1], kind="stable")[: self.size + 1]
        self._parts = [tuple(column[smallest] for column in whole)]
        self._filled = len(smallest)


class Boosting(Forecaster):
    """Rain rate of a pixel from all variables at all heights of that pixel, in the last frame of a window.

    Pixels without echo at any height are forecast dry. The trees are stored as LightGBM text in a byte buffer, so that
    checkpoints need no pickled code.
    """

    trees: Tensor

    def __init__(self, config: BoostingConfig, inputs: InputSpec) -> None:
        super().__init__()
        self.config = config
        fields = len(inputs.variables) * len(inputs.heights_km)
        self._features_per_pixel = fields * (1 + len(config.neighbourhood))
        self.register_buffer("trees", torch.zeros(0, dtype=torch.uint8))
        # Drawn from the global generator, as network weights are: the seed of the run determines the pixels.
        self._seed = int(torch.randint(2**31 - 1, (1,), device="cpu"))
        self._booster: Booster | None = None

    def fit(self, batches: Iterable[Batch]) -> None:
        """Fit the trees to sampled pixels with echo; the sample does not depend on the batching of windows.

        Raises:
            BadInput: no training window has an echo, or none has rain.
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
        # Drop the parameters at the end: they include the number of threads, on which the trees do not depend.
        text, _, _ = self._boost(features, rain, weights).model_to_string().partition("\nparameters:")
        self.trees = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(self.trees.device)
        self._booster = None

    def forecast(self, batch: Batch, members: int = 1, seed: int = 0) -> Tensor:
        """Return rain rate in mm/h of the last frame, (b, 1, t = 1, y, x). Raises BadInput before `fit`."""
        echo = _has_echo(batch)
        scaled = np.zeros(echo.shape, np.float32)
        if echo.any():
            scaled[echo] = self._trees().predict(self._features(batch)[echo], num_threads=torch.get_num_threads())
        rain = unscale_rain(torch.from_numpy(scaled).to(batch.radar.device), self.config.rain_transform)
        return rain[:, None, None]

    def _features(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Return the features of each pixel, (b, y, x, features)."""
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
            "force_row_wise": True,  # otherwise LightGBM chooses by timing
            "verbosity": -1,
        }

    def _trees(self) -> "Booster":
        if not len(self.trees):
            raise BadInput("there are no trees", "model=boosting", "fit it or load weights before a forecast")
        if self._booster is None:
            import lightgbm

            self._booster = lightgbm.Booster(model_str=self._checked(self.trees))
        return self._booster

    def _checked(self, trees: Tensor) -> str:
        """Return the text of trees for LightGBM. Raises BadInput if they are damaged: weights may come from anyone."""
        if trees.dtype != torch.uint8 or trees.ndim != 1:
            raise BadInput("damaged weights (the trees are no text)", "model=boosting", "copy the run again")
        return checked_trees(trees.cpu().numpy().tobytes(), self._features_per_pixel, self.config.objective)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Resize the buffer of trees before loading, which copies in place."""
        if (trees := state_dict.get(f"{prefix}trees")) is not None:
            if trees.numel():
                self._checked(trees)
            self.trees = torch.empty(trees.shape, dtype=torch.uint8, device=self.trees.device)
            self._booster = None
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _has_echo(batch: Batch) -> npt.NDArray[np.bool_]:
    """Return whether the last frame has an echo at any height, (b, y, x)."""
    return (batch.variable("zh")[:, -1] != 0).any(1).cpu().numpy()


def _names(batch: Batch) -> list[tuple[int, int]]:
    """Return event and frame number of the last frame of each window."""
    last = batch.frame + batch.radar.shape[1] - 1
    return list(zip(batch.event.long().tolist(), last.long().tolist(), strict=True))
