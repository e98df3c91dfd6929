"""Settings for the ingestion of gridded sequences."""

from dataclasses import dataclass
from sys import float_info

from polarcast.data.errors import BadInput
from polarcast.data.ingest.grids.units import quantity_of
from polarcast.data.ingest.ranges import DBZ, GAP_MINUTES, PIXELS, SPACING_KM, STEP_MINUTES, check_height, check_range

NAMED = ("zh", "zdr", "kdp", "rain_rate")
"""Variables that a name in the file can be given for."""
NORTH_FIRST, SOUTH_FIRST = "north-first", "south-first"
ROWS = (NORTH_FIRST, SOUTH_FIRST)
MISSING = ("no-data", "no-echo")


@dataclass(frozen=True)
class GridSettings:
    """Settings for tiling and resampling of gridded sequences.

    Attributes:
        variable: Name in the file; by default the one with matching units and name.
        units: Override of the file's units: dBZ, mm/h, "mm per 5 min".
        scale, offset: Override of the file's packing: value = stored · scale + offset.
        nodata: Override of the stored code for missing data; `_FillValue` of a file stays one.
        spacing_km: Override of the pixel spacing in the file.
        step_minutes: Time between frames of an event.
        max_gap_minutes: Longest gap within an event; a longer one starts a new event.
        tile: Tile size in pixels of 1 km.
        min_coverage: Minimum share of a tile's pixels and frames with data. Not applied to files with levels: they mask
            what has no echo.
        min_echo_pixels: Minimum number of pixels of 20 dBZ (0.65 mm/h) or more that one frame of a tile must have.
        min_frames: Minimum number of frames of an event.
        min_dbz: Reflectivity below which there is no echo.
        height_km: Archive level to which data without levels are assigned.
        zr: a and b of Z = a R^b, used to derive reflectivity from rain.
        names: Names in the file by variable (zh, zdr, kdp, rain_rate), as pairs; others are found.
        heights_km: Heights to which data with levels are interpolated.
        variables: Radar variables to take from files with several; `names` adds others.
        rows: `north-first` or `south-first`, for files that do not tell it; overrides the files.
        missing: What missing values mean: `no-data`, or `no-echo`.
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
    names: tuple[tuple[str, str], ...] = ()
    heights_km: tuple[float, ...] = (1.0, 3.0, 7.0)
    rows: str | None = None
    missing: str = "no-data"
    variables: tuple[str, ...] = ("zh", "zdr", "kdp")

    def __post_init__(self) -> None:
        for name, least, most in _RANGES:
            check_range(name, getattr(self, name), least, most)
        for height in (self.height_km, *self.heights_km):
            check_height(height)
        if not self.heights_km:
            raise BadInput("no heights", "--heights", "give one or more in km, such as 1,3,7")
        if self.units is not None:
            quantity_of(self.units, "--units", named_rain=True)
        _check_choice("--rows", self.rows, ROWS)
        _check_choice("--missing", self.missing, MISSING)
        if unknown := [name for name, _ in self.names if name not in NAMED]:
            raise BadInput(f"no variable {unknown[0]!r}", "--variable", f"choose from: {', '.join(NAMED)}")


def _check_choice(option: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise BadInput(f"no choice {value!r}", option, f"choose from: {', '.join(choices)}")


_RANGES = (
    ("step_minutes", *STEP_MINUTES), ("max_gap_minutes", *GAP_MINUTES), ("tile", *PIXELS), ("min_frames", 1, 1e6),
    ("min_coverage", 0, 1), ("min_echo_pixels", 0, 1e9), ("min_dbz", *DBZ), ("spacing_km", *SPACING_KM),
    ("scale", -1e12, 1e12), ("offset", -1e12, 1e12), ("nodata", -float_info.max, float_info.max),
)  # fmt: skip
"""Setting, least and largest value; settings that are None are not checked."""
