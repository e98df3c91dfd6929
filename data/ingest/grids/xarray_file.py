"""Open gridded sequences in NetCDF and Zarr by the CF conventions."""

from pathlib import Path
from typing import Any

from polarcast.data.ingest.grids.axes import Dims, axes_of, dims_of
from polarcast.data.ingest.grids.frame_times import frame_times, is_sum, minutes_of_bounds
from polarcast.data.ingest.grids.frames import FileLayer, XarrayFrames, open_dataset
from polarcast.data.ingest.grids.ground import axes_on_the_ground, places_of_pixels
from polarcast.data.ingest.grids.levels import Between, levels_around, levels_of
from polarcast.data.ingest.grids.part import Channel, Part
from polarcast.data.ingest.grids.settings import GridSettings
from polarcast.data.ingest.grids.units import RAIN, is_amount, is_rain_name, minutes_of_sum
from polarcast.data.ingest.grids.values import Decoding, decoding_of
from polarcast.data.ingest.grids.variables import choose_variables, names_of


def open_xarray(path: Path, settings: GridSettings) -> Part:
    """Open the variables (time, y, x) or (time, z, y, x) of a NetCDF file or Zarr folder.

    Raises:
        BadInput: See `variables.choose_variables`, `axes.axes_of`, `frame_times.frame_times`, `levels.levels_around`
            and `values.decoding_of`.
    """
    with open_dataset(path) as content:
        chosen, not_taken = choose_variables(content, settings, path)
        main = content[next(iter(chosen.values()))]
        dims = dims_of(content, main, path)
        axes = axes_of(content, main, dims, settings.spacing_km, settings.rows, path)
        axes = axes_on_the_ground(content, main, dims, axes, settings.spacing_km, path)
        decodings, units = _decodings(content, chosen, settings, path)
        heights, around, levels_note = _heights(content, dims, settings, path)
        layers, channels, of_layers = _layers(content, chosen, decodings, around)
        layout = "Zarr" if path.is_dir() else "NetCDF"
        note = {"layout": layout, "variable": str(main.name), **axes.note, "units": units[0], **levels_note}
        if len(chosen) > 1:
            names = [decoding.variable for decoding in decodings]
            note["variables"] = {v: f"{n} in {u}" for v, n, u in zip(names, chosen.values(), units, strict=True)}
        times, what = frame_times(content, main, dims, path)
        if what:
            note["time"] = what
        rain = [(content[chosen[k]], u) for k, d, u in zip(chosen, decodings, units, strict=True) if d.variable == RAIN]
        sums = [_minutes_of_sum(content, array, text, dims, path) for array, text in rain]
        order = (dims.time, dims.level, dims.y, dims.x)
        return Part(
            path, times, axes.geometry, heights, channels, of_layers,
            XarrayFrames(path, layers, order, axes.from_east), note, axes.origin,
            places_of_pixels(content, main, dims, axes, path), next(iter(sums), None), not_taken,
        )  # fmt: skip


def _minutes_of_sum(content: Any, array: Any, units: str, dims: Dims, path: Path) -> float | None:
    """Return the minutes over which rain adds up by its units or its bounds; None for rates, such as mm/15 min."""
    if not (is_sum(array) or is_amount(str(array.attrs.get("units", "")))):
        return None
    return minutes_of_sum(units) or minutes_of_bounds(content, array, dims, path)


def _decodings(
    content: Any, chosen: dict[str, str], settings: GridSettings, path: Path
) -> tuple[list[Decoding], list[str]]:
    found = []
    for variable, name in chosen.items():
        array = content[name]
        is_rain = is_rain_name(*names_of(array)) or variable == RAIN
        units = str(array.attrs.get("units", ""))
        found.append(decoding_of(variable, units, array.attrs, settings, path, named_rain=is_rain))
    return [decoding for decoding, _ in found], [units for _, units in found]


def _heights(
    content: Any, dims: Dims, settings: GridSettings, path: Path
) -> tuple[tuple[float, ...] | None, list[Between], dict[str, Any]]:
    """Return the heights of the event, the levels around each, and what the file says of them."""
    if dims.level is None:
        return None, [Between(0, 0)], {}
    levels, above = levels_of(content, dims.level, path)
    around = [levels_around(levels, height, path) for height in settings.heights_km]
    interpolated = [h for h, b in zip(settings.heights_km, around, strict=True) if b.share]
    note = {"axis": dims.level, "above": above, "interpolated_km": interpolated}
    return settings.heights_km, around, {"heights": note}


def _layers(
    content: Any, chosen: dict[str, str], decodings: list[Decoding], around: list[Between]
) -> tuple[tuple[FileLayer, ...], tuple[Channel, ...], tuple[Decoding, ...]]:
    """Return the layers to read, what is made of them, and how each is read; rain is that of the lowest height."""
    layers: dict[FileLayer, Decoding] = {}
    channels = []
    for name, decoding in zip(chosen.values(), decodings, strict=True):
        for place in around[:1] if decoding.variable == RAIN else around:
            both = [FileLayer(name, place.lower), FileLayer(name, place.upper)][: 2 if place.share else 1]
            for layer in both:
                layers.setdefault(layer, decoding)
            channels.append((decoding.variable, both, place.share))
    order = list(layers)
    made = tuple(Channel(v, tuple(order.index(layer) for layer in both), share) for v, both, share in channels)
    return tuple(order), made, tuple(layers.values())
