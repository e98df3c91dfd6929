"""Location of the fields that a task needs within a stored frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from polarcast.data.errors import BadInput
from polarcast.data.observed import level_bytes
from polarcast.data.shards.manifest import Manifest

Run = tuple[int, int, int]


@dataclass(frozen=True)
class Fields:
    """Chosen variables and heights, and the location of their values in a frame.

    Attributes:
        variables: Variables along v, in the order of the batch.
        heights_km: Heights along z, in the order of the batch.
        rain: Whether the rain rate is read.
        pixels: Number of values of one field.
        runs: (source, target, length) in values; adjacent fields form one run.
        donor_runs: Runs of the fields that a placebo takes from other events; empty if all come from the window itself.
        future_runs: Runs of the fields to forecast, zh at these heights; empty if there are none.
        mask_runs: Runs of the masks of these fields, or of the rain rate, in pairs of bytes; empty if none are read.
    """

    variables: tuple[str, ...]
    heights_km: tuple[float, ...]
    rain: bool
    pixels: int
    runs: tuple[Run, ...]
    future_runs: tuple[Run, ...] = ()
    donor_runs: tuple[Run, ...] = ()
    mask_runs: tuple[Run, ...] = ()

    @property
    def bytes_per_frame(self) -> int:
        """Number of bytes read per frame."""
        return 2 * self.pixels * (len(self.variables) * len(self.heights_km) + self.rain)


def choose_fields(
    manifest: Manifest,
    variables: Sequence[str],
    heights_km: Sequence[float],
    rain: bool,
    future: bool = False,
    placebo: bool = False,
    observed: bool = False,
) -> Fields:
    """Locate the requested fields in the shards' frames.

    Args:
        manifest: Manifest of the shards.
        variables: Variables to read, in this order.
        heights_km: Heights to read, in this order.
        rain: Whether to read the rain rate.
        future: Whether to also locate zh of the frames to forecast.
        placebo: Whether all variables but zh come from other events.
        observed: Whether to read the masks of what is forecast or estimated, if the shards have masks.

    Raises:
        BadInput: The shards lack a variable, a height or the rain rate.
    """
    where = manifest.source.shown
    if rain and not manifest.has_rain:
        raise BadInput("the shards have no rain rate", where, "shard an archive with a rain grid: QPE needs it")
    chosen = _positions(variables, manifest.variables, "variable", where)
    levels = _positions(heights_km, manifest.heights_km, "height", where)
    own = [v for v, name in enumerate(variables) if name == "zh" or not placebo]
    donated = [v for v in range(len(variables)) if v not in own]
    runs, donor_runs = (
        runs_of(chosen, levels, len(manifest.heights_km), manifest.pixels, part) for part in (own, donated)
    )
    target = _positions(["zh"], manifest.variables, "variable", where) if future else []
    future_runs = runs_of(target, levels, len(manifest.heights_km), manifest.pixels)
    masked = levels if future else [len(manifest.heights_km)] * rain
    size = level_bytes(manifest.pixels) // 2
    mask_runs = runs_of([0], masked, 0, size) if observed and manifest.has_masks else ()
    return Fields(tuple(variables), tuple(heights_km), rain, manifest.pixels, runs, future_runs, donor_runs, mask_runs)


def _positions(requested: Sequence[object], available: Sequence[object], what: str, where: str) -> list[int]:
    missing = [r for r in requested if r not in available]
    if missing:
        choices = ", ".join(map(str, available))
        raise BadInput(f"the shards have no {what} {missing[0]}", where, f"choose from: {choices}")
    return [available.index(r) for r in requested]


def runs_of(
    variables: list[int], heights: list[int], levels: int, pixels: int, only: Sequence[int] | None = None
) -> tuple[Run, ...]:
    """Group chosen fields of a frame (variable, height, y, x), in this order, into runs of adjacent values.

    Args:
        variables: Variables in a frame.
        heights: Heights in a frame.
        levels: Number of heights in a frame.
        pixels: Number of values of one field.
        only: Positions in `variables` to group; the others keep their place in the target. All by default.
    """
    runs: list[Run] = []
    for target, (v, z) in enumerate(product(variables, heights)):
        source = v * levels + z
        if only is not None and target // len(heights) not in only:
            continue
        if runs and sum(runs[-1][::2]) == source * pixels and sum(runs[-1][1:]) == target * pixels:
            runs[-1] = (*runs[-1][:2], runs[-1][2] + pixels)
        else:
            runs.append((source * pixels, target * pixels, pixels))
    return tuple(runs)
