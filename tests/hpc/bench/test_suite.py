"""The built-in suites are valid and train both arms equally; invalid suites are rejected."""

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from polarcast.data.errors import BadInput
from polarcast.hpc.bench.cells import Cell, cells_of
from polarcast.hpc.bench.suite import SUITES, load_suite, without_synthetic_rows
from polarcast.hpc.config.digest import digest
from polarcast.models.registry import get_model

NAMES = sorted(path.stem for path in SUITES.glob("*.yaml"))
OF_PAPER = [name for name in NAMES if "\n  combined_unet:" in (SUITES / f"{name}.yaml").read_text(encoding="utf-8")]


@cache
def cells(name: str) -> list[Cell]:
    return cells_of(load_suite(name), Path("shards"))


@pytest.mark.parametrize("name", NAMES)
def test_every_table_has_cells_for_all_its_models(name: str) -> None:
    suite = load_suite(name)
    existing = {(cell.model, cell.arm) for cell in cells(name)}
    for table in suite.tables.values():
        assert {(m, arm) for m in suite.shown(table) for arm in suite.arms_of(m)} <= existing
    real = without_synthetic_rows(suite)
    assert "attainable" not in {m for table in real.tables.values() for m in real.shown(table)}


@pytest.mark.parametrize("name", NAMES)
def test_both_arms_are_trained_equally(name: str) -> None:
    """Same steps, samples, events and settings; only the input variables differ."""
    by_model: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells(name):
        by_model.setdefault((cell.model, cell.seed), []).append(cell)
    suite = load_suite(name)
    for (model, seed), of_model in by_model.items():
        other = suite.models[model].radar_of
        radar = [cell for cell in by_model[other, seed] if cell.arm == "radar"] if other else []
        settings = [_without_arm(cell, of_model[0]) for cell in (*of_model, *radar)]
        assert all(one == settings[0] for one in settings)


def _without_arm(cell: Cell, first: Cell) -> dict[str, Any]:
    settings = {**asdict(cell.config), "arm": "", "base": None}
    model = dict(settings["model"])
    if (
        cell.arm == "radar" and "carry" in model
    ):  # with ZH alone, `carry` does not change the network (tested elsewhere)
        model["carry"] = first.config.model["carry"]
    return {**settings, "data": {**settings["data"], "variables": None}, "model": model}


@pytest.mark.parametrize("name", OF_PAPER)
def test_post_processing_trains_on_events_held_out_from_the_sampler(name: str) -> None:
    post_processors = [c for c in cells(name) if c.config.model["name"] == "post_process"]
    assert post_processors
    for cell in post_processors:
        [base] = cell.bases
        assert cell.config.data.only_held_out
        assert cell.config.data.hold_out == base.config.data.hold_out > 0
        assert cell.config.data.shards == base.config.data.shards


def test_deterministic_models_run_with_one_seed() -> None:
    seeds: dict[str, set[int]] = {}
    for cell in cells("standard"):
        seeds.setdefault(cell.model, set()).add(cell.seed)
    assert seeds["fitted"] == seeds["attainable"] == {0}
    assert seeds["unet"] == seeds["latent"] == {0, 1, 2}
    trained = {c.model for c in cells("standard") if get_model(c.config.model["name"]).trained}
    assert {"unet", "three_unet"} <= trained


def test_unknown_model_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("models: {a: {label: A}}\ntables: {t: {title: T, models: [b]}}\n")
    with pytest.raises(BadInput, match="unknown model 'b'"):
        load_suite(str(file))


def test_demo_suite_contains_each_run_once() -> None:
    suite = load_suite("demo")
    cells = cells_of(suite, Path("shards"))
    keys = [c.folder(Path(), "0" * 64).name for c in cells]
    assert len(set(keys)) == len(keys) == 28
    assert round(suite.data.synth.events * float(suite.data.split.split("/")[2])) >= 40


def test_cells_follow_their_base_and_depend_on_its_configuration(tmp_path: Path) -> None:
    def cells(steps: int) -> dict[str, Cell]:
        models = f"""models:
  late: {{label: L, base: early, set: {{model: {{name: member_mean}}}}, arms: [radar]}}
  early: {{label: E, set: {{model: {{name: diffusion}}, train: {{steps: {steps}}}}}}}
tables: {{t: {{title: T}}}}"""
        (tmp_path / "s.yaml").write_text(models)
        suite = load_suite(str(tmp_path / "s.yaml"))
        assert suite.shown(suite.tables["t"]) == ["late"]
        return {f"{c.model}-{c.arm}": c for c in cells_of(suite, Path("shards"))}

    few, many = cells(5), cells(6)
    assert list(few) == ["early-radar", "late-radar", "early-dualpol"]
    assert few["late-radar"].bases == (few["early-radar"],)
    assert digest(few["late-radar"].config) != digest(many["late-radar"].config)
    assert digest(few["late-radar"].config) == digest(cells(5)["late-radar"].config)


def test_cyclic_bases_are_rejected(tmp_path: Path) -> None:
    post = "set: {model: {name: post_process}}"
    (tmp_path / "s.yaml").write_text(f"models: {{a: {{label: A, base: b, {post}}}, b: {{label: B, base: a, {post}}}}}")
    with pytest.raises(BadInput, match="a builds on b builds on a"):
        cells_of(load_suite(str(tmp_path / "s.yaml")), Path("shards"))


def test_changed_setting_gives_another_cell(tmp_path: Path) -> None:
    def keys(steps: int) -> set[str]:
        (tmp_path / "s.yaml").write_text(
            f"models: {{a: {{label: A, set: {{train: {{steps: {steps}}}}}}}}}\ntables: {{t: {{title: T}}}}"
        )
        cells = cells_of(load_suite(str(tmp_path / "s.yaml")), Path("shards"))
        return {c.folder(Path(), "0" * 64).name for c in cells}

    assert keys(5) == keys(5)
    assert keys(5).isdisjoint(keys(6))


@pytest.mark.parametrize(
    "content",
    [
        "tabels: {}",
        "tables: {t: {title: T, metrics: [rmsee]}}",
        "seeds: many",
        "[",
        "tables: {t: {title: T, modles: []}}",
        "tables: {t: {title: T, models: [nobody]}}",
        "models: {a: {label: A, base: nobody}}",
    ],
)
def test_invalid_suite_is_rejected(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(BadInput, match=r"s\.yaml"):
        load_suite(str(tmp_path / "s.yaml"))


def test_radar_of_requires_a_radar_arm_and_may_have_other_seeds(tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    content = "models: {{net: {{label: Net, {}}}, less: {{label: Less, radar_of: net}}}}\ntables: {{t: {{title: T}}}}\n"
    file.write_text(content.format("arms: [dualpol]"))
    with pytest.raises(BadInput, match="less shows the radar arm of net, which has none"):
        load_suite(str(file))
    file.write_text(content.format("seeds: [1]"))
    assert load_suite(str(file)).model_by_arm("less") == {"radar": "net", "dualpol": "less"}
