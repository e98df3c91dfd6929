"""Synthetic dual-polarization radar events with known rain, and archives of them.

An event is a pure function of (world, seed, event number, size, frames). Random streams are keyed by (seed, event).
They do not depend on the process that makes an event, or on the order or number of events.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from polarcast.data.archive import complete_events, has_fields, write_event
from polarcast.data.errors import BadInput, shown
from polarcast.data.explore.measures import Truth, join_truth
from polarcast.data.files import checked_output, sole_writer
from polarcast.data.notes import ARCHIVE_NOTE, read_archive_note, write_archive_note
from polarcast.data.observed import Mask
from polarcast.data.synth.observe import Site, make_site, observe, scatter
from polarcast.data.synth.weather import Regime, Weather, draw_regime, simulate
from polarcast.data.synth.world import GENERATOR, GENERATOR_VERSION, PRESETS, StormWorld, draw_world
from polarcast.data.workers import end_with_parent

__all__ = [
    "PRESETS",
    "StormWorld",
    "SyntheticEvent",
    "archive_truth",
    "draw_length",
    "generate_event",
    "kdp_rain",
    "sample_truth",
    "write_archive",
]

Real = npt.NDArray[np.float32]
RainLabel = Literal["true_R", "kdp_rain"]

RAIN_LABELS = ("true_R", "kdp_rain")

LIMITS = {
    "events": (1, 100_000), "size": (32, 4096), "frames": (1, 100_000), "seed": (0, 2**64 - 1), "workers": (1, 1024),
}  # fmt: skip
"""Least and largest value of each option."""

# Quantiles of the lengths of the 193 NJU-CPOL events with a window of strong echo (frames of 6 min).
_LENGTH_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_LENGTHS = (20, 23, 43, 89, 150, 197, 199)


@dataclass(frozen=True)
class SyntheticEvent:
    """Radar observations of one storm, and its true rain."""

    radar: Real
    """(t, v=3, z=3, y, x) in dBZ, dB, deg/km at 1, 3, 7 km; fill 0."""
    rain: Real
    """(t, y, x), true rain rate at 1 km in mm/h; 0 outside radar coverage."""
    observed: Mask
    """(t, level=4, y, x), observed pixels at 1, 3, 7 km and, of the rain, on the ground: as at 1 km."""


def find_preset(name: str) -> StormWorld:
    """Return the world of a preset. Raises BadInput for an unknown name."""
    if name not in PRESETS:
        raise BadInput(f"unknown preset {name!r}", "preset", f"choose from: {', '.join(PRESETS)}")
    return PRESETS[name]


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def draw_length(seed: int, event: int) -> int:
    """Draw the length of an event, 20-199 frames, from the distribution of the real archive."""
    return round(float(np.interp(_stream(seed, 1, event, 0).random(), _LENGTH_QUANTILES, _LENGTHS)))


@lru_cache(maxsize=4)
def _site(world: StormWorld, seed: int, size: int) -> Site:
    """Make the radar site of an archive: all events of a seed share its blocked sectors and clutter."""
    return make_site(world, size, _stream(seed, 0))


def _storm(world: StormWorld, seed: int, event: int, size: int) -> tuple[StormWorld, Regime, Iterator[Weather]]:
    """Return the world and regime of an event, and an infinite iterator over its true weather."""
    world = draw_world(world, _stream(seed, 1, event, 4))
    regime = draw_regime(world, _stream(seed, 1, event, 1))
    return world, regime, simulate(world, regime, size, _stream(seed, 1, event, 2))


def generate_event(world: StormWorld, seed: int, event: int, size: int, frames: int | None = None) -> SyntheticEvent:
    """Generate one event; equal arguments give equal bytes in any process.

    Args:
        world: Physical parameters; see `PRESETS`.
        seed: Seed of the archive.
        event: Event number.
        size: Side length in pixels of 1 km.
        frames: Length in frames of 6 min; drawn from the real distribution by default. A longer event starts
            with the frames of a shorter one.
    """
    site = _site(world, seed, size)
    world, regime, truth = _storm(world, seed, event, size)
    errors = _stream(seed, 1, event, 3)
    length = draw_length(seed, event) if frames is None else frames
    radar = np.empty((length, 3, 3, size, size), np.float32)
    rain = np.empty((length, size, size), np.float32)
    observed = np.empty((length, 4, size, size), np.bool_)
    for i, weather in enumerate(islice(truth, length)):
        radar[i], rain[i], observed[i, :3] = observe(world, regime, site, weather, errors)
    observed[:, 3] = observed[:, 0]
    return SyntheticEvent(radar, rain, observed)


def sample_truth(world: StormWorld, seed: int, event: int, size: int, frames: int, every: int = 97) -> Truth:
    """Sample noise-free rain at 3 km from an event's first frames: every `every`-th pixel with at least 0.1 mm/h."""
    world, _, weather = _storm(world, seed, event, size)
    picked = [np.stack([w.rain_3km, w.delta_3km, w.width]).reshape(3, -1)[:, ::every] for w in islice(weather, frames)]
    rain, delta, width = np.concatenate(picked, axis=1)
    wet = rain >= 0.1
    observables = scatter(world, rain[wet], delta[wet], width[wet])
    ln_dm = np.log(world.drops.dm(rain[wet], delta[wet]))
    return Truth(ln_dm, rain[wet], observables.zh, observables.zdr, observables.kdp)


