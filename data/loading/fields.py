"""Which bytes of a stored frame a task needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from polarcast.data.errors import BadInput
from polarcast.data.shards.manifest import Manifest

Run = tuple[int, int, int]


@dataclass(frozen=True)
class Fields:
    """Chosen variables and heights, and where their values lie in a frame.

    Attributes:
        variables: Along v, in the order of the batch.
        heights_km: Along z, in the order of the batch.
        rain: Whether the rain rate is read.
        pixels: Values of one field.
        runs: (from, to, length) in values; fields that lie side by side are one run.
        future_runs: The same of what is to be forecast, zh at these heights; empty where nothing is.
    """

    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    rain: bool
    pixels: int
    runs: tuple[Run, ...]
    future_runs: tuple[Run, ...] = ()

    @property
    def bytes_per_frame(self) -> int:
        """That are read of one frame."""
        return 2 * self.pixels * (len(self.variables) * len(self.heights_km) + self.rain)


def choose_fields(
    manifest: Manifest, variables: Sequence[str], heights_km: Sequence[float], rain: bool, future: bool = False
) -> Fields:
    """Find the wanted fields in the shards' frames; with `future` also those that a nowcast is held against.

    Raises:
        BadInput: the shards lack a variable, a height or the rain rate.
    """
    where = manifest.source.location
    if rain and not manifest.has_rain:
        raise BadInput("the shards hold no rain rate", where, "rain-rate estimation needs the rain grid")
    chosen = _positions(variables, manifest.variables, "variable", where)
    levels = _positions(heights_km, manifest.heights_km, "height", where)
    runs = runs_of(chosen, levels, len(manifest.heights_km), manifest.pixels)
    coming = _positions(["zh"], manifest.variables, "variable", where) if future else []
    ahead = runs_of(coming, levels, len(manifest.heights_km), manifest.pixels)
    return Fields(tuple(variables), tuple(heights_km), rain, manifest.pixels, runs, ahead)


def _positions(wanted: Sequence[object], there: Sequence[object], what: str, where: str) -> list[int]:
    missing = [w for w in wanted if w not in there]
    if missing:
        raise BadInput(f"the shards hold no {what} {missing[0]}", where, f"they hold {', '.join(map(str, there))}")
    return [there.index(w) for w in wanted]


def runs_of(variables: list[int], heights: list[int], levels: int, pixels: int) -> tuple[Run, ...]:
    """Chosen fields of a frame (variable, height, y, x), in their order, as runs of values that lie side by side."""
    runs: list[Run] = []
    for target, (v, z) in enumerate(product(variables, heights)):
        source = v * levels + z
        if runs and sum(runs[-1][::2]) == source * pixels:
            runs[-1] = (*runs[-1][:2], runs[-1][2] + pixels)
        else:
            runs.append((source * pixels, target * pixels, pixels))
    return tuple(runs)
