"""Settings for the ingestion of gridded sequences."""

from dataclasses import dataclass

from polarcast.data.ingest.grids.units import quantity_of
from polarcast.data.ingest.ranges import DBZ, GAP_MINUTES, PIXELS, SPACING_KM, STEP_MINUTES, check_height, check_range


@dataclass(frozen=True)
class GridSettings:
    """Settings for tiling and resampling of gridded sequences.

    Attributes:
        variable: Name in the file; by default the one with matching units and name.
        units: Override of the file's units: dBZ, mm/h, "mm per 5 min".
        scale, offset: Override of the file's packing: value = stored · scale + offset.
        nodata: Override of the stored code for missing data.
        spacing_km: Override of the pixel spacing in the file.
        step_minutes: Time between frames of an event.
        max_gap_minutes: Longest gap within an event; a longer one starts a new event.
        tile: Tile size in pixels of 1 km.
        min_coverage: Minimum share of a tile's pixels and frames with data.
        min_echo_pixels: Minimum number of pixels of 20 dBZ (0.65 mm/h) or more that one frame of a tile must have.
        min_frames: Minimum number of frames of an event.
        min_dbz: Reflectivity below which there is no echo.
        height_km: Archive level to which the data are assigned.
        zr: a and b of Z = a R^b, used to derive reflectivity from rain.
    """

    variable: str | None = None
    units: str | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    spacing_km: float | None = None
    step_minutes: float = 6.0
    max_gap_minutes: float = 15.0
    tile: int = 256
    min_coverage: float = 0.5
    min_echo_pixels: int = 256
    min_frames: int = 2
    min_dbz: float = 5.0
    height_km: float = 1.0
    zr: tuple[float, float] = (200.0, 1.6)

    def __post_init__(self) -> None:
        for name, least, most in _RANGES:
            check_range(name, getattr(self, name), least, most)
        check_height(self.height_km)
        if self.units is not None:
            quantity_of(self.units, "--units", named_rain=True)


_RANGES = (
    ("step_minutes", *STEP_MINUTES), ("max_gap_minutes", *GAP_MINUTES), ("tile", *PIXELS), ("min_frames", 1, 1e6),
    ("min_coverage", 0, 1), ("min_echo_pixels", 0, 1e9), ("min_dbz", *DBZ), ("spacing_km", *SPACING_KM),
    ("scale", -1e12, 1e12), ("offset", -1e12, 1e12),
)  # fmt: skip
"""Setting, least and largest value; settings that are None are not checked."""
