"""Comparison of an archive with a synthetic preset, using the same measurements: which rows are off?"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import HEIGHTS_KM, SPACING_KM, TIME_STEP_MINUTES, VARIABLES, Archive
from polarcast.data.errors import BadInput
from polarcast.data.explore.beside_figure import draw_profiles
from polarcast.data.explore.content import ArchiveContent, check_frames, chosen_events, content_of
from polarcast.data.explore.describe import read_fields
from polarcast.data.explore.figures import draw_beside_frames
from polarcast.data.explore.growth import CHANGE_MIN, LEADS_MIN, frames_of
from polarcast.data.explore.measures import coverage_circle
from polarcast.data.explore.profile import BLOCK, EventProfile, ProfileBuilder, StormBlock
from polarcast.data.files import checked_output
from polarcast.data.synth.generate import LIMITS, find_preset, generate_event
from polarcast.data.workers import end_with_parent

Real = npt.NDArray[np.floating]

MOST_EVENTS = 24
"""Greatest number of an archive's events that are read by default."""
FEW_EVENTS = 5
"""Number of events below which a row is marked `few events`."""
FEWEST_SYNTHETIC = 5
"""Least number of synthetic events with a value for which a row is judged."""
LEAST_DIFFERENCE = 0.01
"""Distance from the synthetic range, in the unit of the row, that is never off."""
RULE = (
    "off: the mean of the archive's events, give or take two standard errors, lies outside the range of the synthetic "
    f"events by more than {LEAST_DIFFERENCE}; with fewer than {FEW_EVENTS} events, the standard error is at least that "
    "of as many synthetic events"
)
_SIZES = (32, 512)
_SEED = 0
_SAME_SPACING = 0.1


@dataclass(frozen=True)
class Beside:
    """One quantity, measured on an archive and on synthetic events."""

    group: str
    quantity: str
    """Name and unit."""
    archive: float
    """Mean over the archive's events in which it is defined."""
    standard_error: float
    """Standard error of that mean over events; NaN for one event."""
    archive_events: int
    """Number of the archive's events in which it is defined."""
    median: float
    """Median over the synthetic events."""
    least: float
    """Minimum over the synthetic events."""
    greatest: float
    """Maximum over the synthetic events."""
    synthetic_events: int
    """Number of the synthetic events in which it is defined."""
    is_off: bool | None
    """Whether the archive is off by `RULE`; None if too few events have a value."""

    @property
    def has_few_events(self) -> bool:
        """Whether so few events have a value that the judgement is weak."""
        return min(self.archive_events, self.synthetic_events) < FEW_EVENTS

    @property
    def sentence(self) -> str:
        """What is off, in one sentence; empty if nothing is."""
        if not self.is_off:
            return ""
        ends = f"{self.least:.2f} to {self.greatest:.2f}"
        told = "below" if self.archive < self.least else "above"
        few = f" (few events: {self.archive_events} and {self.synthetic_events})" if self.has_few_events else ""
        return f"{self.quantity}: {self.archive:.2f} in the archive, {told} all synthetic events, {ends}{few}"

    def as_record(self) -> dict[str, Any]:
        """Return the record for report.json; undefined numbers are None."""
        record = {**asdict(self), "few_events": self.has_few_events}
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in record.items()}


@dataclass(frozen=True)
class SideBySide:
    """An archive beside a preset."""

    preset: str
    archive_events: int
    synthetic_events: int
    rows: Sequence[Beside]
    left_out: Sequence[str]
    """What is not compared, and why."""

    @property
    def off(self) -> list[str]:
        """One sentence for each row that is off."""
        return [row.sentence for row in self.rows if row.is_off]

    def as_record(self) -> dict[str, Any]:
        """Return the record for `--json` and report.json."""
        return {
            "preset": self.preset,
            "archive_events": self.archive_events,
            "synthetic_events": self.synthetic_events,
            "rule": RULE,
            "rows": [row.as_record() for row in self.rows],
            "off": self.off,
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True)
class _SyntheticSource:
    """How to make and measure the synthetic events."""

    preset: str
    size: int
    frames: int
    content: ArchiveContent
    has_masks: bool

    def profile(self, event: int) -> EventProfile:
        """Generate and measure one event."""
        made = generate_event(find_preset(self.preset), _SEED, event, self.size, self.frames)
        storm = HEIGHTS_KM.index(self.content.heights_km[self.content.storm])
        observed = made.observed[:, storm] if self.has_masks else None
        return profile_of(self.chosen(made.radar), observed, self.content)

    def chosen(self, radar: Real) -> Real:
        """Return the fields (t, v, z, y, x) of the variables and heights that are compared."""
        names = [VARIABLES.index(name) for name in self.content.variables]
        return radar[:, names][:, :, [HEIGHTS_KM.index(z) for z in self.content.heights_km]]


