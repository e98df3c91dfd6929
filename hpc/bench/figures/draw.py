"""Draw all figures of a suite."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from polarcast.hpc.bench.figures.cases import draw_cases, draw_process
from polarcast.hpc.bench.figures.comparison import draw_arms, draw_classes, draw_thresholds, draw_windows
from polarcast.hpc.bench.figures.distributions import draw_ensembles, draw_histograms, draw_scatter, draw_spectra
from polarcast.hpc.bench.figures.lead_times import draw_arms_by_lead_time, draw_lead_times
from polarcast.hpc.bench.figures.performance import draw_performance
from polarcast.hpc.bench.figures.sequences import animate, draw_frames, draw_heights
from polarcast.hpc.bench.figures.source import FigureData
from polarcast.hpc.bench.figures.views import draw_views
from polarcast.hpc.bench.fork_server import enter, start_server


@dataclass(frozen=True)
class Figure:
    """A figure of a suite.

    Attributes:
        draw: Function that draws and writes it; the first line of its docstring is the caption in the report.
        needs: Families of sums that the records of all its models must hold.
        task: Task it belongs to; empty for any task.
    """

    draw: Callable[[Path, FigureData], list[Path]]
    needs: tuple[str, ...] = ()
    task: str = ""


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
    "lead_times": Figure(draw_lead_times, ("continuous", "contingency", "fractions", "spectrum"), "nowcast"),
    "arms_by_lead_time": Figure(draw_arms_by_lead_time, ("contingency",), "nowcast"),
    "cases": Figure(draw_cases, task="qpe"),
    "frames": Figure(draw_frames, task="nowcast"),
    "heights": Figure(draw_heights, task="nowcast"),
    "animation": Figure(animate, task="nowcast"),
    "views": Figure(draw_views, task="nowcast"),
    "process": Figure(draw_process, task="qpe"),
}


def draw_figures(folder: Path, source: FigureData, workers: int = 1) -> list[Path]:
    """Draw each figure for which there are data, as `<name>.png` (`.gif` for the animation).

    Args:
        folder: Output folder.
        source: Records and kept cases.
        workers: Number of processes; 1 draws in this process. The files do not depend on it.

    Returns:
        The files written.
    """
    of_task = {name: f for name, f in FIGURES.items() if f.task in ("", source.suite.task)}
    possible = [name for name, f in of_task.items() if not f.needs or source.holds(f.needs)]
    if min(workers, len(possible)) <= 1:
        return [file for name in possible for file in _draw(name, folder, source)]
    context = start_server()
    with ProcessPoolExecutor(min(workers, len(possible)), context, initializer=_receive, initargs=(source,)) as pool:
        return [file for files in pool.map(_draw_received, possible, repeat(folder)) for file in files]


def _draw(name: str, folder: Path, source: FigureData) -> list[Path]:
    return FIGURES[name].draw(folder / f"{name}.png", source)


_received: list[FigureData] = []
"""Data of the figures in a process of the pool, sent once."""


def _receive(source: FigureData) -> None:
    enter()
    _received.append(source)


def _draw_received(name: str, folder: Path) -> list[Path]:
    return _draw(name, folder, _received[0])
