"""Masks of observed pixels: packed bits by frame and level, and one file per event of an archive.

A pixel without echo is observed if a radar looked at it. A pixel is not observed outside the range of the radar, in a
blocked sector, in the cone of silence, in a part of a composite without data, and in a lost frame. Fields hold 0 in
both cases.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput
from polarcast.data.npz import check_npz

Bits = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_FIX = "copy the event again, or make it again"


def level_bytes(pixels: int) -> int:
    """Return the bytes of one packed mask; even, so that masks are read as the half-precision values around them."""
    return 2 * -(-pixels // 16)


def pack(observed: Mask) -> Bits:
    """Pack masks (…, y, x) row by row, first pixel in the highest bit, padded with zeros to (…, level_bytes)."""
    *leading, y, x = observed.shape
    bits = np.packbits(observed.reshape(*leading, y * x), axis=-1)
    return np.pad(bits, [(0, 0)] * len(leading) + [(0, level_bytes(y * x) - bits.shape[-1])])


def unpack(bits: Bits, shape: tuple[int, int]) -> Mask:
    """Invert `pack`: (…, level_bytes) to (…, y, x)."""
    return np.unpackbits(bits, axis=-1, count=prod(shape)).view(np.bool_).reshape(*bits.shape[:-1], *shape)


@dataclass(frozen=True)
class ObservedPixels:
    """Observed pixels of one event.

    Attributes:
        bits: (k, levels, level_bytes), the different masks of the event. Levels are the heights, then the ground.
        frames: (t,), number of the mask of each frame; a single one holds for every frame.
        shape: (y, x).
        heights_km: Heights along the levels.
        has_ground: Whether the last level is the ground, the mask of the rain rate.
    """

    bits: Bits = field(repr=False)
    frames: npt.NDArray[np.int64] = field(repr=False)
    shape: tuple[int, int]
    heights_km: tuple[float, ...]
    has_ground: bool

    @classmethod
    def of(cls, observed: Mask, heights_km: Sequence[float], has_ground: bool) -> "ObservedPixels":
        """Pack masks (t or 1, levels, y, x). Raises ValueError if they are no masks of the heights and the ground."""
        if observed.dtype != np.bool_:
            raise ValueError(f"masks must be bool, got {observed.dtype}")
        if observed.ndim != 4 or observed.shape[1] != len(heights_km) + has_ground:
            levels = f"{len(heights_km)} heights{' and the ground' if has_ground else ''}"
            raise ValueError(f"masks of shape {observed.shape}, expected (t or 1, levels, y, x) of {levels}")
        different: dict[bytes, int] = {}
        packed = [pack(frame) for frame in observed]
        frames = [different.setdefault(bits.tobytes(), len(different)) for bits in packed]
        first = [frames.index(number) for number in range(len(different))]
        y, x = observed.shape[2:]
        heights = tuple(map(float, heights_km))
        return cls(np.stack([packed[i] for i in first]), np.array(frames), (y, x), heights, has_ground)

    def frame(self, number: int) -> Bits:
        """Return the packed masks of one frame, (levels, level_bytes). Raises IndexError beyond the last frame."""
        chosen: Bits = self.bits[self.frames[number if len(self.frames) > 1 else 0]]
        return chosen

    def masks(self, number: int) -> Mask:
        """Return the masks of one frame, (levels, y, x). Raises IndexError beyond the last frame."""
        return unpack(self.frame(number), self.shape)

    def select(self, heights_km: Sequence[float], ground: bool) -> "ObservedPixels":
        """Return the masks of some heights and, if wanted, of the ground. Raises ValueError if one is missing."""
        if ground and not self.has_ground:
            raise ValueError("the ground, where rain is observed")
        if missing := [z for z in heights_km if z not in self.heights_km]:
            raise ValueError(f"{missing[0]} km")
        levels = [self.heights_km.index(z) for z in heights_km] + [len(self.heights_km)] * ground
        return ObservedPixels(self.bits.take(levels, axis=1), self.frames, self.shape, tuple(heights_km), ground)

    def to_bytes(self) -> bytes:
        """Return the content of a file for `read_observed`."""
        content = io.BytesIO()
        np.savez_compressed(
            content, bits=self.bits, frames=self.frames, shape=np.array(self.shape),
            heights_km=np.array(self.heights_km), has_ground=np.array(self.has_ground),
        )  # fmt: skip
        return content.getvalue()


def read_observed(path: Path) -> ObservedPixels | None:
    """Read the masks of one event; None if there is no such file. Raises BadInput if it is damaged."""
    if not path.exists():
        return None
    try:
        check_npz(path)
        with np.load(path, allow_pickle=False) as content:
            found = ObservedPixels(
                bits=content["bits"],
                frames=content["frames"],
                shape=_shape(content["shape"]),
                heights_km=tuple(map(float, content["heights_km"])),
                has_ground=bool(content["has_ground"]),
            )
        _check(found)
    except (OSError, KeyError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise BadInput(f"damaged masks of observed pixels ({error})", path, _FIX) from None
    return found


def _shape(stored: npt.NDArray[np.generic]) -> tuple[int, int]:
    y, x = map(int, stored)
    return y, x


def _check(found: ObservedPixels) -> None:
    """Raise ValueError if the arrays of a file do not fit each other."""
    levels = len(found.heights_km) + found.has_ground
    expected = (levels, level_bytes(prod(found.shape)))
    if found.bits.dtype != np.uint8 or found.bits.ndim != 3 or found.bits.shape[1:] != expected or min(found.shape) < 1:
        raise ValueError(f"bits are {found.bits.dtype} {found.bits.shape}, expected uint8 (k, {levels}, {expected[1]})")
    number = found.frames
    if number.dtype.kind not in "iu" or number.ndim != 1 or not len(number):
        raise ValueError(f"frames are {number.dtype} {number.shape}")
    if number.min() < 0 or number.max() >= len(found.bits):
        raise ValueError("a frame has no mask")
