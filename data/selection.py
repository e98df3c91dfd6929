"""What of an archive goes into shards: variables, heights, sound frames, and the windows worth learning from."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.errors import BadInput

STRONG_DBZ = 35.0
STRONG_HEIGHT_KM = 3.0
USUAL_STRONG_PIXELS = 256
SATURATION_MM_H = 10.0


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

    def keeps(self, radar: npt.NDArray[np.floating[Any]]) -> bool:
        """Whether a frame (v, z, y, x) goes into the shards."""
        return not self.clean or bool(radar.any((-2, -1)).all())

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


def intensity_ppm(radar: npt.NDArray[np.floating[Any]], rain: npt.NDArray[np.floating[Any]] | None) -> int:
    """How much heavy rain is in a frame, in millionths: the mean over its pixels of 1 − exp(−R / `SATURATION_MM_H`).

    Ravuri et al. (2021, Skilful precipitation nowcasting, Methods) draw windows by this measure. Light rain counts by
    its amount, heavy rain by its area.

    Args:
        radar: (v, z, y, x), zh first.
        rain: (y, x) rain rate R in mm/h; without it R is that of Z = 200 R^1.6 at the lowest height.
    """
    rate = _zr_rate(radar[0, 0].astype(np.float32)) if rain is None else rain.astype(np.float32)
    return round(1e6 * float(-np.expm1(-rate / SATURATION_MM_H).mean(dtype=np.float64)))


def _zr_rate(zh: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rain rate of Z = 200 R^1.6 where there is an echo, in mm/h."""
    rate: npt.NDArray[np.float32] = np.where(zh > 0, (10 ** (zh / 10) / 200) ** (1 / 1.6), 0)
    return rate


def strong_pixels(radar: npt.NDArray[np.floating[Any]], heights_km: tuple[float, ...]) -> int:
    """Pixels of at least `STRONG_DBZ` at `STRONG_HEIGHT_KM` in one frame (v, z, y, x), zh first; −1 without it."""
    if STRONG_HEIGHT_KM not in heights_km:
        return -1
    return int((radar[0, heights_km.index(STRONG_HEIGHT_KM)] >= STRONG_DBZ).sum())
