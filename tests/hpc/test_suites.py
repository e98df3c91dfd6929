"""The suites that come with polarcast are valid, and train each arm alike."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.suite import SUITES, Cell, cells_of, load_suite, without_synthetic_rows
from polarcast.models.registry import entry

NAMES = sorted(path.stem for path in SUITES.glob("*.yaml"))


@cache
def cells(name: str) -> list[Cell]:
    return cells_of(load_suite(name), Path("shards"))


@pytest.mark.parametrize("name", NAMES)
def test_every_table_has_cells_for_all_it_shows(name: str) -> None:
    suite = load_suite(name)
    there = {(cell.model, cell.arm) for cell in cells(name)}
    for table in suite.tables.values():
        assert {(m, arm) for m in suite.shown(table) for arm in suite.arms_of(m)} <= there
    real = without_synthetic_rows(suite)
    assert "attainable" not in {m for table in real.tables.values() for m in real.shown(table)}


@pytest.mark.parametrize("name", NAMES)
def test_both_arms_are_trained_alike(name: str) -> None:
    """Same steps, samples, events and settings; only what they see differs."""
    by_model: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells(name):
        by_model.setdefault((cell.model, cell.seed), []).append(cell)
    for of_model in by_model.values():
        said = [{**asdict(c.config), "arm": "", "base": None} for c in of_model]
        assert all(other == said[0] for other in said)


@pytest.mark.parametrize("name", NAMES)
def test_what_corrects_samples_learns_from_events_that_the_sampler_has_not_seen(name: str) -> None:
    correcting = [c for c in cells(name) if c.config.model["name"] == "post_process"]
    assert correcting
    for cell in correcting:
        assert cell.base is not None
        assert cell.config.data.only_held_out
        assert cell.config.data.hold_out == cell.base.config.data.hold_out > 0
        assert cell.config.data.shards == cell.base.config.data.shards


def test_a_model_without_chance_is_run_with_one_seed() -> None:
    seeds: dict[str, set[int]] = {}
    for cell in cells("standard"):
        seeds.setdefault(cell.model, set()).add(cell.seed)
    assert seeds["fitted"] == seeds["attainable"] == {0}
    assert seeds["unet"] == seeds["latent"] == {0, 1, 2}
    trained = {c.model for c in cells("standard") if entry(c.config.model["name"]).trained}
    assert {"unet", "three_unet"} <= trained


def test_a_suite_names_the_model_it_does_not_have(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("models: {a: {label: A}}\ntables: {t: {title: T, models: [b]}}\n")
    with pytest.raises(BadInput, match="unknown model 'b'"):
        load_suite(str(file))
