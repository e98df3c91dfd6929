"""Jobs of a suite: golden scripts, arrays by level, submission in steps, and the states that Slurm lists."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polarcast.hpc.bench.cells import Cell, cells_of
from polarcast.hpc.bench.cluster.plan import CellArray, JobPlan, PlanFolder, plan_of, plans_in, waits_for
from polarcast.hpc.bench.run import key_of_stack
from polarcast.hpc.bench.suite import load_suite
from polarcast.hpc.cli.suite_jobs import chain_of
from polarcast.slurm.chain import Link, scripts, submit_chain
from polarcast.slurm.profile import Profile, load_profile, profile_of
from polarcast.slurm.queue import parse
from polarcast.slurm.render import Job

GOLDEN = Path(__file__).with_name("golden")
MIXED = """
partition: gpu
account: radar
time: "1-00:00:00"
nodes: 3
gpus_per_node: 4
cpus_per_task: 8
memory: 240G
scratch: /local/nvme
stages:
  data: {partition: cpu, gpus_per_node: 0, cpus_per_task: 32, time: "06:00:00", memory: 64G}
  tables: {partition: cpu, gpus_per_node: 0, cpus_per_task: 16, time: "02:00:00"}
"""
ARRAYS = (
    CellArray("cells-0", 0, 0, ((("unet", "radar", 0), ("unet", "radar", 1)), (("unet", "dualpol", 0),))),
    CellArray("cells-1", 0, 3, ((("large", "dualpol", 0),),)),
    CellArray("cells-2", 1, 0, ((("merge", "dualpol", 0),),)),
)


@pytest.fixture
def mixed(tmp_path: Path) -> Profile:
    (tmp_path / "mixed.yaml").write_text(MIXED)
    return load_profile(str(tmp_path / "mixed.yaml"))


def test_scripts_of_three_nodes_and_two_partitions_equal_golden_files(mixed: Profile) -> None:
    plan = JobPlan("20261129-210000-ab12", True, ARRAYS, asdict(mixed), at_most=16, together=True)
    found = scripts(chain_of(Path("runs/mixed"), plan, "mixed"))
    assert list(found) == ["data", "cells-0", "cells-1", "cells-2", "tables"]
    for name, text in found.items():
        assert text == (GOLDEN / f"suite_{name}.sbatch").read_text(), name


def test_profile_survives_the_plan(mixed: Profile) -> None:
    assert profile_of(asdict(mixed), "plan") == mixed


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ("{train: {partition: cpu}}", "unknown stage 'train' — choose from: data, cells, tables"),
        ("{data: {partitoin: cpu}}", "stages.data: unknown key 'partitoin' — did you mean partition"),
        ("{data: {partition: 'a b'}}", "stages.data: partition is 'a b'"),
        ("{data: {stages: {}}}", "has stages of its own"),
        ("{data: 3}", "stages"),
    ],
)
def test_wrong_stages_are_told_in_one_line(tmp_path: Path, stages: str, problem: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"stages: {stages}\n")
    with pytest.raises(ValueError, match=r"mine\.yaml") as raised:
        load_profile(str(tmp_path / "mine.yaml"))
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def demo() -> list[Cell]:
    return cells_of(load_suite("demo"), Path("shards"))


@pytest.mark.parametrize("together", [False, True])
def test_plan_holds_each_cell_once_after_those_it_builds_on(demo: list[Cell], together: bool) -> None:
    plan = plan_of(demo, True, {}, together=together, stack_key=key_of_stack)
    assert sorted(plan.cells) == sorted(cell.key for cell in demo)
    level = {key: array.level for array in plan.arrays for element in array.elements for key in element}
    for cell in demo:
        assert all(level[need.key] < level[cell.key] for need in cell.needs)
    for array in plan.arrays:
        assert {a.level for a in plan.arrays if a.name in waits_for(plan, array)} == {array.level - 1} - {-1}


def test_seeds_of_a_model_share_an_element(demo: list[Cell]) -> None:
    suite = load_suite("demo")
    suite.seeds = [0, 1, 2]
    cells = cells_of(suite, Path("shards"))
    plan = plan_of(cells, False, {}, together=True, stack_key=key_of_stack)
    element = next(e for array in plan.arrays for e in array.elements if ("unet", "radar", 0) in e)
    assert element == (("unet", "radar", 0), ("unet", "radar", 1), ("unet", "radar", 2))


def test_complete_cells_are_no_condition(demo: list[Cell]) -> None:
    last = [cell for cell in demo if cell.needs][-1:]
    assert [array.level for array in plan_of(last, False, {}).arrays] == [0]


def test_plan_is_read_back(tmp_path: Path) -> None:
    plan = JobPlan("20261129-210000-ab12", True, ARRAYS, asdict(Profile()), at_most=16)
    files = PlanFolder(tmp_path, plan.key)
    files.write(plan)
    files.record({"data": "7"})
    assert (plans_in(tmp_path), files.jobs()) == ([plan], {"data": "7"})
    (files.path / "plan.json").write_text("{")
    assert plans_in(tmp_path) == []


@given(st.integers(0, 3))
def test_chain_that_was_killed_in_between_is_completed(killed_after: int) -> None:
    """Each link is submitted once, with the ids of those before it, wherever the first submission was killed."""
    chain = [
        Link("data", Profile(), Job(("bench", "job"), "d")),
        Link("cells", Profile(), Job(("bench", "job"), "c", array="0-3"), after=("data",)),
        Link("tables", Profile(), Job(("bench", "job"), "t"), after_any=("cells",)),
    ]
    submitted: list[str] = []
    known: dict[str, str] = {}

    def record(ids: Mapping[str, str]) -> None:
        known.clear()
        known.update(ids)

    def submit(text: str) -> str:
        if len(submitted) == killed_after and not resumed:
            raise RuntimeError("killed")
        submitted.append(text)
        return str(10 + len(submitted))

    resumed = False
    if killed_after < 3:
        with pytest.raises(RuntimeError):
            submit_chain(chain, {}, submit, record)
    resumed = True
    assert submit_chain(chain, known, submit, record) == {"data": "11", "cells": "12", "tables": "13"}
    assert len(submitted) == 3
    assert "--dependency=afterok:11" in submitted[1]
    assert "--dependency=afterany:12" in submitted[2]


def test_elements_of_arrays_are_listed_one_by_one() -> None:
    lines = [
        "12_[3-4,7%2]|12|3-4,7%2|PENDING|Priority|night-cells|N/A",
        "12_1|12|1|RUNNING|None|night-cells|2026-11-29T21:00:00",
        "11|11|N/A|COMPLETED|None|night-data|2026-11-29T20:00:00",
        "torn",
    ]
    found = parse(lines)
    assert [(job.job, job.element, job.is_alive) for job in found] == [
        ("12", 3, True), ("12", 4, True), ("12", 7, True), ("12", 1, True), ("11", None, False),
    ]  # fmt: skip