def profile_of(radar: Real, observed: npt.NDArray[np.bool_] | None, content: ArchiveContent) -> EventProfile:
    """Measure one event.

    Args:
        radar: (t, v, z, y, x) in dBZ, dB, deg/km; fill 0.
        observed: Observed pixels at the height nearest 3 km, (t, y, x); those near the centre by default.
        content: Variables along v and heights along z.
    """
    builder = ProfileBuilder(content)
    if observed is None:
        observed = np.broadcast_to(coverage_circle(radar.shape[-1]), (len(radar), *radar.shape[-2:]))
    for start in range(0, len(radar), BLOCK):
        block = slice(start, start + BLOCK)
        builder.add(StormBlock.of(radar[block], observed[block], content))
    return builder.finish()


def profile_archive_event(archive: Archive, event: int, size: int) -> EventProfile:
    """Read and measure one event, a block of frames at a time.

    Args:
        archive: Archive of zh at any height.
        event: Event number.
        size: Pixels per side of all events.

    Raises:
        BadInput: A frame is unreadable, or has another size.
    """
    content, builder = content_of(archive), ProfileBuilder(content_of(archive))
    for start in range(0, len(archive.frames[event]), BLOCK):
        frames = archive.frames[event][start : start + BLOCK]
        radar = read_fields(archive, event, frames)
        shape = radar.shape[-2:]
        if shape != (size, size):
            what = f"frames of {shape[0]} × {shape[1]} pixels, those of other events have {size} × {size}"
            raise BadInput(what, f"event {event:03d}", "regrid all events to one grid")
        masks = archive.read_observed(event, shape)
        levels = len(content.heights_km)
        if masks is None:
            observed = np.broadcast_to(coverage_circle(size), (len(frames), levels, size, size))
        else:
            observed = np.stack([masks.masks(f)[:levels] for f in frames])
        seen = np.where(observed[:, None], radar, 0)
        builder.add(StormBlock.of(seen, observed[:, content.storm], content))
    return builder.finish()


def compare(archive: Sequence[EventProfile], synthetic: Sequence[EventProfile]) -> list[Beside]:
    """Compare the statistics of archive events with those of synthetic events; rows of what both have."""
    first = archive[0].values
    return [
        judge(group, name, *([p.values[group][name] for p in profiles] for profiles in (archive, synthetic)))
        for group, rows in first.items()
        for name in rows
        if name in synthetic[0].values.get(group, {})
    ]


def judge(group: str, quantity: str, archive: Sequence[float], synthetic: Sequence[float]) -> Beside:
    """Compare the values of one quantity by `RULE`; undefined values do not count."""
    real, made = (np.array([v for v in values if np.isfinite(v)]) for values in (archive, synthetic))
    spread = real.std(ddof=1) if len(real) > 1 else np.nan
    error = float(spread / np.sqrt(len(real))) if len(real) else np.nan
    median, least, greatest = (float(f(made)) if len(made) else np.nan for f in (np.median, np.min, np.max))
    mean = float(real.mean()) if len(real) else np.nan
    row = Beside(group, quantity, mean, error, len(real), median, least, greatest, len(made), is_off=None)
    if not len(real) or len(made) < FEWEST_SYNTHETIC:
        return row
    if len(real) < FEW_EVENTS:
        spread = np.fmax(spread, made.std(ddof=1))
    margin = 2 * float(spread / np.sqrt(len(real))) + LEAST_DIFFERENCE
    return replace(row, is_off=bool(row.archive < row.least - margin or row.archive > row.greatest + margin))


def usual_events(preset: str) -> int:
    """Return the usual number of synthetic events: 8, or 16 if their climates differ. Raises BadInput for no preset."""
    return 16 if find_preset(preset).varied else 8


def beside_preset(
    archive: Archive,
    preset: str,
    figures: Path | None = None,
    *,
    events: int | None = None,
    synthetic_events: int | None = None,
    workers: int = 1,
    on_event: Callable[[int], None] | None = None,
) -> SideBySide:
    """Compare an archive with synthetic events of the same extent and length.

    Args:
        archive: Archive of zh at any height; what needs absent variables or heights is left out.
        preset: Name of a world in `PRESETS`.
        figures: Folder for beside.png and beside_frames.png; not drawn by default.
        events: Number of the archive's events, evenly spaced; at most 24 by default.
        synthetic_events: Number of synthetic events; `usual_events` by default.
        workers: Number of processes.
        on_event: Called with the number of events done, of the archive and synthetic ones.

    Raises:
        BadInput: Unknown preset, a number out of range, or unreadable frames.
    """
    synthetic_events = usual_events(preset) if synthetic_events is None else synthetic_events
    if synthetic_events < 1:
        raise BadInput(f"synthetic_events = {synthetic_events}", fix="give 1 or more")
    if figures:
        checked_output(figures, is_folder=True)
    size, content = check_frames(archive), content_of(archive)
    numbers = chosen_events(archive, events or MOST_EVENTS)
    source = _source(archive, preset, numbers, size)
    jobs: list[tuple[Callable[..., EventProfile], Any]] = [(_ArchiveSource(archive, size).profile, e) for e in numbers]
    jobs += [(source.profile, e) for e in range(synthetic_events)]
    profiles = []
    for profile in _run(jobs, workers):
        profiles.append(profile)
        if on_event:
            on_event(len(profiles))
    real, made = profiles[: len(numbers)], profiles[len(numbers) :]
    if figures:
        draw_profiles(figures / "beside.png", {"archive": real, preset: made})
        wettest = [int(np.nanargmax([_wetness(p) for p in profiles])) for profiles in (real, made)]
        _draw_frames(figures / "beside_frames.png", archive, numbers[wettest[0]], source, wettest[1])
    rows = [row for row in compare(real, made) if _has_same_pixels(content) or not _depends_on_pixels(row)]
    return SideBySide(preset, len(real), len(made), rows, _differences(content, source, size))


