"""Selection of frames and windows: cleaning, the strong-echo filter, and the intensity used for sampling."""

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
    """Rules for which frames are packed and which windows readers use; recorded in the manifest.

    Attributes:
        clean: Drop every frame in which any field (one variable at one height) is all zero. This is the source paper's
            cleaning (§5.1), applied to whole frames so that their fields stay together.
        min_strong_pixels: Use a window only if one of its target frames has this many pixels of at least
            `STRONG_DBZ` at `STRONG_HEIGHT_KM`; 0 uses every window. 256 is usual for NJU-CPOL.
    """

    clean: bool = False
    min_strong_pixels: int = 0

    def keeps(self, radar: Halves) -> bool:
        """Whether a frame (v, z, y, x) is packed."""
        return not self.clean or not any(is_zero(field) for fields in radar for field in fields)

    def check(self, heights_km: tuple[float, ...]) -> None:
        """Validate the window filter. Raises BadInput if it is negative or needs a height that is not packed."""
        if self.min_strong_pixels < 0:
            raise BadInput(f"{self.min_strong_pixels} pixels", "--min-strong-pixels", "give 0 or more; 256 is usual")
        if self.min_strong_pixels and STRONG_HEIGHT_KM not in heights_km:
            available = ", ".join(map(str, heights_km))
            raise BadInput(
                f"the filter counts pixels at {STRONG_HEIGHT_KM} km, but the heights are {available}",
                "--min-strong-pixels",
                "pack that height too, or omit the filter",
            )

    def as_record(self, removed: dict[int, list[int]]) -> dict[str, Any]:
        """Return the manifest entry, including the frames removed from each event."""
        strong = {"dbz": STRONG_DBZ, "height_km": STRONG_HEIGHT_KM}
        removed_frames = {f"{event:03d}": frames for event, frames in removed.items()}
        return {**asdict(self), "strong": strong, "saturation_mm_h": SATURATION_MM_H, "removed_frames": removed_frames}


def intensity_ppm(radar: Halves, rain: Halves | None) -> int:
    """Rain intensity of a frame in parts per million: the pixel mean of 1 − exp(−R / `SATURATION_MM_H`).

    Ravuri et al. (2021, Skilful precipitation nowcasting, Methods) sample windows by this measure. Light rain counts
    by its amount, heavy rain by its area.

    Args:
        radar: (v, z, y, x), zh first.
        rain: (y, x) rain rate R in mm/h; if None, R follows from Z = 200 R^1.6 at the lowest height.
    """
    table, field = (_intensities()[1], radar[0, 0]) if rain is None else (_intensities()[0], rain)
    return round(1e6 * float(table[_codes(field)].mean()))


def strong_pixels(radar: Halves, heights_km: tuple[float, ...]) -> int:
    """Count pixels of at least `STRONG_DBZ` at `STRONG_HEIGHT_KM` in a frame (v, z, y, x), zh first.

    Returns −1 if the frame lacks that height.
    """
    if STRONG_HEIGHT_KM not in heights_km:
        return -1
    # Positive float16 values sort like their bit patterns; negative ones have larger bit patterns than all of them.
    codes = _codes(radar[0, heights_km.index(STRONG_HEIGHT_KM)])
    return int(np.count_nonzero(codes - _STRONG < _INFINITY - _STRONG))


def is_zero(field: Halves) -> bool:
    """Whether a field is all zero."""
    return not (_codes(field) & ~_SIGN).any()


def _codes(field: Halves) -> npt.NDArray[np.uint16]:
    return field.view(np.uint16)


@cache
def _intensities() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Tables of 1 − exp(−R / `SATURATION_MM_H`) for all float16 values, as R in mm/h and as zh in dBZ."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    values = np.clip(np.nan_to_num(values), 0, 1e4)
    rate = np.where(values > 0, (10 ** (np.minimum(values, 100) / 10) / 200) ** (1 / 1.6), 0)
    return -np.expm1(-values / SATURATION_MM_H), -np.expm1(-rate / SATURATION_MM_H)
