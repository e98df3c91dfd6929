"""What a report shows: pictures, analyses, and what is known of a suite beside its tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polarcast.hpc.bench.layout import TableLayout


@dataclass(frozen=True)
class Picture:
    """A PNG or GIF file and its caption."""

    file: Path
    caption: str


@dataclass(frozen=True)
class Section:
    """An analysis of trained runs as a section of the report.

    Attributes:
        name: Name of the section, for links.
        title: Heading.
        table: Its numbers.
        notes: What they rest on, one a line.
        pictures: Its figures.
    """

    name: str
    title: str
    table: TableLayout
    notes: Sequence[str]
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Spent:
    """What the runs of one model and arm used, summed over their seeds.

    Attributes:
        model, arm: Model and arm.
        runs: Number of runs.
        hours: Process-hours of training; None for models that are not trained in steps.
        on_gpu: Whether all of them were on a GPU, so that these are GPU-hours.
        kilowatt_hours: Energy that the devices measured; None without measurements.
    """

    model: str
    arm: str
    runs: int
    hours: float | None
    on_gpu: bool
    kilowatt_hours: float | None


@dataclass(frozen=True)
class CaseMap:
    """One map of a case: its PNG file and caption.

    Attributes:
        content: The PNG file.
        caption: What it shows.
        group: Label of the model that it is of, or what else the maps of a group share.
        frame: Position of its lead time on the slider; None for a map that stands beside every frame.
    """

    content: bytes
    caption: str
    group: str
    frame: int | None = None


@dataclass(frozen=True)
class GalleryCase:
    """One case of the gallery: its heading and maps."""

    title: str
    maps: Sequence[CaseMap]


@dataclass(frozen=True)
class Gallery:
    """Cases to look at.

    Attributes:
        cases: Worst, median and best case.
        frames: Names of the lead times; a single empty name for estimates.
        legends: SVG drawings of the color scales, by quantity.
        notes: How the cases were selected, one a line.
    """

    cases: Sequence[GalleryCase]
    frames: Sequence[str]
    legends: dict[str, str]
    notes: Sequence[str]


@dataclass(frozen=True)
class ReportContext:
    """What is known of a suite beside its tables.

    Attributes:
        setting: What was run on which data, as names and values.
        gallery: Cases to look at; None without kept cases.
        spent: Hours and energy of the runs.
        power: Plans that `polarcast power` wrote.
        commands: Commands that make the page again.
    """

    setting: Sequence[tuple[str, str]] = ()
    gallery: Gallery | None = None
    spent: Sequence[Spent] = ()
    power: Sequence[Section] = ()
    commands: Sequence[str] = ()
