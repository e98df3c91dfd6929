"""Geometry of a grid around its radar, which is the center pixel: rays, ranges and azimuths."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Rays:
    """Polar gates of one pixel length around the radar, and the nearest pixel of each.

    Attributes:
        to_polar: Flat pixel index of each gate, (rays, ranges).
        to_pixel: Flat gate index of each pixel, (y · x,).
        azimuth: Direction of each pixel from the radar, (y, x) in turns from 0 to 1.
        toward: Unit vector (row, column) from the radar to each pixel, (2, y, x); 0 at the radar.
    """

    to_polar: Tensor
    to_pixel: Tensor
    azimuth: Tensor
    toward: Tensor

    def to(self, device: torch.device) -> "Rays":
        """Copy to a device."""
        return Rays(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def path_integral(self, per_km: Tensor, spacing_km: float) -> Tensor:
        """Integrate a one-way rate per km (…, y, x) from the radar to each pixel and back; 0 at the radar."""
        gates = per_km.flatten(-2)[..., self.to_polar]
        integral = 2 * spacing_km * (gates.cumsum(-1) - gates)
        return integral.flatten(-2)[..., self.to_pixel].view_as(per_km)

    def range_mean(self, field: Tensor, gates: int) -> Tensor:
        """Average echo (…, y, x; fill 0) over `gates` pixels in range, centered on each pixel; fill stays fill."""
        flat = field.flatten(-2)
        total, count = torch.zeros_like(flat), torch.zeros_like(flat)
        for shift in range(gates):
            index, is_inside = self._shifted(shift - (gates - 1) / 2)
            values = flat[..., index] * is_inside
            total += values
            count += values != 0
        mean = (total / count.clamp(min=1)).view_as(field)
        return torch.where(field == 0, field, mean)

    def _shifted(self, by: float) -> tuple[Tensor, Tensor]:
        """Return the flat index of the pixel at a distance from each pixel in range, and whether it is on the grid."""
        height, width = self.azimuth.shape
        at = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).to(self.toward)
        row, column = (at + by * self.toward).round().long()
        is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        return index.flatten(), is_inside.flatten()


@lru_cache(maxsize=8)
def rays_of(shape: tuple[int, int], device: torch.device) -> Rays:
    """Return the geometry of a grid (y, x), computed once for each device."""
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = y - height // 2, x - width // 2
    distance, azimuth = np.hypot(y, x), np.arctan2(y, x) / (2 * np.pi) % 1
    rays, ranges = max(360, int(np.ceil(np.pi * max(shape)))), int(np.ceil(distance.max())) + 1
    angle = 2 * np.pi * (np.arange(rays) + 0.5) / rays
    rows, columns = (np.rint(f(angle)[:, None] * np.arange(ranges)).astype(int) for f in (np.sin, np.cos))
    rows, columns = np.clip(rows + height // 2, 0, height - 1), np.clip(columns + width // 2, 0, width - 1)
    gate = (azimuth * rays).astype(int) % rays * ranges + np.rint(distance).astype(int)
    toward = np.stack([y, x]) / np.maximum(distance, 1)
    toward[:, distance == 0] = 0
    arrays = (rows * width + columns, gate.ravel(), azimuth, toward)
    return Rays(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)).to(device)
