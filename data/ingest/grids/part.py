"""One file of a gridded sequence, opened without reading its fields."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polarcast.data.ingest.event import Field, Times
from polarcast.data.ingest.grids.frames import GridFrames, read_errors_as_bad_input
from polarcast.data.ingest.grids.geometry import Geometry
from polarcast.data.ingest.grids.levels import between_levels
from polarcast.data.ingest.grids.positions import Positions
from polarcast.data.ingest.grids.units import RAIN
from polarcast.data.ingest.grids.values import Decoding

RADAR = ("zh", "zdr", "kdp")


@dataclass(frozen=True)
class Channel:
    """One variable at one height: a layer of the file, or two with the height between them.

    Attributes:
        variable: zh, zdr, kdp or rain_rate.
        layers: Positions of the layers in the file.
        share: Position of the height from the first layer (0) to the second (1).
    """

    variable: str
    layers: tuple[int, ...]
    share: float = 0.0


@dataclass(frozen=True)
class Part:
    """One file of a gridded sequence.

    Attributes:
        path: File or Zarr folder.
        times: (n,) UTC in stored order; NaT where there is none.
        geometry: Geometry of the pixels.
        heights_km: Heights of the radar variables, ascending; None if the file has no levels.
        channels: zh at each height, then zdr and kdp likewise, as far as the file has them; then rain.
        decodings: How the values of each layer are read.
        frames: Reader of the stored frames.
        note: Properties found in the file, and assumptions.
        origin: Where the grid lies, as the file tells it; empty if it does not.
        positions: Places of the pixels on the Earth; None if not known, or if the geometry tells them.
        sum_minutes: Minutes over which each frame of rain adds up; None for rates, or if not known.
        not_taken: Variables of the file that are not read, each with its reason.
    """

    path: Path
    times: Times
    geometry: Geometry
    heights_km: tuple[float, ...] | None
    channels: tuple[Channel, ...]
    decodings: tuple[Decoding, ...] = field(repr=False)
    frames: GridFrames = field(repr=False)
    note: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    positions: Positions | None = field(default=None, repr=False)
    sum_minutes: float | None = None
    not_taken: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[str, ...]:
        """Radar variables of the file; none if it has only rain."""
        return tuple(name for name in RADAR if any(c.variable == name for c in self.channels))

    @property
    def has_rain(self) -> bool:
        """Whether the file has rain."""
        return any(c.variable == RAIN for c in self.channels)

    @property
    def signature(self) -> str:
        """Text that files of one sequence share: variables, heights, and grid."""
        grid = self.geometry
        corner = None if grid.corner is None else tuple(round(float(c), 4) for c in grid.corner)
        spacing = tuple(round(float(s), 5) for s in grid.spacing)
        names = self.note.get("variables") or self.note.get("variable")
        return (
            f"{self.measured} {self.has_rain} {names} {self.heights_km} {grid.shape} {spacing} {corner} {self.origin}"
        )

    def stored(self, number: int, layer: int) -> Any:
        """Return a whole frame of one layer as stored."""
        everything = slice(0, self.geometry.shape[0]), slice(0, self.geometry.shape[1])
        with read_errors_as_bad_input(self.path):
            return next(iter(self.frames.read([number], *everything, [layer])))[0]

    def each(
        self, numbers: Sequence[int], rows: slice, columns: slice, channels: Sequence[Channel]
    ) -> Iterator[tuple[list[Field], int]]:
        """Yield a window (y, x) of some channels of each frame, north up, and how many values were beyond bounds.

        Raises:
            BadInput: The file is damaged.
        """
        layers = sorted({layer for channel in channels for layer in channel.layers})
        with read_errors_as_bad_input(self.path):
            for stored in self.frames.read(numbers, self.geometry.rows_in_file(rows), columns, layers):
                yield self._channels(dict(zip(layers, stored, strict=True)), channels)

    def _channels(self, stored: dict[int, Any], channels: Sequence[Channel]) -> tuple[list[Field], int]:
        decoded = {layer: self.decodings[layer].decode(values) for layer, values in stored.items()}
        fields = []
        for channel in channels:
            ends = [decoded[layer][0] for layer in channel.layers]
            values = ends[0] if len(ends) == 1 else between_levels(ends[0], ends[1], channel.share)
            fields.append(values[::-1] if self.geometry.south_first else values)
        return fields, sum(beyond for _, beyond in decoded.values())