@dataclass(frozen=True)
class _ArchiveSource:
    archive: Archive
    size: int

    def profile(self, event: int) -> EventProfile:
        """Read and measure one event."""
        return profile_archive_event(self.archive, event, self.size)


def _source(archive: Archive, preset: str, numbers: Sequence[int], size: int) -> _SyntheticSource:
    """Match the synthetic events to an archive: variables, height, extent, usual length, masks."""
    content = content_of(archive)
    lengths = [min(len(archive.frames[e]), BLOCK) for e in numbers]
    extent = round(size * content.spacing_km / SPACING_KM)
    whole = ArchiveContent(content.variables, HEIGHTS_KM, has_rain=False)
    storm = HEIGHTS_KM[whole.nearest(content.heights_km[content.storm])]
    heights = (storm,) if content.ice is None else tuple(dict.fromkeys((storm, HEIGHTS_KM[-1])))
    has_masks = archive.read_observed(numbers[0], (size, size)) is not None
    frames = round(float(np.median(lengths)))
    return _SyntheticSource(
        preset, int(np.clip(extent, *_SIZES)), frames, replace(whole, heights_km=heights), has_masks
    )


def _run(jobs: Sequence[tuple[Callable[..., EventProfile], Any]], workers: int) -> Iterator[EventProfile]:
    """Run all jobs in order, in this process or in spawned ones."""
    workers = min(workers, len(jobs), LIMITS["workers"][1])
    if workers <= 1:
        yield from (function(event) for function, event in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        try:
            yield from pool.map(_call, jobs)
        except BaseException:
            # On a damaged file or Ctrl-C, stop at once instead of after all queued events.
            pool.shutdown(cancel_futures=True)
            raise


def _call(job: tuple[Callable[..., EventProfile], Any]) -> EventProfile:
    return job[0](job[1])


def _wetness(profile: EventProfile) -> float:
    return float(np.nan_to_num(profile.values["echo"]["wet fraction"]))


def _draw_frames(path: Path, archive: Archive, event: int, source: _SyntheticSource, synthetic: int) -> None:
    """Draw the middle frame of the wettest event of each."""
    frames = archive.frames[event]
    real = archive.read_radar(event, frames[len(frames) // 2])
    made = generate_event(find_preset(source.preset), _SEED, synthetic, source.size, source.frames // 2 + 1).radar
    drawn = {"archive": (real, content_of(archive)), source.preset: (source.chosen(made)[-1], source.content)}
    draw_beside_frames(path, drawn)


def _has_same_pixels(content: ArchiveContent) -> bool:
    return abs(content.spacing_km - SPACING_KM) <= _SAME_SPACING * SPACING_KM


def _depends_on_pixels(row: Beside) -> bool:
    """Whether a quantity is measured over a number of pixels, not over a distance."""
    return row.quantity.startswith("roughness") or row.group == "information"


def _differences(content: ArchiveContent, source: _SyntheticSource, size: int) -> list[str]:
    """Return what differs between the archive's grid and the synthetic one, and what is left out for it."""
    lines, made = [], source.content
    own, other = content.heights_km[content.storm], made.heights_km[made.storm]
    if own != other:
        lines.append(f"rows of the archive are of {own:g} km, synthetic ones of {other:g} km")
    if not _has_same_pixels(content):
        lines.append(
            f"pixels of {content.spacing_km:g} km, synthetic ones of {SPACING_KM:g} km: no roughness and correlations"
        )
    if abs(size * content.spacing_km - source.size * SPACING_KM) > 1:
        lines.append(f"{size * content.spacing_km:g} km wide, synthetic fields {source.size * SPACING_KM:g} km")
    step = content.step_minutes
    missing = [f"{m:g}" for m in LEADS_MIN if not frames_of(m, step)]
    if missing or not frames_of(CHANGE_MIN, step):
        lines.append(
            f"frames every {step:g} min, synthetic ones every {TIME_STEP_MINUTES:g} min: nothing on growth in "
            f"{', '.join(missing)} min"
        )
    return lines
