"""Groups of events from the manifest to trainings and score records."""

from dataclasses import replace
from pathlib import Path

from polarcast.data.shards.manifest import Manifest
from polarcast.hpc.config.load import load_config
from polarcast.hpc.evaluation.evaluate import evaluate
from polarcast.hpc.runs.build import build_reader
from polarcast.hpc.scores.records import read_records
from tests.support.finished_run import BASELINE, finished


def test_records_have_the_groups_of_the_manifest(shards: Manifest, tmp_path: Path) -> None:
    test = shards.splits["test"]
    grouped = replace(shards, groups=dict.fromkeys(sorted({*test, *shards.splits["train"]}), "a storm"))
    run = finished(shards, tmp_path / "run", *BASELINE)
    assert evaluate(run, grouped, run.output).groups.tolist() == ["a storm"] * len(test)
    assert read_records(run.output.scores).groups.tolist() == ["a storm"] * len(test)
    assert evaluate(run, shards, run.output).groups.tolist() == [f"{event:03d}" for event in test]


def test_held_out_events_are_whole_groups(shards: Manifest) -> None:
    train = shards.splits["train"]
    grouped = replace(shards, groups={event: f"pair {i // 2}" for i, event in enumerate(train)})
    config = load_config("demo", [f"data.shards={shards.folder}", "data.hold_out=0.25"])
    kept = build_reader(config, grouped, "train").events().tolist()
    held_out = set(train) - set(kept)
    assert len(train) == 4
    assert {grouped.group_of(e) for e in kept}.isdisjoint({grouped.group_of(e) for e in held_out})
    assert len(held_out) == 2
