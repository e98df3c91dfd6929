"""How gridded sequences become events."""

from dataclasses import dataclass

from polarcast.data.errors import BadInput


@dataclass(frozen=True)
class GridSettings:
    """How gridded sequences are tiled and resampled.

    Attributes:
        variable: Name in the file; found by its units and names by default.
        units: In place of the file's: dBZ, mm/h, "mm per 5 min".
        scale, offset: value = stored · scale + offset, in place of the file's.
        nodata: What is stored for "not seen", in place of the file's.
        spacing_km: Of the file's pixels, in place of its coordinates.
        step_minutes: Between frames of an event.
        max_gap_minutes: A longer gap between frames begins a new event.
        tile: Pixels of 1 km a side.
        min_coverage: Least share of a tile's pixels and frames that hold data.
        min_echo_pixels: A tile counts if a frame has that many pixels of at least 20 dBZ (0.65 mm/h).
        min_frames: Fewest frames of an event.
        min_dbz: Weaker echo counts as none.
        height_km: The level it is filed under.
        zr: a and b of Z = a R^b, by which reflectivity is derived where the file holds rain.
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
        for name, least in (("step_minutes", 0), ("max_gap_minutes", 0), ("tile", 7), ("min_frames", 0)):
            if getattr(self, name) <= least:
                raise BadInput(f"{name} = {getattr(self, name)}", fix=f"give more than {least}")
        if not 0 <= self.min_coverage <= 1:
            raise BadInput(f"min_coverage = {self.min_coverage}", fix="give a share from 0 to 1")
        if self.spacing_km is not None and self.spacing_km <= 0:
            raise BadInput(f"spacing_km = {self.spacing_km}", fix="give more than 0")
