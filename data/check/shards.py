"""Is a folder of shards what its manifest says, and plausible weather?"""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from polarcast.data.check.event import Examined, across, examine, sound
from polarcast.data.check.facts import frame_facts
from polarcast.data.check.findings import Finding, Problem, to_findings
from polarcast.data.check.judge import Event
from polarcast.data.reading.reader import Reader, only_test, open_reader
from polarcast.data.shards.health import problem_of
from polarcast.data.shards.manifest import Manifest, Shard


def check_shards(manifest: Manifest, on_shard: Callable[[int], None] | None = None) -> list[Finding]:
    """Check sizes, sums and splits of all shards, then whether their events are plausible weather.

    Args:
        manifest: The manifest to hold the shards against.
        on_shard: Called with the number of shards done.

    Returns:
        A finding for each shard, one for the splits, one for each kind of check of the events that found nothing, and
        one for each problem.
    """
    findings = []
    for index, shard in enumerate(manifest.shards):
        findings.append(_check_shard(manifest.folder, shard, len(manifest.of_shard(index))))
        if on_shard:
            on_shard(index + 1)
    findings.append(_check_splits(manifest))
    return [*findings, *_check_events(manifest)] if all(f.ok for f in findings) else findings


def _check_shard(folder: Path, shard: Shard, frames: int) -> Finding:
    problem = problem_of(folder / shard.name, shard, sums=True)
    return Finding(shard.name, problem is None, problem or f"{frames} frames, {shard.bytes / 1e6:.1f} MB")


def _check_splits(manifest: Manifest) -> Finding:
    for (one, events), (other, others) in combinations(manifest.splits.items(), 2):
        if shared := sorted(set(events) & set(others)):
            return Finding("splits", False, f"event {shared[0]:03d} is both in {one} and in {other}")
    sizes = ", ".join(f"{name} {len(events)}" for name, events in manifest.splits.items())
    return Finding("splits", True, f"events: {sizes}")


def _check_events(manifest: Manifest) -> list[Finding]:
    unfiltered = replace(only_test(manifest), selection={**manifest.selection, "min_strong_pixels": 0})
    whole = open_reader(
        unfiltered, "test", variables=manifest.variables, heights_km=manifest.heights_km, rain=manifest.has_rain
    )
    windows = whole.events()
    examined = [_examine(whole, int(e), np.flatnonzero(windows == e)) for e in np.unique(windows)]
    problems = [p for e in examined for p in e.problems]
    told = {"values": f"{len(whole)} frames, all finite, rain ≥ 0", **sound(examined)}
    return to_findings([*problems, *across(examined, manifest.splits)], told)


def _examine(reader: Reader, number: int, windows: np.ndarray) -> Examined:
    event = Event(number, reader.fields.variables, reader.fields.heights_km)
    problems, facts = [], []
    for window in windows:
        batch = reader.read([window])
        frame = int(batch.frame)
        radar = batch.radar[0, 0].float().numpy()
        rain = None if batch.rain is None else batch.rain[0, 0].float().numpy()
        if not (np.isfinite(radar).all() and (rain is None or np.isfinite(rain).all())):
            problems.append(Problem("values", event.where(frame), "is not finite: mend the archive and shard it again"))
        elif rain is not None and rain.min() < 0:
            problems.append(Problem("values", event.where(frame), "negative rain: mend the archive and shard it again"))
        else:
            facts.append(frame_facts(frame, radar, rain, reader.fields.variables))
    measured = "zh" not in reader.manifest.provenance.get("derived", {})
    return examine(event, facts, problems, zh_is_measured=measured)
