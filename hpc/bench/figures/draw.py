"""All pictures of a suite."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from polarcast.hpc.bench.figures.cases import draw_cases, draw_process
from polarcast.hpc.bench.figures.comparison import draw_arms, draw_classes, draw_thresholds, draw_windows
from polarcast.hpc.bench.figures.distributions import draw_ensembles, draw_histograms, draw_scatter, draw_spectra
from polarcast.hpc.bench.figures.performance import draw_performance
from polarcast.hpc.bench.figures.source import Source


@dataclass(frozen=True)
class Figure:
    """A picture, and the families of sums that all its models' records must hold."""

    draw: Callable[[Path, Source], list[Path]]
    needs: tuple[str, ...] = ()


FIGURES: dict[str, Figure] = {
    "arms": Figure(draw_arms, ("continuous", "paper_csi")),
    "classes": Figure(draw_classes, ("continuous",)),
    "windows": Figure(draw_windows, ("multi_event",)),
    "thresholds": Figure(draw_thresholds, ("contingency",)),
    "performance": Figure(draw_performance, ("contingency",)),
    "scatter": Figure(draw_scatter, ("joint", "continuous")),
    "spectra": Figure(draw_spectra, ("spectrum",)),
    "histograms": Figure(draw_histograms, ("histogram", "spectrum")),
    "ensembles": Figure(draw_ensembles),
    "cases": Figure(draw_cases),
    "process": Figure(draw_process),
}


def draw_figures(folder: Path, source: Source) -> list[Path]:
    """Draw `<name>.png` of each picture for which there are data.

    Args:
        folder: Where to write.
        source: Records and cases.

    Returns:
        The files written.
    """
    possible = {name: f for name, f in FIGURES.items() if not f.needs or source.holds(f.needs)}
    return [file for name, figure in possible.items() for file in figure.draw(folder / f"{name}.png", source)]
