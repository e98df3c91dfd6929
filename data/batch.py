"""What travels from readers to models: a batch of windows in physical units."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Windows of radar frames, with the rain rate of the same frames where a task needs it.

    Attributes:
        radar: (b, t, v, z, y, x) in the units of `variables` (dBZ, dB, deg/km), fill value 0; float16 or float32.
        rain: (b, t, y, x) rain rate in mm/h, or None where it was not read.
        event: (b,) event numbers.
        frame: (b,) number of each window's first frame within its event.
        variables: Names along v, such as ("zh", "zdr").
        heights_km: Heights along z.
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

    def __post_init__(self) -> None:
        if self.radar.ndim != 6:
            raise ValueError(f"radar must be (b, t, v, z, y, x), got shape {tuple(self.radar.shape)}")
        b, t, v, z, y, x = self.radar.shape
        if (v, z) != (len(self.variables), len(self.heights_km)):
            raise ValueError(f"radar has {v} variables and {z} heights, named {self.variables} {self.heights_km}")
        if self.rain is not None and tuple(self.rain.shape) != (b, t, y, x):
            raise ValueError(f"rain must be {(b, t, y, x)} like radar, got {tuple(self.rain.shape)}")
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

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device, in float32: half precision is for the way there only."""
        radar = self.radar.to(device, non_blocking=True).float()
        rain = None if self.rain is None else self.rain.to(device, non_blocking=True).float()
        return replace(self, radar=radar, rain=rain)

    def variable(self, name: str) -> Tensor:
        """One variable at all heights, (b, t, z, y, x). Raises ValueError when the batch does not carry it."""
        return self.radar[:, :, self.variables.index(name)]
