"""A moving synthetic storm, nowcasts of it, and measures of its position and skill."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from polarcast.data.batch import Batch
from polarcast.models.forecaster import Forecaster, InputSpec
from polarcast.models.registry import get_model

Fields = npt.NDArray[np.float64]
SEEN, LEAD = 4, 3


def storm(frames: int = SEEN, side: int = 64, velocity: tuple[int, int] = (2, 1), change: float = 1.0) -> Fields:
    """Make a round 50 dBZ storm with slowly changing texture, moving by `velocity` (right, down) pixels a frame."""
    y, x = np.mgrid[:side, :side]
    bell = np.exp(-((x - 0.35 * side) ** 2 + (y - 0.4 * side) ** 2) / (2 * (side / 9) ** 2))
    noise = np.random.default_rng(0).standard_normal((frames, side, side))
    texture = gaussian_filter(noise, (1.5, 2, 2), mode="wrap")
    zh = np.where(bell > 0.15, 50 * bell + 2 * change * texture / texture.std(), 0).clip(0)
    moved = [np.roll(field, (t * velocity[1], t * velocity[0]), (0, 1)) for t, field in enumerate(zh)]
    # Windows store single precision.
    return np.stack(moved).astype(np.float32).astype(np.float64)


def window(*heights: Fields, event: int = 0) -> Batch:
    """Make a batch of one window of zh, (t, y, x) at each height."""
    radar = torch.from_numpy(np.stack(heights, 1)[None, :, None]).float()
    return Batch(radar, None, torch.tensor([event]), torch.tensor([2]), ("zh",), tuple(range(1, 1 + len(heights))))


def model(name: str, heights: int = 1, lead: int = LEAD, **set_: float) -> Forecaster:
    """Build a nowcasting model by its name in the registry."""
    inputs = InputSpec(("zh",), tuple(range(1, 1 + heights)), frames=SEEN, lead_frames=lead)
    return get_model(name).build(get_model(name).config(**set_), inputs)


def nowcast(name: str, zh: Fields, members: int = 1, seed: int = 0, lead: int = LEAD, **set_: float) -> Fields:
    """Forecast zh (t, y, x) at a single height; returns (m, t, y, x)."""
    return model(name, lead=lead, **set_).forecast(window(zh), members, seed)[0, :, :, 0].double().numpy()


def centre(zh: Fields) -> Fields:
    """Centroid (x, y) of all echo of 20 dBZ or more."""
    y, x = np.mgrid[: zh.shape[0], : zh.shape[1]]
    weight = np.where(zh >= 20, zh, 0)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def csi(zh: Fields, truth: Fields) -> float:
    """Critical success index at 25 dBZ."""
    forecast, observed = zh >= 25, truth >= 25
    return float((forecast & observed).sum() / (forecast | observed).sum())
