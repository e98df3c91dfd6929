"""The verb `polarcast data drops`."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polarcast.hpc.utils.console import Json, plain, print_json, print_text

if TYPE_CHECKING:
    from rich.table import Table

    from polarcast.data.synth.drop_spectra import AttainableGain, DropComparison

_PAIRS = {
    ("measured", "measured"): "measured drops",
    ("preset", "preset"): "drops of {preset}",
    ("measured", "preset"): "measured drops, estimated as {preset}",
}
"""What a row shows, by truth and estimator."""


def drops(
    files: Annotated[
        list[Path],
        typer.Argument(help="npz of a site: rain (mm/h) and zh, zdr, kdp of its spectra; or spectra and diameters."),
    ],
    preset: Annotated[str, typer.Option(help="Synthetic storms to compare with.")] = "meiyu",
    noise: Annotated[
        str, typer.Option(help="Noise of the radar: gridded (0.5 dB, 0.1 dB, 0.15 °/km) or pixel (1, 0.2, 0.3).")
    ] = "gridded",
    least: Annotated[float, typer.Option(min=0.1, max=50, help="Minimum rain rate of a minute, mm/h.")] = 1.0,
    as_json: bool = Json,
) -> None:
    """Compare measured drop spectra with a preset: ZDR and KDP at a given ZH, and the gain that they allow.

    The gain is that of the best estimate of each minute's rain, from minutes of other days or blocks of time.

    Example: polarcast data drops site.npz --preset meiyu
    """
    from polarcast.data.errors import BadInput
    from polarcast.data.synth.attainable import GRIDDED_NOISE, PIXEL_NOISE
    from polarcast.data.synth.drop_spectra import compare_drops, read_drop_minutes
    from polarcast.data.synth.generate import find_preset

    noises = {"gridded": GRIDDED_NOISE, "pixel": PIXEL_NOISE}
    if noise not in noises:
        raise BadInput(f"unknown noise {noise!r}", "--noise", f"choose from: {', '.join(noises)}")
    world = find_preset(preset)
    sites = [read_drop_minutes(file, least) for file in files]
    found = [compare_drops(site, preset, world.drops, noises[noise]) for site in sites]
    if as_json:
        left_out = {site.name: site.implausible for site in sites}
        print_json({"noise": list(noises[noise]), "implausible": left_out, "sites": [one.as_record() for one in found]})
        return
    for site, one in zip(sites, found, strict=True):
        print_text(_relations(one))
        print_text(_gains(one))
        if site.implausible:
            print_text(f"{site.implausible} minutes left out: more than 250 mm/h or 60 dBZ, hail or splashes")


def _relations(found: "DropComparison") -> "Table":
    from rich.table import Table

    table = Table(title=f"{plain(found.site)}, {found.minutes} minutes", title_justify="left")
    for name in ("median of", "measured", found.preset, "minutes"):
        table.add_column(name, justify="left" if name == "median of" else "right")
    for row in found.relations:
        unit = "dB" if row.variable == "ZDR" else "°/km"
        values = (f"{value:.2f}" if isfinite(value) else "–" for value in (row.measured, row.preset))
        table.add_row(f"{row.variable} at {row.at_dbz} dBZ ({unit})", *values, str(row.minutes))
    return table


def _gains(found: "DropComparison") -> "Table":
    from rich.table import Table

    table = Table(title=f"Best estimate of the rain, 95% intervals over {found.blocks} blocks", title_justify="left")
    for name in ("rain of", "from", "RMSE (mm/h)", "NE", "gain over ZH"):
        table.add_column(name, justify="left" if name in ("rain of", "from") else "right")
    for row in found.gains:
        what = _PAIRS[row.truth, row.estimator].format(preset=found.preset)
        table.add_row(what, row.variables, f"{row.rmse:.2f}", f"{row.normalised_error:.3f}", _gain(row))
    return table


def _gain(row: "AttainableGain") -> str:
    return "" if row.variables == "ZH" else f"{row.gain:+.0%} [{row.low:+.0%}, {row.high:+.0%}]"
