"""What travels from readers to models: a batch of windows in physical units."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Windows of radar frames, with the rain rate of the same frames, or what follows them, where a task needs it.

    Attributes:
        radar: (b, t, v, z, y, x) in the units of `variables` (dBZ, dB, deg/km), fill value 0; float16 or float32.
        rain: (b, t, y, x) rain rate in mm/h, or None where it was not read.
        event: (b,) event numbers.
        frame: (b,) number of each window's first frame within its event.
        variables: Names along v, such as ("zh", "zdr").
        heights_km: Heights along z.
        future: (b, t, z, y, x) zh in dBZ of the frames that follow, at these heights; None where nothing is forecast.
        before: (b, z, y, x) zh of the last frame seen, whatever the variables are; None where nothing is forecast.
        draw: (b,) int64 place of each sample in the run's endless stream of training samples, None outside of training;
            random numbers that a loss needs are drawn by it, so that they don't depend on the number of ranks.
    """

    radar: Tensor
    rain: Tensor | None
    event: Tensor
    frame: Tensor
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    draw: Tensor | None = None
    future: Tensor | None = None
    before: Tensor | None = None

    def __post_init__(self) -> None:
        if self.radar.ndim != 6:
            raise ValueError(f"radar must be (b, t, v, z, y, x), got shape {tuple(self.radar.shape)}")
        b, t, v, z, y, x = self.radar.shape
        if (v, z) != (len(self.variables), len(self.heights_km)):
            raise ValueError(f"radar has {v} variables and {z} heights, named {self.variables} {self.heights_km}")
        if self.rain is not None and tuple(self.rain.shape) != (b, t, y, x):
            raise ValueError(f"rain must be {(b, t, y, x)} like radar, got {tuple(self.rain.shape)}")
        if self.future is not None and (self.future.ndim != 5 or self.future[:, 0].shape != (b, z, y, x)):
            raise ValueError(f"future must be (b, t, z, y, x) like radar, got {tuple(self.future.shape)}")
        if self.before is not None and self.before.shape != (b, z, y, x):
            raise ValueError(f"before must be {(b, z, y, x)} like radar, got {tuple(self.before.shape)}")
        if self.event.shape != (b,) or self.frame.shape != (b,):
            raise ValueError(f"event and frame must be ({b},), got {self.event.shape} and {self.frame.shape}")

    def __len__(self) -> int:
        return self.radar.shape[0]

    @property
    def rain_rate(self) -> Tensor:
        """The rain rate, (b, t, y, x) in mm/h. Raises ValueError when it was not read."""
        if self.rain is None:
            raise ValueError("this batch was read without rain")
        return self.rain

    @property
    def coming_zh(self) -> Tensor:
        """zh of the frames that follow, (b, t, z, y, x) in dBZ. Raises ValueError when they were not read."""
        if self.future is None:
            raise ValueError("this batch was read without the frames that follow")
        return self.future

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with each of its fields changed, as far as they are there."""
        rain, future, before = (
            None if field is None else change(field) for field in (self.rain, self.future, self.before)
        )
        return replace(self, radar=change(self.radar), rain=rain, future=future, before=before)

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device, in float32: half precision is for the way there only."""
        return self.map(lambda field: field.to(device, non_blocking=True).float())

    def variable(self, name: str) -> Tensor:
        """One variable at all heights, (b, t, z, y, x). Raises ValueError when the batch does not carry it."""
        return self.radar[:, :, self.variables.index(name)]
