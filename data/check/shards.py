"""Check shards against their manifest, and the physical plausibility of their events."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from polarcast.data.check.event import EventResult, check_across_events, check_event, passed_checks, unjudged_checks
from polarcast.data.check.facts import frame_facts
from polarcast.data.check.findings import Finding, Problem, to_findings
from polarcast.data.check.leaks import check_leaks
from polarcast.data.check.plausibility import CheckedEvent
from polarcast.data.errors import BadInput
from polarcast.data.loading.reader import Reader, only_test, open_reader
from polarcast.data.observed import level_bytes
from polarcast.data.shards.health import problem_of
from polarcast.data.shards.manifest import NAME, Manifest, Shard
from polarcast.data.shards.samples import Table
from polarcast.data.shards.tar_walk import read_array, walk
from polarcast.data.splits import note_of
from polarcast.data.statistics import Tally, summarize


def check_shards(
    manifest: Manifest, on_shard: Callable[[int], None] | None = None, fast: bool = False
) -> list[Finding]:
    """Check sizes, checksums, offsets and splits of all shards, then statistics and physical plausibility.

    Args:
        manifest: Manifest of the shards.
        on_shard: Callback with the number of shards done.
        fast: Whether to check sizes, offsets, splits and leaks only, without reading frames.

    Returns:
        One finding for each shard, one for the splits, those of `leaks.check_leaks`, one for each kind of check of the
        events that passed, and one for each problem.
    """
    findings = []
    for done, (shard, rows) in enumerate(zip(manifest.shards, manifest.by_shard(), strict=True), start=1):
        findings.append(_check_shard(manifest, shard, rows, fast))
        if on_shard:
            on_shard(done)
    findings.append(_check_splits(manifest))
    events = [] if fast or not all(f.ok for f in findings) else _check_events(manifest)
    return [*findings, *check_leaks(manifest), *events]


def _check_shard(manifest: Manifest, shard: Shard, rows: Table, fast: bool) -> Finding:
    path = manifest.folder / shard.name
    problem = problem_of(path, shard, sums=not fast) or _misplaced(manifest, path, rows)
    return Finding(shard.name, problem is None, problem or f"{len(rows)} frames, {shard.bytes / 1e6:.1f} MB")


def _misplaced(manifest: Manifest, path: Path, rows: Table) -> str | None:
    """Describe the first frame of a shard that is not at the manifest's offset; None if there is none."""
    half = np.dtype(np.float16).str
    radar = (half, (len(manifest.variables), len(manifest.heights_km), *manifest.shape))
    rain = (half, manifest.shape)
    masks = ("|u1", (len(manifest.heights_km) + manifest.has_rain, level_bytes(manifest.pixels)))
    try:
        with path.open("rb") as stream:
            arrays = (read_array(stream, m, path) for m in walk(path) if m.name.endswith(".npy"))
            stored = {array.offset: (array.dtype, array.shape) for array in arrays}
    except BadInput as error:
        return error.what
    for _, event, frame, radar_at, rain_at, *_, masks_at in rows.tolist():
        expected = ((radar_at, radar), (rain_at, rain), (masks_at, masks))
        if any(at >= 0 and stored.get(at) != array for at, array in expected):
            return f"frame {frame} of event {event:03d} is not at the offset in the manifest"
    return None


def _check_splits(manifest: Manifest) -> Finding:
    note = str(manifest.provenance.get("split", ""))
    for (one, events), (other, others) in combinations(manifest.splits.items(), 2):
        is_meant = note and note == note_of(note.partition(":")[0], manifest.splits) and "test" not in (one, other)
        if not is_meant and (shared := sorted(set(events) & set(others))):
            return Finding("splits", False, f"event {shared[0]:03d} is in both {one} and {other}")
    sizes = ", ".join(f"{name} {len(events)}" for name, events in manifest.splits.items())
    return Finding("splits", True, "; ".join(filter(None, [f"events: {sizes}", note])))


def _check_events(manifest: Manifest) -> list[Finding]:
    unfiltered = replace(only_test(manifest), selection={**manifest.selection, "min_strong_pixels": 0})
    whole = open_reader(
        unfiltered,
        "test",
        variables=manifest.variables,
        heights_km=manifest.heights_km,
        rain=manifest.has_rain,
        observed=True,
    )
    windows = whole.events()
    tallies: dict[int, Tally] = {}
    results = [_check_event(whole, int(e), np.flatnonzero(windows == e), tallies) for e in np.unique(windows)]
    problems = [p for e in results for p in e.problems] + _wrong_statistics(manifest, tallies)
    passed = {
        "values": f"{len(whole)} frames, all finite, rain ≥ 0",
        "statistics": f"of the {len(manifest.splits['train'])} training events",
        **passed_checks(results),
    }
    return to_findings([*problems, *check_across_events(results, manifest.splits)], passed, unjudged_checks(results))


def _wrong_statistics(manifest: Manifest, tallies: dict[int, Tally]) -> list[Problem]:
    """Check that the manifest's statistics are exactly those of its training events."""
    sums = [tallies[event].sums() for event in manifest.splits["train"] if event in tallies]
    found = summarize(sums, manifest.variables, manifest.heights_km)
    if json.loads(json.dumps(found)) == manifest.statistics:
        return []
    wrong = next(k for k in {**found, **manifest.statistics} if found.get(k) != manifest.statistics.get(k))
    return [Problem("statistics", NAME, f"{wrong} differs from the training events: shard the archive again")]


def _check_event(reader: Reader, number: int, windows: np.ndarray, tallies: dict[int, Tally]) -> EventResult:
    tally = tallies[number] = Tally(len(reader.fields.variables), len(reader.fields.heights_km))
    event = CheckedEvent(number, reader.fields.variables, reader.fields.heights_km)
    problems, facts = [], []
    for window in windows:
        batch = reader.read([window])
        frame = int(batch.frame)
        tally.add(
            batch.radar[0, 0].numpy(),
            None if batch.rain is None else batch.rain[0, 0].numpy(),
            None if batch.observed is None else batch.observed[0, 0, 0].numpy(),
        )
        radar = batch.radar[0, 0].float().numpy()
        rain = None if batch.rain is None else batch.rain[0, 0].float().numpy()
        if not (np.isfinite(radar).all() and (rain is None or np.isfinite(rain).all())):
            problems.append(Problem("values", event.where(frame), "not finite: repair the archive and shard again"))
        elif rain is not None and rain.min() < 0:
            problems.append(Problem("values", event.where(frame), "negative rain: repair the archive and shard again"))
        else:
            facts.append(frame_facts(frame, radar, rain, reader.fields.variables))
    measured = "zh" not in reader.manifest.provenance.get("derived", {})
    return check_event(event, facts, problems, zh_is_measured=measured)
