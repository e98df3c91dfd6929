"""Scaling between physical units and network inputs, with exact inverses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Ranges used by the NJU-CPOL contest; values outside are kept, not clipped.
RANGES = {"zh": (0.0, 65.0), "zdr": (-1.0, 5.0), "kdp": (-1.0, 6.0)}
RAIN_TRANSFORMS = ("log1p", "sqrt", "identity")
SCALINGS = ("range", "frame")


class Scaling(Protocol):
    """Maps radar (b, t, v, z, y, x) in physical units to about [0, 1] and back."""

    def apply(self, radar: Tensor) -> Tensor:
        """Physical units → scaled."""

    def invert(self, scaled: Tensor) -> Tensor:
        """Scaled → physical units."""


@dataclass(frozen=True)
class RangeScaling:
    """Min–max scaling x' = (x − min) / (max − min) with fixed physical limits per variable."""

    variables: tuple[str, ...]

    def apply(self, radar: Tensor) -> Tensor:
        """Physical units → scaled."""
        low, span = _limits(self.variables, radar)
        return (radar - low) / span

    def invert(self, scaled: Tensor) -> Tensor:
        """Scaled → physical units."""
        low, span = _limits(self.variables, scaled)
        return scaled * span + low


@dataclass(frozen=True)
class FrameScaling:
    """Min–max scaling of each frame, variable and height, as in the source paper.

    The limits come from the *input* radar only, so the range of a future frame never leaks. Build it with `of(input)`;
    a forecast is inverted with the limits of the last input frame.
    """

    low: Tensor
    span: Tensor

    @classmethod
    def of(cls, radar: Tensor) -> "FrameScaling":
        """Take the limits of each (y, x) field of radar (b, t, v, z, y, x); a constant field gets span 1."""
        low, high = radar.amin((-2, -1), keepdim=True), radar.amax((-2, -1), keepdim=True)
        span = high - low
        return cls(low, torch.where(span > 0, span, torch.ones_like(span)))

    def apply(self, radar: Tensor) -> Tensor:
        """Physical units → scaled."""
        return (radar - self.low) / self.span

    def invert(self, scaled: Tensor) -> Tensor:
        """Scaled → physical units; if the number of frames differs, use the limits of the last input frame."""
        frames = scaled.shape[1]
        if frames == self.low.shape[1]:
            return scaled * self.span + self.low
        return scaled * self.span[:, -1:] + self.low[:, -1:]


def make_scaling(rule: str, variables: Sequence[str], radar: Tensor) -> Scaling:
    """Make a scaling by name: `range`, or `frame` with the limits of the input `radar`.

    Raises:
        ValueError: Unknown rule.
    """
    if rule == "range":
        return RangeScaling(tuple(variables))
    if rule == "frame":
        return FrameScaling.of(radar)
    raise ValueError(f"unknown scaling {rule!r}: choose from: range, frame")


def scale_rain(rain_rate: Tensor, transform: str) -> Tensor:
    """Transform rain rate in mm/h (≥ 0) for the network: ln(1 + R), √R, or R itself."""
    if transform == "log1p":
        return torch.log1p(rain_rate)
    if transform == "sqrt":
        return torch.sqrt(rain_rate)
    return rain_rate


def unscale_rain(scaled: Tensor, transform: str) -> Tensor:
    """Invert `scale_rain`, in mm/h; negative network output is clamped to 0."""
    scaled = scaled.clamp(min=0)
    if transform == "log1p":
        return torch.expm1(scaled)
    if transform == "sqrt":
        return scaled**2
    return scaled


def _limits(variables: Sequence[str], like: Tensor) -> tuple[Tensor, Tensor]:
    low, high = (constants([RANGES[v][i] for v in variables], like)[:, None, None, None] for i in (0, 1))
    return low, high - low


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """Return numbers as a tensor (n,) of the dtype and on the device of another one, filled there.

    `new_tensor` would copy them from the host, which waits for a GPU and can't be part of a CUDA graph.
    """
    return torch.stack([torch.full((), value, dtype=like.dtype, device=like.device) for value in values])
