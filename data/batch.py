"""Batches of windows in physical units, passed from readers to models."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Windows of radar frames, with the rain rate (QPE) or the frames to forecast (nowcasting).

    Attributes:
        radar: (b, t, v, z, y, x) in the units of `variables` (dBZ, dB, deg/km), fill value 0; float16 or float32.
        rain: (b, t, y, x) rain rate in mm/h; None if it was not read.
        event: (b,) event numbers.
        frame: (b,) number of each window's first frame within its event.
        variables: Names along v, such as ("zh", "zdr").
        heights_km: Heights along z.
        sample_index: (b,) int64 position of each sample in the infinite stream of training samples; None outside of
            training. Losses key their random numbers by it, so they do not depend on the number of ranks.
        target_zh: (b, t, z, y, x) zh in dBZ of the frames to forecast, at the same heights; None for QPE.
        last_zh: (b, z, y, x) zh of the last input frame, even if zh is not in `variables`; None for QPE.
        observed: (b, t, z, y, x) bool, where the fields to forecast were observed: those of `target_zh`, or for QPE
            (b, 1, 1, y, x) of the rain rate of the last frame. None if it was not read, or there are no masks, so that
            all pixels count as observed.
        last_observed: (b, z, y, x) bool, where `last_zh` was observed; None as `observed`, and for QPE.
        random: Random numbers of the training loss, made ahead on the host by the model (`Forecaster.loss_numbers`);
            empty if the loss makes them itself, or has none.
    """

    radar: Tensor
    rain: Tensor | None
    event: Tensor
    frame: Tensor
    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    sample_index: Tensor | None = None
    target_zh: Tensor | None = None
    last_zh: Tensor | None = None
    observed: Tensor | None = None
    last_observed: Tensor | None = None
    random: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        if self.radar.ndim != 6:
            raise ValueError(f"radar must be (b, t, v, z, y, x), got shape {tuple(self.radar.shape)}")
        b, t, v, z, y, x = self.radar.shape
        if (v, z) != (len(self.variables), len(self.heights_km)):
            raise ValueError(f"radar has {v} variables and {z} heights, named {self.variables} {self.heights_km}")
        if self.rain is not None and tuple(self.rain.shape) != (b, t, y, x):
            raise ValueError(f"rain must be {(b, t, y, x)} like radar, got {tuple(self.rain.shape)}")
        if self.target_zh is not None and (self.target_zh.ndim != 5 or self.target_zh[:, 0].shape != (b, z, y, x)):
            raise ValueError(f"target_zh must be (b, t, z, y, x) like radar, got {tuple(self.target_zh.shape)}")
        if self.last_zh is not None and self.last_zh.shape != (b, z, y, x):
            raise ValueError(f"last_zh must be {(b, z, y, x)} like radar, got {tuple(self.last_zh.shape)}")
        if self.observed is not None and self.observed.shape != self._scored_shape:
            raise ValueError(f"observed must be {self._scored_shape}, got {tuple(self.observed.shape)}")
        if self.last_observed is not None and self.last_observed.shape != (b, z, y, x):
            raise ValueError(f"last_observed must be {(b, z, y, x)} like radar, got {tuple(self.last_observed.shape)}")
        if self.event.shape != (b,) or self.frame.shape != (b,):
            raise ValueError(f"event and frame must be ({b},), got {self.event.shape} and {self.frame.shape}")

    def __len__(self) -> int:
        return self.radar.shape[0]

    @property
    def _scored_shape(self) -> tuple[int, ...]:
        """Shape of the fields to forecast, (b, t, z, y, x), or to estimate, (b, 1, 1, y, x)."""
        b, *_, y, x = self.radar.shape
        return (b, 1, 1, y, x) if self.target_zh is None else tuple(self.target_zh.shape)

    @property
    def rain_rate(self) -> Tensor:
        """Rain rate, (b, t, y, x) in mm/h. Raises ValueError if it was not read."""
        if self.rain is None:
            raise ValueError("this batch was read without rain")
        return self.rain

    @property
    def required_target_zh(self) -> Tensor:
        """zh of the frames to forecast, (b, t, z, y, x) in dBZ. Raises ValueError if they were not read."""
        if self.target_zh is None:
            raise ValueError("this batch was read without target frames")
        return self.target_zh

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply a function to every field of the batch that is not None."""
        found = {name: getattr(self, name) for name in _FIELDS}
        changed: dict[str, Any] = {name: change(field) for name, field in found.items() if field is not None}
        return replace(self, **changed, random=tuple(change(numbers) for numbers in self.random))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; a `DataLoader(pin_memory=True)` calls this."""
        return self.map(torch.Tensor.pin_memory)

    def to(self, device: torch.device | str) -> "Batch":
        """Copy the batch to a device and convert it to float32; half precision only saves transfer bandwidth."""
        return self.map(lambda field: _copied(field, device))

    def variable(self, name: str) -> Tensor:
        """One variable at all heights, (b, t, z, y, x). Raises ValueError if the batch lacks it."""
        return self.radar[:, :, self.variables.index(name)]


_FIELDS = ("rain", "target_zh", "last_zh", "observed", "last_observed", "radar")


def _copied(field: Tensor, device: torch.device | str) -> Tensor:
    """Copy a field to a device in float32; masks stay bool."""
    copied = field.to(device, non_blocking=True)
    return copied if copied.dtype == torch.bool else copied.float()