def archive_truth(root: Path, events: int = 8, frames: int = 3) -> Truth | None:
    """Regenerate the noise-free rain of a synthetic archive from its archive.json; None for any other archive.

    Args:
        root: Archive folder.
        events: Number of events to sample, from the first.
        frames: Number of frames per event.
    """
    known = read_archive_note(Path(root))
    if (known.get("generator"), known.get("generator_version")) != (GENERATOR, GENERATOR_VERSION):
        return None
    preset, seed, size = str(known.get("preset")), known.get("seed", -1), known.get("size", -1)
    _check(1, size, seed, preset, None, RAIN_LABELS[0], 1)
    world, numbers = PRESETS[preset], sorted(complete_events(Path(root)))[:events]
    return join_truth([sample_truth(world, seed, e, size, frames) for e in numbers]) if numbers else None


def kdp_rain(radar: Real) -> Real:
    """Compute the rain product of the real archive, R = 57.1 max(KDP at 1 km, 0)^0.785 in mm/h, (t, y, x)."""
    return np.asarray(57.1 * np.maximum(radar[:, 2, 0], 0) ** 0.785, dtype=np.float32)


def write_archive(
    out: Path,
    events: int,
    *,
    size: int,
    seed: int,
    preset: str = "meiyu",
    frames: int | None = None,
    rain: str = "true_R",
    workers: int = 1,
    on_event: Callable[[int], None] | None = None,
) -> None:
    """Write events 0 ... events-1 below `out`; skip events that are already complete.

    Args:
        out: Archive folder, created if needed.
        events: Number of events.
        size: Side length in pixels of 1 km.
        seed: Seed of the archive.
        preset: Name of a world in `PRESETS`.
        frames: Frames per event; drawn per event by default.
        rain: Rain label: `true_R`, the true rain rate, or `kdp_rain`, the rain product of the real archive.
        workers: Number of processes; the bytes written do not depend on it.
        on_event: Called after each event with the number of complete events, including skipped ones.

    Raises:
        BadInput: Unknown preset or label, a number out of range, or an archive with other options in `out`, or another
            process writes there.
    """
    _check(events, size, seed, preset, frames, rain, workers)
    with sole_writer(checked_output(Path(out), is_folder=True)):
        _claim(Path(out), _description(size, seed, preset, frames, rain))
        missing = sorted(set(range(events)) - complete_events(out))
        jobs = [(out, e, size, seed, preset, frames, rain) for e in missing]
        for done, _ in enumerate(_run(jobs, workers), start=events - len(missing) + 1):
            if on_event:
                on_event(done)


def _run(jobs: list[tuple[Any, ...]], workers: int) -> Iterator[None]:
    """Run all jobs, in this process or in spawned ones; yield after each."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            _write_one(*job)
            yield
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        try:
            yield from (future.result() for future in as_completed([pool.submit(_write_one, *j) for j in jobs]))
        except BaseException:
            # On a full disk or Ctrl-C, stop at once instead of after all queued events.
            pool.shutdown(cancel_futures=True)
            raise


def _write_one(out: Path, event: int, size: int, seed: int, preset: str, frames: int | None, rain: str) -> None:
    made = generate_event(PRESETS[preset], seed, event, size, frames)
    label = kdp_rain(made.radar) if rain == "kdp_rain" else made.rain
    write_event(out, event, made.radar, label, observed=made.observed)


def _description(size: int, seed: int, preset: str, frames: int | None, rain: str) -> dict[str, Any]:
    return {
        "generator": GENERATOR,
        "generator_version": GENERATOR_VERSION,
        "preset": preset,
        "seed": seed,
        "size": size,
        "frames": frames,
        "rain": rain,
        "time_step_min": 6.0,
        "spacing_km": 1.0,
    }


def _check(events: int, size: int, seed: int, preset: str, frames: int | None, rain: str, workers: int) -> None:
    find_preset(preset)
    if rain not in RAIN_LABELS:
        raise BadInput(f"unknown rain label {rain!r}", fix=f"choose from: {', '.join(RAIN_LABELS)}")
    numbers = {"events": events, "size": size, "seed": seed, "workers": workers}
    for name, value in {**numbers, **({} if frames is None else {"frames": frames})}.items():
        least, most = LIMITS[name]
        if type(value) is not int or not least <= value <= most:
            raise BadInput(f"{name} = {shown(value)}", fix=f"give a whole number from {least} to {most}")


def _claim(out: Path, description: dict[str, Any]) -> None:
    """Write archive.json, or check that the existing one has the same content."""
    note = read_archive_note(out)
    if note:
        differing = {k for k in description if note.get(k) != description[k]}
        if differing:
            what = ", ".join(f"{k} is {note.get(k)!r}, requested {description[k]!r}" for k in sorted(differing))
            where = out / ARCHIVE_NOTE
            raise BadInput(f"an archive with other options: {what}", where, "choose another folder or the same options")
        return
    if has_fields(out):
        raise BadInput("an archive that was not made by synth", out, "choose another folder")
    write_archive_note(out, description)
