"""What of an archive goes into shards: variables, heights, sound frames, and the windows worth learning from."""

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput

STRONG_DBZ = 35.0
STRONG_HEIGHT_KM = 3.0
USUAL_STRONG_PIXELS = 256
SATURATION_MM_H = 10.0

Halves = npt.NDArray[np.float16]
_SIGN, _INFINITY, _STRONG = np.uint16(0x8000), np.uint16(0x7C00), np.float16(STRONG_DBZ).view(np.uint16)


@dataclass(frozen=True)
class Selection:
    """Which frames are packed and which windows readers may take; recorded in the manifest.

    Attributes:
        clean: Leave out a frame in which any field (a variable at a height) is zero throughout, at all heights: the
            source paper's cleaning (§5.1), for all of a frame at once so that its fields stay together.
        min_strong_pixels: A window counts only if one of its target frames has that many pixels of at least
            `STRONG_DBZ` at `STRONG_HEIGHT_KM`; 0 takes every window. 256 is usual for this archive.
    """

    clean: bool = False
    min_strong_pixels: int = 0

    def keeps(self, radar: Halves) -> bool:
        """Whether a frame (v, z, y, x) goes into the shards."""
        return not self.clean or not any(is_zero(field) for fields in radar for field in fields)

    def check(self, heights_km: tuple[float, ...]) -> None:
        """Raises BadInput when the window filter needs a height that is not there."""
        if self.min_strong_pixels < 0:
            raise BadInput(f"{self.min_strong_pixels} pixels", "--min-strong-pixels", "give 0 or more; 256 is usual")
        if self.min_strong_pixels and STRONG_HEIGHT_KM not in heights_km:
            there = ", ".join(map(str, heights_km))
            raise BadInput(
                f"it counts pixels at {STRONG_HEIGHT_KM} km, the heights are {there}",
                "--min-strong-pixels",
                "pack that height too, or leave the filter out",
            )

    def as_record(self, removed: dict[int, list[int]]) -> dict[str, Any]:
        """For the manifest, with the frames that were left out of each event."""
        strong = {"dbz": STRONG_DBZ, "height_km": STRONG_HEIGHT_KM}
        gone = {f"{event:03d}": frames for event, frames in removed.items()}
        return {**asdict(self), "strong": strong, "saturation_mm_h": SATURATION_MM_H, "removed_frames": gone}


def intensity_ppm(radar: Halves, rain: Halves | None) -> int:
    """How much heavy rain is in a frame, in millionths: the mean over its pixels of 1 − exp(−R / `SATURATION_MM_H`).

    Ravuri et al. (2021, Skilful precipitation nowcasting, Methods) draw windows by this measure. Light rain counts by
    its amount, heavy rain by its area.

    Args:
        radar: (v, z, y, x), zh first.
        rain: (y, x) rain rate R in mm/h; without it R is that of Z = 200 R^1.6 at the lowest height.
    """
    of_value, field = (_intensities()[1], radar[0, 0]) if rain is None else (_intensities()[0], rain)
    return round(1e6 * float(of_value[_codes(field)].mean()))


def strong_pixels(radar: Halves, heights_km: tuple[float, ...]) -> int:
    """Pixels of at least `STRONG_DBZ` at `STRONG_HEIGHT_KM` in one frame (v, z, y, x), zh first; −1 without it."""
    if STRONG_HEIGHT_KM not in heights_km:
        return -1
    # Positive halves are in the order of their codes; negative ones come after all of them.
    codes = _codes(radar[0, heights_km.index(STRONG_HEIGHT_KM)])
    return int(np.count_nonzero(codes - _STRONG < _INFINITY - _STRONG))


def is_zero(field: Halves) -> bool:
    """Whether a field is zero throughout."""
    return not (_codes(field) & ~_SIGN).any()


def _codes(field: Halves) -> npt.NDArray[np.uint16]:
    return field.view(np.uint16)


@cache
def _intensities() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """1 − exp(−R / `SATURATION_MM_H`) of every half taken as R in mm/h, and as zh in dBZ."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    values = np.clip(np.nan_to_num(values), 0, 1e4)
    rate = np.where(values > 0, (10 ** (np.minimum(values, 100) / 10) / 200) ** (1 / 1.6), 0)
    return -np.expm1(-values / SATURATION_MM_H), -np.expm1(-rate / SATURATION_MM_H)
