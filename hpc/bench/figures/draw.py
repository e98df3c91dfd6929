"""All pictures of a suite."""

from collections.abc import Callable
from pathlib import Path

from polarcast.hpc.bench.figures.cases import draw_cases, draw_process
from polarcast.hpc.bench.figures.comparison import draw_arms, draw_classes, draw_thresholds, draw_windows
from polarcast.hpc.bench.figures.distributions import draw_ensembles, draw_histograms, draw_scatter, draw_spectra
from polarcast.hpc.bench.figures.source import Source

FIGURES: dict[str, Callable[[Path, Source], list[Path]]] = {
    "arms": draw_arms,
    "classes": draw_classes,
    "windows": draw_windows,
    "thresholds": draw_thresholds,
    "scatter": draw_scatter,
    "spectra": draw_spectra,
    "histograms": draw_histograms,
    "ensembles": draw_ensembles,
    "cases": draw_cases,
    "process": draw_process,
}


def draw_figures(folder: Path, source: Source) -> list[Path]:
    """Draw `<name>.png` of each picture for which there are data.

    Args:
        folder: Where to write.
        source: Records and cases.

    Returns:
        The files written.
    """
    return [file for name, draw in FIGURES.items() for file in draw(folder / f"{name}.png", source)]
